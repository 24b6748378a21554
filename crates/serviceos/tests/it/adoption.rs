//! `up` dies, its replicas do not: they serve on, and the next `up` takes them over or ends them.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Child;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::{Client, Mesh, Request, Running, eventually, has_program, kill, processes_of, wait_until_gone};

fn mesh() -> Mesh {
    Mesh::new().with_ports_of_its_own()
}

/// What must be the same in a replica that was taken over: its process, its address, and what it was admitted with.
fn who(mesh: &Running, service: &str) -> Vec<Value> {
    let replica = |replica: Value| {
        let id = replica["id"].as_str().unwrap();
        let why: Value = serde_json::from_str(&mesh.run(&["why", id, "--json"]).out).unwrap();
        let evidence = &why["attested"]["evidence"];
        json!({
            "pid": replica["pid"], "address": replica["address"], "restarts": replica["restarts"],
            "spiffeId": evidence["spiffeId"], "leaf": evidence["leafSha256"], "record": evidence["record"],
        })
    };
    mesh.replicas(service).into_iter().map(replica).collect()
}

/// The records of what runs, by the name of their file.
fn records(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder.join(".serviceos/run/replicas")).into_iter().flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// Kills `up` and waits for that.
pub(crate) fn killed(mesh: &mut Running) {
    mesh.signal(Signal::KILL);
    mesh.wait();
}

fn joins(folder: &Path) -> usize {
    let audit = std::fs::read_to_string(folder.join(".serviceos/audit.jsonl")).unwrap();
    audit.matches("\"kind\":\"join\"").count()
}

#[test]
fn the_next_up_takes_over_what_a_killed_one_has_left_with_pids_and_identities() {
    let mut mesh = mesh().service("vrf", 2).service("datafeed", 1).up();
    let folder = mesh.folder().to_owned();
    let before = (who(&mesh, "vrf"), who(&mesh, "datafeed"));
    let keys = mesh.get("/v1/random/keys").json();
    assert_eq!(records(&folder), ["datafeed-0.json", "vrf-0.json", "vrf-1.json"]);
    killed(&mut mesh);
    let pids: Vec<_> = before.0.iter().map(|one| one["pid"].as_u64().unwrap()).collect();
    assert!(pids.iter().all(|pid| testkit::exists(u32::try_from(*pid).unwrap())), "they live on");
    let mesh = mesh.up_again();
    assert_eq!((who(&mesh, "vrf"), who(&mesh, "datafeed")), before);
    assert_eq!(joins(&folder), 3, "nobody has joined again");
    for _ in 0..4 {
        assert_eq!(mesh.get("/v1/random/keys").json(), keys);
        assert_eq!(mesh.post("/v1/random", &json!({"min": 1, "max": 6})).status, 200, "they may write");
    }
    let log = mesh.log();
    assert_eq!(log.matches("it is taken over").count(), 3, "{log}");
}

#[test]
fn an_orderly_end_after_a_take_over_leaves_nothing() {
    let mut mesh = mesh().service("vrf", 2).up();
    killed(&mut mesh);
    let mut mesh = mesh.up_again();
    mesh.signal(Signal::TERM);
    let finished = mesh.wait();
    assert_eq!(finished.code, 0, "{finished:?}");
    assert_eq!(processes_of(mesh.folder()), [0; 0]);
    assert_eq!(records(mesh.folder()), [""; 0]);
}

#[test]
fn one_that_dies_while_nobody_looks_is_started_anew_and_one_that_dies_later_is_unknown_and_restarted() {
    let mut mesh = mesh().service("vrf", 2).up();
    let before = mesh.pids("vrf");
    killed(&mut mesh);
    kill(before[0], Signal::KILL);
    wait_until_gone(before[0]);
    let mesh = mesh.up_again();
    let now = mesh.pids("vrf");
    assert!(now[0] != before[0] && now[1] == before[1], "{before:?} {now:?}");
    let seen = mesh.log().len();
    kill(before[1], Signal::KILL);
    mesh.until_logged(seen, "unknown (adopted)");
    eventually("another process", || mesh.pids("vrf").get(1).filter(|pid| **pid != before[1]).copied());
    mesh.until_selectable();
    assert_eq!(mesh.replicas("vrf")[1]["restarts"], 1);
}

#[test]
fn an_up_that_is_killed_while_it_starts_takes_nothing_along() {
    let mesh = mesh().service("vrf", 3).up();
    let before = who(&mesh, "vrf");
    mesh.signal(Signal::KILL);
    let mesh = mesh.ended();
    for moment in 0..12 {
        let mut up = mesh.start();
        // Wherever it is by then.
        std::thread::sleep(Duration::from_millis(60 * moment));
        kill(up.id(), Signal::KILL);
        up.wait().unwrap();
    }
    assert_eq!(who(&mesh.up(), "vrf"), before);
}

