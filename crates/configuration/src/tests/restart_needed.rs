//! Which changes of a file wait for the next start.

use super::{FULL, read};

const BEFORE: &str = "
gateway:
  listen: [\"127.0.0.1:8080\"]
services:
  vrf: {replicas: 1, config: {suite: ed25519, a: 1}}
  dice: {builtin: vrf}
  legacy: {endpoints: [\"http://a\"], attestation: none}
  infer: {command: [infer, x], env: {A: b}}
";

/// The keys for a change of text in `BEFORE`.
fn needed(from: &str, to: &str) -> Vec<String> {
    assert!(BEFORE.contains(from), "{from}");
    let (before, after) = (read(BEFORE).unwrap(), read(&BEFORE.replacen(from, to, 1)).unwrap());
    assert_ne!(before, after, "{from} to {to}");
    before.restart_needed(&after)
}

#[test]
fn processes_and_listeners_wait_for_the_next_start() {
    let vrf = "vrf: {replicas: 1, ";
    for (from, to, keys) in [
        ("gateway:", "trustDomain: lab.dev.invalid\ngateway:", &["trustDomain"][..]),
        ("gateway:", "dataDir: state\ngateway:", &["dataDir"]),
        ("gateway:", "node: rack-2\ngateway:", &["node"]),
        ("gateway:", "store: etcd://a\ngateway:", &["store"]),
        ("8080", "8081", &["gateway.listen"]),
        ("gateway:", "gateway:\n  workers: 3", &["gateway.workers"]),
        ("gateway:", "gateway:\n  tls: {certificates: [{certificate: a, key: b}]}", &["gateway.tls"]),
        ("gateway:", "admin: {listen: \"127.0.0.1:7072\"}\ngateway:", &["admin.listen"]),
        ("gateway:", "telemetry: {logs: json}\ngateway:", &["telemetry.logs"]),
        ("gateway:", "telemetry: {accessLog: off}\ngateway:", &["telemetry.accessLog"]),
        ("gateway:", "mesh: {listen: \"127.0.0.1:7072\"}\ngateway:", &["mesh.listen"]),
        ("gateway:", "secrets: {k: {generate: {type: random}}}\ngateway:", &["secrets"]),
        (vrf, "vrf: {secrets: [k], ", &["services.vrf.secrets"]),
        (vrf, "vrf: {allow: [dice], ", &["services.vrf.allow"]),
        (vrf, "vrf: {attestation: {identityTtl: 5m}, ", &["services.vrf.attestation"]),
        ("A: b}", "A: b}, protocol: grpc", &["services.infer.protocol"]),
        ("A: b}", "A: b}, replicas: 2, drain: {grace: 1s}", &["services.infer.drain.grace"]),
        (
            "command: [infer, x], env: {A: b}",
            "endpoints: [\"http://i\"], attestation: none",
            &["services.infer"],
        ),
        ("builtin: vrf", "endpoints: [\"http://b\"], attestation: none", &["services.dice"]),
        ("endpoints: [\"http://a\"], attestation: none", "builtin: oracle", &["services.legacy"]),
        ("  dice: {builtin: vrf}\n", "", &["services.dice"]),
        ("  dice:", "  datafeed:\n  dice:", &["services.datafeed"]),
        ("dice: {builtin: vrf}", "coin: {builtin: vrf, replicas: 2}", &["services.dice", "services.coin"]),
        (
            "8080\"]\nservices:\n  vrf: {replicas: 1",
            "8082\"]\nservices:\n  vrf: {replicas: 4, startTimeout: 2s",
            &["gateway.listen"],
        ),
    ] {
        assert_eq!(needed(from, to), keys, "{from} to {to}");
    }
}

#[test]
fn the_mode_waits_for_the_next_start() {
    let development = read("services: {a: {endpoints: [\"http://a\"], attestation: none}}").unwrap();
    let production = read(
        "mode: production\ntrustDomain: example.org\nservices: {a: {endpoints: [\"http://a\"], attestation: none}}",
    );
    assert_eq!(development.restart_needed(&production.unwrap()), ["mode", "trustDomain"]);
}

#[test]
fn everything_else_changes_while_it_runs() {
    let (vrf, legacy) = ("vrf: {", "attestation: none}");
    for (from, to) in [
        ("gateway:", "gateway:\n  limits: {requests: 5, headerTimeout: 1s}"),
        ("gateway:", "gateway:\n  proxyProtocol: [10.0.0.0/8]\n  trustedProxies: [10.0.0.0/8]"),
        ("gateway:", "gateway:\n  rateLimits: {tiers: {free: {rate: 1/s, burst: 1}}}"),
        ("vrf: {", "vrf: {required: false, routes: [], "),
        ("ed25519", "p256"),
        ("A: b}", "A: b}, config: {depth: 2}"),
        ("vrf: {", "vrf: {healthCheck: {interval: 5s}, loadBalancing: {policy: random}, "),
        ("vrf: {", "vrf: {traffic: {header: x-version}, retry: {attempts: 2}, "),
        ("vrf: {", "vrf: {circuit: {requests: 5}, outlier: {ejection: 5s}, "),
        ("\"http://a\"", "\"http://a\", \"http://b\""),
        (legacy, "attestation: none, version: 2.0.0, protocol: grpc, drain: {timeout: 1s}}"),
        ("legacy: {endpoints: [\"http://a\"], attestation: none}", ""),
        (legacy, "attestation: none}\n  more: {endpoints: [\"http://c\"], attestation: none}"),
        ("legacy:", "other:"),
        (vrf, "vrf: {rollout: {strategy: canary, minReady: 0s}, "),
        ("infer, x]", "infer, y]"),
        ("A: b", "A: c"),
        ("A: b}", "A: b}, workingDirectory: infer, configReload: signal, resources: {cpus: 1}"),
        ("vrf: {", "vrf: {version: 1.1.0, "),
        ("builtin: vrf", "builtin: datafeed"),
        ("command: [infer, x], env: {A: b}", "builtin: oracle"),
        ("A: b}", "A: b}, required: false, routes: [], healthCheck: {protocol: tcp}"),
    ] {
        assert_eq!(needed(from, to), Vec::<String>::new(), "{from} to {to}");
    }
}

#[test]
fn when_a_secret_is_rotated_changes_while_it_runs_and_what_is_made_for_it_does_not() {
    let with = |secret: &str| read(&format!("secrets: {{k: {{{secret}}}}}\n{BEFORE}")).unwrap();
    let before = with("generate: {type: random}, rotate: 1d");
    for rotates in ["generate: {type: random}, rotate: 2d", "generate: {type: random}"] {
        assert_eq!(before.restart_needed(&with(rotates)), Vec::<String>::new(), "{rotates}");
    }
    assert_eq!(before.restart_needed(&with("generate: {type: p256}, rotate: 1d")), ["secrets"]);
}

#[test]
fn the_same_file_with_other_certificates_changes_while_it_runs() {
    let (before, after) = (read(FULL).unwrap(), read(&FULL.replace("tls/cert.pem", "new.pem")).unwrap());
    assert_ne!(before, after);
    assert_eq!(before.restart_needed(&after), Vec::<String>::new());
    assert_eq!(before.restart_needed(&before), Vec::<String>::new());
    let plain = FULL.replace("  tls: {certificates", "  # {certificates");
    let plain = read(&plain.replace("    clientCertificates: ", "    # ")).unwrap();
    assert_eq!(before.restart_needed(&plain), ["gateway.tls"]);
    assert_eq!(plain.restart_needed(&before), ["gateway.tls"]);
}

#[test]
fn spelling_and_order_change_nothing() {
    assert_eq!(needed_order(), Vec::<String>::new());
}

fn needed_order() -> Vec<String> {
    let other = BEFORE
        .replace("{suite: ed25519, a: 1}", "{a: 1, suite: ed25519}")
        .replace("replicas: 1, ", "")
        .replace("  dice: {builtin: vrf}\n", "")
        + "  dice: {builtin: vrf, restart: {max: 30s}}\n";
    read(BEFORE).unwrap().restart_needed(&read(&other).unwrap())
}
