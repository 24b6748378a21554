//! Whole replicas of real commands, in a mesh whose certificates are the test's.

use std::collections::BTreeMap;
use std::io::{Read, Seek};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::CommandExt;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use mesh_protocol::{Assignment, MeshCoordinates, OwnWords, RegisteredBy, send_with_descriptors};
use rustix::process::{
    DumpableBehavior, Pid, Signal, getpid, kill_process, kill_process_group, set_dumpable_behavior,
};
use sdk::FakeMesh;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use types::Mode;

use super::*;
use crate::{Directory, Measurer};

const GRACE: Duration = Duration::from_secs(10);

/// A program that answers each request after it was let, as the file of that name in its folder says.
const SERVER: &str = r#"
import http.server, os, signal, sys, time
if "--stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
def told(number, frame):
    open("told", "a").write("told ")
    os._exit(0)
if "--tells" in sys.argv:
    signal.signal(signal.SIGTERM, told)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/die":
            os._exit(7)
        if self.path == "/slow":
            open("asked", "w").close()
            while not os.path.exists("answer"):
                time.sleep(0.001)
        said = os.environ.get(self.path[1:], str(self.headers))
        self.send_response(200)
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said.encode())
    def log_message(self, *arguments):
        pass
host, port = os.environ["SERVICEOS_LISTEN"].split(":")
http.server.ThreadingHTTPServer((host, int(port)), Handler).serve_forever()
"#;

/// A place for commands.
struct Place {
    folder: TempDir,
    mesh: FakeMesh,
}

/// A replica that serves.
struct Running {
    address: SocketAddr,
    leash: Option<StdUnixStream>,
    serving: JoinHandle<u8>,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("run")).unwrap();
        std::fs::write(folder.path().join("server.py"), SERVER).unwrap();
        Self { folder, mesh: FakeMesh::new() }
    }

    fn order(&self, arguments: &[&str]) -> CommandOrder {
        CommandOrder {
            service: "infer".parse().unwrap(),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            environment: BTreeMap::from([("GREETING".into(), "on $SERVICEOS_PORT".into())]),
            directory: Directory { path: self.folder.path().to_owned(), hashed: ".".into() },
            protocol: Protocol::Http1,
            run: self.folder.path().join("run"),
            grace: GRACE,
            limits: crate::Limits::default(),
        }
    }

    /// Everything that comes after the join.
    async fn started(&self, order: &CommandOrder) -> Result<Replica, Failure> {
        let measured = Measurer::new().measure(&order.program([1; 32])).unwrap();
        let folder = Folder::create(&order.run, &"infer/0".parse().unwrap()).unwrap();
        let plan = Plan::new(order, Mode::Development, &folder).unwrap();
        let (member, _leaf) = self.mesh.member("infer", &[]);
        let group = if std::env::var_os(ALONE).is_some() { Group::of_this_process() } else { Group::Shared };
        let (reload, address) = (ConfigReload::Signal, (std::net::Ipv4Addr::LOCALHOST, 0).into());
        let ready = Ready { measured: &measured, plan, folder, member, reload, group, address };
        start(ready, order.protocol).await
    }

    async fn serve(&self, order: &CommandOrder) -> Running {
        self.serve_as(order, RegisteredBy::Supervisor).await
    }

    async fn serve_as(&self, order: &CommandOrder, registered_by: RegisteredBy) -> Running {
        let replica = self.started(order).await.unwrap_or_else(|failure| panic!("{failure}"));
        let address = replica.listener.local_addr().unwrap();
        let (mut leash, supervisor) = StdUnixStream::pair().unwrap();
        let mut supervised = Supervised::new(supervisor).unwrap();
        send_with_descriptors(&mut leash, &assignment(registered_by).encode(), &[]).unwrap();
        supervised.assignment().await.unwrap().unwrap();
        let grace = order.grace;
        let serving = tokio::spawn(async move { replica.serve(&mut supervised, grace).await });
        Running { address, leash: Some(leash), serving }
    }

    async fn ask(&self, running: &Running, path: &str) -> Result<String, String> {
        let identity = self.mesh.identity("gateway/n1").0;
        let stream = self.mesh.connect(running.address, identity, Protocol::Http1).await;
        let stream = TokioIo::new(stream.map_err(|error| error.to_string())?);
        let (mut sender, connection) = http1::handshake(stream).await.map_err(|error| error.to_string())?;
        let driver = tokio::spawn(connection);
        let request = http::Request::get(path).header("host", "a").header("x-serviceos-tenant", "acme");
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let body = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
        driver.abort();
        Ok(String::from_utf8(body.to_vec()).unwrap())
    }

    fn has_no_folder(&self) -> bool {
        std::fs::read_dir(self.folder.path().join("run")).unwrap().next().is_none()
    }

    fn exists(&self, name: &str) -> bool {
        self.folder.path().join(name).exists()
    }
}

