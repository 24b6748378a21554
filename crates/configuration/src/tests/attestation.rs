//! Which evidence services are admitted with, apart from the releases.

use std::time::Duration;

use expect_test::expect;

use super::{check, read};
use crate::{AttestationSettings, PlatformAllow, Releases, TcbStatus};

fn attestation(text: &str) -> AttestationSettings {
    let settings = read(&format!("services: {{vrf: {{attestation: {{{text}}}}}}}")).unwrap();
    settings.services[0].process().unwrap().attestation.clone()
}

#[test]
fn a_policy_without_releases_still_measures_them() {
    let written = attestation("identityTtl: 5s, tcb: {graceDays: 365}");
    assert_eq!(written.releases, Releases::Measured);
    assert_eq!((written.identity_ttl, written.tcb.grace_days), (Duration::from_secs(5), 365));
    let left_out = read("services: {vrf: }").unwrap().services[0].process().unwrap().attestation.clone();
    assert_eq!(attestation(""), left_out);
    assert_eq!(attestation("tcb: , platform: "), left_out);
}

#[test]
fn every_status_but_revoked_may_be_accepted() {
    let all = "tcb: {accept: [OutOfDateConfigurationNeeded, OutOfDate, ConfigurationAndSWHardeningNeeded, ConfigurationNeeded, SWHardeningNeeded, UpToDate, OutOfDate]}";
    assert_eq!(attestation(all).tcb.accept, TcbStatus::ALL);
}

#[test]
fn machines_are_all_or_those_that_are_named() {
    assert_eq!(attestation("platform: {allow: any}").platform.allow, PlatformAllow::Any);
    let long = "0".repeat(128);
    let ids = attestation(&format!("platform: {{allow: [00112233445566778899001122334455, {long}]}}"));
    let expected = vec!["00112233445566778899001122334455".to_owned(), long];
    assert_eq!(ids.platform.allow, PlatformAllow::Only(expected), "digits alone are no number");
}

