//! Replicas that somebody starts by hand: they join with a ticket, register themselves, and are drained when they are stopped.

use std::fs::File;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use testkit::{Client, Mesh, Request, Running, eventually, has_program, kill, processes_of, wait_until_gone};

/// Answers in one piece with what it was started with, and holds the request for `/slow` until the file `go` is there.
const SERVER: &str = "import os, time, http.server\n\
    class Handler(http.server.BaseHTTPRequestHandler):\n\
    \x20   protocol_version = 'HTTP/1.1'\n\
    \x20   wbufsize = -1\n\
    \x20   def do_GET(self):\n\
    \x20       if self.path == '/slow':\n\
    \x20           open('asked', 'w').close()\n\
    \x20           while not os.path.exists('go'): time.sleep(0.01)\n\
    \x20       body = os.environ['GREETING'].encode()\n\
    \x20       self.send_response(500 if self.path == '/broken' else 200)\n\
    \x20       self.send_header('content-length', str(len(body)))\n\
    \x20       self.end_headers()\n\
    \x20       self.wfile.write(body)\n\
    http.server.ThreadingHTTPServer(('127.0.0.1', int(os.environ['SERVICEOS_PORT'])), Handler).serve_forever()\n";

/// How long a registration holds without being renewed.
pub(crate) const LEASE_TTL: Duration = Duration::from_secs(10);

pub(crate) const COMMAND: [&str; 5] = ["--env", "GREETING=by hand", "--", "python3", "server.py"];

/// A replica that was started by hand.
pub(crate) struct ByHand {
    pub(crate) child: Child,
    /// What it has written to standard error.
    err: PathBuf,
}

impl ByHand {
    /// Waits for its end; gives the exit code and what it has said.
    pub(crate) fn ended(&mut self) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        (code, std::fs::read_to_string(&self.err).unwrap())
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        let _ended_already = self.child.kill().is_err();
        self.child.wait().unwrap();
    }
}

/// Those of this process, so that each has an address of its own.
static MESHES: AtomicU8 = AtomicU8::new(0);
static EXECS: AtomicU8 = AtomicU8::new(0);

/// A mesh that awaits the replicas of `web` by hand; the program is measured first, as an operator would.
fn mesh() -> Running {
    mesh_with("healthCheck: {path: /}", "identityTtl: 1h")
}

/// The same with other keys of the service and of its attestation.
fn mesh_with(keys: &str, attestation: &str) -> Running {
    // Another serviceos in the same folder has to be where the one before was, on an address that is this test's alone.
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let number = 1 + MESHES.fetch_add(1, Ordering::Relaxed);
    mesh_at(&format!("127.{high}.{low}.{number}:7071"), keys, attestation)
}

/// The service `web` in the file, whose program is put into the folder and measured.
pub(crate) fn web(mesh: &Mesh, keys: &str, attestation: &str) -> String {
    std::fs::write(mesh.folder().join("server.py"), SERVER).unwrap();
    let measure = [&["exec", "--service", "web", "--measure"][..], &COMMAND].concat();
    let measured = mesh.run(&measure);
    assert_eq!(measured.code, 0, "{measured:?}");
    let release = measured.out.trim();
    format!(
        "    web: {{{keys}, attestation: {{{attestation}, releases: [{{version: 1.0.0, {release}}}]}}}}\n"
    )
}

/// The same with the address of the mesh API.
pub(crate) fn mesh_at(address: &str, keys: &str, attestation: &str) -> Running {
    let mesh_api = format!("--mesh={address}");
    let mesh = Mesh::new().arguments(&["--gateway=127.0.0.1:0", "--admin=127.0.0.1:0", &mesh_api]);
    let web = web(&mesh, keys, attestation);
    let mesh = mesh.service("oracle", 1).yaml(&web);
    let mut running = mesh.up_when("the oracle to be selectable", |status| {
        status["services"][0]["replicas"][0]["selectable"] == true
    });
    // What is awaited from elsewhere keeps nothing waiting.
    running.key = eventually("the development key", || {
        let out = std::fs::read_to_string(running.folder().join("up.out")).unwrap_or_default();
        let word = out.split_whitespace().find(|word| word.starts_with("sk_test_")).map(str::to_owned);
        assert!(!out.contains("Ready in") || out.contains("to be started by `serviceos exec`"), "{out}");
        word.filter(|_| out.contains("Ctrl-C drains"))
    });
    running
}