/// What a replica is told; what is said of the mesh, nobody asks for.
fn assignment(registered_by: RegisteredBy) -> Assignment {
    let mesh = MeshCoordinates {
        address: (std::net::Ipv4Addr::LOCALHOST, 1).into(),
        root_spki: mesh_protocol::Bytes::default(),
        trust_domain: "test.dev.invalid".into(),
        mode: Mode::Development,
        transition: mesh_protocol::Bytes::default(),
        evidence_root: None,
        authority_workload: mesh_protocol::Bytes::default(),
    };
    Assignment {
        replica: "infer/0".parse().unwrap(),
        version: "1.0.0".into(),
        config: serde_json::json!({}),
        mesh,
        ticket: mesh_protocol::Bytes::default(),
        allow: Vec::new(),
        registered_by,
        config_reload: ConfigReload::Signal,
    }
}

async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_command_that_knows_nothing_of_the_mesh_is_a_replica_of_it() {
    let place = Place::new();
    let running = place.serve(&place.order(&["python3", "server.py"])).await;
    let greeting = place.ask(&running, "/GREETING").await.unwrap();
    let port = place.ask(&running, "/SERVICEOS_PORT").await.unwrap();
    assert_eq!(greeting, format!("on {port}"));
    assert!(place.ask(&running, "/").await.unwrap().contains("x-serviceos-tenant: acme"));
    assert_eq!(place.ask(&running, "/PATH").await.unwrap().find("PATH"), None, "nothing is inherited");
}

#[tokio::test]
async fn a_server_of_the_standard_library_is_a_replica_too() {
    let place = Place::new();
    std::fs::write(place.folder.path().join("hello.txt"), "hello").unwrap();
    let arguments = ["python3", "-m", "http.server", "--bind", "127.0.0.1", "$SERVICEOS_PORT"];
    let running = place.serve(&place.order(&arguments)).await;
    assert_eq!(place.ask(&running, "/hello.txt").await.unwrap(), "hello");
}

#[tokio::test]
async fn a_command_that_ends_before_it_listens_says_how() {
    let place = Place::new();
    let failure = place.started(&place.order(&["sh", "-c", "exit 3"])).await.err().unwrap();
    expect_test::expect!["the command ended (exit status: 3) before it accepted a connection; its output says why, and it is told where to listen by SERVICEOS_LISTEN"]
        .assert_eq(&failure.to_string());
    assert!(matches!(failure, Failure::Ended(ended) if ended.code() == 3));
}

#[tokio::test]
async fn a_replica_ends_as_its_command_does() {
    let place = Place::new();
    let running = place.serve(&place.order(&["python3", "server.py"])).await;
    let answer = place.ask(&running, "/die").await;
    assert_eq!(running.serving.await.unwrap(), 7);
    assert!(!answer.is_ok_and(|answer| answer.contains("acme")));
    assert!(place.has_no_folder());
}

