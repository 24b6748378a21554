//! The command line's contracts: JSON, tables and exit codes.

use serde_json::Value;
use testkit::{Mesh, Request, Upstream};

/// The seed's four lines, word for word.
const SEED: &str = "services:
    vrf:
        replicas: 3
        healthCheck:
            interval: 10s
            timeout: 5s
";

#[test]
fn the_seeds_file_alone_becomes_three_ready_replicas() {
    let mesh = Mesh::new();
    mesh.write(SEED);
    let mesh = mesh.up();
    let mut pids = mesh.pids("vrf");
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), 3, "three replicas are three processes");
    let status = mesh.status();
    let vrf = &status["services"][0];
    assert_eq!((&vrf["name"], &vrf["version"]), (&"vrf".into(), &"1.0.0".into()));
    assert_eq!((vrf["desired"].as_u64(), vrf["ready"].as_u64()), (Some(3), Some(3)));
    for (ordinal, replica) in mesh.replicas("vrf").iter().enumerate() {
        assert_eq!(replica["id"], format!("vrf/{ordinal}"));
        assert_eq!(
            (&replica["state"], &replica["health"], &replica["gate"]),
            (&"Ready".into(), &"healthy".into(), &"open".into())
        );
        assert_eq!((&replica["selectable"], &replica["reason"]), (&Value::Bool(true), &Value::Null));
        assert_eq!((&replica["attestation"], &replica["attested"]), (&"valid".into(), &Value::Bool(true)));
    }
}

#[test]
fn endpoints_are_shown_as_exempt_from_attestation() {
    let upstream = Upstream::new();
    let mesh = Mesh::new().service("vrf", 1).endpoints("site", &[upstream.address]).up();
    assert_eq!(mesh.replicas("site")[0]["attestation"], "exempt");
    let health = Request::new("GET", "/health/detailed").send(mesh.gateway).json();
    assert_eq!(health["services"]["site"]["instances"][0]["attestation"], "exempt");
    assert_eq!(health["services"]["vrf"]["instances"][0]["attestation"], "valid");
    let table = mesh.run(&["status"]).out;
    let row = |name: &str| table.lines().find(|line| line.trim_start().starts_with(name)).unwrap();
    assert!(row("REPLICA").contains("ATTESTATION") && row("site/0").contains("exempt"), "{table}");
    assert!(row("vrf/0").contains("valid"), "{table}");
}

#[test]
fn why_names_the_fact_that_is_false_and_its_exit_code_says_whether_any_is() {
    let nobody = "127.0.0.1:1".parse().unwrap();
    let mesh = Mesh::new().service("vrf", 1).endpoint("site", nobody, "        - {match: {path: /site}}");
    let mesh = mesh.up_when("one replica to serve and the other to have failed a check", |status| {
        let replica = |service: usize| &status["services"][service]["replicas"][0];
        replica(0)["selectable"] == true && replica(1)["reason"].is_string()
    });
    let serves = mesh.run(&["why", "vrf/0"]);
    assert_eq!((serves.code, serves.err.as_str()), (0, ""));
    assert!(serves.out.starts_with("vrf/0 is selectable\n  ready      yes  Ready since "), "{}", serves.out);
    let fails = mesh.run(&["why", "site/0"]);
    assert_eq!((fails.code, fails.err.as_str()), (4, ""));
    assert!(
        fails.out.starts_with("site/0 is not selectable\n  healthy    no   unknown since "),
        "{}",
        fails.out
    );
    assert!(fails.out.contains("Connection refused"), "{}", fails.out);
    let fails = mesh.run(&["why", "site/0", "--json"]);
    let why: Value = serde_json::from_str(&fails.out).unwrap();
    assert_eq!((fails.code, &why["falseFacts"]), (4, &serde_json::json!(["healthy"])));
    let unknown = mesh.run(&["why", "vrf/1"]);
    assert_eq!(unknown.code, 1);
    assert!(unknown.err.contains("there is no replica vrf/1"), "{}", unknown.err);
    assert_eq!(mesh.run(&["why", "vrf"]).code, 2);
}

