//! Two texts, and in what they differ.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::meaning;
use crate::tests::{FULL, read};

fn of(text: &str) -> Meaning {
    meaning(text, "serviceos.yaml").unwrap()
}

fn check(before: &str, after: &str, expected: Expect) {
    let lines = of(before).differences(&of(after));
    expected.assert_eq(&lines.iter().map(|line| format!("{line}\n")).collect::<String>());
}

#[test]
fn each_key_that_is_another_has_a_line_with_its_default_where_it_was_left_out() {
    check(
        "services: {vrf: , oracle: {version: 1.1, replicas: 2}}",
        "services: {vrf: {healthCheck: {interval: 5s}, drain: {timeout: 1m}}, oracle: {version: 1.10, replicas: 2}}",
        expect![[r#"
            services.oracle.version: "1.1" -> "1.10"
            services.vrf.drain.timeout: 30s -> 1m
            services.vrf.healthCheck.interval: 10s -> 5s
        "#]],
    );
}

#[test]
fn what_is_new_or_gone_is_shown_without_its_defaults() {
    check(
        "services: {vrf: {loadBalancing: {hashOn: caller}}, oracle: }",
        "services: {vrf: {routes: [{match: {path: '/a/{*rest}'}, public: true}]}, dice: {endpoints: ['http://10.0.0.5:80'], attestation: none}}",
        expect![[r#"
            services.dice: (left out) -> {attestation: none, endpoints: [http://10.0.0.5:80]}
            services.oracle: {} -> (left out)
            services.vrf.loadBalancing.hashOn: caller -> (left out)
            services.vrf.routes: (left out) -> [{match: {path: "/a/{*rest}"}, public: true}]
        "#]],
    );
}

#[test]
fn a_route_that_is_put_in_between_leaves_the_others_as_they_are() {
    let routes = |routes: &str| format!("services: {{vrf: {{routes: [{routes}]}}}}");
    let [a, b, c] = ["a", "b", "c"].map(|path| format!("{{match: {{path: /{path}}}}}"));
    check(
        &routes(&format!("{a}, {c}")),
        &routes(&format!("{a}, {b}, {c}")),
        expect![[r#"
            services.vrf.routes[1]: (left out) -> {match: {path: /b}}
        "#]],
    );
    check(
        &routes(&format!("{a}, {c}")),
        &routes(&format!("{a}, {}", c.replace("}}", "}, timeout: 5s}"))),
        expect![[r#"
            services.vrf.routes[1].timeout: (left out) -> 5s
        "#]],
    );
}

#[test]
fn the_variables_of_a_command_are_not_shown() {
    check(
        "services: {a: {command: [./a], env: {TOKEN: old, LEVEL: '1'}}}",
        "services: {a: {command: [./a], env: {TOKEN: new, LEVEL: '1'}}, b: {command: [./b], env: {TOKEN: secret}}}",
        expect![[r#"
            services.a.env.TOKEN: (hidden) -> (hidden)
            services.b: (left out) -> {command: [./b], env: {TOKEN: (hidden)}}
        "#]],
    );
}

#[test]
fn the_config_of_a_service_keeps_its_nulls_and_its_numbers() {
    check(
        "services: {vrf: {config: {a: null, b: [1, 2], c: 1.5}}}",
        "services: {vrf: {config: {b: [1, 3], c: 1.25, \"a.b\": x}}}",
        expect![[r#"
            services.vrf.config.a: null -> (left out)
            services.vrf.config["a.b"]: (left out) -> x
            services.vrf.config.b: [1, 2] -> [1, 3]
            services.vrf.config.c: 1.5 -> 1.25
        "#]],
    );
}

#[test]
fn comments_order_spelling_and_written_defaults_change_nothing() {
    let plain = "services: {vrf: {replicas: 2, drain: {timeout: 90s}}, oracle: }";
    for same in [
        "# a comment\nservices:\n  oracle: {}\n  vrf: {drain: {timeout: 1m30s}, replicas: 2}\n",
        "mode: development\nservices: {oracle: {version: 1.0.0}, vrf: {replicas: 2, drain: {timeout: 90000ms}}}",
        "admin:\nmesh: {}\nservices: {vrf: {replicas: 2, drain: {timeout: 90s, grace: 10s}, circuit: }, oracle: }",
    ] {
        let (plain, same) = (of(plain), of(same));
        assert_eq!((plain.differences(&same), plain.digest()), (Vec::new(), same.digest()));
    }
}

/// Every `key: value` of the full file with some of its values replaced by those of other keys, where it can still be read.
fn changed() -> impl Strategy<Value = String> {
    let places: Vec<usize> = FULL.match_indices(": ").map(|(at, _)| at + 2).collect();
    let value =
        prop::sample::select(vec!["1", "2", "5s", "7s", "true", "x", "\"1.0\"", "[]", "[a]", "{}", ""]);
    let edit = (prop::sample::select(places), value);
    prop::collection::vec(edit, 0..3).prop_map(|mut edits| {
        edits.sort();
        let mut text = FULL.to_owned();
        for (at, value) in edits.into_iter().rev() {
            let end = text[at..].find([',', '}', ']', '\n']).map_or(text.len(), |end| at + end);
            text.replace_range(at..end, value);
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_diff_is_empty_exactly_when_both_mean_the_same(before in changed(), after in changed()) {
        if let (Ok(before), Ok(after)) = (meaning(&before, "a"), meaning(&after, "b")) {
            let there = before.differences(&after);
            prop_assert_eq!(there.is_empty(), before == after);
            prop_assert_eq!(there.is_empty(), before.digest() == after.digest());
            let back: Vec<_> = after.differences(&before);
            prop_assert_eq!(there.len(), back.len());
        }
    }
}

#[test]
fn a_text_that_is_written_anew_can_be_read_and_says_the_same_without_what_is_so_by_itself() {
    let texts = [
        FULL,
        "services: {vrf: }",
        "services: {vrf: {rollout: {strategy: canary}}, oracle: {replicas: 2}}
secrets: {a: {generate: {type: random}}}
gateway: {rateLimits: {tiers: {partner: {rate: 5/s, burst: 1}}}}",
        "services: {web: {command: [/bin/web], env: {A: b}, routes: [{match: {path: /a}, public: true}]}}",
        "services: {dice: {endpoints: ['http://10.0.0.5:80'], attestation: none}}",
    ];
    for text in texts {
        let written = of(text).to_json();
        assert_eq!(of(&written), of(text), "{written}");
        assert!(read(&written).is_ok(), "{written}\n{}", read(&written).unwrap_err());
    }
    expect![[r#"
        {
          "services": {
            "vrf": {}
          }
        }
    "#]]
    .assert_eq(&of("services: {vrf: {replicas: 1}}").to_json());
}
