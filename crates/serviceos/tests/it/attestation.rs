//! What the authority says of each replica, and what happens to one that is trusted no longer.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::{Client, Mesh, Request, Running, eventually};
use types::wire::Message;

fn report(mesh: &Running, arguments: &[&str]) -> Value {
    let shown = mesh.run(&[&["attestation", "show", "--json"], arguments].concat());
    assert_eq!(shown.code, 0, "{}", shown.err);
    serde_json::from_str(&shown.out).unwrap()
}

fn ask(mesh: &Running, path: &str) -> Value {
    let token = std::fs::read_to_string(mesh.folder().join(".serviceos/run/admin.token")).unwrap();
    Request::new("GET", path).key(&token).send(mesh.admin).json()
}

fn why(mesh: &Running, replica: &str) -> Value {
    serde_json::from_str(&mesh.run(&["why", replica, "--json"]).out).unwrap()
}

/// The replica that answered a request, by the id of the request.
fn answered_by(mesh: &Running, request: &str) -> String {
    eventually("a line of the access log", || {
        let log =
            std::fs::read_to_string(mesh.folder().join(".serviceos/logs/access.jsonl")).unwrap_or_default();
        let line = log.lines().find(|line| line.contains(request) && line.ends_with('}'))?;
        let line: Value = serde_json::from_str(line).ok()?;
        Some(line["replica"].as_str().unwrap_or_default().to_owned())
    })
}

/// Asks so often, over connections of their own and so by every worker, and gives who answered.
fn asked(mesh: &Running, times: usize) -> Vec<String> {
    let answers = (0..times).map(|_| mesh.get("/v1/random/keys"));
    let ids: Vec<String> = answers
        .map(|answer| {
            assert_eq!(answer.status, 200, "{}", answer.text());
            answer.header("x-request-id").unwrap().to_owned()
        })
        .collect();
    ids.iter().map(|id| answered_by(mesh, id)).collect()
}

/// Says stop when it is dropped, so that nobody waits for ever for those who go by it.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn it_is_shown_what_each_replica_proved_and_what_it_may_run() {
    let mesh = Mesh::new().service("vrf", 2).service("datafeed", 1).up();
    let whole = report(&mesh, &[]);
    assert_eq!(
        (&whole["mode"], &whole["trustDomain"]),
        (&json!("development"), &json!("serviceos.dev.invalid"))
    );
    assert_eq!((&whole["transition"]["n"], &whole["revocations"]["epoch"]), (&json!(1), &json!(0)));
    let vrf = &whole["services"][0];
    let w = &vrf["policy"]["releases"][0]["simulated"]["w"];
    for (ordinal, replica) in vrf["replicas"].as_array().unwrap().iter().enumerate() {
        let attested = &replica["attested"];
        assert_eq!((&replica["id"], &attested["value"]), (&json!(format!("vrf/{ordinal}")), &json!("valid")));
        assert_eq!((&attested["evidence"]["measurement"], &attested["refusal"]), (w, &Value::Null));
        assert!(!replica["platform"].as_array().unwrap().is_empty(), "{replica}");
    }
    assert_ne!(w, &whole["services"][1]["policy"]["releases"][0]["simulated"]["w"]);
    let one = report(&mesh, &["vrf/1"]);
    assert_eq!(one["services"].as_array().unwrap().len(), 1);
    assert_eq!(one["services"][0]["replicas"][0]["id"], "vrf/1");
    assert_eq!(report(&mesh, &["datafeed"])["services"][0]["name"], "datafeed");
    for unknown in ["oracle", "vrf/2"] {
        let refused = mesh.run(&["attestation", "show", unknown]);
        assert_eq!(refused.code, 1);
        assert!(refused.err.contains("there is no") && refused.err.contains(unknown), "{}", refused.err);
    }
    assert_eq!(mesh.run(&["attestation", "show", "VRF"]).code, 2);
}

#[test]
fn without_a_running_serviceos_nothing_is_asked_or_given() {
    let mesh = Mesh::new();
    mesh.write("services: {vrf: {replicas: 1}}\n");
    for command in [
        &["attestation", "show"][..],
        &["attestation", "revoke", "instance", "vrf/0"],
        &["secrets", "list"],
        &["secrets", "set", "token", "--file", "serviceos.yaml"],
        &["secrets", "rotate", "token"],
    ] {
        let finished = mesh.run(command);
        assert_eq!(finished.code, 3, "{command:?}: {}", finished.err);
        assert!(finished.err.contains("start it with `serviceos up`"), "{}", finished.err);
    }
}