#[tokio::test]
async fn without_a_supervisor_the_replica_and_its_command_go_on() {
    let place = Place::new();
    let mut running = place.serve(&place.order(&["python3", "server.py"])).await;
    let port = place.ask(&running, "/SERVICEOS_PORT").await.unwrap();
    drop(running.leash.take());
    for _ in 0..3 {
        assert_eq!(place.ask(&running, "/SERVICEOS_PORT").await.unwrap(), port);
    }
    assert!(!running.serving.is_finished() && !place.has_no_folder());
}

#[tokio::test]
async fn without_who_started_it_by_hand_open_requests_are_answered_and_the_command_ends() {
    let place = Place::new();
    let by_hand = RegisteredBy::Itself(OwnWords::default());
    let mut running = place.serve_as(&place.order(&["python3", "server.py"]), by_hand).await;
    let leash = running.leash.take();
    let supervisor_dies = async {
        until(|| place.exists("asked")).await;
        drop(leash);
        while tokio::net::TcpStream::connect(running.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        std::fs::write(place.folder.path().join("answer"), "").unwrap();
    };
    let (answer, ()) = tokio::join!(place.ask(&running, "/slow"), supervisor_dies);
    assert!(answer.unwrap().contains("acme"));
    assert_eq!(running.serving.await.unwrap(), 0);
    assert!(place.has_no_folder());
}

/// Set in a process that runs one test alone, since a signal is for all of them.
const ALONE: &str = "LAUNCHER_TEST_ALONE";

/// Does this, a test of that name, in a process that leads a group of its own.
fn alone(name: &str, test: impl Future<Output = ()>) {
    if std::env::var_os(ALONE).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(test);
    }
    let mut process = std::process::Command::new("/proc/self/exe");
    process.args(["--exact", &format!("command::tests::{name}"), "--nocapture"]).env(ALONE, "1");
    // To a file: what a test that fails leaves behind holds no pipe open, and is ended.
    let mut said = tempfile::tempfile().unwrap();
    process.stdout(said.try_clone().unwrap()).stderr(said.try_clone().unwrap());
    let mut child = process.process_group(0).spawn().unwrap();
    let status = child.wait().unwrap();
    let _nobody_is_left = kill_process_group(Pid::from_child(&child), Signal::KILL).is_err();
    let mut text = String::new();
    said.rewind().unwrap();
    said.read_to_string(&mut text).unwrap();
    assert!(status.success(), "{text}");
}

#[test]
fn told_to_end_it_answers_open_requests_first_and_ends_the_command_then() {
    alone("told_to_end_it_answers_open_requests_first_and_ends_the_command_then", is_told_to_end());
}

#[test]
fn what_a_command_has_started_is_told_to_end_with_it() {
    alone("what_a_command_has_started_is_told_to_end_with_it", async {
        let place = Place::new();
        let running = place.serve(&place.order(&["sh", "-c", "python3 server.py --tells & wait"])).await;
        place.ask(&running, "/GREETING").await.unwrap();
        kill_process(getpid(), Signal::TERM).unwrap();
        assert_eq!(running.serving.await.unwrap(), 0);
        let told = std::fs::read_to_string(place.folder.path().join("told")).unwrap();
        assert_eq!(told, "told ", "once, and it was waited for");
        assert!(place.has_no_folder());
    });
}

#[test]
fn a_launcher_that_ends_leaves_nothing_of_its_command() {
    alone("a_launcher_that_ends_leaves_nothing_of_its_command", async {
        let place = Place::new();
        // As it is in a launcher.
        let _listens = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
        for command in ["python3 server.py --stubborn & wait", "python3 server.py --stubborn & wait; exit 0"]
        {
            let replica = place.started(&place.order(&["sh", "-c", command])).await;
            let replica = replica.unwrap_or_else(|failure| panic!("{failure}"));
            replica.child.stop(Instant::now()).await;
            let emptied = Group::of_this_process().emptied();
            tokio::time::timeout(Duration::from_secs(30), emptied).await.expect("everybody was killed");
        }
    });
}

