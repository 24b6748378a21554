//! Secrets that are made inside, and which of them services get.

use std::time::Duration;

use expect_test::expect;

use super::{check, read};
use crate::GenerateType;

#[test]
fn a_secret_is_made_and_rotated_as_the_file_says() {
    let settings = read(
        "secrets:
  k: {generate: {type: ed25519}, rotate: 1d}
  p: {generate: {type: p256}}
services:
  vrf: {secrets: [k, given-by-an-operator]}
  oracle: {secrets: }
",
    )
    .unwrap();
    let secrets: Vec<_> = settings.secrets.iter().map(|(name, secret)| (name.as_str(), secret)).collect();
    let [("k", k), ("p", p)] = secrets[..] else { panic!("two secrets") };
    assert_eq!((k.generate, k.rotate), (GenerateType::Ed25519, Some(Duration::from_secs(24 * 3_600))));
    assert_eq!((p.generate, p.rotate), (GenerateType::P256, None));
    let of =
        |service: usize| settings.services[service].process().unwrap().secrets.iter().collect::<Vec<_>>();
    assert_eq!(of(0), ["given-by-an-operator", "k"]);
    assert_eq!(of(1), Vec::<&String>::new());
}

#[test]
fn what_is_wrong_with_secrets_is_said_at_each() {
    check(
        "secrets:
  plain:
  other: {rotate: 90d}
  nothing: {generate: }
  Upper: {generate: {type: random}}
  access-pepper: {generate: {type: random}}
  words: {generate: {type: ed25591}}
  often: {generate: {type: random}, rotate: 23h}
  never: {generate: {type: random}, rotate: 3651d}
  untyped: {generate: {}}
services:
  vrf: {secrets: [a, b, a, a-, vrf_key, access-pepper]}
",
        expect![[r#"
            serviceos.yaml:2:3: secrets.plain: a secret without `generate` is given with `serviceos secrets set plain` and needs no entry here
              2 |   plain:
                |   ^^^^^
            help: leave it out, or write `generate: {type: random}` for one that is made inside

            serviceos.yaml:3:3: secrets.other: a secret without `generate` is given with `serviceos secrets set other` and needs no entry here
              3 |   other: {rotate: 90d}
                |   ^^^^^
            help: leave it out, or write `generate: {type: random}` for one that is made inside

            serviceos.yaml:4:21: secrets.nothing.generate.type: expected `ed25519`, `p256` or `random`, found nothing
              4 |   nothing: {generate: }
                |                     ^
            help: write `generate: {type: ed25519}`

            serviceos.yaml:5:3: secrets: expected the name of a secret such as vrf-key, found `Upper`
              5 |   Upper: {generate: {type: random}}
                |   ^^^^^
            help: a name is a lower-case letter, then lower-case letters, digits and hyphens, at most 63 bytes, the last one no hyphen

            serviceos.yaml:6:3: secrets: the secret access-pepper is the mesh's own, and no service has it
              6 |   access-pepper: {generate: {type: random}}
                |   ^^^^^^^^^^^^^
            help: choose another name

            serviceos.yaml:7:28: secrets.words.generate.type: expected `ed25519`, `p256` or `random`, found `ed25591`
              7 |   words: {generate: {type: ed25591}}
                |                            ^^^^^^^
            help: did you mean `ed25519`?

            serviceos.yaml:8:45: secrets.often.rotate: expected a duration from 1d to 3650d, found `23h`
              8 |   often: {generate: {type: random}, rotate: 23h}
                |                                             ^^^

            serviceos.yaml:9:45: secrets.never.rotate: expected a duration from 1d to 3650d, found `3651d`
              9 |   never: {generate: {type: random}, rotate: 3651d}
                |                                             ^^^^^

            serviceos.yaml:10:23: secrets.untyped.generate.type: expected `ed25519`, `p256` or `random`, found nothing
              10 |   untyped: {generate: {}}
                 |                       ^
            help: write `generate: {type: ed25519}`

            serviceos.yaml:12:25: services.vrf.secrets: `a` is written twice
              12 |   vrf: {secrets: [a, b, a, a-, vrf_key, access-pepper]}
                 |                         ^
            help: keep one of the two

            serviceos.yaml:12:28: services.vrf.secrets: expected the name of a secret such as vrf-key, found `a-`
              12 |   vrf: {secrets: [a, b, a, a-, vrf_key, access-pepper]}
                 |                            ^^
            help: a name is a lower-case letter, then lower-case letters, digits and hyphens, at most 63 bytes, the last one no hyphen

            serviceos.yaml:12:32: services.vrf.secrets: expected the name of a secret such as vrf-key, found `vrf_key`
              12 |   vrf: {secrets: [a, b, a, a-, vrf_key, access-pepper]}
                 |                                ^^^^^^^
            help: a name is a lower-case letter, then lower-case letters, digits and hyphens, at most 63 bytes, the last one no hyphen

            serviceos.yaml:12:41: services.vrf.secrets: the secret access-pepper is the mesh's own, and no service has it
              12 |   vrf: {secrets: [a, b, a, a-, vrf_key, access-pepper]}
                 |                                         ^^^^^^^^^^^^^
            help: choose another name"#]],
    );
}

#[test]
fn a_service_has_at_most_64_secrets() {
    let names = |count: usize| (0..count).map(|at| format!("s{at}")).collect::<Vec<_>>().join(", ");
    assert!(read(&format!("services: {{vrf: {{secrets: [{}]}}}}", names(64))).is_ok());
    check(
        &format!("services:\n  vrf:\n    secrets:\n      [{}]\n", names(65)),
        expect![[r#"
        serviceos.yaml:4:7: services.vrf.secrets: expected at most 64 secrets, found 65
          4 |       [s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13, s14, s15, s16, s17, s18, s19, s20, s21, s22, s23, s24…
            |       ^"#]],
    );
}

#[test]
fn the_name_of_a_secret_has_at_most_63_bytes() {
    let file = |bytes: usize| format!("services: {{vrf: {{secrets: [{}]}}}}", "a".repeat(bytes));
    assert!(read(&file(63)).is_ok());
    assert_eq!(read(&file(64)).unwrap_err().count(), 1);
}

#[test]
fn there_are_at_most_1000_secrets() {
    let file = |count: usize| {
        let secrets: Vec<_> =
            (0..count).map(|at| format!("  s{at}: {{generate: {{type: random}}}}\n")).collect();
        format!("secrets:\n{}services: {{vrf: }}\n", secrets.concat())
    };
    assert_eq!(read(&file(1_000)).unwrap().secrets.len(), 1_000);
    check(
        &file(1_001),
        expect![[r#"
        serviceos.yaml:1002:3: secrets: there are at most 1000 secrets
          1002 |   s1000: {generate: {type: random}}
               |   ^^^^^"#]],
    );
}