#[test]
fn what_is_wrong_with_a_policy_is_said_at_each() {
    check(
        "services:
  a: {builtin: vrf, attestation: {tcb: {accept: [], graceDays: 366, rejectAdvisories: [\"INTEL SA\"]}}}
  b: {builtin: vrf, attestation: {tcb: {accept: [uptodate, Revoked, 5]}}}
  c: {builtin: vrf, attestation: {platform: {allow: anny}}}
  d: {builtin: vrf, attestation: {platform: {allow: [any, 0011, 0011223344556677889900112233445z]}}}
  e: {builtin: vrf, attestation: {platform: {allow: }}}
  f: {builtin: vrf, attestation: {platform: {smt: yes, allow: {any: 1}}}}
  g: {builtin: vrf, attestation: {identityTtl: 4s}}
  h: {builtin: vrf, attestation: {identityTtl: 25h}}
  i: {builtin: vrf, attestation: [none]}
  j: {builtin: vrf, attestation: false}
  k: {command: [k], attestation: none}
",
        expect![[r#"
            serviceos.yaml:2:49: services.a.attestation.tcb.accept: expected at least one status
              2 |   a: {builtin: vrf, attestation: {tcb: {accept: [], graceDays: 366, rejectAdvisories: ["INTEL SA"]}}}
                |                                                 ^
            help: leave it out for `[UpToDate]`

            serviceos.yaml:2:64: services.a.attestation.tcb.graceDays: expected a whole number from 0 to 365, found `366`
              2 |   a: {builtin: vrf, attestation: {tcb: {accept: [], graceDays: 366, rejectAdvisories: ["INTEL SA"]}}}
                |                                                                ^^^

            serviceos.yaml:2:88: services.a.attestation.tcb.rejectAdvisories: expected an advisory such as INTEL-SA-00615, found `INTEL SA`
              2 |   a: {builtin: vrf, attestation: {tcb: {accept: [], graceDays: 366, rejectAdvisories: ["INTEL SA"]}}}
                |                                                                                        ^^^^^^^^^^

            serviceos.yaml:3:50: services.b.attestation.tcb.accept: expected `UpToDate`, `SWHardeningNeeded`, `ConfigurationNeeded`, `ConfigurationAndSWHardeningNeeded`, `OutOfDate` or `OutOfDateConfigurationNeeded`, found `uptodate`
              3 |   b: {builtin: vrf, attestation: {tcb: {accept: [uptodate, Revoked, 5]}}}
                |                                                  ^^^^^^^^
            help: did you mean `UpToDate`?

            serviceos.yaml:3:60: services.b.attestation.tcb.accept: expected `UpToDate`, `SWHardeningNeeded`, `ConfigurationNeeded`, `ConfigurationAndSWHardeningNeeded`, `OutOfDate` or `OutOfDateConfigurationNeeded`, found `Revoked`
              3 |   b: {builtin: vrf, attestation: {tcb: {accept: [uptodate, Revoked, 5]}}}
                |                                                            ^^^^^^^
            help: a platform whose keys are revoked is never accepted

            serviceos.yaml:3:69: services.b.attestation.tcb.accept: expected `UpToDate`, `SWHardeningNeeded`, `ConfigurationNeeded`, `ConfigurationAndSWHardeningNeeded`, `OutOfDate` or `OutOfDateConfigurationNeeded`, found `5`
              3 |   b: {builtin: vrf, attestation: {tcb: {accept: [uptodate, Revoked, 5]}}}
                |                                                                     ^

            serviceos.yaml:4:53: services.c.attestation.platform.allow: expected `any` or a list of hardware ids, found `anny`
              4 |   c: {builtin: vrf, attestation: {platform: {allow: anny}}}
                |                                                     ^^^^
            help: did you mean `any`?

            serviceos.yaml:5:54: services.d.attestation.platform.allow: expected a hardware id, 32 to 128 hexadecimal digits, found `any`
              5 |   d: {builtin: vrf, attestation: {platform: {allow: [any, 0011, 0011223344556677889900112233445z]}}}
                |                                                      ^^^
            help: write `allow: any`, without a list

            serviceos.yaml:5:59: services.d.attestation.platform.allow: expected a hardware id, 32 to 128 hexadecimal digits, found `0011`
              5 |   d: {builtin: vrf, attestation: {platform: {allow: [any, 0011, 0011223344556677889900112233445z]}}}
                |                                                           ^^^^

            serviceos.yaml:5:65: services.d.attestation.platform.allow: expected a hardware id, 32 to 128 hexadecimal digits, found `0011223344556677889900112233445z`
              5 |   d: {builtin: vrf, attestation: {platform: {allow: [any, 0011, 0011223344556677889900112233445z]}}}
                |                                                                 ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

            serviceos.yaml:6:51: services.e.attestation.platform.allow: expected `any` or a list of hardware ids, found an empty list
              6 |   e: {builtin: vrf, attestation: {platform: {allow: }}}
                |                                                   ^
            help: no machine could run it; write `allow: any` for every machine

            serviceos.yaml:7:51: services.f.attestation.platform.smt: expected true or false, found `yes`
              7 |   f: {builtin: vrf, attestation: {platform: {smt: yes, allow: {any: 1}}}}
                |                                                   ^^^
            help: write true

            serviceos.yaml:7:63: services.f.attestation.platform.allow: expected `any` or a list of hardware ids, found a mapping
              7 |   f: {builtin: vrf, attestation: {platform: {smt: yes, allow: {any: 1}}}}
                |                                                               ^

            serviceos.yaml:8:48: services.g.attestation.identityTtl: expected a duration from 5s to 1d, found `4s`
              8 |   g: {builtin: vrf, attestation: {identityTtl: 4s}}
                |                                                ^^

            serviceos.yaml:9:48: services.h.attestation.identityTtl: expected a duration from 5s to 1d, found `1d1h`
              9 |   h: {builtin: vrf, attestation: {identityTtl: 25h}}
                |                                                ^^^

            serviceos.yaml:10:34: services.i.attestation: expected `none` or a mapping, found a list
              10 |   i: {builtin: vrf, attestation: [none]}
                 |                                  ^

            serviceos.yaml:11:34: services.j.attestation: expected `none` or a mapping, found `false`
              11 |   j: {builtin: vrf, attestation: false}
                 |                                  ^^^^^

            serviceos.yaml:12:34: services.k.attestation: only a service with endpoints says this
              12 |   k: {command: [k], attestation: none}
                 |                                  ^^^^
            help: leave it out"#]],
    );
}

#[test]
fn an_unknown_key_of_a_policy_is_found_where_it_stands() {
    check(
        "services:\n  vrf:\n    attestation:\n      platform: {allow: any, smtt: false}\n",
        expect![[r#"
        serviceos.yaml:4:30: unknown key `smtt`
          4 |       platform: {allow: any, smtt: false}
            |                              ^^^^
        help: did you mean `smt`?"#]],
    );
    check(
        "services:\n  vrf:\n    attestation:\n      identityTTL: 1h\n",
        expect![[r#"
        serviceos.yaml:4:7: unknown key `identityTTL`
          4 |       identityTTL: 1h
            |       ^^^^^^^^^^^
        help: did you mean `identityTtl`?"#]],
    );
}
