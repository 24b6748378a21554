//! Services that run elsewhere.

use expect_test::expect;

use super::{check, read};
use crate::{Runs, Scheme};

#[test]
fn endpoints_are_read_with_their_attributes() {
    let settings = read(
        "services:
  legacy: {version: 2.0, endpoints: [\"http://10.0.0.5:8080\", \"https://[FD00::5]/\"], attestation: none}
  split:
    endpointSet:
      - {url: \"http://A.example.org\"}
      - {url: \"http://b\", version: 1.10, weight: 1000, priority: 15, zone: eu-1b, metadata: {rack: 7}}
    attestation: none
",
    )
    .unwrap();
    let mut text = String::new();
    for service in &settings.services {
        let Runs::Endpoints(endpoints) = &service.runs else { panic!("no endpoints") };
        assert_eq!((service.replicas(), service.process()), (endpoints.len(), None));
        for endpoint in endpoints {
            let scheme = if endpoint.scheme == Scheme::Http { "http" } else { "https" };
            text += &format!(
                "{}: {scheme}://{} ({}) {} {} {} {:?} {:?}\n",
                service.name,
                endpoint.authority(),
                endpoint.host,
                endpoint.version,
                endpoint.weight,
                endpoint.priority,
                endpoint.zone,
                endpoint.metadata
            );
        }
    }
    expect![[r#"
        legacy: http://10.0.0.5:8080 (10.0.0.5) 2.0 1 0 None {}
        legacy: https://[fd00::5]:443 (fd00::5) 2.0 1 0 None {}
        split: http://a.example.org:80 (a.example.org) 1.0.0 1 0 None {}
        split: http://b:80 (b) 1.10 1000 15 Some("eu-1b") {"rack": "7"}
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_service_with_endpoints_has_the_routes_of_its_name() {
    let settings = read(
        "services:
  legacy: {endpoints: [\"http://a\"], attestation: none}
  vrf: {endpoints: [\"http://b\"], attestation: none}
",
    )
    .unwrap();
    let routes = settings.services.iter().flat_map(|service| &service.routes);
    let paths: Vec<_> =
        routes.map(|route| (route.path.as_str(), route.strip_prefix, route.scopes[0].as_str())).collect();
    assert_eq!(
        paths,
        [
            ("/legacy", true, "legacy"),
            ("/legacy/{*rest}", true, "legacy"),
            ("/v1/random", false, "randomness"),
            ("/v1/random/{*rest}", false, "randomness"),
        ]
    );
}

#[test]
fn endpoints_must_be_said_to_be_attested_by_nobody() {
    check(
        "services:
  a: {endpoints: [\"http://a\"]}
  b: {endpointSet: [{url: \"http://b\"}], attestation: }
  c: {endpoints: [\"http://c\"], attestation: nnoe}
  d: {endpoints: [\"http://d\"], attestation: {identityTtl: 1h}}
  vrf: {attestation: none}
  dice: {attestation: none}
",
        expect![[r#"
            serviceos.yaml:2:3: services.a: nobody attests endpoints, and the file must say so
              2 |   a: {endpoints: ["http://a"]}
                |   ^
            help: write `attestation: none` beside them

            serviceos.yaml:3:3: services.b: nobody attests endpoints, and the file must say so
              3 |   b: {endpointSet: [{url: "http://b"}], attestation: }
                |   ^
            help: write `attestation: none` beside them

            serviceos.yaml:4:45: services.c.attestation: expected `none` or a mapping, found `nnoe`
              4 |   c: {endpoints: ["http://c"], attestation: nnoe}
                |                                             ^^^^
            help: did you mean `none`?

            serviceos.yaml:5:45: services.d.attestation: endpoints are outside of the mesh, where nobody attests them
              5 |   d: {endpoints: ["http://d"], attestation: {identityTtl: 1h}}
                |                                             ^
            help: write `attestation: none`

            serviceos.yaml:6:22: services.vrf.attestation: only a service with endpoints says this
              6 |   vrf: {attestation: none}
                |                      ^^^^
            help: leave it out

            serviceos.yaml:7:3: services.dice: nothing says what it runs
              7 |   dice: {attestation: none}
                |   ^^^^
            help: the built-in services are vrf, datafeed and oracle; `builtin: vrf` chooses one under this name, `command` starts a program of your own, `attestation.releases` alone admits what `serviceos exec` starts elsewhere, and `endpoints` calls servers that run elsewhere

            serviceos.yaml:7:23: services.dice.attestation: only a service with endpoints says this
              7 |   dice: {attestation: none}
                |                       ^^^^
            help: leave it out"#]],
    );
}

#[test]
fn endpoints_take_none_of_the_keys_of_a_process() {
    check(
        "services:
  vrf:
    endpoints: [\"http://a\"]
    attestation: none
    builtin: vrf
    replicas: 3
    config: {suite: ed25519}
    drain: {timeout: 1s, grace: 1s}
    restart: {min: 1s}
    startTimeout: 1s
    command: [./infer]
    env: {A: b}
    workingDirectory: infer
    secrets: [vrf-key]
    allow: [vrf]
    configReload: signal
",
        expect![[r#"
            serviceos.yaml:5:14: services.vrf.builtin: a service runs a built-in one or has endpoints, not both
              5 |     builtin: vrf
                |              ^^^
            help: leave `builtin` out

            serviceos.yaml:6:15: services.vrf.replicas: every endpoint is one replica
              6 |     replicas: 3
                |               ^
            help: leave `replicas` out

            serviceos.yaml:7:13: services.vrf.config: endpoints are not started here, so nothing can be handed to them
              7 |     config: {suite: ed25519}
                |             ^
            help: leave `config` out

            serviceos.yaml:8:33: services.vrf.drain.grace: endpoints are not stopped here
              8 |     drain: {timeout: 1s, grace: 1s}
                |                                 ^^
            help: leave `drain.grace` out

            serviceos.yaml:9:14: services.vrf.restart: endpoints are not started here, and not again either
              9 |     restart: {min: 1s}
                |              ^
            help: leave `restart` out

            serviceos.yaml:10:19: services.vrf.startTimeout: endpoints are not started here
              10 |     startTimeout: 1s
                 |                   ^^
            help: leave `startTimeout` out

            serviceos.yaml:11:14: services.vrf.command: a service is started by a command or has endpoints, not both
              11 |     command: [./infer]
                 |              ^
            help: leave `command` out

            serviceos.yaml:12:10: services.vrf.env: endpoints are not started here
              12 |     env: {A: b}
                 |          ^
            help: leave `env` out

            serviceos.yaml:13:23: services.vrf.workingDirectory: endpoints are not started here
              13 |     workingDirectory: infer
                 |                       ^^^^^
            help: leave `workingDirectory` out

            serviceos.yaml:14:14: services.vrf.secrets: endpoints do not join the mesh, and secrets are handed over there
              14 |     secrets: [vrf-key]
                 |              ^
            help: leave `secrets` out

            serviceos.yaml:15:12: services.vrf.allow: nothing inside the mesh calls endpoints
              15 |     allow: [vrf]
                 |            ^
            help: leave `allow` out

            serviceos.yaml:16:19: services.vrf.configReload: endpoints are not started here, so nothing can be handed to them
              16 |     configReload: signal
                 |                   ^^^^^^
            help: leave `configReload` out"#]],
    );
    // An alias brings them along as well.
    check(
        "services:\n  vrf: &base {replicas: 2}\n  a: {<<: *base, endpoints: [\"http://a\"], attestation: none}\n",
        expect![[r#"
            serviceos.yaml:3:11: services.a.replicas: every endpoint is one replica
              3 |   a: {<<: *base, endpoints: ["http://a"], attestation: none}
                |           ^^^^^
            help: leave `replicas` out"#]],
    );
}

#[test]
fn what_is_wrong_with_endpoints_is_said_at_each() {
    check(
        "services:
  a:
    attestation: none
    endpoints: [10.0.0.5, \"ftp://a\", \"http://u:p@a\", \"http://a/b\", \"http://a?b\", \"http://a:0\", \"http://-a\", \"http://10.0.0.256\"]
  b:
    attestation: none
    endpoints: [\"http://a\", \"https://A:80\", \"http://a:81\", \"http://a:80/\"]
  c:
    attestation: none
    endpointSet:
      - {url: \"http://a\", version: \"a b\", weight: 0, priority: 16}
      - {weight: 1001}
      - {url: \"http://a\"}
  d:
    attestation: none
    endpoints:
  e:
    attestation: none
    endpoints: [\"http://a\"]
    endpointSet: []
",
        expect![[r#"
            serviceos.yaml:4:17: services.a.endpoints[0]: the URL of an endpoint begins with http:// or https://, found `10.0.0.5`
              4 |     endpoints: [10.0.0.5, "ftp://a", "http://u:p@a", "http://a/b", "http://a?b", "http://a:0", "http://-a", "http://10.0…
                |                 ^^^^^^^^
            help: write http://10.0.0.5:8080, http://[fd00::5]:8080 or https://api.example.org

            serviceos.yaml:4:27: services.a.endpoints[1]: the URL of an endpoint begins with http:// or https://, found `ftp://a`
              4 |     endpoints: [10.0.0.5, "ftp://a", "http://u:p@a", "http://a/b", "http://a?b", "http://a:0", "http://-a", "http://10.0…
                |                           ^^^^^^^^^
            help: write http://10.0.0.5:8080, http://[fd00::5]:8080 or https://api.example.org

            serviceos.yaml:4:38: services.a.endpoints[2]: the URL of an endpoint has no user and no password, found `http://u:p@a`
              4 |     endpoints: [10.0.0.5, "ftp://a", "http://u:p@a", "http://a/b", "http://a?b", "http://a:0", "http://-a", "http://10.0…
                |                                      ^^^^^^^^^^^^^^
            help: write http://10.0.0.5:8080, http://[fd00::5]:8080 or https://api.example.org

            serviceos.yaml:4:54: services.a.endpoints[3]: the URL of an endpoint has no path, no query and no fragment, found `http://a/b`
              4 | …: [10.0.0.5, "ftp://a", "http://u:p@a", "http://a/b", "http://a?b", "http://a:0", "http://-a", "http://10.0.0.256"]
                |                                          ^^^^^^^^^^^^
            help: write http://10.0.0.5:8080, http://[fd00::5]:8080 or https://api.example.org

            serviceos.yaml:4:68: services.a.endpoints[4]: the URL of an endpoint has no path, no query and no fragment, found `http://a?b`
              4 | …ftp://a", "http://u:p@a", "http://a/b", "http://a?b", "http://a:0", "http://-a", "http://10.0.0.256"]
                |                                          ^^^^^^^^^^^^
            help: write http://10.0.0.5:8080, http://[fd00::5]:8080 or https://api.example.org

            serviceos.yaml:4:82: services.a.endpoints[5]: the port of an endpoint is from 1 to 65535, found `http://a:0`
              4 | …p://u:p@a", "http://a/b", "http://a?b", "http://a:0", "http://-a", "http://10.0.0.256"]
                |                                          ^^^^^^^^^^^^
            help: write http://10.0.0.5:8080, http://[fd00::5]:8080 or https://api.example.org

            serviceos.yaml:4:96: services.a.endpoints[6]: the URL of an endpoint has an IP address or a DNS name, found `http://-a`
              4 | …ttp://a/b", "http://a?b", "http://a:0", "http://-a", "http://10.0.0.256"]
                |                                          ^^^^^^^^^^^
            help: write http://10.0.0.5:8080, http://[fd00::5]:8080 or https://api.example.org

            serviceos.yaml:4:109: services.a.endpoints[7]: the URL of an endpoint has an IP address or a DNS name, found `http://10.0.0.256`
              4 | …http://a?b", "http://a:0", "http://-a", "http://10.0.0.256"]
                |                                          ^^^^^^^^^^^^^^^^^^^
            help: write http://10.0.0.5:8080, http://[fd00::5]:8080 or https://api.example.org

            serviceos.yaml:7:29: services.b.endpoints[1]: this endpoint is written already (line 7)
              7 |     endpoints: ["http://a", "https://A:80", "http://a:81", "http://a:80/"]
                |                             ^^^^^^^^^^^^^^
            help: keep one of the two

            serviceos.yaml:7:60: services.b.endpoints[3]: this endpoint is written already (line 7)
              7 |     endpoints: ["http://a", "https://A:80", "http://a:81", "http://a:80/"]
                |                                                            ^^^^^^^^^^^^^^
            help: keep one of the two

            serviceos.yaml:11:36: services.c.endpointSet[0].version: expected 1 to 40 visible ASCII characters such as 1.0.0, found `a b`
              11 |       - {url: "http://a", version: "a b", weight: 0, priority: 16}
                 |                                    ^^^^^

            serviceos.yaml:11:51: services.c.endpointSet[0].weight: expected a whole number from 1 to 1000, found `0`
              11 |       - {url: "http://a", version: "a b", weight: 0, priority: 16}
                 |                                                   ^

            serviceos.yaml:11:64: services.c.endpointSet[0].priority: expected a whole number from 0 to 15, found `16`
              11 |       - {url: "http://a", version: "a b", weight: 0, priority: 16}
                 |                                                                ^^

            serviceos.yaml:12:9: services.c.endpointSet[1].url: an endpoint needs a URL
              12 |       - {weight: 1001}
                 |         ^
            help: write `{url: "http://10.0.0.5:8080"}`

            serviceos.yaml:12:18: services.c.endpointSet[1].weight: expected a whole number from 1 to 1000, found `1001`
              12 |       - {weight: 1001}
                 |                  ^^^^

            serviceos.yaml:13:15: services.c.endpointSet[2].url: this endpoint is written already (line 11)
              13 |       - {url: "http://a"}
                 |               ^^^^^^^^^^
            help: keep one of the two

            serviceos.yaml:16:14: services.d.endpoints: expected 1 to 1000 endpoints, found 0
              16 |     endpoints:
                 |              ^
            help: write `["http://10.0.0.5:8080"]`

            serviceos.yaml:20:18: services.e: `endpoints` and `endpointSet` are two ways to write the same
              20 |     endpointSet: []
                 |                  ^
            help: keep one of the two

            serviceos.yaml:20:18: services.e.endpointSet: expected 1 to 1000 endpoints, found 0
              20 |     endpointSet: []
                 |                  ^
            help: write `["http://10.0.0.5:8080"]`"#]],
    );
}

#[test]
fn an_attribute_that_nothing_uses_is_unknown() {
    check(
        "services: {a: {attestation: none, endpointSet: [{url: \"http://a\", region: a}]}}",
        expect![[r#"
            serviceos.yaml:1:67: unknown key `region`
              1 | services: {a: {attestation: none, endpointSet: [{url: "http://a", region: a}]}}
                |                                                                   ^^^^^^
            help: the keys here are `url`, `version`, `weight`, `priority`, `zone` and `metadata`"#]],
    );
}

#[test]
fn what_is_said_of_an_endpoint_is_short() {
    check(
        "services:
  a:
    attestation: none
    endpointSet:
      - {url: \"http://a\", zone: \"a b\"}
      - {url: \"http://b\", zone: \"\", metadata: {\"a b\": x, rack: \"1\\n2\", \"\": x}}
",
        expect![[r#"
            serviceos.yaml:5:33: services.a.endpointSet[0].zone: expected 1 to 40 visible ASCII characters such as a, found `a b`
              5 |       - {url: "http://a", zone: "a b"}
                |                                 ^^^^^

            serviceos.yaml:6:33: services.a.endpointSet[1].zone: expected 1 to 40 visible ASCII characters such as a, found ``
              6 |       - {url: "http://b", zone: "", metadata: {"a b": x, rack: "1\n2", "": x}}
                |                                 ^^

            serviceos.yaml:6:48: services.a.endpointSet[1].metadata: expected names of 1 to 64 visible ASCII characters, found `a b`
              6 |       - {url: "http://b", zone: "", metadata: {"a b": x, rack: "1\n2", "": x}}
                |                                                ^^^^^

            serviceos.yaml:6:64: services.a.endpointSet[1].metadata.rack: expected at most 256 bytes without control characters, found `1�2`
              6 |       - {url: "http://b", zone: "", metadata: {"a b": x, rack: "1\n2", "": x}}
                |                                                                ^^^^^^

            serviceos.yaml:6:72: services.a.endpointSet[1].metadata: expected names of 1 to 64 visible ASCII characters, found ``
              6 |       - {url: "http://b", zone: "", metadata: {"a b": x, rack: "1\n2", "": x}}
                |                                                                        ^^"#]],
    );
}

#[test]
fn a_built_in_service_speaks_no_other_protocol() {
    check(
        "services:\n  vrf: {protocol: grpc}\n  a: {endpoints: [\"http://a\"], attestation: none, protocol: http3}\n",
        expect![[r#"
            serviceos.yaml:2:19: services.vrf.protocol: the built-in services speak http1 only
              2 |   vrf: {protocol: grpc}
                |                   ^^^^
            help: leave it out; it is for a service with `command` or endpoints

            serviceos.yaml:3:61: services.a.protocol: expected `http1`, `http2` or `grpc`, found `http3`
              3 |   a: {endpoints: ["http://a"], attestation: none, protocol: http3}
                |                                                             ^^^^^
            help: did you mean `http1`?"#]],
    );
    assert!(read("services: {vrf: {protocol: http1}}").is_ok());
}

#[test]
fn more_endpoints_than_anybody_has_are_refused() {
    let list: Vec<String> = (0..1_001).map(|number| format!("\"http://h{number}\"")).collect();
    let file =
        |list: &[String]| format!("services: {{a: {{attestation: none, endpoints: [{}]}}}}", list.join(", "));
    assert!(read(&file(&list[1..])).is_ok());
    let report = read(&file(&list)).unwrap_err().to_string();
    assert!(report.contains("services.a.endpoints: expected 1 to 1000 endpoints, found 1001"), "{report}");
}