#[test]
fn down_without_an_up_ends_what_is_left() {
    let mut mesh = mesh().service("vrf", 2).up();
    let pids = mesh.pids("vrf");
    killed(&mut mesh);
    let down = mesh.run(&["down"]);
    assert_eq!((down.code, down.err.as_str()), (0, ""), "{}", down.out);
    for pid in pids {
        assert!(down.out.contains(&format!("(pid {pid})")), "{}", down.out);
    }
    // Nobody answers any more, but the quoter may have a last step to go.
    eventually("nothing to be left", || processes_of(mesh.folder()).is_empty().then_some(()));
    assert_eq!(records(mesh.folder()), [""; 0]);
    let again = mesh.run(&["down"]);
    assert_ne!(again.code, 0);
    assert!(again.err.contains("no serviceos runs on the data directory"), "{}", again.err);
}

#[test]
fn a_replica_that_has_not_reported_ends_with_its_up() {
    if !has_program("python3") {
        return;
    }
    // It is started, and never accepts a connection.
    let mesh = mesh().yaml(
        "    app: {command: [python3, -c, \"import time; time.sleep(600)\"], healthCheck: {path: /}}\n",
    );
    let mut up: Child = mesh.start();
    let folder = mesh.folder().to_owned();
    let is_command = |pid: &u32| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"python3"))
    };
    let command = eventually("the command", || processes_of(&folder).into_iter().find(is_command));
    kill(up.id(), Signal::KILL);
    up.wait().unwrap();
    wait_until_gone(command);
    eventually("the launcher to be gone", || {
        let is_quoter = |pid: &u32| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.windows(10).any(|word| word == b"dev-quoter"))
        };
        processes_of(&folder).iter().all(is_quoter).then_some(())
    });
}

#[test]
fn what_is_not_wanted_any_more_is_ended() {
    let mut mesh = mesh().yaml("    vrf: {replicas: 2}\n    datafeed: {replicas: 1}\n").up();
    let (vrf, datafeed) = (mesh.pids("vrf"), mesh.pids("datafeed"));
    killed(&mut mesh);
    let mesh = mesh.up_again_with("    vrf: {replicas: 1}\n");
    assert_eq!(mesh.pids("vrf"), vrf[..1]);
    vrf.into_iter().skip(1).chain(datafeed).for_each(wait_until_gone);
    eventually("the records of what is there", || (records(mesh.folder()) == ["vrf-0.json"]).then_some(()));
}

#[test]
fn one_that_nobody_takes_over_ends_with_its_identity() {
    let mut mesh = mesh().yaml("    vrf: {replicas: 2, attestation: {identityTtl: 8s}}\n").up();
    let pids = mesh.pids("vrf");
    killed(&mut mesh);
    pids.into_iter().for_each(wait_until_gone);
}

#[test]
fn one_that_was_taken_over_renews_its_identity_with_the_next_authority() {
    let yaml = "    vrf: {replicas: 2, attestation: {identityTtl: 20s}}\n";
    let mut mesh = mesh().yaml(yaml).up();
    let before = who(&mesh, "vrf");
    killed(&mut mesh);
    let mesh = mesh.up_again();
    let now = eventually("other certificates", || {
        let now = who(&mesh, "vrf");
        now.iter().zip(&before).all(|(now, before)| now["leaf"] != before["leaf"]).then_some(now)
    });
    for (now, before) in now.iter().zip(&before) {
        for same in ["pid", "address", "restarts", "spiffeId"] {
            assert_eq!(now[same], before[same], "{same}");
        }
    }
    assert_eq!(joins(mesh.folder()), 2, "a renewal is no join");
}

#[test]
fn one_of_an_earlier_serviceos_renews_with_one_that_was_built_anew_for_as_long_as_it_is_there() {
    let rollout = "rollout: {strategy: canary, minReady: 0s, steps: [{weight: 50%}]}";
    let mut mesh = mesh().yaml(&format!("    vrf: {{replicas: 2, {rollout}}}\n")).up();
    let before = who(&mesh, "vrf");
    killed(&mut mesh);
    let mesh = mesh.ended();
    let rebuilt = mesh.rebuilt();
    // The replicas of both are another manifest, in which everybody joins again.
    let mesh = mesh.binary(&rebuilt).up_when("a start", |_status| true);
    let now = eventually("other certificates", || {
        let now: Vec<_> = who(&mesh, "vrf").into_iter().filter(|now| now["pid"] != Value::Null).collect();
        let of = |before: &Value| now.iter().find(|now| now["pid"] == before["pid"]).cloned();
        let others: Vec<_> = before.iter().map(|before| of(before).expect("it lives on")).collect();
        others.iter().zip(&before).all(|(now, before)| now["leaf"] != before["leaf"]).then_some(others)
    });
    for (now, before) in now.iter().zip(&before) {
        assert_eq!((&now["spiffeId"], &now["restarts"]), (&before["spiffeId"], &before["restarts"]));
    }
    assert!(mesh.replicas("vrf").iter().all(|replica| replica["selectable"] == true), "{}", mesh.log());
}

