//! Real connections of a mesh whose certificates are made here.

use std::convert::Infallible;
use std::net::SocketAddr;

use http_body_util::{BodyExt, Empty};
use hyper::Response;
use hyper::body::Bytes;
use hyper::client::conn as client;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use mesh_protocol::{QuoterSource, Revoked, RevokedType, to_hex};
use tokio::io::AsyncReadExt;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::*;
use crate::{FakeMesh, Member};

/// A replica of `vrf` that lets `oracle` call it. Its answers to `/slow` wait for the test.
struct Replica {
    mesh: FakeMesh,
    member: Member<QuoterSource>,
    address: SocketAddr,
    stop: watch::Sender<Cut>,
    serving: JoinHandle<()>,
    asked: Arc<Notify>,
    answers: Arc<Notify>,
}

impl Replica {
    async fn new() -> Self {
        let mesh = FakeMesh::new();
        let (member, _leaf) = mesh.member("vrf", &["oracle"]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(Cut::No);
        let (asked, answers) = (Arc::<Notify>::default(), Arc::<Notify>::default());
        let told = (Arc::clone(&asked), Arc::clone(&answers));
        let service = move |caller: Caller| {
            let (asked, answers) = told.clone();
            service_fn(move |request: Request<Incoming>| {
                let (asked, answers) = (Arc::clone(&asked), Arc::clone(&answers));
                let text = format!("{} by {:?}", caller.peer.id, request.version());
                async move {
                    if request.uri().path() == "/slow" {
                        asked.notify_one();
                        answers.notified().await;
                    }
                    Ok::<_, Infallible>(Response::new(Body::from(text)))
                }
            })
        };
        let tls = Arc::new(member.server_config(&[Protocol::Http2, Protocol::Http1]).unwrap());
        let serving = tokio::spawn(serve(listener, service, tls, member.trusted(), stopped));
        Self { mesh, member, address, stop, serving, asked, answers }
    }

    /// What somebody of the mesh is answered to a request for a path.
    async fn answer(&self, who: &str, path: &str) -> Result<String, ()> {
        let identity = self.mesh.identity(who).0;
        self.answer_to(identity, path).await
    }

    async fn answer_to(&self, identity: mesh_protocol::tls::Identity, path: &str) -> Result<String, ()> {
        let stream = self.mesh.connect(self.address, identity, Protocol::Http1).await.map_err(drop)?;
        let (mut sender, connection) = client::http1::handshake(TokioIo::new(stream)).await.map_err(drop)?;
        let driver = tokio::spawn(connection);
        let request = Request::get(path).body(Empty::<Bytes>::new()).unwrap();
        let answer = sender.send_request(request).await.map_err(drop)?;
        let body = answer.into_body().collect().await.map_err(drop)?.to_bytes();
        driver.abort();
        Ok(String::from_utf8(body.to_vec()).unwrap())
    }
}

#[tokio::test]
async fn gateways_and_allowed_services_are_answered_and_nobody_else() {
    let replica = Replica::new().await;
    let answer = async |who| replica.answer(who, "/").await;
    assert_eq!(answer("gateway/n1").await.unwrap(), "spiffe://fake.dev.invalid/gateway/n1 by HTTP/1.1");
    assert!(
        answer("service/oracle/3").await.unwrap().starts_with("spiffe://fake.dev.invalid/service/oracle/3")
    );
    assert_eq!(answer("service/datafeed/0").await, Err(()));
    assert_eq!(answer("authority/n1").await, Err(()));
    let stranger = FakeMesh::new().identity("gateway/n1").0;
    assert_eq!(replica.answer_to(stranger, "/").await, Err(()));
}

#[tokio::test]
async fn what_is_spoken_is_what_the_handshake_says() {
    let replica = Replica::new().await;
    let identity = replica.mesh.identity("gateway/n1").0;
    let stream = replica.mesh.connect(replica.address, identity, Protocol::Http2).await.unwrap();
    let (mut sender, connection) =
        client::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let driver = tokio::spawn(connection);
    let request = Request::get("http://vrf/").body(Empty::<Bytes>::new()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(body.ends_with(b"by HTTP/2.0"));
    driver.abort();
}

#[tokio::test]
async fn connections_that_say_nothing_make_room_for_the_next_ones() {
    let replica = Replica::new().await;
    let mut silent = Vec::new();
    for _ in 0..=MAX_HANDSHAKES {
        silent.push(TcpStream::connect(replica.address).await.unwrap());
    }
    let ended = timeout(HANDSHAKE / 2, silent[0].read(&mut [0; 1])).await;
    assert!(matches!(ended, Ok(Ok(0) | Err(_))), "the oldest is given up: {ended:?}");
    assert!(replica.answer("gateway/n1", "/").await.is_ok());
}

#[tokio::test]
async fn a_connection_is_cut_once_its_caller_is_revoked() {
    let replica = Replica::new().await;
    let (identity, leaf) = replica.mesh.identity("gateway/n1");
    let waits = replica.answer_to(identity.clone(), "/slow");
    let revoke = async {
        replica.asked.notified().await;
        let entry = Revoked { about: RevokedType::Leaf, value: to_hex(&leaf), at: 0 };
        replica.member.revoke(vec![entry]);
    };
    let (cut, ()) = tokio::join!(waits, revoke);
    assert_eq!(cut, Err(()));
    assert_eq!(replica.answer_to(identity, "/").await, Err(()), "nor does it come in again");
    assert!(replica.answer("gateway/n2", "/").await.is_ok());
}

#[tokio::test]
async fn an_open_request_is_answered_after_nobody_is_let_in_any_more() {
    let replica = Replica::new().await;
    let waits = replica.answer("gateway/n1", "/slow");
    let stop = async {
        replica.asked.notified().await;
        replica.stop.send_replace(Cut::WhenDone);
        while TcpStream::connect(replica.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        assert!(!replica.serving.is_finished());
        replica.answers.notify_one();
    };
    let (answered, ()) = tokio::join!(waits, stop);
    assert!(answered.is_ok());
    replica.serving.await.unwrap();
}

#[tokio::test]
async fn an_identity_that_has_ended_cuts_everything() {
    let replica = Replica::new().await;
    let waits = replica.answer("gateway/n1", "/slow");
    let stop = async {
        replica.asked.notified().await;
        replica.stop.send_replace(Cut::Now);
    };
    let (cut, ()) = tokio::join!(waits, stop);
    assert_eq!(cut, Err(()));
    replica.serving.await.unwrap();
}
