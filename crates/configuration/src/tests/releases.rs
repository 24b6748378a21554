//! Releases, and that no two services accept the same.

use expect_test::{Expect, expect};

use super::{check, read};
use crate::{Measurement, Releases, SgxRelease};

fn check_releases(releases: &str, expected: Expect) {
    let digest = |digit: &str, bytes: usize| digit.repeat(bytes * 2);
    let releases = releases
        .replace("H64", &digest("a", 32))
        .replace("H96", &digest("b", 48))
        .replace("H62", &digest("c", 31));
    check(&format!("services:\n  vrf:\n    attestation:\n      releases:\n{releases}"), expected);
}

#[test]
fn a_release_says_what_each_kind_of_evidence_shows() {
    let digest = "0123456789ABCDEFabcdef0000000000000000000000000000000000000000ff";
    let text = format!(
        "services: {{vrf: {{attestation: {{releases: [{{version: 1.0, simulated: {{w: {digest}}}}}, \
         {{version: 2, sgx: {{mrsigner: {digest}, prodId: 65535, minSvn: 0}}}}]}}}}}}"
    );
    let settings = read(&text).unwrap();
    let Releases::Listed(releases) = &settings.services[0].process().unwrap().attestation.releases else {
        panic!("they are listed");
    };
    let mut bytes = [0; 32];
    bytes[..11].copy_from_slice(&[0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0xab, 0xcd, 0xef]);
    bytes[31] = 0xff;
    let digest = Measurement(bytes);
    assert_eq!((releases[0].version.as_str(), releases[0].simulated), ("1.0", Some(digest)));
    let signer = SgxRelease::Signer { signer: digest, product: 65_535, least_version: 0 };
    assert_eq!((releases[1].simulated, &releases[1].sgx), (None, &Some(signer)));
    assert_eq!(digest.to_string(), "0123456789abcdefabcdef0000000000000000000000000000000000000000ff");
}

