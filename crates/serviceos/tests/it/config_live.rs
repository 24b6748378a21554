//! Another `config` of a service reaches the replicas that run: no process is started for it and no request is lost.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::{Mesh, Running, eventually, has_program, kill};

use crate::load::under_load;

const APPLIED: &str = "the configuration was applied";
const PATIENCE: &str = "60s";

/// Puts another file in place, and waits until `up` says this about it.
fn change(mesh: &Running, services: &str, said: &str) -> String {
    let seen = mesh.log().len();
    put(mesh.folder(), services);
    mesh.until_logged(seen, said)[seen..].to_owned()
}

fn put(folder: &Path, services: &str) {
    std::fs::write(folder.join("new.yaml"), format!("services:\n{services}")).unwrap();
    std::fs::rename(folder.join("new.yaml"), folder.join("serviceos.yaml")).unwrap();
}

/// What is known once every replica has answered, with the exit code.
fn answered(mesh: &Running) -> (i32, Value) {
    let shown = mesh.run(&["config", "status", "--json", "--wait", PATIENCE]);
    (shown.code, serde_json::from_str(&shown.out).unwrap_or_else(|_| panic!("config status says {shown:?}")))
}

fn why(mesh: &Running, replica: &str) -> Value {
    serde_json::from_str(&mesh.run(&["why", replica, "--json"]).out).unwrap()
}

fn leaf(mesh: &Running, replica: &str) -> Value {
    why(mesh, replica)["attested"]["evidence"]["leafSha256"].clone()
}

/// Waits until a replica has another identity than this.
fn until_renewed(mesh: &Running, replica: &str, before: &Value) {
    eventually("another identity", || (leaf(mesh, replica) != *before).then_some(()));
}

/// A source of one price, which ends with the test's process.
fn source() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let body = r#"{"price":17912.90000001}"#;
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                while stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0)
                    && stream.write_all(format!("{head}{body}").as_bytes()).is_ok()
                {}
            });
        }
    });
    address
}

#[test]
fn other_feeds_are_served_by_the_same_replicas_and_no_request_notices() {
    let address = source();
    let feed = |pair: &str, decimals: u32| {
        let source =
            format!("{{id: local, url: \"http://{address}/price\", jsonPath: \"$.price\", interval: 100ms}}");
        format!("{{pair: {pair}, decimals: {decimals}, sources: [{source}]}}")
    };
    let file = |feeds: &[String]| {
        let config = format!("{{feeds: [{}], allowLoopback: [\"{address}\"]}}", feeds.join(", "));
        format!("    datafeed: {{replicas: 2, config: {config}}}\n    vrf: {{replicas: 1}}\n")
    };
    let mesh = Mesh::new().yaml(&file(&[feed("BTC-USD", 2)])).up();
    let price = || mesh.get("/v1/price/BTC-USD");
    eventually("a first price of each replica", || (0..8).all(|_| price().status == 200).then_some(()));
    let (pids, first) = ((mesh.pids("datafeed"), mesh.pids("vrf")), answered(&mesh));
    let leaves = ["datafeed/0", "datafeed/1"].map(|replica| (replica, leaf(&mesh, replica)));
    under_load(&mesh, "/v1/price/BTC-USD", |load| {
        for (decimals, value) in [(4, "17912.9000"), (8, "17912.90000001"), (0, "17912")] {
            change(&mesh, &file(&[feed("BTC-USD", decimals), feed("ETH-USD", 2)]), APPLIED);
            let (code, status) = answered(&mesh);
            assert_eq!(code, 0, "{status}");
            load.until_more(20);
            for _ in 0..8 {
                assert_eq!(price().json()["value"], value);
            }
        }
        // They join again with what they work with now, and serve meanwhile.
        for (replica, before) in &leaves {
            until_renewed(&mesh, replica, before);
        }
        load.until_more(20);
    });
    assert_eq!((mesh.pids("datafeed"), mesh.pids("vrf")), pids);
    let (code, status) = answered(&mesh);
    let service = |name: &str| {
        let services = status["services"].as_array().unwrap();
        services.iter().find(|service| service["name"] == name).unwrap().clone()
    };
    assert_eq!((code, service("datafeed")["wanted"].as_u64()), (0, status["revision"].as_u64()));
    assert!(status["revision"].as_u64() > first.1["revision"].as_u64(), "{status}");
    assert_eq!(service("vrf")["wanted"], first.1["revision"], "its config is what it was");
    for replica in service("datafeed")["replicas"].as_array().unwrap() {
        assert_eq!((&replica["outcome"], &replica["applied"]), (&json!("applied"), &status["revision"]));
    }
    let table = mesh.run(&["config", "status"]);
    assert!(table.code == 0 && table.out.contains("datafeed/1"), "{table:?}");
}

