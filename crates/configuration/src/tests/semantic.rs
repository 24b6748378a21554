//! Reports of files whose values have the right types and cannot work.

use expect_test::expect;

use super::{check, read};

#[test]
fn everything_that_is_wrong_is_reported_at_once() {
    check(
        "trustDomain: example.org
gateway:
  listen: [\"127.0.0.1:7070\", \"127.0.0.1:7070\"]
  workers: 0
  limits: {headers: 0, bodyBytes: 0B}
services:
  vrf:
    version: \"one two\"
    replicas: 1001
    healthCheck: {path: health, interval: 5s, timeout: 6s, healthyThreshold: 0}
    retry: {attempts: 6}
    restart: {min: 1m}
  Bad_Name:
  vfr:
  oracle: {builtin: vrf, config: [1]}
",
        expect![[r#"
            serviceos.yaml:1:14: trustDomain: a trust domain of development ends in .dev.invalid, found `example.org`
              1 | trustDomain: example.org
                |              ^^^^^^^^^^^
            help: development evidence must never pass for real evidence

            serviceos.yaml:3:12: admin.listen: 127.0.0.1:7070 is already taken by gateway.listen (line 3)
              3 |   listen: ["127.0.0.1:7070", "127.0.0.1:7070"]
                |            ^^^^^^^^^^^^^^^^
            help: choose another port, or port 0 for any free one

            serviceos.yaml:3:30: gateway.listen: 127.0.0.1:7070 is already taken by gateway.listen (line 3)
              3 |   listen: ["127.0.0.1:7070", "127.0.0.1:7070"]
                |                              ^^^^^^^^^^^^^^^^
            help: choose another port, or port 0 for any free one

            serviceos.yaml:4:12: gateway.workers: expected `auto` or a whole number from 1 to 512, found `0`
              4 |   workers: 0
                |            ^

            serviceos.yaml:5:21: gateway.limits.headers: expected a whole number of at least 1, found `0`
              5 |   limits: {headers: 0, bodyBytes: 0B}
                |                     ^

            serviceos.yaml:5:35: gateway.limits.bodyBytes: expected a size of at least 1B, found `0B`
              5 |   limits: {headers: 0, bodyBytes: 0B}
                |                                   ^^

            serviceos.yaml:8:14: services.vrf.version: expected 1 to 40 visible ASCII characters such as 1.0.0, found `one two`
              8 |     version: "one two"
                |              ^^^^^^^^^

            serviceos.yaml:9:15: services.vrf.replicas: expected a whole number from 0 to 1000, found `1001`
              9 |     replicas: 1001
                |               ^^^^

            serviceos.yaml:10:25: services.vrf.healthCheck.path: expected a path that begins with /, found `health`
              10 |     healthCheck: {path: health, interval: 5s, timeout: 6s, healthyThreshold: 0}
                 |                         ^^^^^^

            serviceos.yaml:10:56: services.vrf.healthCheck: timeout (`6s`) is longer than interval (`5s`)
              10 |     healthCheck: {path: health, interval: 5s, timeout: 6s, healthyThreshold: 0}
                 |                                                        ^^
            help: write `timeout: 5s` or less, or a longer interval

            serviceos.yaml:10:78: services.vrf.healthCheck.healthyThreshold: expected a whole number from 1 to 1000, found `0`
              10 |     healthCheck: {path: health, interval: 5s, timeout: 6s, healthyThreshold: 0}
                 |                                                                              ^

            serviceos.yaml:11:23: services.vrf.retry.attempts: expected a whole number from 0 to 5, found `6`
              11 |     retry: {attempts: 6}
                 |                       ^

            serviceos.yaml:12:20: services.vrf.restart: min (`1m`) is longer than max (`30s`, the default)
              12 |     restart: {min: 1m}
                 |                    ^^
            help: write `min: 30s` or less, or a longer max

            serviceos.yaml:13:3: services: `Bad_Name`: a service name is a lower-case letter, then lower-case letters, digits and hyphens, at most 40 bytes
              13 |   Bad_Name:
                 |   ^^^^^^^^

            serviceos.yaml:14:3: services.vfr: nothing says what it runs
              14 |   vfr:
                 |   ^^^
            help: did you mean `vrf`? the built-in services are vrf, datafeed and oracle; `builtin: vrf` chooses one under this name

            serviceos.yaml:15:21: services.oracle.builtin: a service named oracle runs the built-in oracle, found `vrf`
              15 |   oracle: {builtin: vrf, config: [1]}
                 |                     ^^^
            help: give a service that runs vrf another name

            serviceos.yaml:15:34: services.oracle.config: expected a mapping, found a list
              15 |   oracle: {builtin: vrf, config: [1]}
                 |                                  ^"#]],
    );
}

#[test]
fn a_default_that_no_longer_fits_is_named() {
    check(
        "services:\n  vrf:\n    healthCheck: {interval: 2s}\n",
        expect![[r#"
        serviceos.yaml:3:29: services.vrf.healthCheck: timeout (`5s`, the default) is longer than interval (`2s`)
          3 |     healthCheck: {interval: 2s}
            |                             ^^
        help: write `timeout: 2s` or less, or a longer interval"#]],
    );
}

#[test]
fn an_unspecified_address_takes_every_address_of_its_family() {
    check(
        "gateway: {listen: [\"0.0.0.0:7070\"]}\nservices: {vrf: }\n",
        expect![[r#"
        serviceos.yaml:1:20: admin.listen: 127.0.0.1:7070 is already taken by gateway.listen (line 1)
          1 | gateway: {listen: ["0.0.0.0:7070"]}
            |                    ^^^^^^^^^^^^^^
        help: choose another port, or port 0 for any free one"#]],
    );
    assert!(read("gateway: {listen: [\"[::]:7070\"]}\nservices: {vrf: }\n").is_ok());
    check(
        "gateway: {listen: []}\nservices: {vrf: }\n",
        expect![[r#"
        serviceos.yaml: gateway.listen: expected at least one address
        help: leave it out for 127.0.0.1:8080"#]],
    );
}

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
            help: give one of them another path, or each its own methods under the very same path

            serviceos.yaml:7:23: services.dice: the route /v1/random/{*all} takes the same requests as /v1/random/{*rest} of services.vrf (line 2)
              7 |       - match: {path: "/v1/random/{*all}", methods: [GET]}
                |                       ^^^^^^^^^^^^^^^^^^^
            help: give one of them another path, or each its own methods under the very same path

            serviceos.yaml:10:23: services.dice: the route /dice/{sides} takes the same requests as /dice/{sides} of services.dice (line 9)
              10 |       - match: {path: "/dice/{sides}", methods: [PUT, POST]}
                 |                       ^^^^^^^^^^^^^^^
            help: give one of them another path, or each its own methods under the very same path

            serviceos.yaml:11:23: services.dice: the route /dice/{count} takes the same requests as /dice/{sides} of services.dice (line 8)
              11 |       - match: {path: "/dice/{count}", methods: [DELETE]}
                 |                       ^^^^^^^^^^^^^^^
            help: give one of them another path, or each its own methods under the very same path"#]],
    );
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

            serviceos.yaml:6:23: services.vrf.routes[2].match.path: a route's path has only the characters of a URL path, without a query, found `/a b`
              6 |       - match: {path: /a b}
                |                       ^^^^
            help: write an exact path such as /v1/random, with a parameter as in /v1/price/{pair}, or everything beneath as in /v1/price/{*rest}

            serviceos.yaml:7:23: services.vrf.routes[3].match.path: a route's path has only the characters of a URL path, without a query, found `/a?b`
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

            serviceos.yaml:10:30: services.vrf.routes[1].request.bodyBytes: expected a size of at least 1B, found `0B`
              10 |         request: {bodyBytes: 0B}
                 |                              ^^"#]],
    );
}

#[test]
fn trust_domains_are_names_of_the_development_tree() {
    for good in ["serviceos.dev.invalid", "a-1.b.dev.invalid"] {
        assert!(read(&format!("trustDomain: {good}\nservices: {{vrf: }}")).is_ok(), "{good}");
    }
    let long = format!("{}.dev.invalid", "a".repeat(64));
    for bad in [
        "dev.invalid",
        ".dev.invalid",
        "A.dev.invalid",
        "a..dev.invalid",
        "-a.dev.invalid",
        "a_b.dev.invalid",
        &long,
    ] {
        assert!(read(&format!("trustDomain: {bad}\nservices: {{vrf: }}")).is_err(), "{bad}");
    }
}
