//! Reports of files that cannot be read as a configuration at all, and of single wrong values.

use expect_test::{Expect, expect};

use super::check;
use crate::{LoadError, Overrides, any_config, load};

#[test]
fn an_unknown_key_names_the_nearest_one() {
    check(
        "services:\n  vrf:\n    replcas: 3\n",
        expect![[r#"
        serviceos.yaml:3:5: unknown key `replcas`
          3 |     replcas: 3
            |     ^^^^^^^
        help: did you mean `replicas`?"#]],
    );
}

#[test]
fn an_unknown_key_is_found_however_deep_it_is() {
    check(
        "services:\n  vrf:\n    routes:\n      - match: {path: /a, method: [GET]}\n",
        expect![[r#"
        serviceos.yaml:4:27: unknown key `method`
          4 |       - match: {path: /a, method: [GET]}
            |                           ^^^^^^
        help: did you mean `methods`?"#]],
    );
    check(
        "gateway:\n  limits: {headerTimeOut: 3s}\n",
        expect![[r#"
        serviceos.yaml:2:12: unknown key `headerTimeOut`
          2 |   limits: {headerTimeOut: 3s}
            |            ^^^^^^^^^^^^^
        help: did you mean `headerTimeout`?"#]],
    );
}

#[test]
fn an_unknown_key_that_is_near_none_names_them_all() {
    check(
        "services:\n  vrf:\n    drain: {endpoints: 3}\n",
        expect![[r#"
        serviceos.yaml:3:13: unknown key `endpoints`
          3 |     drain: {endpoints: 3}
            |             ^^^^^^^^^
        help: the keys here are `timeout` and `grace`"#]],
    );
}

#[test]
fn a_part_that_is_not_built_yet_is_an_unknown_key() {
    check(
        "manifest: {owners: []}\nservices: {vrf: }\n",
        expect![[r#"
            serviceos.yaml:1:1: unknown key `manifest`
              1 | manifest: {owners: []}
                | ^^^^^^^^
            help: the keys here are `mode`, `trustDomain`, `dataDir`, `node`, `store`, `gateway`, `admin`, `mesh`, `telemetry`, `secrets` and `services`"#]],
    );
}

#[test]
fn a_wrong_type_says_what_was_expected() {
    for (value, expected) in [
        (
            "three",
            expect![[r#"
            serviceos.yaml:3:15: services.vrf.replicas: expected a whole number from 0 to 1000, found `three`
              3 |     replicas: three
                |               ^^^^^"#]],
        ),
        (
            "3.5",
            expect![[r#"
            serviceos.yaml:3:15: services.vrf.replicas: expected a whole number from 0 to 1000, found `3.5`
              3 |     replicas: 3.5
                |               ^^^"#]],
        ),
        (
            "\"3\"",
            expect![[r#"
            serviceos.yaml:3:15: services.vrf.replicas: expected a whole number from 0 to 1000, found `3`
              3 |     replicas: "3"
                |               ^^^
            help: take the quotes off: 3"#]],
        ),
        (
            "[3]",
            expect![[r#"
            serviceos.yaml:3:15: services.vrf.replicas: expected a whole number from 0 to 1000, found a list
              3 |     replicas: [3]
                |               ^"#]],
        ),
        (
            "\n      a: 1",
            expect![[r#"
            serviceos.yaml:4:7: services.vrf.replicas: expected a whole number from 0 to 1000, found a mapping
              4 |       a: 1
                |       ^"#]],
        ),
        (
            "",
            expect![[r#"
            serviceos.yaml:3:13: services.vrf.replicas: expected a whole number from 0 to 1000, found nothing
              3 |     replicas:
                |             ^"#]],
        ),
        (
            "99999999999999999999",
            expect![[r#"
            serviceos.yaml:3:15: services.vrf.replicas: expected a whole number from 0 to 1000, found `1e20`
              3 |     replicas: 99999999999999999999
                |               ^^^^^^^^^^^^^^^^^^^^"#]],
        ),
    ] {
        check(&format!("services:\n  vrf:\n    replicas: {value}\n"), expected);
    }
}

#[test]
fn a_negative_number_of_replicas_is_refused() {
    check(
        "services:\n  vrf:\n    replicas: -1\n",
        expect![[r#"
        serviceos.yaml:3:15: services.vrf.replicas: expected a whole number from 0 to 1000, found `-1`
          3 |     replicas: -1
            |               ^^"#]],
    );
}

#[test]
fn only_true_and_false_are_booleans() {
    check(
        "services:\n  vrf:\n    required: yes\n",
        expect![[r#"
        serviceos.yaml:3:15: services.vrf.required: expected true or false, found `yes`
          3 |     required: yes
            |               ^^^
        help: write true"#]],
    );
}

#[test]
fn a_bad_duration_shows_good_ones() {
    for (value, expected) in [
        (
            "10",
            expect![[r#"
            serviceos.yaml:4:17: services.vrf.healthCheck.interval: expected a duration such as 500ms, 10s or 5m, found `10`
              4 |       interval: 10
                |                 ^^
            help: add a unit: 10s for seconds, 10ms for milliseconds"#]],
        ),
        (
            "10 seconds",
            expect![[r#"
            serviceos.yaml:4:17: services.vrf.healthCheck.interval: expected a duration such as 500ms, 10s or 5m, found `10 seconds`
              4 |       interval: 10 seconds
                |                 ^^^^^^^^^^
            help: the units are ms, s, m, h and d, the largest first, as in 1m30s"#]],
        ),
        (
            "0s",
            expect![[r#"
            serviceos.yaml:4:17: services.vrf.healthCheck.interval: expected a duration from 1ms to 1d, found `0s`
              4 |       interval: 0s
                |                 ^^"#]],
        ),
        (
            "25h",
            expect![[r#"
            serviceos.yaml:4:17: services.vrf.healthCheck.interval: expected a duration from 1ms to 1d, found `1d1h`
              4 |       interval: 25h
                |                 ^^^"#]],
        ),
    ] {
        check(&format!("services:\n  vrf:\n    healthCheck:\n      interval: {value}\n"), expected);
    }
}

#[test]
fn a_bad_size_shows_good_ones() {
    check(
        "gateway: {limits: {bodyBytes: 64, urlBytes: 8kb}}\nservices: {vrf: }",
        expect![[r#"
        serviceos.yaml:1:31: gateway.limits.bodyBytes: expected a size such as 512B, 64KiB or 1MiB, found `64`
          1 | gateway: {limits: {bodyBytes: 64, urlBytes: 8kb}}
            |                               ^^
        help: add a unit: 64B for bytes, 64KiB for 1,024 bytes each

        serviceos.yaml:1:45: gateway.limits.urlBytes: expected a size such as 512B, 64KiB or 1MiB, found `8kb`
          1 | gateway: {limits: {bodyBytes: 64, urlBytes: 8kb}}
            |                                             ^^^
        help: the units are B, KiB, MiB and GiB, right after a whole number"#]],
    );
}

#[test]
fn a_bad_address_shows_good_ones() {
    check(
        "gateway: {listen: [8080, \"localhost:8081\"]}\nadmin: {listen: nowhere}\nservices: {vrf: }",
        expect![[r#"
            serviceos.yaml:1:20: gateway.listen: expected an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080, found `8080`
              1 | gateway: {listen: [8080, "localhost:8081"]}
                |                    ^^^^
            help: write "127.0.0.1:8080"

            serviceos.yaml:1:26: gateway.listen: expected an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080, found `localhost:8081`
              1 | gateway: {listen: [8080, "localhost:8081"]}
                |                          ^^^^^^^^^^^^^^^^
            help: write "127.0.0.1:8081"

            serviceos.yaml:2:17: admin.listen: expected an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080, found `nowhere`
              2 | admin: {listen: nowhere}
                |                 ^^^^^^^"#]],
    );
}

#[test]
fn a_bad_word_names_the_words() {
    check(
        "mode: developmnt\ntelemetry: {logs: jsn, accessLog: false}\nservices: {x: {builtin: vfr}}",
        expect![[r#"
            serviceos.yaml:1:7: mode: expected `development` or `production`, found `developmnt`
              1 | mode: developmnt
                |       ^^^^^^^^^^
            help: did you mean `development`?

            serviceos.yaml:2:19: telemetry.logs: expected `text` or `json`, found `jsn`
              2 | telemetry: {logs: jsn, accessLog: false}
                |                   ^^^
            help: did you mean `json`?

            serviceos.yaml:2:35: telemetry.accessLog: expected a path, or `off`, found `false`
              2 | telemetry: {logs: jsn, accessLog: false}
                |                                   ^^^^^
            help: write off

            serviceos.yaml:3:25: services.x.builtin: expected `vrf`, `datafeed` or `oracle`, found `vfr`
              3 | services: {x: {builtin: vfr}}
                |                         ^^^
            help: did you mean `vrf`?"#]],
    );
}

#[test]
fn a_key_written_twice_is_refused() {
    check(
        "services:\n  vrf:\n    replicas: 3\n    replicas: 4\n",
        expect![[r#"
        serviceos.yaml:4:5: the key `replicas` is written twice
          4 |     replicas: 4
            |     ^^^^^^^^
        help: keep one of the two"#]],
    );
    check(
        "services:\n  vrf:\n  vrf:\n",
        expect![[r#"
        serviceos.yaml:3:3: the key `vrf` is written twice
          3 |   vrf:
            |   ^^^
        help: keep one of the two"#]],
    );
}

#[test]
fn a_value_of_another_shape_says_how_to_write_it() {
    check(
        "services: [vrf]\n",
        expect![[r#"
        serviceos.yaml:1:11: expected a mapping
          1 | services: [vrf]
            |           ^
        help: write `key: value` lines, indented, or `{key: value}`"#]],
    );
    check(
        "services:\n  vrf: 3\n",
        expect![[r#"
        serviceos.yaml:2:8: expected a mapping
          2 |   vrf: 3
            |        ^
        help: write `key: value` lines, indented, or `{key: value}`"#]],
    );
    check(
        "gateway: {listen: \"127.0.0.1:8080\"}\n",
        expect![[r#"
        serviceos.yaml:1:19: expected a list
          1 | gateway: {listen: "127.0.0.1:8080"}
            |                   ^^^^^^^^^^^^^^^^
        help: write `[one, two]`, or one `- item` line each"#]],
    );
    check(
        "trustDomain: [a]\n",
        expect![[r#"
        serviceos.yaml:1:14: expected a single value, found a list or a mapping
          1 | trustDomain: [a]
            |              ^"#]],
    );
    check(
        "trustDomain:\n",
        expect![[r#"
        serviceos.yaml:1:12: expected text, found nothing
          1 | trustDomain:
            |            ^
        help: write a value, or leave the key out"#]],
    );
    check(
        "just text\n",
        expect![[r#"
        serviceos.yaml:1:1: expected a mapping
          1 | just text
            | ^^^^^^^^^
        help: write `key: value` lines, indented, or `{key: value}`"#]],
    );
}

#[test]
fn a_tab_in_the_indentation_is_explained() {
    check(
        "services:\n\tvrf:\n\t\treplicas: 3\n",
        expect![[r#"
        serviceos.yaml:2:2: tabs disallowed within this context (block indentation)
          2 | 	vrf:
            | 	^
        help: indent with spaces; YAML does not allow tabs there"#]],
    );
}

#[test]
fn broken_yaml_points_at_the_place() {
    check(
        "services:\n  vrf: {replicas: 3\n",
        expect![[r#"
        serviceos.yaml:2:8: unclosed bracket '{'
          2 |   vrf: {replicas: 3
            |        ^"#]],
    );
    check(
        "services:\n  vrf: *base\n",
        expect![[r#"
        serviceos.yaml:2:8: this alias names an anchor that is not defined before it
          2 |   vrf: *base
            |        ^
        help: put text that begins with `*` in quotes"#]],
    );
    check(
        "services: {vrf: }\n---\nservices: {vrf: }\n",
        expect![[r#"
        serviceos.yaml:3:1: the file holds more than one document
          3 | services: {vrf: }
            | ^
        help: take the `---` between them out"#]],
    );
    check(
        "services:\n  vrf: !secret x\n",
        expect![[r#"
        serviceos.yaml:2:16: unsupported tag `!secret`
          2 |   vrf: !secret x
            |                ^"#]],
    );
}

#[test]
fn an_empty_file_is_told_what_to_hold() {
    check(
        "",
        expect![[r#"
        serviceos.yaml: no service is configured
        help: add one, for example:
            services:
              vrf:
                replicas: 3
                healthCheck: {interval: 10s, timeout: 5s}"#]],
    );
    check(
        "# nothing yet\n",
        expect![[r#"
        serviceos.yaml: no service is configured
        help: add one, for example:
            services:
              vrf:
                replicas: 3
                healthCheck: {interval: 10s, timeout: 5s}"#]],
    );
    check(
        "services:\n",
        expect![[r#"
        serviceos.yaml: no service is configured
        help: add one, for example:
            services:
              vrf:
                replicas: 3
                healthCheck: {interval: 10s, timeout: 5s}"#]],
    );
}

#[test]
fn a_bomb_of_aliases_is_refused() {
    let mut text = "a: &a [x, x, x, x, x, x, x, x]\n".to_owned();
    for (name, before) in ["b", "c", "d", "e", "f", "g", "h"].iter().zip(["a", "b", "c", "d", "e", "f", "g"])
    {
        text.push_str(&format!("{name}: &{name} [{}]\n", vec![format!("*{before}"); 8].join(", ")));
    }
    let text = format!(
        "services:\n  vrf:\n    config:\n{}",
        text.replace("\n", "\n      ").replacen("a:", "      a:", 1)
    );
    let report = super::read(&text).unwrap_err().to_string();
    let first = report.lines().next().unwrap();
    expect!["serviceos.yaml:9:18: alias replay limit exceeded: total_replayed_events=100001 > 100000"]
        .assert_eq(first);
}

fn check_file(name: &str, content: Option<&[u8]>, expected: Expect) -> LoadError {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    if let Some(content) = content {
        std::fs::write(&path, content).unwrap();
    }
    let error = load(&path, &Overrides::default(), any_config).unwrap_err();
    expected.assert_eq(&error.to_string().replace(&folder.path().display().to_string(), "FOLDER"));
    error
}

#[test]
fn a_file_that_cannot_be_read_says_why_and_what_to_do() {
    check_file(
        "serviceos.yaml",
        None,
        expect![[r#"
        FOLDER/serviceos.yaml: there is no such file
        help: write this file, for example:
            services:
              vrf:
                replicas: 3
                healthCheck: {interval: 10s, timeout: 5s}"#]],
    );
    check_file(
        "",
        None,
        expect![[r#"
        FOLDER/: this is a directory
        help: name the file itself, such as serviceos.yaml"#]],
    );
    check_file(
        "latin1.yaml",
        Some(b"services:\n  vrf: {version: \"\xe9\"}\n"),
        expect![[r#"
        FOLDER/latin1.yaml: line 2 is not UTF-8
        help: save the file as UTF-8"#]],
    );
    check_file(
        "large.yaml",
        Some(&vec![b'#'; (1 << 20) + 1]),
        expect!["FOLDER/large.yaml: the file is larger than 1 MiB"],
    );
}

#[test]
fn a_name_of_any_length_leaves_the_report_readable() {
    let name = "x".repeat(500_000);
    let report = super::read(&format!("services: {{{name}: {{replicas: -1}}}}")).unwrap_err().to_string();
    assert!(report.len() < 5_000, "{}", report.len());
    let report = super::read(&format!("{name}: 1")).unwrap_err().to_string();
    assert!(report.len() < 5_000, "{}", report.len());
}

#[test]
fn a_wrong_option_is_named_instead_of_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("serviceos.yaml");
    std::fs::write(&path, "services: {vrf: }\n").unwrap();
    let overrides = Overrides {
        gateway: Some("127.0.0.1:7070".parse().unwrap()),
        admin: Some("127.0.0.1:7072".parse().unwrap()),
        mesh: Some("0.0.0.0:7072".parse().unwrap()),
        mode: Some("producton".to_owned()),
        ..Overrides::default()
    };
    let error = load(&path, &overrides, any_config).unwrap_err();
    assert_eq!((error.count(), LoadError::EXIT_CODE), (2, 2));
    expect![[r#"
        --mode: mode: expected `development` or `production`, found `producton`
        help: did you mean `production`?

        --mesh: mesh.listen: 0.0.0.0:7072 is already taken by admin.listen (--admin)
        help: choose another port, or port 0 for any free one"#]]
    .assert_eq(&error.to_string());
}

#[test]
fn several_unknown_keys_and_wrong_values_are_reported_together() {
    check(
        "gatway: {}\nservices:\n  vrf:\n    replcas: 3\n    healthCheck: {interval: 10, timout: 5s}\n    routes: [{match: {path: /a, method: [GET]}}]\n",
        expect![[r#"
            serviceos.yaml:1:1: unknown key `gatway`
              1 | gatway: {}
                | ^^^^^^
            help: did you mean `gateway`?

            serviceos.yaml:4:5: unknown key `replcas`
              4 |     replcas: 3
                |     ^^^^^^^
            help: did you mean `replicas`?

            serviceos.yaml:5:29: services.vrf.healthCheck.interval: expected a duration such as 500ms, 10s or 5m, found `10`
              5 |     healthCheck: {interval: 10, timout: 5s}
                |                             ^^
            help: add a unit: 10s for seconds, 10ms for milliseconds

            serviceos.yaml:5:33: unknown key `timout`
              5 |     healthCheck: {interval: 10, timout: 5s}
                |                                 ^^^^^^
            help: did you mean `timeout`?

            serviceos.yaml:6:33: unknown key `method`
              6 |     routes: [{match: {path: /a, method: [GET]}}]
                |                                 ^^^^^^
            help: did you mean `methods`?"#]],
    );
}