#[test]
fn the_records_of_the_appraisals_are_signed_by_the_root() {
    let mesh = Mesh::new().service("vrf", 1).up();
    let root: mesh_protocol::Bytes =
        serde_json::from_value(ask(&mesh, "/v1/attestation")["rootSpki"].clone()).unwrap();
    let records = ask(&mesh, "/v1/attestation/vrf/0/records");
    let [signed] = records.as_array().unwrap().as_slice() else { panic!("{records}") };
    let record = &signed["record"];
    assert_eq!(record["id"], why(&mesh, "vrf/0")["attested"]["evidence"]["record"]);
    assert_eq!(
        record["checks"].as_array().unwrap().last(),
        Some(&json!({"step": "evaluation", "result": "passed"}))
    );
    let signature: mesh_protocol::Bytes = serde_json::from_value(signed["signature"].clone()).unwrap();
    let is_signed = |record: &Value| {
        let message = Message::tagged(b"serviceos/appraisal/v1\0");
        let message = message.lp(mesh_protocol::canonical(record).unwrap()).finish();
        mesh_protocol::is_signed_by(&root.0, &message, &signature.0)
    };
    assert!(is_signed(record));
    let mut changed = record.clone();
    changed["expiresAt"] = json!(u64::MAX >> 11);
    assert!(!is_signed(&changed));
}

#[test]
fn a_release_as_it_is_shown_can_be_written_into_the_file_and_another_is_refused() {
    let file = |release: &str| {
        format!("services:\n  vrf:\n    replicas: 1\n    attestation:\n      releases:\n        {release}\n")
    };
    let mesh = Mesh::new();
    mesh.write("services: {vrf: {replicas: 1}}\n");
    let mesh = mesh.up();
    let shown = mesh.run(&["attestation", "show", "vrf"]).out;
    let release =
        shown.lines().map(str::trim).find(|line| line.starts_with("- {version")).unwrap().to_owned();
    let write = |mesh: &Running, release: &str| {
        std::fs::write(mesh.folder().join("serviceos.yaml"), file(release)).unwrap();
    };
    mesh.signal(Signal::TERM);
    write(&mesh, &release);
    let mesh = mesh.up_again();
    assert_eq!(report(&mesh, &[])["services"][0]["replicas"][0]["attested"]["value"], "valid");
    let w = report(&mesh, &[])["services"][0]["policy"]["releases"][0]["simulated"]["w"]
        .as_str()
        .unwrap()
        .to_owned();
    mesh.signal(Signal::TERM);
    write(&mesh, &release.replace(&w, &"ab".repeat(32)));
    let mesh = mesh.up_again_when("the refusal", |status| {
        status["services"][0]["replicas"][0]["attestation"] == "refused"
    });
    assert_eq!(why(&mesh, "vrf/0")["attested"]["refusal"]["code"], "RELEASE_NOT_ALLOWED");
}

