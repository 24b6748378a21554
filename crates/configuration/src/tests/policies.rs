//! Load balancing, traffic, retries, limits, ejection and health checks.

use expect_test::expect;

use super::{check, read};
use crate::{BalancingPolicy, CallerName, HashOn, Probe, Sticky};

#[test]
fn percentages_are_whole_and_have_their_sign() {
    for (value, expected) in [
        (
            "20",
            expect![[r#"
            serviceos.yaml:1:34: services.vrf.retry.budget: expected a whole percentage from 0% to 100%, found `20`
              1 | services: {vrf: {retry: {budget: 20}}}
                |                                  ^^
            help: add the sign: 20%"#]],
        ),
        (
            "0.2",
            expect![[r#"
            serviceos.yaml:1:34: services.vrf.retry.budget: expected a whole percentage from 0% to 100%, found `0.2`
              1 | services: {vrf: {retry: {budget: 0.2}}}
                |                                  ^^^
            help: write 20% for that part of the whole"#]],
        ),
        (
            "101%",
            expect![[r#"
            serviceos.yaml:1:34: services.vrf.retry.budget: expected a whole percentage from 0% to 100%, found `101%`
              1 | services: {vrf: {retry: {budget: 101%}}}
                |                                  ^^^^"#]],
        ),
        (
            "20.5%",
            expect![[r#"
            serviceos.yaml:1:34: services.vrf.retry.budget: expected a whole percentage from 0% to 100%, found `20.5%`
              1 | services: {vrf: {retry: {budget: 20.5%}}}
                |                                  ^^^^^"#]],
        ),
        (
            "\"+5%\"",
            expect![[r#"
            serviceos.yaml:1:34: services.vrf.retry.budget: expected a whole percentage from 0% to 100%, found `+5%`
              1 | services: {vrf: {retry: {budget: "+5%"}}}
                |                                  ^^^^^"#]],
        ),
        (
            "\"%\"",
            expect![[r#"
            serviceos.yaml:1:34: services.vrf.retry.budget: expected a whole percentage from 0% to 100%, found `%`
              1 | services: {vrf: {retry: {budget: "%"}}}
                |                                  ^^^"#]],
        ),
    ] {
        check(&format!("services: {{vrf: {{retry: {{budget: {value}}}}}}}\n"), expected);
    }
}

#[test]
fn only_maglev_hashes_and_it_needs_something_to_hash() {
    check(
        "services:
  vrf: {loadBalancing: {policy: maglev}}
  oracle: {loadBalancing: {hashOn: caller}}
  datafeed: {loadBalancing: {policy: maglev, hashOn: \"path:pair\"}}
  a: {builtin: vrf, loadBalancing: {policy: magelv, hashOn: caller}}
  b: {builtin: vrf, loadBalancing: {policy: maglev, hashOn: \"header:x user\"}}
  c: {builtin: vrf, loadBalancing: {policy: maglev, hashOn: \"hader:x\"}}
  d: {builtin: vrf, loadBalancing: {policy: maglev, hashOn: cookie}}
  e: {builtin: vrf, loadBalancing: {policy: maglev, hashOn: \"caller:x\"}}
  f: {builtin: vrf, loadBalancing: {policy: maglev, hashOn: \"path:rset\"}}
  g: {builtin: vrf, loadBalancing: {policy: maglev, hashOn: \"path:x\"}, routes: [{match: {path: v1}}]}
  h: {builtin: vrf, loadBalancing: {policy: maglev, hashOn: \"path:x\"}, routes: []}
",
        expect![[r#"
            serviceos.yaml:2:33: services.vrf.loadBalancing.policy: maglev needs to know what it hashes
              2 |   vrf: {loadBalancing: {policy: maglev}}
                |                                 ^^^^^^
            help: write `hashOn: caller` beside it, or `hashOn: "header:x-user"`

            serviceos.yaml:3:36: services.oracle.loadBalancing.hashOn: only the policy maglev hashes anything
              3 |   oracle: {loadBalancing: {hashOn: caller}}
                |                                    ^^^^^^
            help: leave it out, or write `policy: maglev`

            serviceos.yaml:4:54: services.datafeed.loadBalancing.hashOn: no route of the service has the parameter `pair`
              4 |   datafeed: {loadBalancing: {policy: maglev, hashOn: "path:pair"}}
                |                                                      ^^^^^^^^^^^
            help: write `rest`

            serviceos.yaml:5:45: services.a.loadBalancing.policy: expected `peak-ewma`, `round-robin`, `least-request`, `maglev` or `random`, found `magelv`
              5 |   a: {builtin: vrf, loadBalancing: {policy: magelv, hashOn: caller}}
                |                                             ^^^^^^
            help: did you mean `maglev`?

            serviceos.yaml:6:61: services.b.loadBalancing.hashOn: expected `header:NAME`, `cookie:NAME`, `path:PARAMETER` or `caller`, found `header:x user`
              6 |   b: {builtin: vrf, loadBalancing: {policy: maglev, hashOn: "header:x user"}}
                |                                                             ^^^^^^^^^^^^^^^
            help: `header:` is followed by a name of at most 64 bytes

            serviceos.yaml:7:61: services.c.loadBalancing.hashOn: expected `header:NAME`, `cookie:NAME`, `path:PARAMETER` or `caller`, found `hader:x`
              7 |   c: {builtin: vrf, loadBalancing: {policy: maglev, hashOn: "hader:x"}}
                |                                                             ^^^^^^^^^
            help: did you mean `header:x`?

            serviceos.yaml:8:61: services.d.loadBalancing.hashOn: expected `header:NAME`, `cookie:NAME`, `path:PARAMETER` or `caller`, found `cookie`
              8 |   d: {builtin: vrf, loadBalancing: {policy: maglev, hashOn: cookie}}
                |                                                             ^^^^^^
            help: did you mean `cookie:NAME`?

            serviceos.yaml:9:61: services.e.loadBalancing.hashOn: expected `header:NAME`, `cookie:NAME`, `path:PARAMETER` or `caller`, found `caller:x`
              9 |   e: {builtin: vrf, loadBalancing: {policy: maglev, hashOn: "caller:x"}}
                |                                                             ^^^^^^^^^^

            serviceos.yaml:10:61: services.f.loadBalancing.hashOn: no route of the service has the parameter `rset`
              10 |   f: {builtin: vrf, loadBalancing: {policy: maglev, hashOn: "path:rset"}}
                 |                                                             ^^^^^^^^^^^
            help: did you mean `rest`?

            serviceos.yaml:11:96: services.g.routes[0].match.path: a route's path begins with /, found `v1`
              11 |   g: {builtin: vrf, loadBalancing: {policy: maglev, hashOn: "path:x"}, routes: [{match: {path: v1}}]}
                 |                                                                                                ^^
            help: write an exact path such as /v1/random, with a parameter as in /v1/price/{pair}, or everything beneath as in /v1/price/{*rest}

            serviceos.yaml:12:61: services.h.loadBalancing.hashOn: no route of the service has the parameter `x`
              12 |   h: {builtin: vrf, loadBalancing: {policy: maglev, hashOn: "path:x"}, routes: []}
                 |                                                             ^^^^^^^^"#]],
    );
}

#[test]
fn every_policy_has_its_word() {
    let policy = |text: &str| {
        let settings = read(&format!("services: {{vrf: {{loadBalancing: {{{text}}}}}}}")).unwrap();
        settings.services[0].load_balancing.policy.clone()
    };
    assert_eq!(policy(""), BalancingPolicy::PeakEwma);
    assert_eq!(policy("policy: peak-ewma"), BalancingPolicy::PeakEwma);
    assert_eq!(policy("policy: round-robin"), BalancingPolicy::RoundRobin);
    assert_eq!(policy("policy: least-request"), BalancingPolicy::LeastRequest);
    assert_eq!(policy("policy: random"), BalancingPolicy::Random);
    for (written, hash_on) in [
        ("header:X-User", HashOn::Header("x-user".to_owned())),
        ("cookie:Sid", HashOn::Cookie("Sid".to_owned())),
        ("path:rest", HashOn::PathParameter("rest".to_owned())),
        ("caller", HashOn::Caller),
    ] {
        let maglev = policy(&format!("policy: maglev, hashOn: \"{written}\""));
        assert_eq!(maglev, BalancingPolicy::Maglev(hash_on));
    }
}

#[test]
fn a_slow_start_lasts_at_most_an_hour() {
    check(
        "services: {vrf: {loadBalancing: {slowStart: 61m}}}\n",
        expect![[r#"
        serviceos.yaml:1:45: services.vrf.loadBalancing.slowStart: expected a duration from 0s to 1h, found `1h1m`
          1 | services: {vrf: {loadBalancing: {slowStart: 61m}}}
            |                                             ^^^"#]],
    );
    for good in ["0s", "1h"] {
        assert!(
            read(&format!("services: {{vrf: {{loadBalancing: {{slowStart: {good}}}}}}}")).is_ok(),
            "{good}"
        );
    }
}

#[test]
fn weights_belong_to_the_versions_that_there_are() {
    check(
        "services:
  a:
    attestation: none
    endpointSet: [{url: \"http://a\"}, {url: \"http://b\", version: 1.1.0}, {url: \"http://c\", version: next}]
    traffic: {weights: {1.0.0: 1001, 1.1: 1}}
  b:
    attestation: none
    version: 3.0.0
    endpointSet: [{url: \"http://a\", version: 1.0.0}]
    traffic: {weights: {1.0.0: 0}}
  c: {attestation: none, endpoints: [\"http://a\"], traffic: {weights: {}}}
  vrf: {traffic: {weights: {2.0.0: 1, \"1.0.0\": 1}}}
  d: {traffic: {weights: {2.0.0: 1}}}
",
        expect![[r#"
            serviceos.yaml:5:24: services.a.traffic.weights: the version `1.1.0` has no weight
              5 |     traffic: {weights: {1.0.0: 1001, 1.1: 1}}
                |                        ^
            help: write `"1.1.0": 0` if no calls are to go there

            serviceos.yaml:5:24: services.a.traffic.weights: the version `next` has no weight
              5 |     traffic: {weights: {1.0.0: 1001, 1.1: 1}}
                |                        ^
            help: write `"next": 0` if no calls are to go there

            serviceos.yaml:5:32: services.a.traffic.weights.1.0.0: expected a whole number from 0 to 1000, found `1001`
              5 |     traffic: {weights: {1.0.0: 1001, 1.1: 1}}
                |                                ^^^^

            serviceos.yaml:5:38: services.a.traffic.weights: the service has no version `1.1`
              5 |     traffic: {weights: {1.0.0: 1001, 1.1: 1}}
                |                                      ^^^
            help: did you mean `1.1.0`?

            serviceos.yaml:10:24: services.b.traffic.weights: with these weights no calls go anywhere
              10 |     traffic: {weights: {1.0.0: 0}}
                 |                        ^
            help: give one version a weight above 0

            serviceos.yaml:11:70: services.c.traffic.weights: the version `1.0.0` has no weight
              11 |   c: {attestation: none, endpoints: ["http://a"], traffic: {weights: {}}}
                 |                                                                      ^
            help: write `"1.0.0": 0` if no calls are to go there

            serviceos.yaml:12:29: services.vrf.traffic.weights: the service has no version `2.0.0`
              12 |   vrf: {traffic: {weights: {2.0.0: 1, "1.0.0": 1}}}
                 |                             ^^^^^
            help: did you mean `1.0.0`?

            serviceos.yaml:13:3: services.d: nothing says what it runs
              13 |   d: {traffic: {weights: {2.0.0: 1}}}
                 |   ^
            help: the built-in services are vrf, datafeed and oracle; `builtin: vrf` chooses one under this name, `command` starts a program of your own, `attestation.releases` alone admits what `serviceos exec` starts elsewhere, and `endpoints` calls servers that run elsewhere"#]],
    );
}

#[test]
fn a_version_has_one_weight_however_it_is_quoted() {
    let report =
        read("services: {vrf: {traffic: {weights: {1.0.0: 1, \"1.0.0\": 2}}}}").unwrap_err().to_string();
    assert!(report.contains("`1.0.0` is written twice"), "{report}");
}

#[test]
fn the_header_of_a_version_and_stickiness_are_checked() {
    check(
        "services:\n  vrf: {traffic: {header: \"a b\", weights: {1.0.0: 1}, sticky: \"path:x\"}}\n  oracle: {traffic: {weights: {1.0.0: 1}, sticky: \"cokie:x\"}}\n",
        expect![[r#"
            serviceos.yaml:2:27: services.vrf.traffic.header: expected the name of a header such as x-beta, found `a b`
              2 |   vrf: {traffic: {header: "a b", weights: {1.0.0: 1}, sticky: "path:x"}}
                |                           ^^^^^

            serviceos.yaml:2:63: services.vrf.traffic.sticky: expected `cookie:NAME`, `header:NAME` or `caller`, found `path:x`
              2 |   vrf: {traffic: {header: "a b", weights: {1.0.0: 1}, sticky: "path:x"}}
                |                                                               ^^^^^^^^

            serviceos.yaml:3:51: services.oracle.traffic.sticky: expected `cookie:NAME`, `header:NAME` or `caller`, found `cokie:x`
              3 |   oracle: {traffic: {weights: {1.0.0: 1}, sticky: "cokie:x"}}
                |                                                   ^^^^^^^^^
            help: did you mean `cookie:x`?"#]],
    );
    let traffic = |text: &str| {
        let settings = read(&format!("services: {{vrf: {{traffic: {text}}}}}")).unwrap();
        settings.services[0].traffic.clone().unwrap()
    };
    assert_eq!(traffic("").header, "service-version");
    assert_eq!(traffic("{weights: {1.0.0: 1}, sticky: caller}").sticky, Some(Sticky::Caller));
    assert_eq!(
        traffic("{weights: {1.0.0: 1}, sticky: \"header:X-A\"}").sticky,
        Some(Sticky::Header("x-a".to_owned()))
    );
    assert_eq!(read("services: {vrf: }").unwrap().services[0].traffic, None);
}

#[test]
fn stickiness_without_weights_would_do_nothing() {
    check(
        "services: {a: {endpoints: [\"http://a\"], attestation: none, traffic: {sticky: caller}}}\n",
        expect![[r#"
            serviceos.yaml:1:78: services.a.traffic.sticky: without weights no version is chosen that a caller could be kept at
              1 | services: {a: {endpoints: ["http://a"], attestation: none, traffic: {sticky: caller}}}
                |                                                                              ^^^^^^
            help: write `weights` beside it; `loadBalancing: {policy: maglev, hashOn: caller}` keeps a caller at a replica"#]],
    );
}

#[test]
fn callers_are_named_by_subject_or_tenant_and_get_a_version_that_there_may_be() {
    check(
        "services:
  a:
    attestation: none
    endpointSet: [{url: \"http://a\"}, {url: \"http://b\", version: 1.1.0}]
    traffic: {callers: {\"subject:key_1\": 1.1.0, \"tenant:acme\": 1.1.1, key_2: 1.0.0, \"tenant:\": 1.0.0}}
  vrf: {traffic: {callers: {\"subject:a\": \"1 0\", \"user:b\": 1.0.0, \"subject:b\": 0.9.0}}}
",
        expect![[r#"
            serviceos.yaml:5:64: services.a.traffic.callers: the service has no version `1.1.1`
              5 |     traffic: {callers: {"subject:key_1": 1.1.0, "tenant:acme": 1.1.1, key_2: 1.0.0, "tenant:": 1.0.0}}
                |                                                                ^^^^^
            help: did you mean `1.1.0`?

            serviceos.yaml:5:71: services.a.traffic.callers: expected `subject:NAME` or `tenant:NAME`, found `key_2`
              5 |     traffic: {callers: {"subject:key_1": 1.1.0, "tenant:acme": 1.1.1, key_2: 1.0.0, "tenant:": 1.0.0}}
                |                                                                       ^^^^^
            help: a subject is the id of an API key as in `keys list`, the subject of a token, or the name in a certificate

            serviceos.yaml:5:85: services.a.traffic.callers: expected `subject:NAME` or `tenant:NAME`, found `tenant:`
              5 |     traffic: {callers: {"subject:key_1": 1.1.0, "tenant:acme": 1.1.1, key_2: 1.0.0, "tenant:": 1.0.0}}
                |                                                                                     ^^^^^^^^^
            help: a subject is the id of an API key as in `keys list`, the subject of a token, or the name in a certificate

            serviceos.yaml:6:42: services.vrf.traffic.callers.subject:a: expected 1 to 49 visible ASCII characters such as 1.1.0, found `1 0`
              6 |   vrf: {traffic: {callers: {"subject:a": "1 0", "user:b": 1.0.0, "subject:b": 0.9.0}}}
                |                                          ^^^^^

            serviceos.yaml:6:49: services.vrf.traffic.callers: expected `subject:NAME` or `tenant:NAME`, found `user:b`
              6 |   vrf: {traffic: {callers: {"subject:a": "1 0", "user:b": 1.0.0, "subject:b": 0.9.0}}}
                |                                                 ^^^^^^^^
            help: a subject is the id of an API key as in `keys list`, the subject of a token, or the name in a certificate"#]],
    );
    let settings = read(
        "services: {vrf: {traffic: {sticky: caller, callers: {\"subject:key_1\": 1.1.0-3fa9c1d2, \"tenant:a:b\": 0.9.0}}}}",
    );
    let settings = settings.unwrap();
    let traffic = settings.services[0].traffic.as_ref().unwrap();
    assert_eq!(traffic.sticky, Some(Sticky::Caller), "a rollout divides calls, too");
    let callers = [
        (CallerName::Subject("key_1".to_owned()), "1.1.0-3fa9c1d2".to_owned()),
        (CallerName::Tenant("a:b".to_owned()), "0.9.0".to_owned()),
    ];
    assert_eq!(traffic.callers, callers.into());
}

#[test]
fn failures_to_retry_after_are_words_and_statuses() {
    check(
        "services: {vrf: {retry: {on: [conect, timeout, 499, \"600\", 5xx, \"+50\", []]}}}\n",
        expect![[r#"
        serviceos.yaml:1:31: services.vrf.retry.on: expected `connect`, `reset` or a status from 500 to 599, found `conect`
          1 | services: {vrf: {retry: {on: [conect, timeout, 499, "600", 5xx, "+50", []]}}}
            |                               ^^^^^^
        help: did you mean `connect`?

        serviceos.yaml:1:39: services.vrf.retry.on: expected `connect`, `reset` or a status from 500 to 599, found `timeout`
          1 | services: {vrf: {retry: {on: [conect, timeout, 499, "600", 5xx, "+50", []]}}}
            |                                       ^^^^^^^
        help: `reset` stands for a try that took too long, too

        serviceos.yaml:1:48: services.vrf.retry.on: expected `connect`, `reset` or a status from 500 to 599, found `499`
          1 | services: {vrf: {retry: {on: [conect, timeout, 499, "600", 5xx, "+50", []]}}}
            |                                                ^^^

        serviceos.yaml:1:53: services.vrf.retry.on: expected `connect`, `reset` or a status from 500 to 599, found `600`
          1 | services: {vrf: {retry: {on: [conect, timeout, 499, "600", 5xx, "+50", []]}}}
            |                                                     ^^^^^

        serviceos.yaml:1:60: services.vrf.retry.on: expected `connect`, `reset` or a status from 500 to 599, found `5xx`
          1 | services: {vrf: {retry: {on: [conect, timeout, 499, "600", 5xx, "+50", []]}}}
            |                                                            ^^^

        serviceos.yaml:1:65: services.vrf.retry.on: expected `connect`, `reset` or a status from 500 to 599, found `+50`
          1 | services: {vrf: {retry: {on: [conect, timeout, 499, "600", 5xx, "+50", []]}}}
            |                                                                 ^^^^^

        serviceos.yaml:1:72: services.vrf.retry.on: expected `connect`, `reset` or a status from 500 to 599, found a list
          1 | services: {vrf: {retry: {on: [conect, timeout, 499, "600", 5xx, "+50", []]}}}
            |                                                                        ^"#]],
    );
    let retry = |text: &str| {
        let settings = read(&format!("services: {{vrf: {{retry: {{{text}}}}}}}")).unwrap();
        settings.services[0].retry.on.clone()
    };
    let on = |causes: &str| retry(&format!("on: {causes}"));
    let by_default = retry("");
    assert_eq!((by_default.connect, by_default.reset), (true, true));
    assert_eq!(by_default.statuses, [502, 503, 504]);
    let written = on("[599, \"500\", reset, 599]");
    assert_eq!((written.connect, written.reset), (false, true));
    assert_eq!(written.statuses, [500, 599]);
    assert_eq!(on("[]").statuses, Vec::<u16>::new());
}

#[test]
fn limits_and_ejection_have_ranges() {
    check(
        "services:
  vrf:
    circuit: {connections: 0, pending: 1000001, requests: x}
    outlier: {consecutiveFailures: 1001, ejection: 0s, maxEjected: 50}
",
        expect![[r#"
            serviceos.yaml:3:28: services.vrf.circuit.connections: expected a whole number from 1 to 1000000, found `0`
              3 |     circuit: {connections: 0, pending: 1000001, requests: x}
                |                            ^

            serviceos.yaml:3:40: services.vrf.circuit.pending: expected a whole number from 1 to 1000000, found `1000001`
              3 |     circuit: {connections: 0, pending: 1000001, requests: x}
                |                                        ^^^^^^^

            serviceos.yaml:3:59: services.vrf.circuit.requests: expected a whole number from 1 to 1000000, found `x`
              3 |     circuit: {connections: 0, pending: 1000001, requests: x}
                |                                                           ^

            serviceos.yaml:4:36: services.vrf.outlier.consecutiveFailures: expected a whole number from 0 to 1000, found `1001`
              4 |     outlier: {consecutiveFailures: 1001, ejection: 0s, maxEjected: 50}
                |                                    ^^^^

            serviceos.yaml:4:52: services.vrf.outlier.ejection: expected a duration from 1ms to 1d, found `0s`
              4 |     outlier: {consecutiveFailures: 1001, ejection: 0s, maxEjected: 50}
                |                                                    ^^

            serviceos.yaml:4:68: services.vrf.outlier.maxEjected: expected a whole percentage from 0% to 100%, found `50`
              4 |     outlier: {consecutiveFailures: 1001, ejection: 0s, maxEjected: 50}
                |                                                                    ^^
            help: add the sign: 50%"#]],
    );
    check(
        "services: {vrf: {outlier: {successRate: off}}}\n",
        expect![[r#"
        serviceos.yaml:1:28: unknown key `successRate`
          1 | services: {vrf: {outlier: {successRate: off}}}
            |                            ^^^^^^^^^^^
        help: the keys here are `consecutiveFailures`, `ejection` and `maxEjected`"#]],
    );
}

#[test]
fn a_check_speaks_what_the_service_can_answer() {
    check(
        "services:
  vrf: {healthCheck: {protocol: grpc}}
  oracle: {healthCheck: {protocol: tcp, path: /health}}
  datafeed: {healthCheck: {protocol: htpp, path: /health}}
  a: {attestation: none, endpoints: [\"http://a\"], protocol: grpc, healthCheck: {path: /health}}
",
        expect![[r#"
            serviceos.yaml:2:33: services.vrf.healthCheck.protocol: a service that speaks http1 cannot be asked over grpc
              2 |   vrf: {healthCheck: {protocol: grpc}}
                |                                 ^^^^
            help: write `protocol: http`, or `protocol: grpc` for the service itself

            serviceos.yaml:3:47: services.oracle.healthCheck.path: only a check over http asks for a path
              3 |   oracle: {healthCheck: {protocol: tcp, path: /health}}
                |                                               ^^^^^^^
            help: leave it out, or write `protocol: http` beside it

            serviceos.yaml:4:38: services.datafeed.healthCheck.protocol: expected `http`, `tcp` or `grpc`, found `htpp`
              4 |   datafeed: {healthCheck: {protocol: htpp, path: /health}}
                |                                      ^^^^
            help: did you mean `http`?

            serviceos.yaml:5:87: services.a.healthCheck.path: only a check over http asks for a path
              5 |   a: {attestation: none, endpoints: ["http://a"], protocol: grpc, healthCheck: {path: /health}}
                |                                                                                       ^^^^^^^
            help: leave it out, or write `protocol: http` beside it"#]],
    );
    let probe = |text: &str| {
        let file = format!("services: {{a: {{attestation: none, endpoints: [\"http://a\"], {text}}}}}");
        read(&file).unwrap().services[0].health_check.probe.clone()
    };
    let http = Probe::Http { path: "/health".to_owned() };
    assert_eq!(probe(""), http);
    assert_eq!(probe("protocol: http2"), http);
    assert_eq!(probe("protocol: http2, healthCheck: {protocol: grpc}"), Probe::Grpc);
    assert_eq!(probe("protocol: grpc"), Probe::Grpc);
    assert_eq!(probe("protocol: grpc, healthCheck: {protocol: http, path: /health}"), http);
    assert_eq!(probe("healthCheck: {protocol: tcp}"), Probe::Tcp);
}
