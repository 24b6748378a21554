//! Identities end, are renewed before that, and are not given to what is no release.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::{Client, Mesh, Request, Running, eventually, has_program, kill, processes_of, wait_until_gone};

/// The certificate that a replica shows now, as `why` names it.
fn leaf(mesh: &Running, replica: &str) -> Value {
    why(mesh, replica)["attested"]["evidence"]["leafSha256"].clone()
}

fn why(mesh: &Running, replica: &str) -> Value {
    let said = mesh.run(&["why", replica, "--json"]);
    serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("why says {said:?}"))
}

fn quoter(folder: &Path) -> u32 {
    let is_quoter = |pid: &u32| {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        arguments.split(|byte| *byte == 0).nth(1) == Some(b"dev-quoter")
    };
    processes_of(folder).into_iter().find(is_quoter).expect("a quoter")
}

/// Sends GETs one after the other while something happens; gives how many, and the statuses that were not 200.
fn under_load(mesh: &Running, path: &str, happens: impl FnOnce()) -> (usize, Vec<u16>) {
    /// However the test ends, so does the load.
    struct Over<'a>(&'a AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let (mut sent, mut failed) = (0, Vec::new());
            let mut client = Client::connect(mesh.gateway).expect("a connection");
            let request = Request::new("GET", path).key(&mesh.key);
            while !over.load(Ordering::Relaxed) {
                let status = client.send(&request).expect("an answer").status;
                sent += 1;
                if status != 200 {
                    failed.push(status);
                }
            }
            (sent, failed)
        });
        let ends = Over(&over);
        happens();
        drop(ends);
        load.join().expect("the load ends")
    })
}

#[test]
fn identities_are_renewed_with_new_keys_while_requests_pass() {
    let mesh = Mesh::new().yaml("    vrf: {replicas: 2, attestation: {identityTtl: 8s}}\n").up();
    let (pids, first) = (mesh.pids("vrf"), leaf(&mesh, "vrf/0"));
    let (sent, failed) = under_load(&mesh, "/v1/random/keys", || {
        let second =
            eventually("a renewed identity", || Some(leaf(&mesh, "vrf/0")).filter(|leaf| *leaf != first));
        eventually("another one", || (leaf(&mesh, "vrf/0") != second).then_some(()));
    });
    assert!(sent > 0 && failed.is_empty(), "{sent} sent, {failed:?}");
    assert_eq!(mesh.pids("vrf"), pids);
    let audit = std::fs::read_to_string(mesh.folder().join(".serviceos/audit.jsonl")).unwrap();
    assert!(audit.contains("\"kind\":\"renewal\""), "{audit}");
}

#[test]
fn a_replica_that_cannot_renew_is_drained_before_its_identity_ends_and_no_request_is_lost() {
    let yaml = "    vrf: {replicas: 2, attestation: {identityTtl: 8s}, restart: {min: 50ms, max: 1s}}\n";
    let mesh = Mesh::new().yaml(yaml).up();
    let before = mesh.pids("vrf");
    // The evidence of vrf/0 came from this quoter, and there will be no more of it; vrf/1 is launched with the next one.
    let first = quoter(mesh.folder());
    kill(first, Signal::KILL);
    wait_until_gone(first);
    kill(before[1], Signal::KILL);
    eventually("vrf/1 to be another process", || (mesh.pids("vrf").get(1)? != &before[1]).then_some(()));
    mesh.until_selectable();
    let (sent, failed) = under_load(&mesh, "/v1/random/keys", || {
        eventually("vrf/0 to be another process", || {
            mesh.pids("vrf").first().is_some_and(|pid| *pid != before[0]).then_some(())
        });
    });
    assert!(sent > 0 && failed.is_empty(), "{sent} sent, {failed:?}");
    assert!(mesh.log().contains("its identity expired"), "{}", mesh.log());
    mesh.until_selectable();
}

const SERVER: &str = "import os, http.server\n\
    class Handler(http.server.BaseHTTPRequestHandler):\n\
    \x20   protocol_version = 'HTTP/1.1'\n\
    \x20   def do_GET(self):\n\
    \x20       body = b'ANSWER'\n\
    \x20       self.send_response(200)\n\
    \x20       self.send_header('content-length', str(len(body)))\n\
    \x20       self.end_headers()\n\
    \x20       self.wfile.write(body)\n\
    http.server.ThreadingHTTPServer(('127.0.0.1', int(os.environ['SERVICEOS_PORT'])), Handler).serve_forever()\n";

fn write_server(folder: &Path, answer: &str) {
    std::fs::write(folder.join("server.py"), SERVER.replace("ANSWER", answer)).unwrap();
}

const COMMAND: &str = "    files:\n      command: [python3, server.py]\n      healthCheck: {path: /}\n      restart: {min: 50ms, max: 500ms}\n";

