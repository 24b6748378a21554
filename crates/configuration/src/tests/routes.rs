//! Routes that cannot be, and routes that cannot be together.

use expect_test::expect;

use super::{check, read};

#[test]
fn reserved_routes_are_refused() {
    check(
        "services:
  health: {builtin: vrf}
  vrf:
    routes:
      - match: {path: /v1/quota}
      - match: {path: \"/.well-known/serviceos/{*rest}\"}
",
        expect![[r#"
            serviceos.yaml:2:3: services.health: the route /health is reserved: the gateway answers it itself
              2 |   health: {builtin: vrf}
                |   ^^^^^^
            help: choose another path

            serviceos.yaml:5:23: services.vrf: the route /v1/quota is reserved: the gateway answers it itself
              5 |       - match: {path: /v1/quota}
                |                       ^^^^^^^^^
            help: choose another path

            serviceos.yaml:6:23: services.vrf: the route /.well-known/serviceos/{*rest} is reserved: the gateway answers it itself
              6 |       - match: {path: "/.well-known/serviceos/{*rest}"}
                |                       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
            help: choose another path"#]],
    );
}

#[test]
fn the_name_of_the_gateway_is_reserved() {
    check(
        "services:\n  gateway: {builtin: vrf}\n  gateway-2: {builtin: vrf}\n",
        expect![[r#"
        serviceos.yaml:2:3: services: the name gateway is reserved: the gateway counts under it in metrics
          2 |   gateway: {builtin: vrf}
            |   ^^^^^^^
        help: choose another name"#]],
    );
}

#[test]
fn routes_that_take_the_same_requests_are_refused() {
    check(
        "services:
  vrf:
  dice:
    builtin: vrf
    routes:
      - match: {path: /v1/random}
      - match: {path: \"/v1/random/{*all}\", methods: [GET]}
      - match: {path: \"/dice/{sides}\", methods: [GET]}
      - match: {path: \"/dice/{sides}\", methods: [POST]}
      - match: {path: \"/dice/{sides}\", methods: [PUT, POST]}
      - match: {path: \"/dice/{count}\", methods: [DELETE]}
      - match: {path: /dice/six}
",
        expect![[r#"
            serviceos.yaml:6:23: services.dice: the route /v1/random takes the same requests as /v1/random of services.vrf (line 2)
              6 |       - match: {path: /v1/random}
                |                       ^^^^^^^^^^
            help: give one of them another host or path, or each its own methods or headers under the very same path

            serviceos.yaml:7:23: services.dice: the route /v1/random/{*all} takes the same requests as /v1/random/{*rest} of services.vrf (line 2)
              7 |       - match: {path: "/v1/random/{*all}", methods: [GET]}
                |                       ^^^^^^^^^^^^^^^^^^^
            help: give one of them another host or path, or each its own methods or headers under the very same path

            serviceos.yaml:10:23: services.dice: the route /dice/{sides} takes the same requests as /dice/{sides} of services.dice (line 9)
              10 |       - match: {path: "/dice/{sides}", methods: [PUT, POST]}
                 |                       ^^^^^^^^^^^^^^^
            help: give one of them another host or path, or each its own methods or headers under the very same path

            serviceos.yaml:11:23: services.dice: the route /dice/{count} takes the same requests as /dice/{sides} of services.dice (line 8)
              11 |       - match: {path: "/dice/{count}", methods: [DELETE]}
                 |                       ^^^^^^^^^^^^^^^
            help: give one of them another host or path, or each its own methods or headers under the very same path"#]],
    );
}

#[test]
fn a_path_that_no_request_is_looked_up_by_is_refused() {
    check(
        "services:
  vrf:
    routes:
      - match: {path: /%66eeds}
      - match: {path: /caf%c3%a9}
      - match: {path: /a%}
      - match: {path: /a%+F}
      - match: {path: /a%00}
      - match: {path: /a%7F}
      - match: {path: /a%C0%AF}
      - match: {path: /a%E0%80%AF}
      - match: {path: /a%F0%8F%80%AF}
",
        expect![[r#"
            serviceos.yaml:4:23: services.vrf.routes[0].match.path: a route's path escapes only spaces and what lies outside of ASCII, in capitals and as short as it goes, as in `%C3%A9`, found `/%66eeds`
              4 |       - match: {path: /%66eeds}
                |                       ^^^^^^^^
            help: write an exact path such as /v1/random, with a parameter as in /v1/price/{pair}, or everything beneath as in /v1/price/{*rest}

            serviceos.yaml:5:23: services.vrf.routes[1].match.path: a route's path escapes only spaces and what lies outside of ASCII, in capitals and as short as it goes, as in `%C3%A9`, found `/caf%c3%a9`
              5 |       - match: {path: /caf%c3%a9}
                |                       ^^^^^^^^^^
            help: write an exact path such as /v1/random, with a parameter as in /v1/price/{pair}, or everything beneath as in /v1/price/{*rest}

            serviceos.yaml:6:23: services.vrf.routes[2].match.path: a route's path escapes only spaces and what lies outside of ASCII, in capitals and as short as it goes, as in `%C3%A9`, found `/a%`
              6 |       - match: {path: /a%}
                |                       ^^^
            help: write an exact path such as /v1/random, with a parameter as in /v1/price/{pair}, or everything beneath as in /v1/price/{*rest}

            serviceos.yaml:7:23: services.vrf.routes[3].match.path: a route's path escapes only spaces and what lies outside of ASCII, in capitals and as short as it goes, as in `%C3%A9`, found `/a%+F`
              7 |       - match: {path: /a%+F}
                |                       ^^^^^
            help: write an exact path such as /v1/random, with a parameter as in /v1/price/{pair}, or everything beneath as in /v1/price/{*rest}

            serviceos.yaml:8:23: services.vrf.routes[4].match.path: a route's path escapes only spaces and what lies outside of ASCII, in capitals and as short as it goes, as in `%C3%A9`, found `/a%00`
              8 |       - match: {path: /a%00}
                |                       ^^^^^
            help: write an exact path such as /v1/random, with a parameter as in /v1/price/{pair}, or everything beneath as in /v1/price/{*rest}

            serviceos.yaml:9:23: services.vrf.routes[5].match.path: a route's path escapes only spaces and what lies outside of ASCII, in capitals and as short as it goes, as in `%C3%A9`, found `/a%7F`
              9 |       - match: {path: /a%7F}
                |                       ^^^^^
            help: write an exact path such as /v1/random, with a parameter as in /v1/price/{pair}, or everything beneath as in /v1/price/{*rest}

            serviceos.yaml:10:23: services.vrf.routes[6].match.path: a route's path escapes only spaces and what lies outside of ASCII, in capitals and as short as it goes, as in `%C3%A9`, found `/a%C0%AF`
              10 |       - match: {path: /a%C0%AF}
                 |                       ^^^^^^^^
            help: write an exact path such as /v1/random, with a parameter as in /v1/price/{pair}, or everything beneath as in /v1/price/{*rest}

            serviceos.yaml:11:23: services.vrf.routes[7].match.path: a route's path escapes only spaces and what lies outside of ASCII, in capitals and as short as it goes, as in `%C3%A9`, found `/a%E0%80%AF`
              11 |       - match: {path: /a%E0%80%AF}
                 |                       ^^^^^^^^^^^
            help: write an exact path such as /v1/random, with a parameter as in /v1/price/{pair}, or everything beneath as in /v1/price/{*rest}

            serviceos.yaml:12:23: services.vrf.routes[8].match.path: a route's path escapes only spaces and what lies outside of ASCII, in capitals and as short as it goes, as in `%C3%A9`, found `/a%F0%8F%80%AF`
              12 |       - match: {path: /a%F0%8F%80%AF}
                 |                       ^^^^^^^^^^^^^^
            help: write an exact path such as /v1/random, with a parameter as in /v1/price/{pair}, or everything beneath as in /v1/price/{*rest}"#]],
    );
    for path in ["/caf%C3%A9", "/%E0%A4%85", "/%F0%90%80%80", "/%E0a%80"] {
        assert!(
            read(&format!("services:\n  vrf:\n    routes:\n      - match: {{path: {path}}}\n")).is_ok(),
            "{path}"
        );
    }
}

#[test]
fn routes_that_are_no_paths_are_refused() {
    check(
        "services:
  vrf:
    routes:
      - {}
      - match: {path: v1}
      - match: {path: /a b}
      - match: {path: \"/a?b\"}
      - match: {path: \"/{*rest}/a\"}
      - match: {path: \"/{a}{b}\"}
      - match: {path: \"/{}\"}
      - match: {path: \"/{a\"}
      - match: {path: \"/{{a}}\"}
      - match: {path: /a//b}
      - match: {path: /a/../b}
      - match: {path: /a;b}
",
        expect![[r#"
            serviceos.yaml:4:9: services.vrf.routes[0].match.path: a route needs a path
              4 |       - {}
                |         ^
            help: write `match: {path: /v1/example}`

            serviceos.yaml:5:23: services.vrf.routes[1].match.path: a route's path begins with /, found `v1`
              5 |       - match: {path: v1}
                |                       ^^
            help: write an exact path such as /v1/random, with a parameter as in /v1/price/{pair}, or everything beneath as in /v1/price/{*rest}

            serviceos.yaml:6:23: services.vrf.routes[2].match.path: a route's path has only the characters of a URL path, without a query or a semicolon, found `/a b`
              6 |       - match: {path: /a b}
                |                       ^^^^
            help: write an exact path such as /v1/random, with a parameter as in /v1/price/{pair}, or everything beneath as in /v1/price/{*rest}

            serviceos.yaml:7:23: services.vrf.routes[3].match.path: a route's path has only the characters of a URL path, without a query or a semicolon, found `/a?b`
              7 |       - match: {path: "/a?b"}
                |                       ^^^^^^
            help: write an exact path such as /v1/random, with a parameter as in /v1/price/{pair}, or everything beneath as in /v1/price/{*rest}

            serviceos.yaml:8:23: services.vrf.routes[4].match.path: `{*…}` stands only at the end of a path, found `/{*rest}/a`
              8 |       - match: {path: "/{*rest}/a"}
                |                       ^^^^^^^^^^^^
            help: write an exact path such as /v1/random, with a parameter as in /v1/price/{pair}, or everything beneath as in /v1/price/{*rest}

            serviceos.yaml:9:23: services.vrf.routes[5].match.path: a part of a path has at most one parameter, found `/{a}{b}`
              9 |       - match: {path: "/{a}{b}"}
                |                       ^^^^^^^^^
            help: write an exact path such as /v1/random, with a parameter as in /v1/price/{pair}, or everything beneath as in /v1/price/{*rest}

            serviceos.yaml:10:23: services.vrf.routes[6].match.path: a parameter is letters, digits and underscores in braces, found `/{}`
              10 |       - match: {path: "/{}"}
                 |                       ^^^^^
            help: write an exact path such as /v1/random, with a parameter as in /v1/price/{pair}, or everything beneath as in /v1/price/{*rest}

            serviceos.yaml:11:23: services.vrf.routes[7].match.path: a `{` opens a parameter that `}` closes, found `/{a`
              11 |       - match: {path: "/{a"}
                 |                       ^^^^^
            help: write an exact path such as /v1/random, with a parameter as in /v1/price/{pair}, or everything beneath as in /v1/price/{*rest}

            serviceos.yaml:12:23: services.vrf.routes[8].match.path: a part of a path has at most one parameter, found `/{{a}}`
              12 |       - match: {path: "/{{a}}"}
                 |                       ^^^^^^^^
            help: write an exact path such as /v1/random, with a parameter as in /v1/price/{pair}, or everything beneath as in /v1/price/{*rest}

            serviceos.yaml:13:23: services.vrf.routes[9].match.path: a route's path has no empty part, found `/a//b`
              13 |       - match: {path: /a//b}
                 |                       ^^^^^
            help: write an exact path such as /v1/random, with a parameter as in /v1/price/{pair}, or everything beneath as in /v1/price/{*rest}

            serviceos.yaml:14:23: services.vrf.routes[10].match.path: a route's path has no part `.` or `..`, found `/a/../b`
              14 |       - match: {path: /a/../b}
                 |                       ^^^^^^^
            help: write an exact path such as /v1/random, with a parameter as in /v1/price/{pair}, or everything beneath as in /v1/price/{*rest}

            serviceos.yaml:15:23: services.vrf.routes[11].match.path: a route's path has only the characters of a URL path, without a query or a semicolon, found `/a;b`
              15 |       - match: {path: /a;b}
                 |                       ^^^^
            help: write an exact path such as /v1/random, with a parameter as in /v1/price/{pair}, or everything beneath as in /v1/price/{*rest}"#]],
    );
}

#[test]
fn methods_scopes_and_public_are_checked() {
    check(
        "services:
  vrf:
    routes:
      - match: {path: /a, methods: [post, \"\", \"G T\"]}
        scopes: [Randomness, \"a b\"]
      - match: {path: /b}
        public: true
        scopes: [randomness]
        timeout: 0s
        request: {bodyBytes: 0B}
        rateLimit: {rate: 5/min}
",
        expect![[r#"
            serviceos.yaml:4:37: services.vrf.routes[0].match.methods: expected an upper-case method such as POST, found `post`
              4 |       - match: {path: /a, methods: [post, "", "G T"]}
                |                                     ^^^^
            help: write `POST`

            serviceos.yaml:4:43: services.vrf.routes[0].match.methods: expected an upper-case method such as POST, found ``
              4 |       - match: {path: /a, methods: [post, "", "G T"]}
                |                                           ^^

            serviceos.yaml:4:47: services.vrf.routes[0].match.methods: expected an upper-case method such as POST, found `G T`
              4 |       - match: {path: /a, methods: [post, "", "G T"]}
                |                                               ^^^^^

            serviceos.yaml:5:18: services.vrf.routes[0].scopes: expected a scope such as randomness, found `Randomness`
              5 |         scopes: [Randomness, "a b"]
                |                  ^^^^^^^^^^
            help: a scope is lower-case letters, digits and the characters : . _ -

            serviceos.yaml:5:30: services.vrf.routes[0].scopes: expected a scope such as randomness, found `a b`
              5 |         scopes: [Randomness, "a b"]
                |                              ^^^^^
            help: a scope is lower-case letters, digits and the characters : . _ -

            serviceos.yaml:7:17: services.vrf.routes[1]: a public route asks for no scopes
              7 |         public: true
                |                 ^^^^
            help: leave `scopes` out, or write `public: false`

            serviceos.yaml:9:18: services.vrf.routes[1].timeout: expected a duration from 1ms to 1d, found `0s`
              9 |         timeout: 0s
                |                  ^^

            serviceos.yaml:10:30: services.vrf.routes[1].request.bodyBytes: expected a size from 1B to 1024GiB, found `0B`
              10 |         request: {bodyBytes: 0B}
                 |                              ^^

            serviceos.yaml:11:20: services.vrf.routes[1].rateLimit.burst: a limit needs a burst
              11 |         rateLimit: {rate: 5/min}
                 |                    ^
            help: write `burst: 500`: so many at once after a pause"#]],
    );
}

#[test]
fn hosts_headers_and_methods_tell_routes_of_one_path_apart() {
    let text = "services:
  vrf:
    routes:
      - match: {path: \"/a/{x}\"}
      - match: {path: \"/a/{x}\", headers: {x-beta: 1}}
      - match: {path: \"/a/{x}\", headers: {x-beta: 2}}
      - match: {path: \"/a/{x}\", headers: {x-beta: 2, x-more: 2}}
      - match: {path: \"/a/{x}\", host: example.org}
      - match: {path: \"/a/{y}\", host: \"*.example.org\"}
      - match: {path: \"/a/{y}\", host: \"*.example.org\", headers: {x-beta: 1}, methods: [GET]}
      - match: {path: \"/a/{y}\", host: \"*.example.org\", headers: {x-beta: 1}, methods: [POST]}
";
    assert_eq!(read(text).unwrap().services[0].routes.len(), 8);
}

#[test]
fn nothing_is_looked_up_by_a_header_of_the_connection() {
    check(
        "services:
  vrf:
    routes:
      - match: {path: /a, headers: {Upgrade: websocket}}
    loadBalancing: {policy: maglev, hashOn: \"header:te\"}
    traffic: {header: keep-alive, weights: {1.0.0: 1}, sticky: \"header:Connection\"}
",
        expect![[r#"
            serviceos.yaml:4:37: services.vrf.routes[0].match.headers: expected the name of a header such as x-beta, found `Upgrade`
              4 |       - match: {path: /a, headers: {Upgrade: websocket}}
                |                                     ^^^^^^^
            help: this one belongs to each connection alone; name a header of the request itself

            serviceos.yaml:5:45: services.vrf.loadBalancing.hashOn: expected `header:NAME`, `cookie:NAME`, `path:PARAMETER` or `caller`, found `header:te`
              5 |     loadBalancing: {policy: maglev, hashOn: "header:te"}
                |                                             ^^^^^^^^^^^
            help: this one belongs to each connection alone; name a header of the request itself

            serviceos.yaml:6:23: services.vrf.traffic.header: expected the name of a header such as x-beta, found `keep-alive`
              6 |     traffic: {header: keep-alive, weights: {1.0.0: 1}, sticky: "header:Connection"}
                |                       ^^^^^^^^^^
            help: this one belongs to each connection alone; name a header of the request itself

            serviceos.yaml:6:64: services.vrf.traffic.sticky: expected `cookie:NAME`, `header:NAME` or `caller`, found `header:Connection`
              6 |     traffic: {header: keep-alive, weights: {1.0.0: 1}, sticky: "header:Connection"}
                |                                                                ^^^^^^^^^^^^^^^^^^^
            help: this one belongs to each connection alone; name a header of the request itself"#]],
    );
}

#[test]
fn routes_of_one_host_and_the_same_headers_are_a_tie() {
    check(
        "services:
  vrf:
    routes:
      - match: {path: /a, headers: {x-beta: 1, Accept: x}}
      - match: {path: /a, headers: {accept: x, X-Beta: \"1\"}, methods: [GET]}
      - match: {path: /a, host: example.org}
      - match: {path: /a, host: example.org}
      - match: {path: \"/{x}\", host: \"*.example.org\"}
      - match: {path: \"/{y}\", host: \"*.example.org\", headers: {x-beta: 1}}
      - match: {path: /health, host: example.org}
",
        expect![[r#"
            serviceos.yaml:5:23: services.vrf: the route /a takes the same requests as /a of services.vrf (line 4)
              5 |       - match: {path: /a, headers: {accept: x, X-Beta: "1"}, methods: [GET]}
                |                       ^^
            help: give one of them another host or path, or each its own methods or headers under the very same path

            serviceos.yaml:7:23: services.vrf: the route example.org/a takes the same requests as example.org/a of services.vrf (line 6)
              7 |       - match: {path: /a, host: example.org}
                |                       ^^
            help: give one of them another host or path, or each its own methods or headers under the very same path

            serviceos.yaml:9:23: services.vrf: the route *.example.org/{y} takes the same requests as *.example.org/{x} of services.vrf (line 8)
              9 |       - match: {path: "/{y}", host: "*.example.org", headers: {x-beta: 1}}
                |                       ^^^^^^
            help: give one of them another host or path, or each its own methods or headers under the very same path

            serviceos.yaml:10:23: services.vrf: the route /health is reserved: the gateway answers it itself
              10 |       - match: {path: /health, host: example.org}
                 |                       ^^^^^^^
            help: choose another path"#]],
    );
}

#[test]
fn hosts_and_headers_are_checked() {
    check(
        "services:
  vrf:
    routes:
      - match: {path: /a, host: \"example.org:8080\"}
      - match: {path: /b, host: Example.org}
      - match: {path: /b}
      - match: {path: /c, host: \"*\"}
      - match: {path: /d, host: \"api.*.org\"}
      - match: {path: /e, headers: {\"a b\": 1, x: \"\", y: \" z\", Host: example.org, q: 1, Q: 1}}
      - match: {path: /f, headers: {a: 1, b: 1, c: 1, d: 1, e: 1, f: 1, g: 1, h: 1, i: 1}}
",
        expect![[r#"
            serviceos.yaml:4:33: services.vrf.routes[0].match.host: expected a host such as api.example.org, or *.example.org for all beneath, found `example.org:8080`
              4 |       - match: {path: /a, host: "example.org:8080"}
                |                                 ^^^^^^^^^^^^^^^^^^
            help: leave the port out

            serviceos.yaml:5:33: services.vrf.routes[1].match.host: expected a host such as api.example.org, or *.example.org for all beneath, found `Example.org`
              5 |       - match: {path: /b, host: Example.org}
                |                                 ^^^^^^^^^^^
            help: write `example.org`

            serviceos.yaml:7:33: services.vrf.routes[3].match.host: expected a host such as api.example.org, or *.example.org for all beneath, found `*`
              7 |       - match: {path: /c, host: "*"}
                |                                 ^^^

            serviceos.yaml:8:33: services.vrf.routes[4].match.host: expected a host such as api.example.org, or *.example.org for all beneath, found `api.*.org`
              8 |       - match: {path: /d, host: "api.*.org"}
                |                                 ^^^^^^^^^^^

            serviceos.yaml:9:37: services.vrf.routes[5].match.headers: expected the name of a header such as x-beta, found `a b`
              9 |       - match: {path: /e, headers: {"a b": 1, x: "", y: " z", Host: example.org, q: 1, Q: 1}}
                |                                     ^^^^^

            serviceos.yaml:9:50: services.vrf.routes[5].match.headers: expected 1 to 256 visible ASCII characters, found ``
              9 |       - match: {path: /e, headers: {"a b": 1, x: "", y: " z", Host: example.org, q: 1, Q: 1}}
                |                                                  ^^

            serviceos.yaml:9:57: services.vrf.routes[5].match.headers: expected 1 to 256 visible ASCII characters, found ` z`
              9 |       - match: {path: /e, headers: {"a b": 1, x: "", y: " z", Host: example.org, q: 1, Q: 1}}
                |                                                         ^^^^

            serviceos.yaml:9:63: services.vrf.routes[5].match.headers: the host is matched by a key of its own
              9 |       - match: {path: /e, headers: {"a b": 1, x: "", y: " z", Host: example.org, q: 1, Q: 1}}
                |                                                               ^^^^
            help: write `match: {host: …}`

            serviceos.yaml:9:88: services.vrf.routes[5].match.headers: the header `q` is written twice
              9 |       - match: {path: /e, headers: {"a b": 1, x: "", y: " z", Host: example.org, q: 1, Q: 1}}
                |                                                                                        ^
            help: keep one of the two; the case of a name means nothing

            serviceos.yaml:10:85: services.vrf.routes[6].match.headers: a route asks for at most 8 headers
              10 |       - match: {path: /f, headers: {a: 1, b: 1, c: 1, d: 1, e: 1, f: 1, g: 1, h: 1, i: 1}}
                 |                                                                                     ^"#]],
    );
}
