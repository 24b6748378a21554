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

            serviceos.yaml:5:21: gateway.limits.headers: expected a whole number from 1 to 1000, found `0`
              5 |   limits: {headers: 0, bodyBytes: 0B}
                |                     ^

            serviceos.yaml:5:35: gateway.limits.bodyBytes: expected a size from 1B to 1024GiB, found `0B`
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
            help: did you mean `vrf`? the built-in services are vrf, datafeed and oracle; `builtin: vrf` chooses one under this name, `command` starts a program of your own, `attestation.releases` alone admits what `serviceos exec` starts elsewhere, and `endpoints` calls servers that run elsewhere

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
        "gateway: {listen: [\"0.0.0.0:7071\"]}\nservices: {vrf: }\n",
        expect![[r#"
            serviceos.yaml:1:20: mesh.listen: 127.0.0.1:7071 is already taken by gateway.listen (line 1)
              1 | gateway: {listen: ["0.0.0.0:7071"]}
                |                    ^^^^^^^^^^^^^^
            help: choose another port, or port 0 for any free one"#]],
    );
    check(
        "gateway: {listen: []}\nservices: {vrf: }\n",
        expect![[r#"
        serviceos.yaml: gateway.listen: expected at least one address
        help: leave it out for 127.0.0.1:8080"#]],
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