#[test]
fn a_program_that_knows_nothing_of_the_mesh_serves_through_the_gateway_and_nobody_else() {
    if !has_program("python3") {
        return;
    }
    let mesh = Mesh::new().yaml(COMMAND);
    write_server(mesh.folder(), "one");
    let mesh = mesh.up();
    let answer = mesh.get("/files/anything");
    assert_eq!((answer.status, answer.text()), (200, "one".to_owned()));
    let address = mesh.replicas("files")[0]["address"].as_str().unwrap().parse().unwrap();
    let mut plain = testkit::Connection::open(address);
    plain.write("GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let said = plain.rest().unwrap_or_default();
    assert!(!said.windows(4).any(|bytes| bytes == b"HTTP"), "{said:?}");
}

#[test]
fn a_file_of_a_command_that_is_replaced_between_two_starts_is_refused_and_why_says_what_was_found() {
    if !has_program("python3") {
        return;
    }
    let mesh = Mesh::new().yaml(COMMAND);
    write_server(mesh.folder(), "one");
    let mesh = mesh.up();
    assert_eq!(mesh.get("/files/x").text(), "one");
    let expected = why(&mesh, "files/0")["attested"]["evidence"]["measurement"].as_str().unwrap().to_owned();
    write_server(mesh.folder(), "two");
    kill(mesh.pids("files")[0], Signal::KILL);
    let refused = eventually("a refusal", || {
        Some(why(&mesh, "files/0")).filter(|why| why["attested"]["value"] == "refused")
    });
    let text = refused["attested"].to_string();
    assert!(text.contains("RELEASE_NOT_ALLOWED") && text.contains(&expected), "{text}");
    assert!(text.contains("found"), "{text}");
    for _ in 0..20 {
        let answer = mesh.get("/files/x");
        assert_eq!(answer.status, 503, "{}", answer.text());
    }
    // What was measured at the start is what may run.
    write_server(mesh.folder(), "one");
    mesh.until_selectable();
    assert_eq!(mesh.get("/files/x").text(), "one");
}

#[test]
fn a_missing_program_starts_nothing_and_says_where_it_was_looked_for() {
    let mesh = Mesh::new().yaml("    infer: {command: [\"./infer\"]}\n    vrf: {replicas: 1}\n");
    let finished = mesh.up_and_fail();
    assert_eq!(finished.code, 1, "{finished:?}");
    assert!(finished.err.contains("./infer") && finished.err.contains("was not found"), "{}", finished.err);
    assert_eq!(processes_of(mesh.folder()), [0; 0]);
}

#[test]
fn production_without_evidence_of_its_own_starts_nothing() {
    let mesh = Mesh::new();
    mesh.write(
        "mode: production\ntrustDomain: mesh.example.org\nservices:\n  vrf:\n    attestation:\n      releases: [{version: 1.0.0, sgx: {mrenclave: \"1111111111111111111111111111111111111111111111111111111111111111\"}}]\n      platform: {allow: any}\n",
    );
    let finished = mesh.up_and_fail();
    assert_eq!(finished.code, 2, "{finished:?}");
    assert!(finished.err.contains("AUTHORITY_NOT_ATTESTED"), "{}", finished.err);
    assert_eq!(processes_of(mesh.folder()), [0; 0]);
}

#[test]
fn another_manifest_makes_replicas_join_again_by_themselves() {
    let mesh = Mesh::new().service("vrf", 1).up();
    let (pids, first) = (mesh.pids("vrf"), leaf(&mesh, "vrf/0"));
    let (new, file) = (mesh.folder().join("new.yaml"), mesh.folder().join("serviceos.yaml"));
    let routes =
        "routes: [{match: {path: /v1/random/keys}}, {match: {path: /dice/v1/random}, stripPrefix: false}]";
    std::fs::write(&new, format!("services:\n  vrf: {{replicas: 1, {routes}}}\n")).unwrap();
    let (sent, failed) = under_load(&mesh, "/v1/random/keys", || {
        std::fs::rename(&new, &file).unwrap();
        eventually("another identity", || (leaf(&mesh, "vrf/0") != first).then_some(()));
    });
    assert!(sent > 0 && failed.is_empty(), "{sent} sent, {failed:?}");
    assert_eq!(mesh.pids("vrf"), pids);
    let audit = std::fs::read_to_string(mesh.folder().join(".serviceos/audit.jsonl")).unwrap();
    assert_eq!(audit.matches("\"kind\":\"transition\"").count(), 2, "the start is one: {audit}");
}

#[test]
fn a_key_that_is_rotated_reaches_replicas_that_run_and_no_request_fails_meanwhile() {
    let mesh = Mesh::new().service("vrf", 2).up();
    let (pids, first) = (mesh.pids("vrf"), leaf(&mesh, "vrf/0"));
    let epoch = || -> Value {
        let answer = mesh.post("/v1/random", &json!({"min": 1, "max": 6}));
        let answer: Value = serde_json::from_str(&answer.text()).unwrap();
        answer["epoch"].clone()
    };
    let published = || -> Vec<Value> {
        let answer: Value = serde_json::from_str(&mesh.get("/v1/random/keys").text()).unwrap();
        answer["keys"].as_array().unwrap().iter().map(|key| key["epoch"].clone()).collect()
    };
    assert_eq!((epoch(), published()), (json!(1), vec![json!(1)]));
    let (sent, failed) = under_load(&mesh, "/v1/random/keys", || {
        let rotated = mesh.run(&["secrets", "rotate", "vrf-key"]);
        assert_eq!(rotated.code, 0, "{}", rotated.err);
        let both_prove_with_it = || (0..20).all(|_| epoch() == json!(2)).then_some(());
        eventually("both replicas to prove with the new key", both_prove_with_it);
    });
    assert!(sent > 0 && failed.is_empty(), "{sent} sent, {failed:?}");
    assert_eq!(published(), [json!(1), json!(2)]);
    assert_eq!(mesh.pids("vrf"), pids);
    assert_ne!(leaf(&mesh, "vrf/0"), first, "it has joined anew");
    let audit = std::fs::read_to_string(mesh.folder().join(".serviceos/audit.jsonl")).unwrap();
    assert_eq!(audit.matches("\"kind\":\"renewal\"").count(), 2, "once each: {audit}");
}