#[test]
fn the_printed_curl_works_when_pasted() {
    let mesh = Mesh::new().service("vrf", 1).up();
    let out = std::fs::read_to_string(mesh.folder().join("up.out")).unwrap();
    let line = out.lines().find(|line| line.trim_start().starts_with("curl ")).expect("a curl line").trim();
    let answer = std::process::Command::new("sh").args(["-c", line]).output().expect("running the line");
    let answer: Value =
        serde_json::from_slice(&answer.stdout).expect("an answer in JSON; is curl installed?");
    assert!((1..=100).contains(&answer["value"].as_i64().unwrap()), "{answer}");
}

#[test]
fn a_created_key_has_its_scopes_and_no_others_until_it_is_revoked() {
    let mesh = Mesh::new().service("vrf", 1).service("oracle", 1).up();
    let created = mesh.run(&[
        "keys",
        "create",
        "--name",
        "test",
        "--scopes",
        "randomness",
        "--tenant",
        "acme",
        "--tier",
        "developer",
        "--expires",
        "90d",
        "--json",
    ]);
    let created: Value = serde_json::from_str(&created.out).unwrap();
    let (id, key) = (created["id"].as_str().unwrap(), created["key"].as_str().unwrap());
    assert!(id.starts_with("key_") && key.starts_with("sk_test_"), "{created}");
    let random = || Request::new("GET", "/v1/random/keys").key(key).send(mesh.gateway);
    assert_eq!(random().status, 200, "a created key is good at once");
    let denied = Request::new("GET", "/v1/oracle/query").key(key).send(mesh.gateway);
    assert_eq!(denied.problem(), (403, "SCOPE_MISSING".into()));
    assert!(denied.text().contains("`oracle`"), "the missing scope is named: {}", denied.text());
    let listed = mesh.run(&["keys", "list", "--json"]).out;
    assert!(listed.contains(id) && listed.contains("acme") && !listed.contains(key), "{listed}");
    assert!(listed.contains(r#""tier":"developer""#), "{listed}");
    let table = mesh.run(&["keys", "list"]).out;
    assert!(table.contains("TIER") && table.contains("developer") && !table.contains(key), "{table}");
    let unknown = mesh.run(&["keys", "create", "--name", "t", "--scopes", "randomness", "--tier", "gold"]);
    assert_eq!(unknown.code, 1);
    assert!(unknown.err.contains("developer, free, production, unlimited"), "{}", unknown.err);
    assert_eq!(mesh.run(&["keys", "revoke", id]).code, 0);
    assert_eq!(random().problem(), (401, "AUTH_INVALID".into()), "a revoked key is refused at once");
}

#[test]
fn exit_codes_tell_what_is_wrong() {
    let mesh = Mesh::new();
    mesh.write(SEED);
    for command in [&["status"][..], &["status", "--json"], &["why", "vrf/0"], &["down"], &["keys", "list"]] {
        let finished = mesh.run(command);
        assert_eq!(finished.code, 3, "{command:?}: {}", finished.err);
        assert!(finished.err.contains("start it with `serviceos up`"), "{}", finished.err);
    }
    assert_eq!(mesh.run(&["nonsense"]).code, 2);
    assert_eq!(mesh.run(&["config", "validate"]).out, "serviceos.yaml is valid: 1 service, 3 replicas\n");
    let by_hand = mesh.run(&["service", "vrf"]);
    assert_eq!(by_hand.code, 1);
    assert!(by_hand.err.contains("started by `serviceos up`"), "{}", by_hand.err);
}

#[test]
fn status_answers_while_the_file_is_broken_and_says_which_folder_it_took() {
    let mesh = Mesh::new().service("vrf", 1).up();
    std::fs::write(mesh.folder().join("serviceos.yaml"), "services: [").unwrap();
    let asked = mesh.run(&["status", "--json"]);
    assert_eq!(asked.code, 0);
    assert!(serde_json::from_str::<Value>(&asked.out).is_ok(), "{}", asked.out);
    let said = "serviceos.yaml cannot be used (`serviceos config validate` says why), so the data directory is taken \
                to be .serviceos; --data-dir names another";
    assert!(asked.err.contains(said), "{}", asked.err);
    assert_eq!(mesh.run(&["status", "--data-dir", ".serviceos"]).err, "");
}