#[test]
fn what_is_wrong_with_a_release_is_said_at_each() {
    check_releases(
        "        - {version: 1.0.0}
        - {simulated: {w: H64}}
        - {version: \"a b\", simulated: }
        - {version: 1.0.0, simulated: {w: H62}}
        - {version: 1.0.0, sgx: {mrenclave: xaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa}}
        - {version: 1.0.0, sgx: }
        - {version: 1.0.0, sgx: {mrenclave: H64, mrsigner: H64}}
        - {version: 1.0.0, sgx: {mrenclave: H64, prodId: 1, minSvn: 1}}
        - {version: 1.0.0, sgx: {mrsigner: H64}}
        - {version: 1.0.0, sgx: {mrsigner: H64, prodId: 0, minSvn: 65536}}
",
        expect![[r#"
            serviceos.yaml:5:11: services.vrf.attestation.releases[0]: a release needs what evidence shows of it
              5 |         - {version: 1.0.0}
                |           ^
            help: write `sgx: {mrenclave: …}` beside the version

            serviceos.yaml:6:11: services.vrf.attestation.releases[1].version: a release needs the label of its version
              6 |         - {simulated: {w: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa}}
                |           ^
            help: write `version: 1.0.0`

            serviceos.yaml:7:21: services.vrf.attestation.releases[2].version: expected 1 to 40 visible ASCII characters such as 1.0.0, found `a b`
              7 |         - {version: "a b", simulated: }
                |                     ^^^^^

            serviceos.yaml:7:37: services.vrf.attestation.releases[2].simulated.w: expected 64 hexadecimal digits, found nothing
              7 |         - {version: "a b", simulated: }
                |                                     ^

            serviceos.yaml:8:43: services.vrf.attestation.releases[3].simulated.w: expected 64 hexadecimal digits, found `cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc…`
              8 |         - {version: 1.0.0, simulated: {w: cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc}}
                |                                           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
            help: its length is 62

            serviceos.yaml:9:45: services.vrf.attestation.releases[4].sgx.mrenclave: expected 64 hexadecimal digits, found `xaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…`
              9 |         - {version: 1.0.0, sgx: {mrenclave: xaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa}}
                |                                             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

            serviceos.yaml:10:31: services.vrf.attestation.releases[5].sgx: expected `mrenclave`, or `mrsigner`, `prodId` and `minSvn`
              10 |         - {version: 1.0.0, sgx: }
                 |                               ^

            serviceos.yaml:11:121: services.vrf.attestation.releases[6].sgx: a release is one enclave or those of a signer, not both
              11 | …aaaaaaaaaaaaaaaaaaaaaaaaaaaa, mrsigner: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa}}
                 |                                          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
            help: write two releases, or keep one of the two

            serviceos.yaml:12:119: services.vrf.attestation.releases[7].sgx.prodId: an mrenclave is one enclave already
              12 | …aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, prodId: 1, minSvn: 1}}
                 |                                          ^
            help: leave `prodId` out

            serviceos.yaml:12:130: services.vrf.attestation.releases[7].sgx.minSvn: an mrenclave is one enclave already
              12 | …aaaaaaaaaaaaaaaaaaa, prodId: 1, minSvn: 1}}
                 |                                          ^
            help: leave `minSvn` out

            serviceos.yaml:13:44: services.vrf.attestation.releases[8].sgx.prodId: a signer has many products, and mrsigner needs one of them
              13 |         - {version: 1.0.0, sgx: {mrsigner: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa}}
                 |                                            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
            help: write `prodId: 1`

            serviceos.yaml:13:44: services.vrf.attestation.releases[8].sgx.minSvn: mrsigner needs the least version that is accepted
              13 |         - {version: 1.0.0, sgx: {mrsigner: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa}}
                 |                                            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
            help: write `minSvn: 1`

            serviceos.yaml:14:118: services.vrf.attestation.releases[9].sgx.prodId: expected a whole number from 1 to 65535, found `0`
              14 | …aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, prodId: 0, minSvn: 65536}}
                 |                                          ^

            serviceos.yaml:14:129: services.vrf.attestation.releases[9].sgx.minSvn: expected a whole number from 0 to 65535, found `65536`
              14 | …aaaaaaaaaaaaaaaaaaa, prodId: 0, minSvn: 65536}}
                 |                                          ^^^^^"#]],
    );
    check(
        "services: {vrf: {attestation: {releases: }}}",
        expect![[r#"
        serviceos.yaml:1:40: services.vrf.attestation.releases: expected at least one release
          1 | services: {vrf: {attestation: {releases: }}}
            |                                        ^
        help: write `[{version: 1.0.0, sgx: {mrenclave: …}}]`; in development, leave it out for what is measured at each start"#]],
    );
}

#[test]
fn kinds_without_a_verifier_are_refused_and_their_form_is_checked_all_the_same() {
    check_releases(
        "        - {version: 1.0.0, tdx: {mrtd: H96, rtmr0: H96, rtmr1: H96, rtmr2: H96, rtmr3: H96}}
        - {version: 1.0.0, tdx: {mrtd: H64, rtmr3: x}}
        - {version: 1.0.0, sevSnp: {measurement: H64}}
        - {version: 1.0.0, nitro: {pcr0: H96, pcr8: H64}}
",
        expect![[r#"
            serviceos.yaml:5:33: services.vrf.attestation.releases[0].tdx: this version has no verifier for tdx
              5 |         - {version: 1.0.0, tdx: {mrtd: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb…
                |                                 ^
            help: leave it out

            serviceos.yaml:6:33: services.vrf.attestation.releases[1].tdx: this version has no verifier for tdx
              6 |         - {version: 1.0.0, tdx: {mrtd: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, rtmr3: x}}
                |                                 ^
            help: leave it out

            serviceos.yaml:6:40: services.vrf.attestation.releases[1].tdx.mrtd: expected 96 hexadecimal digits, found `aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…`
              6 |         - {version: 1.0.0, tdx: {mrtd: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, rtmr3: x}}
                |                                        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
            help: its length is 64

            serviceos.yaml:6:113: services.vrf.attestation.releases[1].tdx.rtmr3: expected 96 hexadecimal digits, found `x`
              6 |         - {version: 1.0.0, tdx: {mrtd: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, rtmr3: x}}
                |                                                                                                                 ^
            help: its length is 1

            serviceos.yaml:7:36: services.vrf.attestation.releases[2].sevSnp: this version has no verifier for sevSnp
              7 |         - {version: 1.0.0, sevSnp: {measurement: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa}}
                |                                    ^
            help: leave it out

            serviceos.yaml:7:50: services.vrf.attestation.releases[2].sevSnp.measurement: expected 96 hexadecimal digits, found `aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…`
              7 |         - {version: 1.0.0, sevSnp: {measurement: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa}}
                |                                                  ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
            help: its length is 64

            serviceos.yaml:8:35: services.vrf.attestation.releases[3].nitro: this version has no verifier for nitro
              8 |         - {version: 1.0.0, nitro: {pcr0: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb…
                |                                   ^
            help: leave it out

            serviceos.yaml:8:146: services.vrf.attestation.releases[3].nitro.pcr8: expected 96 hexadecimal digits, found `aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…`
              8 | …bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb, pcr8: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa}}
                |                                          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
            help: its length is 64"#]],
    );
}

#[test]
fn two_services_that_accept_one_release_are_ambiguous() {
    let digest = "d".repeat(64);
    let text = format!(
        "services:
  a:
    builtin: vrf
    attestation:
      releases:
        - {{version: 1.0.0, simulated: {{w: {digest}}}, sgx: {{mrenclave: {digest}}}}}
        - {{version: 1.1.0, sgx: {{mrsigner: {digest}, prodId: 1, minSvn: 1}}}}
        - {{version: 1.2.0, sgx: {{mrenclave: {digest}}}}}
  b:
    builtin: vrf
    attestation:
      releases:
        - {{version: 2.0.0, simulated: {{w: {digest}}}}}
        - {{version: 2.1.0, sgx: {{mrenclave: {digest}}}}}
        - {{version: 2.2.0, sgx: {{mrsigner: {digest}, prodId: 1, minSvn: 9}}}}
        - {{version: 2.3.0, sgx: {{mrsigner: {digest}, prodId: 2, minSvn: 1}}}}
"
    );
    check(
        &text,
        expect![[r#"
        serviceos.yaml:8:45: services.a.attestation.releases[2].sgx.mrenclave: this release is written already (line 6)
          8 |         - {version: 1.2.0, sgx: {mrenclave: dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd}}
            |                                             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
        help: keep one of the two

        serviceos.yaml:13:43: services.b.attestation.releases[0].simulated.w: POLICY_RELEASE_AMBIGUOUS: services.a.attestation.releases[0].simulated.w (line 6) accepts the same W, so that evidence would not say which of the two services runs
          13 |         - {version: 2.0.0, simulated: {w: dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd}}
             |                                           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
        help: the name of the service is part of W: take the one of this service

        serviceos.yaml:14:45: services.b.attestation.releases[1].sgx.mrenclave: POLICY_RELEASE_AMBIGUOUS: services.a.attestation.releases[0].sgx.mrenclave (line 6) accepts the same enclave, so that evidence would not say which of the two services runs
          14 |         - {version: 2.1.0, sgx: {mrenclave: dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd}}
             |                                             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
        help: an enclave belongs to one service

        serviceos.yaml:15:44: services.b.attestation.releases[2].sgx.mrsigner: POLICY_RELEASE_AMBIGUOUS: services.a.attestation.releases[1].sgx.mrsigner (line 7) accepts the same mrsigner and prodId, so that evidence would not say which of the two services runs
          15 | …     - {version: 2.2.0, sgx: {mrsigner: dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd, prodId: 1, min…
             |                                          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
        help: give each service a prodId of its own"#]],
    );
}