#[test]
fn a_revoked_instance_gets_no_request_from_then_on_and_joins_again_once_it_is_restored() {
    let restart = "restart: {min: 50ms, max: 200ms}";
    let mesh = Mesh::new().yaml(&format!("    vrf: {{replicas: 3, {restart}}}\n")).up();
    assert!(asked(&mesh, 30).contains(&"vrf/2".to_owned()));
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let stops = Stops(&stop);
        let clients: Vec<_> = (0..6)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = Client::connect(mesh.gateway).unwrap();
                    let request = Request::new("GET", "/v1/random/keys").key(&mesh.key);
                    while !stop.load(Ordering::Relaxed) {
                        let answer = client.send(&request).expect("the connection to the gateway holds");
                        assert_eq!(answer.status, 200, "{}", answer.text());
                        sent.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let more = |count: u64| {
            let before = sent.load(Ordering::Relaxed);
            eventually("load", || (sent.load(Ordering::Relaxed) >= before + count).then_some(()));
        };
        more(200);
        let revoked = mesh.run(&["attestation", "revoke", "instance", "vrf/2"]);
        assert_eq!((revoked.code, revoked.err.as_str()), (0, ""));
        assert!(
            revoked.out.contains(
                "spiffe://serviceos.dev.invalid/service/vrf/2 is revoked (epoch 1); 1 replica cut off"
            ),
            "{}",
            revoked.out
        );
        let answered = asked(&mesh, 60);
        assert!(!answered.contains(&"vrf/2".to_owned()), "{answered:?}");
        assert!(
            answered.contains(&"vrf/0".to_owned()) && answered.contains(&"vrf/1".to_owned()),
            "{answered:?}"
        );
        let said = mesh.run(&["why", "vrf/2"]);
        assert!(said.code == 4 && said.out.contains("REVOKED"), "{}", said.out);
        // It starts again, and is refused what it asks the mesh API for.
        eventually("a refused join", || (refused_joins(&mesh) >= 2).then_some(()));
        let log = mesh.until_logged(0, "a join was refused code=REVOKED");
        let line = log.lines().find(|line| line.contains("a join was refused")).unwrap();
        assert!(line.contains("service=vrf instance=\"2\""), "{line}");
        let log = mesh.until_logged(0, "it may not join the mesh: REVOKED");
        let mut ends = log.lines().filter(|line| line.contains("it may not join the mesh"));
        assert!(ends.all(|line| line.matches("REVOKED").count() == 1), "{log}");
        more(200);
        assert_eq!(why(&mesh, "vrf/2")["attested"]["refusal"]["code"], "REVOKED");
        let entries = &report(&mesh, &[])["revocations"];
        assert_eq!((&entries["epoch"], &entries["entries"][0]["type"]), (&json!(1), &json!("instance")));
        let restored = mesh.run(&[
            "attestation",
            "revoke",
            "instance",
            "spiffe://serviceos.dev.invalid/service/vrf/2",
            "--undo",
        ]);
        assert!(restored.out.contains("is no longer revoked (epoch 2)"), "{} {}", restored.out, restored.err);
        mesh.until_selectable();
        more(200);
        drop(stops);
        for client in clients {
            client.join().expect("a client without a failure");
        }
    });
    eventually("a request to the one that is back", || {
        asked(&mesh, 10).contains(&"vrf/2".to_owned()).then_some(())
    });
    let again = mesh.run(&["attestation", "revoke", "instance", "vrf/2", "--undo"]);
    assert_eq!(again.code, 1);
    assert!(again.err.contains("NOT_REVOKED"), "{}", again.err);
}

/// The joins of vrf/2 that the audit trail says were refused since it is revoked.
fn refused_joins(mesh: &Running) -> usize {
    let tail = mesh.run(&["audit", "tail", "-n", "1000", "--json"]);
    let records: Vec<Value> = serde_json::from_str(&tail.out).unwrap();
    let is_refused = |record: &&Value| {
        record["kind"] == "join"
            && record["subject"] == "spiffe://serviceos.dev.invalid/service/vrf/2"
            && (&record["outcome"], &record["reason"]) == (&json!("refused"), &json!("REVOKED"))
    };
    records.iter().filter(is_refused).count()
}

#[test]
fn what_was_revoked_is_revoked_after_a_new_start_too() {
    let mesh = Mesh::new().service("vrf", 1).service("datafeed", 1).up();
    let w = report(&mesh, &["vrf"])["services"][0]["policy"]["releases"][0]["simulated"]["w"].clone();
    let revoked = mesh.run(&["attestation", "revoke", "measurement", w.as_str().unwrap(), "--json"]);
    let answer: Value = serde_json::from_str(&revoked.out).unwrap();
    assert_eq!((&answer["replicas"], &answer["inForce"]), (&json!(["vrf/0"]), &json!(true)));
    let twice: Value = serde_json::from_str(
        &mesh.run(&["attestation", "revoke", "measurement", w.as_str().unwrap(), "--json"]).out,
    )
    .unwrap();
    assert_eq!((&twice["changed"], &twice["epoch"]), (&json!(false), &json!(1)));
    assert_eq!(mesh.get("/v1/random/keys").problem(), (503, "NO_REPLICA_SELECTABLE".into()));
    assert_eq!(mesh.get("/v1/feeds").status, 200);
    for bad in [["leaf", "09"], ["measurement", "x"], ["instance", "vrf"], ["advisory", "a b"]] {
        let refused = mesh.run(&["attestation", "revoke", bad[0], bad[1]]);
        assert_eq!(refused.code, 1);
        assert!(refused.err.contains("VALIDATION_FAILED"), "{}", refused.err);
    }
    assert_eq!(mesh.run(&["attestation", "revoke", "replica", "vrf/0"]).code, 2);
    mesh.signal(Signal::TERM);
    let mesh = mesh.up_again_when("vrf to be refused", |status| {
        status["services"][0]["replicas"][0]["attestation"] == "refused"
            && status["services"][1]["replicas"][0]["selectable"] == true
    });
    assert_eq!(why(&mesh, "vrf/0")["attested"]["refusal"]["code"], "REVOKED");
}