#[test]
fn what_the_service_itself_finds_wrong_is_refused_before_anything_changes() {
    let address = source();
    let url = format!("http://{address}/v1");
    let file = |config: &str| format!("    oracle: {{replicas: 2, config: {config}}}\n");
    let nothing = format!("{{allowLoopback: [\"{address}\"]}}");
    let mesh = Mesh::new().yaml(&file(&nothing)).up();
    let pids = mesh.pids("oracle");
    let asked = || mesh.post("/v1/oracle/query", &json!({"url": url, "jsonPath": "$.price"}));
    assert_eq!(asked().problem().1, "ORACLE_NOT_ALLOWED");
    let allowing = format!("{{allow: [{{url: \"{url}\"}}], allowLoopback: [\"{address}\"]}}");
    change(&mesh, &file(&allowing), APPLIED);
    let (code, before) = answered(&mesh);
    assert_eq!(code, 0, "{before}");
    let said = change(&mesh, &file(&allowing.replace("{allow:", "{alow:")), "is not valid");
    assert!(said.contains("alow: unknown field"), "{said}");
    assert_eq!(answered(&mesh), (0, before));
    for _ in 0..4 {
        assert_eq!(asked().json()["result"].to_string(), "17912.90000001");
    }
    change(&mesh, &file(&nothing), APPLIED);
    assert_eq!(answered(&mesh).0, 0);
    assert_eq!((asked().problem().1.as_str(), mesh.pids("oracle")), ("ORACLE_NOT_ALLOWED", pids));
}

/// Remembers its configuration from one SIGHUP to the next, and lets nobody write it after it was told to.
const SERVER: &str = r"
import http.server, json, os, signal

path = os.environ['SERVICEOS_CONFIG']
known = {}

def read(*signalled):
    with open(path) as file:
        known['config'] = json.load(file)
    known['mode'] = oct(os.stat(path).st_mode & 0o777)