/// The arguments of `serviceos exec`, as the ticket's command prints them, up to the command.
pub(crate) fn ticket(mesh: &Running, which: &str) -> Vec<String> {
    let given = mesh.run(&["attestation", "ticket", which, "--file", "ticket.json"]);
    assert_eq!(given.code, 0, "{given:?}");
    let line =
        given.out.lines().find(|line| line.trim().starts_with("serviceos exec")).expect("how to use it");
    line.split_whitespace().skip(1).take_while(|word| *word != "--").map(str::to_owned).collect()
}

pub(crate) fn exec(mesh: &Running, arguments: &[String], command: &[&str]) -> ByHand {
    // Each has files of its own: an earlier one may still write.
    let number = EXECS.fetch_add(1, Ordering::Relaxed);
    let path = |end: &str| mesh.folder().join(format!("exec-{number}.{end}"));
    let file = |end: &str| File::create(path(end)).unwrap();
    let mut exec = mesh.command();
    exec.args(arguments).args(command).stdout(file("out")).stderr(file("err"));
    ByHand { child: exec.spawn().unwrap(), err: path("err") }
}

/// Starts one, and waits until it may serve.
fn started(mesh: &Running, which: &str) -> ByHand {
    let by_hand = exec(mesh, &ticket(mesh, which), &COMMAND);
    eventually("a selectable replica", || {
        mesh.replicas("web").iter().any(|replica| replica["selectable"] == true).then_some(())
    });
    by_hand
}

/// What is listed of a replica of `web`, where it is.
pub(crate) fn instance(mesh: &Running, id: &str) -> Option<Value> {
    let listed = mesh.run(&["instances", "web", "--json"]);
    let listed: Value = serde_json::from_str(&listed.out).unwrap();
    listed["instances"].as_array().unwrap().iter().find(|entry| entry["id"] == id).cloned()
}

fn replica(mesh: &Running) -> Value {
    mesh.replicas("web")[0].clone()
}

fn until(mesh: &Running, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    eventually(what, || Some(replica(mesh)).filter(&wanted))
}

/// The process beside the command, which is the replica: a child of `serviceos exec`, which may also have a quoter.
pub(crate) fn launcher(by_hand: &ByHand) -> u32 {
    let id = by_hand.child.id();
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    let mut children = children.split_whitespace().map(|pid| pid.parse().unwrap());
    children.find(|pid| argument(*pid) == Some("launch".to_owned())).expect("a launcher")
}

/// The server itself.
fn server(folder: &Path) -> Option<u32> {
    processes_of(folder).into_iter().find(|pid| argument(*pid) == Some("server.py".to_owned()))
}

/// The first argument of a process.
fn argument(pid: u32) -> Option<String> {
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let argument = arguments.split(|byte| *byte == 0).nth(1)?;
    Some(String::from_utf8_lossy(argument).into_owned())
}

#[test]
fn a_program_that_is_started_by_hand_serves_and_is_drained_by_ctrl_c() {
    if !has_program("python3") {
        return;
    }
    let mesh = mesh();
    let waits = replica(&mesh);
    assert_eq!(waits["reason"], "waits for `serviceos exec --service web`");
    assert_eq!((&waits["state"], &waits["pid"]), (&"Stopped".into(), &Value::Null));
    let mut by_hand = started(&mesh, "web");
    let answer = mesh.get("/web/x");
    assert_eq!((answer.status, answer.text().as_str()), (200, "by hand"));
    let taken = mesh.run(&["attestation", "ticket", "web", "--file", "other.json"]);
    assert!(taken.code == 1 && taken.err.contains("REPLICA_TAKEN"), "{taken:?}");

    // A request that is open when it is stopped is answered.
    let (folder, key, gateway) = (mesh.folder().to_owned(), mesh.key.clone(), mesh.gateway);
    let open = std::thread::spawn(move || Request::new("GET", "/web/slow").key(&key).send(gateway).status);
    eventually("the open request", || folder.join("asked").exists().then_some(()));
    kill(by_hand.child.id(), Signal::INT);
    until(&mesh, "the drain", |replica| replica["state"] == "Draining");
    assert_eq!(mesh.get("/web/x").status, 503);
    std::fs::write(folder.join("go"), "").unwrap();
    assert_eq!(open.join().unwrap(), 200);
    let stopped = until(&mesh, "the end", |replica| replica["state"] == "Stopped");
    assert_eq!(
        (&stopped["reason"], &stopped["restarts"]),
        (&"stopped where it was started".into(), &0.into())
    );
    assert_eq!(by_hand.child.wait().unwrap().code(), Some(0));
    assert_eq!(server(mesh.folder()), None);
    let audit = mesh.run(&["audit", "tail"]);
    assert!(audit.out.contains("ticket"), "{audit:?}");
}

