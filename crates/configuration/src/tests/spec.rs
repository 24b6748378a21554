//! What makes another version of a service.

use super::read;

const BEFORE: &str = "
services:
  vrf: {replicas: 1, config: {suite: ed25519, a: 1}}
  infer: {command: [infer, x], env: {A: b}, version: 1.0.0}
  far: {attestation: {releases: [{version: 1.0.0, simulated: {w: \"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\"}}]}}
  legacy: {endpoints: [\"http://a\"], attestation: none}
";

/// The names of the services of which `BEFORE` has another spec once the text is changed.
fn others(from: &str, to: &str) -> Vec<String> {
    assert!(BEFORE.contains(from), "{from}");
    let (before, after) = (read(BEFORE).unwrap(), read(&BEFORE.replacen(from, to, 1)).unwrap());
    assert_ne!(before, after, "{from} to {to}");
    let pairs = before.services.iter().zip(&after.services);
    let others = pairs.filter(|(before, after)| before.spec_digest(None) != after.spec_digest(None));
    others.map(|(before, _)| before.name.to_string()).collect()
}

#[test]
fn what_needs_other_processes_makes_another_version() {
    for (from, to, name) in [
        ("infer, x]", "infer, y]", "infer"),
        ("infer, x]", "infer, x, \"\\n\"]", "infer"),
        ("{A: b}", "{A: c}", "infer"),
        ("{A: b}", "{A: b, C: d}", "infer"),
        ("{A: b}", "{A: b}, workingDirectory: infer", "infer"),
        ("{A: b}", "{A: b}, protocol: grpc", "infer"),
        ("{A: b}", "{A: b}, configReload: signal", "infer"),
        ("vrf: {", "vrf: {secrets: [k], ", "vrf"),
        ("vrf: {", "vrf: {allow: [infer], ", "vrf"),
        ("far: {", "far: {protocol: http2, ", "far"),
        ("0a0b0c", "0a0b0d", "far"),
    ] {
        assert_eq!(others(from, to), [name], "{from} to {to}");
    }
}

#[test]
fn what_is_the_same_for_all_versions_makes_none() {
    for (from, to) in [
        ("replicas: 1", "replicas: 2"),
        ("ed25519", "p256"),
        ("1.0.0}", "1.1.0}"),
        ("vrf: {", "vrf: {required: false, routes: [], healthCheck: {interval: 5s}, "),
        ("vrf: {", "vrf: {loadBalancing: {policy: random}, traffic: {header: x-v}, retry: {attempts: 2}, "),
        (
            "vrf: {",
            "vrf: {circuit: {requests: 5}, outlier: {ejection: 5s}, drain: {timeout: 1s, grace: 1s}, ",
        ),
        ("vrf: {", "vrf: {restart: {max: 1m}, startTimeout: 1s, rollout: {maxSurge: 2}, "),
        // What is admitted is no part of what runs, where that is started here.
        ("vrf: {", "vrf: {attestation: {identityTtl: 5m}, "),
        ("\"http://a\"", "\"http://b\""),
    ] {
        assert_eq!(others(from, to), [""; 0], "{from} to {to}");
    }
}

#[test]
fn what_was_measured_counts_and_endpoints_have_no_spec() {
    let settings = read(BEFORE).unwrap();
    let [vrf, infer, far, legacy] = settings.services.as_slice() else { panic!() };
    assert_eq!(legacy.spec_digest(None), None);
    let all = [vrf, infer, far].map(|service| service.spec_digest(None).unwrap());
    assert!(all[0] != all[1] && all[1] != all[2] && all[0] != all[2]);
    assert_ne!(infer.spec_digest(Some(&[0; 32])), infer.spec_digest(Some(&[1; 32])));
    assert_ne!(infer.spec_digest(Some(&[0; 32])), infer.spec_digest(None));
    // The encoding stays: whoever wrote one down finds the same version again.
    let hex: String =
        vrf.spec_digest(Some(&[7; 32])).unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
    expect_test::expect!["a5d2fef6fb1a0d619aa9bf5ebead1a75c1f992f3c2200dfb7c88f1dfe5c153ae"].assert_eq(&hex);
}