read()
signal.signal(signal.SIGHUP, read)

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def do_GET(self):
        if self.path == '/spoil':
            os.unlink(path)
            os.mkdir(path)
        if self.path == '/mend' and os.path.isdir(path):
            os.rmdir(path)
        body = json.dumps(dict(known, pid=os.getpid())).encode()
        self.send_response(200)
        self.send_header('content-length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass

http.server.ThreadingHTTPServer(('127.0.0.1', int(os.environ['SERVICEOS_PORT'])), Handler).serve_forever()
";

fn app(depth: u32) -> String {
    format!(
        "    app: {{command: [python3, server.py], replicas: 2, configReload: signal, config: {{depth: {depth}}}, healthCheck: {{path: /, interval: 1s, timeout: 1s}}, loadBalancing: {{policy: round-robin}}}}\n"
    )
}

fn app_mesh() -> Option<Running> {
    if !has_program("python3") {
        return None;
    }
    let mesh = Mesh::new().yaml(&app(1));
    std::fs::write(mesh.folder().join("server.py"), SERVER).unwrap();
    Some(mesh.up())
}

/// With which depth the replicas answer, in several answers of each.
fn depths(mesh: &Running) -> BTreeSet<u64> {
    (0..8).map(|_| mesh.get("/app/x").json()["config"]["depth"].as_u64().unwrap()).collect()
}

#[test]
fn the_file_of_a_command_is_rewritten_and_it_is_told_by_sighup() {
    let Some(mesh) = app_mesh() else { return };
    let pids = mesh.pids("app");
    assert_eq!(depths(&mesh), [1].into());
    under_load(&mesh, "/app/x", |load| {
        for depth in [2, 3] {
            change(&mesh, &app(depth), APPLIED);
            let (code, status) = answered(&mesh);
            assert_eq!(code, 0, "{status}");
            // A signal is delivered when the program comes to it.
            eventually("the new depth", || (depths(&mesh) == [u64::from(depth)].into()).then_some(()));
            load.until_more(8);
        }
    });
    assert_eq!(mesh.get("/app/x").json()["mode"], "0o400");
    assert_eq!(mesh.pids("app"), pids);
}

#[test]
fn a_configuration_that_a_replica_rejects_is_shown_with_its_reason_and_it_goes_on_with_the_one_before() {
    let Some(mesh) = app_mesh() else { return };
    let pids = mesh.pids("app");
    mesh.get("/app/spoil");
    let seen = mesh.log().len();
    // Read before the change: the renewal that it brings may be over before anything else is.
    let leaves = ["app/0", "app/1"].map(|id| (id, leaf(&mesh, id)));
    change(&mesh, &app(2), APPLIED);
    let (code, status) = answered(&mesh);
    assert_eq!(code, 4, "{status}");
    let replicas = status["services"][0]["replicas"].as_array().unwrap();
    let rejects = replicas.iter().find(|replica| replica["outcome"] == "rejected").expect("a rejection");
    let (id, reason) = (rejects["id"].as_str().unwrap(), rejects["reason"].as_str().unwrap());
    assert!(reason.contains("cannot be rewritten"), "{reason}");
    assert!(rejects["applied"].as_u64() < status["revision"].as_u64(), "{status}");
    assert_eq!(replicas.iter().filter(|replica| replica["outcome"] == "applied").count(), 1);
    let log = mesh.log()[seen..].to_owned();
    assert!(log.contains("ERROR") && log.contains("rejected its configuration"), "{log}");
    let said = mesh.run(&["why", id]);
    assert!(said.code == 0 && said.out.contains(reason), "{said:?}");
    eventually("the new depth of the other", || (depths(&mesh) == [1, 2].into()).then_some(()));
    // Its identity is renewed in the new transition with what it works with, and so it serves on.
    let (_, before) = leaves.iter().find(|(own, _)| *own == id).expect("one of the two");
    until_renewed(&mesh, id, before);
    assert_eq!((depths(&mesh), mesh.pids("app")), ([1, 2].into(), pids.clone()));
    let trail = std::fs::read_to_string(mesh.folder().join(".serviceos/audit.jsonl")).unwrap();
    assert!(trail.contains("\"configKept\":"), "{trail}");
    let without_waiting = mesh.run(&["config", "status"]);
    assert!(without_waiting.code == 0 && without_waiting.out.contains("rejected"), "{without_waiting:?}");
    // The next one is another try.
    for _ in 0..2 {
        mesh.get("/app/mend");
    }
    change(&mesh, &app(3), APPLIED);
    let (code, status) = answered(&mesh);
    assert_eq!(code, 0, "{status}");
    eventually("the new depth", || (depths(&mesh) == [3].into()).then_some(()));
    assert_eq!(mesh.pids("app"), pids);
}

#[test]
fn a_replica_that_was_killed_or_away_while_it_changed_works_with_the_new_one() {
    let Some(mesh) = app_mesh() else { return };
    let pids = mesh.pids("app");
    // Neither learns of it before it is killed, or goes on: one that is being launched with the one before when it changes would be
    // refused, and launched once more.
    pids.iter().for_each(|pid| kill(*pid, Signal::STOP));
    change(&mesh, &app(2), APPLIED);
    let pending = mesh.run(&["config", "status", "--wait", "10ms"]);
    assert!(pending.code == 4 && pending.out.matches("pending").count() == 2, "{pending:?}");
    kill(pids[0], Signal::KILL);
    kill(pids[1], Signal::CONT);
    eventually("another process", || {
        mesh.pids("app").first().is_some_and(|pid| *pid != pids[0]).then_some(())
    });
    mesh.until_selectable();
    let (code, status) = answered(&mesh);
    assert_eq!(code, 0, "{status}");
    eventually("the new depth", || (depths(&mesh) == [2].into()).then_some(()));
    assert_eq!(mesh.pids("app")[1], pids[1]);
    let restarts: Vec<_> = mesh.replicas("app").iter().map(|replica| replica["restarts"].as_u64()).collect();
    assert_eq!(restarts, [Some(1), Some(0)]);
}