#[test]
fn what_is_killed_is_gone_and_may_be_started_again() {
    if !has_program("python3") {
        return;
    }
    let mesh = mesh();
    assert_eq!(instance(&mesh, "web/0"), None, "a place that nobody has is no instance");
    // The launcher is the replica: the mesh notices that its connection ends, and the command goes with it.
    let mut by_hand = started(&mesh, "web/0");
    let before = instance(&mesh, "web/0").unwrap();
    let killed = Instant::now();
    kill(launcher(&by_hand), Signal::KILL);
    let gone = until(&mesh, "the end", |replica| replica["state"] == "Stopped");
    assert_eq!(
        gone["reason"],
        "its lease ended: its connection to the mesh did, and there was no other within 1s"
    );
    assert!(killed.elapsed() < LEASE_TTL, "{:?}", killed.elapsed());
    let shown = instance(&mesh, "web/0").expect("it is shown for a while");
    assert_eq!((&shown["lease"], &shown["selectable"]), (&before["lease"], &false.into()));
    assert_eq!(by_hand.child.wait().unwrap().code(), Some(128 + 9));
    eventually("the command to be gone", || server(mesh.folder()).is_none().then_some(()));

    // Without whoever has started it, the launcher drains and ends.
    let mut by_hand = started(&mesh, "web/0");
    let again = instance(&mesh, "web/0").unwrap();
    assert!(again["fencingToken"].as_u64() > before["fencingToken"].as_u64(), "{before} {again}");
    assert_eq!(replica(&mesh)["restarts"], 1);
    let beside = launcher(&by_hand);
    kill(by_hand.child.id(), Signal::KILL);
    by_hand.child.wait().unwrap();
    let stopped = until(&mesh, "the end", |replica| replica["state"] == "Stopped");
    assert_eq!(stopped["reason"], "stopped where it was started");
    wait_until_gone(beside);
    assert_eq!(server(mesh.folder()), None);

    // A command that ends by itself ends all of it, with its own exit code.
    let mut by_hand = started(&mesh, "web/0");
    kill(server(mesh.folder()).unwrap(), Signal::TERM);
    until(&mesh, "the end", |replica| replica["state"] == "Stopped");
    assert_eq!(by_hand.child.wait().unwrap().code(), Some(128 + 15));
}

#[test]
fn a_replica_that_was_started_by_hand_outlives_a_killed_up_and_registers_with_the_next() {
    if !has_program("python3") {
        return;
    }
    let mesh = mesh();
    let mut by_hand = started(&mesh, "web");
    let (before, pid) = (instance(&mesh, "web/0").unwrap(), server(mesh.folder()));
    mesh.signal(Signal::KILL);
    let mut mesh = mesh.up_again();
    mesh.until_selectable();
    let after = instance(&mesh, "web/0").unwrap();
    assert_eq!((&after["address"], server(mesh.folder())), (&before["address"], pid));
    assert_ne!(after["lease"], before["lease"]);
    assert!(after["fencingToken"].as_u64() > before["fencingToken"].as_u64(), "{before} {after}");
    assert_eq!(mesh.get("/web/x").text(), "by hand");
    // An orderly end of serviceos is one of its replicas too.
    mesh.signal(Signal::INT);
    assert_eq!(mesh.wait().code, 0);
    assert_eq!(by_hand.child.wait().unwrap().code(), Some(0));
    assert_eq!(server(mesh.folder()), None);
}

