//! Whole replicas of real commands, in a mesh whose certificates are the test's.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream as StdUnixStream;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustix::process::{DumpableBehavior, Signal, getpid, kill_process, set_dumpable_behavior};
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
        }
    }

    /// Everything that comes after the join.
    async fn started(&self, order: &CommandOrder) -> Result<Replica, Failure> {
        let measured = Measurer::new().measure(&order.program([1; 32])).unwrap();
        let folder = Folder::create(&order.run, &"infer/0".parse().unwrap()).unwrap();
        let plan = Plan::new(order, Mode::Development, &folder).unwrap();
        let (member, leaf) = self.mesh.member("infer", &[]);
        start(Ready { measured: &measured, plan, folder, member, leaf }, order.protocol).await
    }

    async fn serve(&self, order: &CommandOrder) -> Running {
        let replica = self.started(order).await.unwrap_or_else(|failure| panic!("{failure}"));
        let address = replica.listener.local_addr().unwrap();
        let (leash, supervisor) = StdUnixStream::pair().unwrap();
        let mut supervised = Supervised::new(supervisor).unwrap();
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

    fn exists(&self, name: &str) -> bool {
        self.folder.path().join(name).exists()
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
    assert!(!place.exists("run/infer-0"));
}

#[tokio::test]
async fn without_a_supervisor_open_requests_are_answered_and_the_command_ends() {
    let place = Place::new();
    let mut running = place.serve(&place.order(&["python3", "server.py"])).await;
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
    assert!(!place.exists("run/infer-0"));
}

/// Set in a process that runs one test alone, since a signal is for all of them.
const ALONE: &str = "LAUNCHER_TEST_ALONE";

#[test]
fn told_to_end_it_answers_open_requests_first_and_ends_the_command_then() {
    let name = "command::tests::told_to_end_it_answers_open_requests_first_and_ends_the_command_then";
    if std::env::var_os(ALONE).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(is_told_to_end());
    }
    let mut test = std::process::Command::new("/proc/self/exe");
    let output = test.args(["--exact", name, "--nocapture"]).env(ALONE, "1").output().unwrap();
    assert!(output.status.success(), "{output:?}");
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
    assert!(!place.exists("run/infer-0"));
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
