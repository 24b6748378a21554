//! Over the socket itself, with an authority and instances that are the test's.

use std::collections::VecDeque;

use expect_test::expect;
use mesh_protocol::{Bytes, MeshPart, Refusal};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;

use super::*;
use crate::command::mesh_socket;
use crate::command::testing::{Server, read_until};

/// What the authority says, one after the other; the last one again and again.
#[derive(Default)]
struct Fake {
    says: Mutex<VecDeque<Result<Vec<MeshInstance>, MeshError>>>,
    asked: Mutex<Vec<String>>,
}

impl Mesh for Fake {
    async fn instances(&self, service: &ServiceName) -> Result<Vec<MeshInstance>, MeshError> {
        self.asked.lock().unwrap().push(service.to_string());
        let mut says = self.says.lock().unwrap();
        if says.len() > 1 { says.pop_front().unwrap() } else { says[0].clone() }
    }

    async fn connect(&self, instance: &MeshInstance) -> Result<Connected, String> {
        let stream = TcpStream::connect(instance.address).await.map_err(|error| error.to_string())?;
        Ok(Connected { stream: Box::new(stream), until: Box::pin(std::future::pending()) })
    }
}

/// A command's socket.
struct Socket {
    fake: Arc<Fake>,
    folder: tempfile::TempDir,
    _serving: JoinSet<std::convert::Infallible>,
}

impl Socket {
    fn new(says: impl IntoIterator<Item = Result<Vec<MeshInstance>, MeshError>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fake = Arc::new(Fake { says: Mutex::new(says.into_iter().collect()), asked: Mutex::default() });
        let listener = mesh_socket::bind(&folder.path().join("mesh.sock")).unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(mesh_socket::serve(listener, Arc::new(Calls::new(Arc::clone(&fake)))));
        Self { fake, folder, _serving: serving }
    }

    /// What a request on a connection of its own is answered, without what differs each time.
    async fn ask(&self, head: &str) -> String {
        let mut stream = UnixStream::connect(self.folder.path().join("mesh.sock")).await.unwrap();
        stream.write_all(format!("{head}\r\n\r\n").as_bytes()).await.unwrap();
        let head = read_until(&mut stream, "\r\n\r\n").await;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut body).await.unwrap();
        let is_kept = |line: &&str| !line.starts_with("date") && !line.starts_with("content-length");
        let head: Vec<_> = head.lines().filter(is_kept).collect();
        format!("{}{}\n", head.join("\n"), String::from_utf8(body).unwrap())
    }
}

fn instance(name: &str, server: &Server) -> MeshInstance {
    let spiffe = format!("spiffe://fake.dev.invalid/service/vrf/{name}");
    let leaves = vec![Bytes(vec![1; 32])];
    let (version, version_id) = ("1.2.0".to_owned(), "1.2.0-3fa9c1d2".to_owned());
    MeshInstance { spiffe, address: server.address, leaves, version, version_id, part: None }
}

/// Answers one request with its own name, and keeps the head of it.
async fn answers(server: &Server, name: &str) -> String {
    server.answer(&format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len())).await.0
}

const RANDOM: &str = "GET /v1/random HTTP/1.1\r\nhost: vrf";

#[tokio::test]
async fn the_host_names_the_service_and_its_instances_answer_in_turn() {
    let (one, two) = (Server::new().await, Server::new().await);
    let socket = Socket::new([Ok(vec![instance("0", &one), instance("1", &two)])]);
    let head = "POST http://vrf/v1/random?n=2 HTTP/1.1\r\nhost: ignored\r\nx-serviceos-tenant: acme\r\ncontent-length: 0";
    let (answer, head) = tokio::join!(socket.ask(head), answers(&one, "one"));
    assert!(answer.ends_with("one\n"), "{answer}");
    assert_eq!(head, "POST /v1/random?n=2 HTTP/1.1\r\nhost: vrf\r\ncontent-length: 0\r\n\r\n");
    let (answer, _) = tokio::join!(socket.ask("GET / HTTP/1.1\r\nhost: VRF:80"), answers(&two, "two"));
    assert!(answer.ends_with("two\n"), "{answer}");
    assert_eq!(*socket.fake.asked.lock().unwrap(), ["vrf"], "what it said is fresh for a while");
}

/// An instance of one version and one of the next, which has this part of the calls.
fn divided(one: &Server, two: &Server, percent: u8) -> Vec<MeshInstance> {
    let part = |side, percent| Some(MeshPart { side, percent });
    let (version, version_id) = ("1.3.0".to_owned(), "1.3.0-0a0b0c0d".to_owned());
    let next =
        MeshInstance { version, version_id, part: part(MeshSide::Target, percent), ..instance("1", two) };
    vec![MeshInstance { part: part(MeshSide::Stable, 100 - percent), ..instance("0", one) }, next]
}

#[tokio::test]
async fn calls_that_name_no_version_are_divided_as_the_authority_says() {
    let (one, two) = (Server::new().await, Server::new().await);
    let socket = Socket::new([Ok(divided(&one, &two, 25))]);
    let mut named = String::new();
    for _ in 0..8 {
        let asked = socket.ask(RANDOM);
        let answered = async {
            tokio::select! {
                _ = answers(&one, "one") => {}
                _ = answers(&two, "two") => {}
            }
        };
        let (answer, ()) = tokio::join!(asked, answered);
        named += if answer.ends_with("two\n") { "2" } else { "1" };
    }
    assert_eq!(named, "11121112");
    drop(two);
    for _ in 0..4 {
        let (answer, _) = tokio::join!(socket.ask(RANDOM), answers(&one, "one"));
        assert!(answer.ends_with("one\n"), "{answer}");
    }
}

