-- Counts one request by all of some limits, or by none of them; or only looks what is left.
--
-- KEYS[i]: where limit i stands. ARGV[1]: "take" or "look". ARGV[2i], ARGV[2i+1]: of a rate the nanoseconds after which one
-- request is free again, and those after which a whole burst is; of a quota of a day 0 and the quota.
--
-- Answers 0, then what is left of each limit and the nanoseconds until all of it is there again. Of a limit that refuses,
-- its number and the nanoseconds until it admits one; nothing was counted then.
--
-- A rate stands as "AT OWED EACH": at AT (microseconds since 1970) it owed OWED nanoseconds, at EACH of them a request. A
-- quota stands as "DAY USED". Differences are all that is calculated with, so that nanoseconds stay exact in a double.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local day, rest_of_day = math.floor(time[1] / 86400), 86400 - time[1] % 86400
local takes = ARGV[1] == 'take'
local answer, written = {0}, {}

for i, key in ipairs(KEYS) do
  local each, depth = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
  local stands = redis.call('GET', key) or ''
  local left, reset
  if each == 0 then
    local on, used = string.match(stands, '^(%d+) (%d+)$')
    on, used = tonumber(on) or 0, tonumber(used) or 0
    -- A clock that was set back begins no day anew.
    if on < day then on, used = day, 0 end
    if takes then
      if used >= depth then return {i, rest_of_day * 1e9} end
      used = used + 1
      written[i] = {string.format('%.0f %.0f', on, used), rest_of_day * 1000}
    end
    left, reset = math.max(depth - used, 0), rest_of_day * 1e9
  else
    local at, owed, before = string.match(stands, '^(%d+) (%d+) (%d+)$')
    at, owed, before = tonumber(at) or now, tonumber(owed) or 0, tonumber(before) or each
    -- A clock that was set back frees nothing, and nothing is owed for it.
    owed = math.max(owed - math.max(now - at, 0) * 1000, 0)
    -- Under another limit what was used of the burst stays used, and at most all of the new one.
    if before ~= each then owed = math.floor(owed * each / before) end
    owed = math.min(owed, depth)
    if takes then
      if owed + each > depth then return {i, owed + each - depth} end
      owed = owed + each
      written[i] = {string.format('%.0f %.0f %.0f', now, owed, each), math.ceil(owed / 1e6)}
    end
    left, reset = math.floor((depth - owed) / each), owed
  end
  answer[2 * i], answer[2 * i + 1] = left, reset
end

for i, key in ipairs(KEYS) do
  -- A little later than it means nothing any more.
  if written[i] then redis.call('SET', key, written[i][1], 'PX', string.format('%.0f', written[i][2] + 1000)) end
end
return answer