#[test]
fn somebody_else_at_the_address_of_a_replica_is_not_taken_for_it() {
    let mut mesh = mesh().service("vrf", 3).up();
    let before = who(&mesh, "vrf");
    killed(&mut mesh);
    // Another replica of the same mesh, with a certificate that is as good as its own.
    rewrite(mesh.folder(), "vrf-0", |record| record["listening"]["address"] = before[1]["address"].clone());
    // As if it had reported in the moment in which `up` was killed.
    rewrite(mesh.folder(), "vrf-2", |record| record["listening"] = Value::Null);
    let mesh = mesh.up_again();
    let now = who(&mesh, "vrf");
    assert_eq!(now[1], before[1]);
    for (other, reason) in [(0, "its certificate is"), (2, "it had not said that it listens")] {
        assert_ne!(now[other]["pid"], before[other]["pid"]);
        wait_until_gone(u32::try_from(before[other]["pid"].as_u64().unwrap()).unwrap());
        assert!(mesh.log().contains(reason), "{}", mesh.log());
    }
}

/// Writes something else of a replica's process.
fn rewrite(folder: &Path, stem: &str, change: impl FnOnce(&mut Value)) {
    let path = folder.join(format!(".serviceos/run/replicas/{stem}.json"));
    let mut record: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut record);
    std::fs::write(&path, record.to_string()).unwrap();
}

#[test]
fn a_mesh_port_that_the_system_chose_is_kept_while_it_is_free() {
    let mut mesh = Mesh::new().service("vrf", 1).up();
    let folder = mesh.folder().to_owned();
    let address = || std::fs::read_to_string(folder.join(".serviceos/run/mesh.address")).unwrap();
    let (before, pids) = (address(), mesh.pids("vrf"));
    // Somebody else has it for one start, and the replica that knows it by that is ended.
    killed(&mut mesh);
    let taken = TcpListener::bind(before.trim()).unwrap();
    let mut mesh = mesh.up_again();
    let other = address();
    assert_ne!(other, before);
    pids.into_iter().for_each(wait_until_gone);
    drop(taken);
    let pids = mesh.pids("vrf");
    killed(&mut mesh);
    let mesh = mesh.up_again();
    if address() == other {
        assert_eq!(mesh.pids("vrf"), pids);
    } else {
        assert!(mesh.log().contains("the mesh port of the last start is not free"), "{}", mesh.log());
    }
}