#[test]
fn of_every_grace_half_is_the_commands_and_something_is_left() {
    for grace in [0, 1, 10, 1000, 1500, 10_000, 60_000].map(Duration::from_millis) {
        let Shares { requests, command } = Shares::of(grace);
        assert!(command >= grace / 2 && requests + command <= grace);
        let left = grace - requests - command;
        assert_eq!(left, OWN_GRACE.min(grace / 4));
    }
    let second = Shares { requests: Duration::from_millis(250), command: Duration::from_millis(500) };
    assert_eq!(Shares::of(Duration::from_secs(1)), second);
}

async fn is_told_to_end() {
    // As it is after a join.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).unwrap();
    let place = Place::new();
    let running = place.serve(&place.order(&["python3", "server.py"])).await;
    let told = async {
        until(|| place.exists("asked")).await;
        kill_process(getpid(), Signal::TERM).unwrap();
        while tokio::net::TcpStream::connect(running.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        std::fs::write(place.folder.path().join("answer"), "").unwrap();
    };
    let (answer, ()) = tokio::join!(place.ask(&running, "/slow"), told);
    assert!(answer.unwrap().contains("acme"));
    assert_eq!(running.serving.await.unwrap(), 0);
    assert!(place.has_no_folder());
}

#[tokio::test]
async fn a_command_that_does_not_end_when_it_is_told_is_killed() {
    let place = Place::new();
    let order = place.order(&["python3", "server.py", "--stubborn"]);
    let replica = place.started(&order).await.unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(replica.child.stop(Instant::now()).await, 137);
}

#[tokio::test]
async fn a_command_that_ends_when_it_is_told_has_done_what_it_should() {
    let place = Place::new();
    let order = place.order(&["python3", "server.py"]);
    let replica = place.started(&order).await.unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(replica.child.stop(Instant::now() + GRACE).await, 0);
}

/// Writes down each configuration that it is told of, beside the file of it.
const TOLD: &str = r#"
import http.server, json, os, signal
def read(number, frame):
    config = json.load(open(os.environ["SERVICEOS_CONFIG"]))
    open("told.new", "w").write(f"{config} {os.stat(os.environ['SERVICEOS_CONFIG']).st_mode & 0o777:o}")
    os.rename("told.new", "told")
signal.signal(signal.SIGHUP, read)
host, port = os.environ["SERVICEOS_LISTEN"].split(":")
http.server.HTTPServer((host, int(port)), http.server.SimpleHTTPRequestHandler).serve_forever()
"#;

#[tokio::test]
async fn another_configuration_is_written_and_told_to_a_command_that_asks_for_it() {
    let place = Place::new();
    std::fs::write(place.folder.path().join("told.py"), TOLD).unwrap();
    let order = place.order(&["python3", "told.py"]);
    let replica = place.started(&order).await.unwrap_or_else(|failure| panic!("{failure}"));
    let Replica { member, changes, folder, child, .. } = replica;
    let config = folder.config();
    let followed = changes.follow(&folder, child.signalled());
    let told = || std::fs::read_to_string(place.folder.path().join("told")).unwrap_or_default();
    let changed = async {
        assert_eq!(member.offer(2, serde_json::json!({"depth": 2})).await, Ok(()));
        until(|| told() == "{'depth': 2} 400").await;
        std::fs::remove_file(&config).unwrap();
        std::fs::create_dir(&config).unwrap();
        let refused = member.offer(3, serde_json::json!({"depth": 3})).await.unwrap_err().to_string();
        assert!(refused.contains("cannot be rewritten"), "{refused}");
    };
    tokio::select! {
        never = followed => match never {},
        () = changed => {}
    }
    assert_eq!(told(), "{'depth': 2} 400", "what was not written was not told");
}