#[test]
fn an_identity_is_renewed_and_the_lease_kept_while_requests_pass() {
    if !has_program("python3") {
        return;
    }
    let mesh = mesh_with("healthCheck: {path: /}", "identityTtl: 20s");
    let _by_hand = started(&mesh, "web");
    let leaf = || {
        let said = mesh.run(&["why", "web/0", "--json"]).out;
        let why: Value = serde_json::from_str(&said).unwrap();
        why["attested"]["evidence"]["leafSha256"].clone()
    };
    let lease = instance(&mesh, "web/0").unwrap()["lease"].clone();
    let mut client = Client::connect(mesh.gateway).unwrap();
    let request = Request::new("GET", "/web/x").key(&mesh.key);
    let mut seen = vec![leaf()];
    // The connection of the first certificate has ended by the third one.
    eventually("the third certificate after the first", || {
        for _ in 0..20 {
            assert_eq!(client.send(&request).unwrap().status, 200);
        }
        let now = leaf();
        if seen.last() != Some(&now) {
            seen.push(now);
        }
        (seen.len() > 3).then_some(())
    });
    assert_eq!(
        (replica(&mesh)["restarts"].as_u64(), replica(&mesh)["selectable"].as_bool()),
        (Some(0), Some(true))
    );
    assert_eq!(instance(&mesh, "web/0").unwrap()["lease"], lease);
}

/// Stands between a replica and the mesh API.
struct Proxy {
    address: SocketAddr,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    is_shut: Arc<AtomicBool>,
}

impl Proxy {
    fn before(mesh: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, streams) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<TcpStream>>>::default());
        let (kept, is_shut) = (Arc::clone(&streams), Arc::<AtomicBool>::default());
        let shut = Arc::clone(&is_shut);
        // Both end with the process of the test; nobody waits for them.
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                if shut.load(Ordering::Relaxed) {
                    continue;
                }
                let Ok(far) = TcpStream::connect(mesh) else { continue };
                for (mut from, mut to) in [
                    (near.try_clone().unwrap(), far.try_clone().unwrap()),
                    (far.try_clone().unwrap(), near.try_clone().unwrap()),
                ] {
                    std::thread::spawn(move || {
                        let _cut = std::io::copy(&mut from, &mut to).is_err();
                        let _ended_already = to.shutdown(Shutdown::Both).is_err();
                    });
                }
                kept.lock().unwrap().extend([near, far]);
            }
        });
        Self { address, streams, is_shut }
    }

    /// Whether nobody gets through.
    fn shut(&self, is_shut: bool) {
        self.is_shut.store(is_shut, Ordering::Relaxed);
    }

    /// Whether somebody has come since the last cut.
    fn is_used(&self) -> bool {
        !self.streams.lock().unwrap().is_empty()
    }

    fn cut(&self) {
        for stream in self.streams.lock().unwrap().drain(..) {
            let _ended_already = stream.shutdown(Shutdown::Both).is_err();
        }
    }
}

fn with(arguments: &[String], flag: &str, value: &str) -> Vec<String> {
    let mut other = arguments.to_vec();
    let place = other.iter().position(|word| word == flag).unwrap() + 1;
    value.clone_into(&mut other[place]);
    other
}