#[tokio::test]
async fn a_version_is_called_by_whoever_names_it_and_by_others_only_where_it_has_a_part() {
    let (one, two) = (Server::new().await, Server::new().await);
    let listed = divided(&one, &two, 0);
    let socket = Socket::new([Ok(listed)]);
    for head in [RANDOM.to_owned(), RANDOM.to_owned(), format!("{RANDOM}\r\nservice-version: 1.2.0-3fa9c1d2")]
    {
        let (answer, _) = tokio::join!(socket.ask(&head), answers(&one, "one"));
        assert!(answer.ends_with("one\n"), "{answer}");
    }
    for wanted in ["1.3.0", "1.3.0-0a0b0c0d", "^1.3"] {
        let head = format!("{RANDOM}\r\nService-Version: {wanted}");
        let (answer, head) = tokio::join!(socket.ask(&head), answers(&two, "two"));
        assert!(answer.ends_with("two\n"), "{answer}");
        assert!(head.contains(&format!("service-version: {wanted}\r\n")), "{head}");
    }
    let answer = socket.ask(&format!("{RANDOM}\r\nservice-version: ^2")).await;
    assert!(
        answer.contains("no instance of vrf of the version that was asked for is selectable"),
        "{answer}"
    );
    let answer = socket.ask(&format!("{RANDOM}\r\nservice-version: ^x")).await;
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request"), "{answer}");
}

#[tokio::test]
async fn a_service_that_does_not_allow_it_is_not_called() {
    let code = "MESH_NOT_ALLOWED".to_owned();
    let refusal = Refusal { code, detail: "vrf does not allow infer to call it".into() };
    let server = Server::new().await;
    let refused = Err(MeshError::Refused(refusal));
    let socket = Socket::new([refused.clone(), Ok(vec![instance("0", &server)]), refused]);
    expect![[r#"
        HTTP/1.1 403 Forbidden
        content-type: application/problem+json
        {"type":"urn:serviceos:error:MESH_NOT_ALLOWED","title":"Call not allowed","status":403,"detail":"vrf does not allow infer to call it","code":"MESH_NOT_ALLOWED","requestId":"r-1"}
    "#]]
    .assert_eq(&socket.ask(&format!("{RANDOM}\r\nx-request-id: r-1")).await);
    let (answer, _) = tokio::join!(socket.ask(RANDOM), answers(&server, "now"));
    assert!(answer.ends_with("now\n"), "{answer}");
}

#[tokio::test]
async fn an_instance_that_takes_no_connection_is_passed_over_once_and_the_authority_asked_again() {
    let (gone, one) = (Server::new().await, Server::new().await);
    let listed = vec![instance("0", &gone), instance("1", &one)];
    let socket = Socket::new([Ok(listed)]);
    drop(gone);
    let (answer, _) = tokio::join!(socket.ask(RANDOM), answers(&one, "one"));
    assert!(answer.ends_with("one\n"), "{answer}");
    assert_eq!(*socket.fake.asked.lock().unwrap(), ["vrf", "vrf"]);
}

#[tokio::test]
async fn two_tries_are_the_most() {
    let gone = [Server::new().await, Server::new().await, Server::new().await];
    let listed = gone.iter().zip(["0", "1", "2"]).map(|(server, name)| instance(name, server)).collect();
    let socket = Socket::new([Ok(listed)]);
    drop(gone);
    expect![[r#"
        HTTP/1.1 503 Service Unavailable
        content-type: application/problem+json
        retry-after: 1
        {"type":"urn:serviceos:error:NO_REPLICA_SELECTABLE","title":"No replica can be selected","status":503,"detail":"no instance of vrf that was tried takes a connection","code":"NO_REPLICA_SELECTABLE"}
    "#]]
    .assert_eq(&socket.ask(RANDOM).await);
}

#[tokio::test]
async fn a_request_that_was_sent_is_not_sent_again() {
    let (one, two) = (Server::new().await, Server::new().await);
    let socket = Socket::new([Ok(vec![instance("0", &one), instance("1", &two)])]);
    let hangs_up = async { drop(one.answer("").await) };
    let (answer, ()) = tokio::join!(socket.ask(RANDOM), hangs_up);
    assert!(answer.starts_with("HTTP/1.1 502 Bad Gateway") && answer.contains("UPSTREAM_FAILED"), "{answer}");
}

#[tokio::test]
async fn without_an_instance_or_a_service_there_is_no_call() {
    let socket = Socket::new([Ok(Vec::new())]);
    assert!(socket.ask(RANDOM).await.contains("no instance of vrf is selectable"));
    for host in ["", "192.0.2.1", "a_b", "vrf.example"] {
        let answer = socket.ask(&format!("GET / HTTP/1.1\r\nhost: {host}")).await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request"), "{host}: {answer}");
    }
    assert_eq!(*socket.fake.asked.lock().unwrap(), ["vrf"]);
}

#[tokio::test]
async fn while_the_authority_is_away_what_it_said_last_holds() {
    let server = Server::new().await;
    let away = Err(MeshError::Retryable("connection refused".into()));
    let socket = Socket::new([away.clone(), Ok(vec![instance("0", &server)]), away]);
    let answer = socket.ask(RANDOM).await;
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("the authority is not reached"),
        "{answer}"
    );
    for _ in 0..2 {
        let (answer, _) = tokio::join!(socket.ask(RANDOM), answers(&server, "one"));
        assert!(answer.ends_with("one\n"), "{answer}");
        tokio::time::pause();
        tokio::time::advance(FRESH).await;
        tokio::time::resume();
    }
    assert_eq!(socket.fake.asked.lock().unwrap().len(), 3);
}
