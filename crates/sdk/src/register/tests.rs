//! Registrations with a mesh API that answers what the test has written.

use axum::Router;
use axum::body::Bytes as Body;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Json;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use mesh_protocol::QuoterSource;
use mesh_protocol::tls::{Clients, RootPin, server_config};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::FakeMesh;

/// How long a test waits for what is to come, before it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the mesh API answers, in this order, as soon as it is written; to whoever leaves, that this is well.
#[derive(Clone)]
struct Script {
    answers: Arc<tokio::sync::Mutex<UnboundedReceiver<(u16, Value)>>>,
    /// What it was asked, and with what, without the number of the run.
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

/// A mesh whose API follows a script, and a member of it.
struct Mesh {
    member: Member<QuoterSource>,
    script: Script,
    answers: UnboundedSender<(u16, Value)>,
    serving: JoinHandle<()>,
}

async fn answer(State(script): State<Script>, path: Uri, body: Body) -> (StatusCode, Json<Value>) {
    let mut asked: Value = serde_json::from_slice(&body).unwrap();
    if let Some(run) = asked.as_object_mut().and_then(|asked| asked.remove("run")) {
        assert_eq!(run.as_str().map(str::len), Some(22), "16 bytes");
    }
    script.asked.lock().unwrap().push((path.path().to_owned(), asked));
    if path.path() == "/v1/leave" {
        return (StatusCode::OK, Json(Value::Null));
    }
    let (status, answer) = script.answers.lock().await.recv().await.unwrap();
    (StatusCode::from_u16(status).unwrap(), Json(answer))
}

impl Mesh {
    async fn new(answers: &[(u16, Value)]) -> Self {
        let mesh = FakeMesh::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (written, read) = unbounded_channel();
        answers.iter().for_each(|answer| written.send(answer.clone()).unwrap());
        let script = Script { answers: Arc::new(tokio::sync::Mutex::new(read)), asked: Arc::default() };
        let (member, _leaf) = mesh.member_of("web", &[], listener.local_addr().unwrap());
        let coordinates = member.mesh();
        let root = RootPin::Spki(coordinates.root_spki.0.clone());
        let (authority, _) = mesh.identity("authority/n1");
        let domain = &coordinates.trust_domain;
        let admits = Arc::new(|_: &_| Ok(()));
        let tls = server_config(authority, root, domain, Clients::Known, admits, &[b"http/1.1"]).unwrap();
        let router = Router::new().fallback(answer).with_state(script.clone());
        let serving = tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(tls)), router));
        Self { member, script, answers: written, serving }
    }

    fn registration() -> Registration {
        let description = Description { zone: Some("a".into()), weight: 3, ..Description::default() };
        Registration::of(([10, 0, 0, 7], 7443).into(), description).unwrap()
    }

    fn asked(&self) -> Vec<(String, Value)> {
        self.script.asked.lock().unwrap().clone()
    }

    /// Waits until it was asked so often.
    async fn until_asked(&self, count: usize) {
        while self.asked().len() < count {
            sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, router: Router) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (tls, router) = (tls.clone(), TowerToHyperService::new(router.clone()));
        connections.spawn(async move {
            let stream = TokioIo::new(tls.accept(stream).await.unwrap());
            hyper::server::conn::http1::Builder::new().serve_connection(stream, router).await
        });
    }
}

fn registered(lease: &str, token: u64) -> (u16, Value) {
    (200, json!({"lease": lease, "ttlMillis": 10_000, "fencingToken": token}))
}

fn refused(status: u16, code: &str) -> (u16, Value) {
    (status, json!({"code": code, "detail": "as the test says"}))
}

/// What it is asked by whoever holds this lease.
fn asks(path: &str, lease: &str, token: u64) -> (String, Value) {
    (path.to_owned(), json!({"lease": lease, "fencingToken": token}))
}

fn renewed() -> (u16, Value) {
    (200, json!({}))
}

fn ended(reason: &str) -> (u16, Value) {
    (200, json!({"end": {"wanted": reason}}))
}

#[tokio::test]
async fn a_registration_is_renewed_until_there_is_an_order_to_end() {
    let mesh = Mesh::new(&[registered("a", 7), renewed(), renewed(), ended("stopped")]).await;
    let told = timeout(PATIENCE, Mesh::registration().begin(&mesh.member).told()).await.unwrap();
    assert_eq!(told, EndOrder::Wanted("stopped".into()));
    let registration = json!({"address": "10.0.0.7:7443", "weight": 3, "zone": "a"});
    let renewal = asks("/v1/renew", "a", 7);
    assert_eq!(
        mesh.asked(),
        [("/v1/register".into(), registration), renewal.clone(), renewal.clone(), renewal]
    );
}

#[tokio::test]
async fn one_whose_lease_is_over_registers_again_with_another_token() {
    let answers = [
        refused(503, "STORE_UNAVAILABLE"),
        registered("a", 7),
        refused(404, "LEASE_ENDED"),
        registered("b", 9),
        ended("stopped"),
    ];
    let mesh = Mesh::new(&answers).await;
    let told = timeout(PATIENCE, Mesh::registration().begin(&mesh.member).told()).await.unwrap();
    assert_eq!(told, EndOrder::Wanted("stopped".into()));
    assert_eq!(mesh.asked()[4], asks("/v1/renew", "b", 9));
}

#[tokio::test]
async fn one_whose_place_another_has_ends() {
    for answers in [
        vec![registered("a", 7), refused(403, "LEASE_FENCED")],
        vec![registered("a", 7), refused(404, "LEASE_ENDED"), refused(403, "LEASE_FENCED")],
    ] {
        let mesh = Mesh::new(&answers).await;
        let told = timeout(PATIENCE, Mesh::registration().begin(&mesh.member).told()).await.unwrap();
        assert_eq!(told, EndOrder::Failed("LEASE_FENCED: as the test says".into()));
    }
}

#[tokio::test]
async fn one_that_leaves_says_so_and_waits_for_the_order() {
    let mesh = Mesh::new(&[registered("a", 7)]).await;
    let registration = Mesh::registration();
    let mut registered = registration.begin(&mesh.member);
    tokio::select! {
        told = registered.told() => panic!("{told:?}"),
        () = mesh.until_asked(2) => {}
    }
    assert!(timeout(Duration::from_millis(200), registered.leave()).await.is_err(), "it is not drained yet");
    assert_eq!(mesh.asked()[2], asks("/v1/leave", "a", 7));
    mesh.answers.send(ended("drained")).unwrap();
    timeout(PATIENCE, registered.ended()).await.unwrap().unwrap();
    assert_eq!(mesh.asked().len(), 3);
}

#[tokio::test]
async fn one_that_is_not_to_register_again_ends_with_its_lease() {
    let mesh = Mesh::new(&[registered("a", 7), renewed(), refused(404, "LEASE_ENDED")]).await;
    let registration = Mesh::registration();
    let mut registered = registration.begin(&mesh.member);
    timeout(PATIENCE, registered.told_or_lost()).await.unwrap();
    assert_eq!(mesh.asked().len(), 3);
}