#[test]
fn a_replica_whose_connections_end_makes_others_and_one_that_cannot_registers_again_later() {
    if !has_program("python3") {
        return;
    }
    let mesh = mesh();
    let arguments = ticket(&mesh, "web");
    let api = arguments[arguments.iter().position(|word| word == "--mesh").unwrap() + 1].parse().unwrap();
    let proxy = Proxy::before(api);
    let _by_hand = exec(&mesh, &with(&arguments, "--mesh", &proxy.address.to_string()), &COMMAND);
    until(&mesh, "a selectable replica", |replica| replica["selectable"] == true);
    let first = instance(&mesh, "web/0").unwrap();
    let facts = |entry: &Value| (entry["lease"].clone(), entry["instance"].clone());
    proxy.cut();
    let since = Instant::now();
    eventually("longer than a lease without a connection lasts", || {
        let now = instance(&mesh, "web/0").unwrap();
        assert_eq!((facts(&now), &now["selectable"]), (facts(&first), &true.into()), "{now}");
        (proxy.is_used() && since.elapsed() > Duration::from_secs(3)).then_some(())
    });

    proxy.shut(true);
    proxy.cut();
    until(&mesh, "the end", |replica| replica["state"] == "Stopped");
    assert_eq!(mesh.get("/web/x").status, 503);
    proxy.shut(false);
    let again =
        until(&mesh, "it to be back", |replica| replica["selectable"] == true && replica["restarts"] == 1);
    assert_eq!(again["address"], first["address"]);
    let later = instance(&mesh, "web/0").unwrap();
    assert!(later["fencingToken"].as_u64() > first["fencingToken"].as_u64(), "{first} {later}");
    assert_eq!(mesh.get("/web/x").text(), "by hand");
}

#[test]
fn a_ticket_takes_nobody_s_place() {
    if !has_program("python3") {
        return;
    }
    let mesh = mesh();
    let (first, second) = (ticket(&mesh, "web/0"), ticket(&mesh, "web/0"));
    let _by_hand = exec(&mesh, &first, &COMMAND);
    let serves = until(&mesh, "a selectable replica", |replica| replica["selectable"] == true);
    let (code, err) = exec(&mesh, &second, &COMMAND).ended();
    assert!(code == Some(1) && err.contains("REPLICA_TAKEN"), "{code:?}: {err}");
    assert_eq!((replica(&mesh)["selectable"].as_bool(), mesh.get("/web/x").status), (Some(true), 200));
    assert_eq!(replica(&mesh)["address"], serves["address"]);
}

#[test]
fn one_that_does_not_become_healthy_is_told_why_and_ends_with_exit_code_1() {
    if !has_program("python3") {
        return;
    }
    let mesh = mesh_with("startTimeout: 1s, healthCheck: {path: /broken}", "identityTtl: 1h");
    let (code, err) = exec(&mesh, &ticket(&mesh, "web"), &COMMAND).ended();
    assert!(code == Some(1) && err.contains("not ready within the start timeout of 1s"), "{code:?}: {err}");
    assert_eq!(server(mesh.folder()), None);
}

#[test]
fn what_cannot_run_or_join_is_said_with_exit_code_1_and_leaves_nothing() {
    if !has_program("python3") {
        return;
    }
    let mesh = mesh();
    let arguments = ticket(&mesh, "web");
    let refused = |arguments: &[String], command: &[&str], said: &str| {
        let (code, err) = exec(&mesh, arguments, command).ended();
        assert!(code == Some(1) && err.contains(said), "{code:?}: {err}");
        assert_eq!((server(mesh.folder()), replica(&mesh)["state"].as_str()), (None, Some("Stopped")));
    };
    refused(&arguments, &["--", "./nothing"], "was not found");
    refused(&with(&arguments, "--authority", &"ab".repeat(32)), &COMMAND, "is a ticket of another mesh");
    refused(&with(&arguments, "--service", "oracle"), &COMMAND, "is a ticket for web/0");
    refused(&with(&arguments, "--ticket-file", "server.py"), &COMMAND, "failed to read the launch ticket");
    // None of this has used the ticket up, but this does.
    refused(&arguments, &["--", "python3", "server.py"], "RELEASE_NOT_ALLOWED");
    refused(&arguments, &COMMAND, "TICKET_INVALID");
    let why = mesh.run(&["why", "web/0"]);
    assert!(why.out.contains("RELEASE_NOT_ALLOWED") && why.out.contains("found"), "{why:?}");
    let _joined = started(&mesh, "web/0");
    assert_eq!(mesh.get("/web/x").status, 200);
    for (which, code) in
        [("oracle", "REPLICA_SUPERVISED"), ("web/7", "REPLICA_UNKNOWN"), ("nope", "REPLICA_UNKNOWN")]
    {
        let refused = mesh.run(&["attestation", "ticket", which, "--file", "other.json"]);
        assert!(refused.code == 1 && refused.err.contains(code), "{which}: {refused:?}");
    }
}