/// Says which process it is, what it was given, and how its configuration is now.
const SERVER: &str = r#"
import http.server, json, os

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def do_GET(self):
        secrets = os.environ['SERVICEOS_SECRETS_DIR']
        files = {name: open(os.path.join(secrets, name), 'rb').read().hex() for name in os.listdir(secrets)}
        config = json.load(open(os.environ['SERVICEOS_CONFIG']))
        body = json.dumps({'pid': os.getpid(), 'secrets': files, 'config': config}).encode()
        self.send_response(200)
        self.send_header('content-length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass

http.server.ThreadingHTTPServer(('127.0.0.1', int(os.environ['SERVICEOS_PORT'])), Handler).serve_forever()
"#;

#[test]
fn a_command_is_taken_over_with_its_files_and_is_given_a_configuration_that_was_changed_meanwhile() {
    if !has_program("python3") {
        return;
    }
    let app = |depth: u32| {
        format!(
            "    app: {{command: [python3, server.py], healthCheck: {{path: /}}, config: {{depth: {depth}}}, secrets: [token]}}\n"
        )
    };
    let mesh = mesh().yaml(&app(3)).head("secrets: {token: {generate: {type: random}}}\n");
    std::fs::write(mesh.folder().join("server.py"), SERVER).unwrap();
    let mut mesh = mesh.up();
    let (before, given) = (who(&mesh, "app"), mesh.get("/app/x").json());
    assert_eq!(given["config"], json!({"depth": 3}));
    killed(&mut mesh);
    let mut mesh = mesh.up_again_with(&app(4));
    assert_eq!(mesh.pids("app"), [u32::try_from(before[0]["pid"].as_u64().unwrap()).unwrap()]);
    let now = eventually("the other configuration", || {
        Some(mesh.get("/app/x").json()).filter(|now| now["config"] == json!({"depth": 4}))
    });
    assert_eq!((&now["pid"], &now["secrets"]), (&given["pid"], &given["secrets"]));
    mesh.signal(Signal::TERM);
    assert_eq!(mesh.wait().code, 0);
    assert_eq!(processes_of(mesh.folder()), [0; 0]);
}

#[test]
fn a_command_whose_launcher_dies_while_nobody_looks_is_ended_and_started_anew() {
    if !has_program("python3") {
        return;
    }
    let mesh = mesh().yaml("    app: {command: [python3, server.py], healthCheck: {path: /}}\n");
    std::fs::write(mesh.folder().join("server.py"), SERVER).unwrap();
    let mut mesh = mesh.up();
    let (launcher, command) = (mesh.pids("app")[0], mesh.get("/app/x").json()["pid"].as_u64().unwrap());
    killed(&mut mesh);
    kill(launcher, Signal::KILL);
    wait_until_gone(launcher);
    let command = u32::try_from(command).unwrap();
    assert!(testkit::exists(command), "nobody has ended it");
    let mesh = mesh.up_again();
    assert!(!testkit::exists(command));
    assert_ne!(mesh.get("/app/x").json()["pid"], command);
}

/// What clients meet while `up` is killed again and again.
#[derive(Default)]
pub(crate) struct Fared {
    /// Even while there is an `up`, or none at all; odd while one is dying, whose sockets close one after the other.
    pub(crate) generation: AtomicUsize,
    pub(crate) answered: AtomicUsize,
    /// Requests without an answer, by the generation that they were sent in and the client.
    pub(crate) cut: Mutex<BTreeMap<(usize, usize), usize>>,
    /// Answers that are none.
    pub(crate) wrong: Mutex<BTreeMap<u16, String>>,
    is_over: AtomicBool,
}

impl Fared {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Sends one request after the other, over one connection while that holds.
    pub(crate) fn sends(&self, client: usize, gateway: SocketAddr, request: &Request) {
        while !self.is_over() {
            let connected = self.generation.load(Ordering::SeqCst);
            // Nobody is there: nothing was sent, and nothing is lost.
            let Ok(mut connection) = Client::connect(gateway) else {
                std::thread::yield_now();
                continue;
            };
            let mut sent = connected;
            while !self.is_over() {
                match connection.send(request) {
                    Ok(answer) if answer.status == 200 => {
                        self.answered.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(answer) => {
                        self.wrong.lock().unwrap().insert(answer.status, answer.text());
                        break;
                    }
                    Err(_cut) => {
                        *self.cut.lock().unwrap().entry((sent, client)).or_default() += 1;
                        break;
                    }
                }
                sent = self.generation.load(Ordering::SeqCst);
            }
        }
    }
}

/// Ends the clients however the test ends, since they are waited for.
pub(crate) struct Ending<'a>(pub(crate) &'a Fared);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }
}

#[test]
fn killed_twenty_times_under_load_the_same_replicas_serve_and_only_what_is_in_flight_is_lost() {
    const KILLS: usize = 20;
    const CLIENTS: usize = 4;
    let mut mesh = mesh().service("vrf", 3).up();
    let before = who(&mesh, "vrf");
    let request = Request::new("GET", "/v1/random/keys").key(&mesh.key);
    let (gateway, fared) = (mesh.gateway, Fared::default());
    let mesh = std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (fared, request) = (&fared, &request);
            scope.spawn(move || fared.sends(client, gateway, request));
        }
        let ending = Ending(&fared);
        for kill in 0..KILLS {
            let answered = fared.answered.load(Ordering::Relaxed);
            eventually("more answers", || {
                (fared.answered.load(Ordering::Relaxed) > answered + 50).then_some(())
            });
            fared.generation.fetch_add(1, Ordering::SeqCst);
            killed(&mut mesh);
            fared.generation.fetch_add(1, Ordering::SeqCst);
            mesh = mesh.up_again();
            assert_eq!(who(&mesh, "vrf"), before, "after kill {kill}");
        }
        drop(ending);
        mesh
    });
    assert_eq!(fared.wrong.into_inner().unwrap(), BTreeMap::new());
    let cut = fared.cut.into_inner().unwrap();
    // Who sends to one that is dying sends to nobody.
    let lost: Vec<_> = cut.into_iter().filter(|((sent, _), _)| sent % 2 == 0).collect();
    assert!(lost.iter().all(|(_, times)| *times == 1), "one request of each client is in flight: {lost:?}");
    assert_eq!(joins(mesh.folder()), 3, "nobody has joined again");
}
