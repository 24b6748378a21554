-- Asks for every route of every service in an order without pattern: a step that has no factor in common with 1,000.
local prepared = {}
local turn = 0

init = function(args)
   for service = 0, 99 do
      for route = 0, 9 do
         prepared[#prepared + 1] = wrk.format(nil, string.format("/s%02d/r%d/x", service, route))
      end
   end
end

request = function()
   turn = (turn + 387) % 1000
   return prepared[turn + 1]
end
