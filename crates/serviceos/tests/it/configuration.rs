//! A file with a mistake: where it is, what was expected, exit code 2, and nothing is started or left behind.

use expect_test::{Expect, expect};
use testkit::Mesh;

fn check(file: &str, expected: Expect) {
    let mesh = Mesh::new();
    mesh.write(file);
    let finished = mesh.up_and_fail();
    assert_eq!((finished.code, finished.out.as_str()), (2, ""), "{}", finished.err);
    assert!(!mesh.folder().join(".serviceos").exists(), "a data directory was made");
    assert_eq!(mesh.run(&["config", "validate"]).code, 2);
    expected.assert_eq(&finished.err);
}

#[test]
fn an_unknown_key_names_the_nearest_one() {
    check(
        "services:\n    vrf:\n        replicas: 3\n        healthChek:\n            interval: 10s\n",
        expect![[r#"
            serviceos.yaml:4:9: unknown key `healthChek`
              4 |         healthChek:
                |         ^^^^^^^^^^
            help: did you mean `healthCheck`?
        "#]],
    );
}

#[test]
fn a_wrong_type_says_what_was_expected() {
    check(
        "services:\n    vrf:\n        replicas: three\n",
        expect![[r#"
        serviceos.yaml:3:19: services.vrf.replicas: expected a whole number from 0 to 1000, found `three`
          3 |         replicas: three
            |                   ^^^^^
    "#]],
    );
}

#[test]
fn a_duplicate_key_is_refused() {
    check(
        "services:\n    vrf:\n        replicas: 3\n        replicas: 2\n",
        expect![[r#"
        serviceos.yaml:4:9: the key `replicas` is written twice
          4 |         replicas: 2
            |         ^^^^^^^^
        help: keep one of the two
    "#]],
    );
}

#[test]
fn several_mistakes_are_reported_at_once() {
    check(
        "services:\n    vrf:\n        replicas: -1\n        healthCheck:\n            interval: 10\n            timeout: 5 s\n    dice:\n        replicas: 1\n",
        expect![[r#"
            serviceos.yaml:3:19: services.vrf.replicas: expected a whole number from 0 to 1000, found `-1`
              3 |         replicas: -1
                |                   ^^

            serviceos.yaml:5:23: services.vrf.healthCheck.interval: expected a duration such as 500ms, 10s or 5m, found `10`
              5 |             interval: 10
                |                       ^^
            help: add a unit: 10s for seconds, 10ms for milliseconds

            serviceos.yaml:6:22: services.vrf.healthCheck.timeout: expected a duration such as 500ms, 10s or 5m, found `5 s`
              6 |             timeout: 5 s
                |                      ^^^
            help: the units are ms, s, m, h and d, the largest first, as in 1m30s

            serviceos.yaml:7:5: services.dice: nothing says what it runs
              7 |     dice:
                |     ^^^^
            help: the built-in services are vrf, datafeed and oracle; `builtin: vrf` chooses one under this name, `command` starts a program of your own, `attestation.releases` alone admits what `serviceos exec` starts elsewhere, and `endpoints` calls servers that run elsewhere
        "#]],
    );
}

#[test]
fn a_service_that_does_not_understand_its_config_is_asked_before_anything_starts() {
    check(
        "services:\n    vrf:\n        config: {siute: ed25519}\n",
        expect![[r#"
            serviceos.yaml:3:17: services.vrf.config.siute: unknown key, expected only suite
              3 |         config: {siute: ed25519}
                |                 ^
        "#]],
    );
}

#[test]
fn mistakes_in_a_services_config_are_reported_with_all_others() {
    check(
        "services:\n    vrf:\n        replicas: -1\n        config:\n            siute: ed25519\n    oracle:\n        config: {allow: [{url: 5}]}\n",
        expect![[r#"
            serviceos.yaml:3:19: services.vrf.replicas: expected a whole number from 0 to 1000, found `-1`
              3 |         replicas: -1
                |                   ^^

            serviceos.yaml:5:13: services.vrf.config.siute: unknown key, expected only suite
              5 |             siute: ed25519
                |             ^

            serviceos.yaml:7:17: services.oracle.config.allow[0].url: invalid type: number, expected a string
              7 |         config: {allow: [{url: 5}]}
                |                 ^
        "#]],
    );
}

#[test]
fn production_wants_a_trust_domain_and_a_policy_of_its_own() {
    check(
        "mode: production\nservices:\n    vrf:\n        replicas: 1\n",
        expect![[r#"
            serviceos.yaml:1:7: trustDomain: production needs a trust domain of its own
              1 | mode: production
                |       ^^^^^^^^^^
            help: write `trustDomain: mesh.example.org`, a name of your own that stays: every identity carries it

            serviceos.yaml:3:5: services.vrf: production starts nothing without a policy
              3 |     vrf:
                |     ^^^
            help: write `attestation: {releases: [{version: 1.0.0, sgx: {mrenclave: …}}], platform: {allow: any}}`
        "#]],
    );
}

#[test]
fn a_missing_file_says_what_to_write() {
    let finished = Mesh::new().up_and_fail();
    assert_eq!(finished.code, 2);
    expect![[r#"
        serviceos.yaml: there is no such file
        help: write this file, for example:
            services:
              vrf:
                replicas: 3
                healthCheck: {interval: 10s, timeout: 5s}
    "#]]
    .assert_eq(&finished.err);
}

#[test]
fn everything_that_is_wrong_with_named_files_is_reported_at_once_with_its_line() {
    let mesh = Mesh::new();
    mesh.write(
        "store: {url: \"etcd://127.0.0.1:1\", user: me, passwordFile: etcd.password}
gateway:
    tls:
        certificates: [{certificate: a.pem, key: a.key}]
    authentication:
        jwt:
            - {issuer: \"https://a\", audience: a, algorithms: [ES256], jwks: a.json}
            - {issuer: \"https://b\", audience: b, tenant: b, algorithms: [ES256], jwks: b.json}
    rateLimits:
        shared: {url: \"redis://127.0.0.1:1\", passwordFile: redis.password}
services:
    vrf:
        routes:
            - match: {path: /a}
              request: {schema: a.schema.json}
",
    );
    std::fs::write(mesh.folder().join("b.json"), "{\"keys\": 1}").unwrap();
    std::fs::write(mesh.folder().join("redis.password"), "\n").unwrap();
    let folder = mesh.folder().canonicalize().unwrap().display().to_string();
    let refused = [mesh.up_and_fail(), mesh.run(&["config", "validate"])].map(|refused| {
        assert_eq!(refused.code, 2, "{}", refused.err);
        refused.err.replace(&folder, "FOLDER").replace(&mesh.folder().display().to_string(), "FOLDER")
    });
    assert_eq!(refused[0], refused[1]);
    expect![[r#"
        serviceos.yaml:4: gateway.tls: FOLDER/a.pem: No such file or directory (os error 2)
        serviceos.yaml:7: gateway.authentication.jwt[0].jwks: FOLDER/a.json: No such file or directory (os error 2)
        serviceos.yaml:8: gateway.authentication.jwt[1].jwks: FOLDER/b.json: it is not a set of keys: it has no list `keys`
        serviceos.yaml:1: store: FOLDER/etcd.password cannot be used: No such file or directory (os error 2)
        serviceos.yaml:10: gateway.rateLimits.shared: FOLDER/redis.password holds no password
        serviceos.yaml:15: services.vrf.routes[0].request.schema: a.schema.json: there is no such file
    "#]].assert_eq(&refused[0]);
    assert!(!mesh.folder().join(".serviceos").exists(), "a data directory was made");
}
