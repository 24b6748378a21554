//! Real connections to the mesh API: who is refused, who keeps whom out, and what members are told without being asked again.

mod configured;
mod registering;

use std::net::SocketAddr;

use appraisal::{Policy, Roots};
use mesh_protocol::tls::{ANY_NAME, client_config};
use mesh_protocol::{EvidenceError, RevokedType, SpiffeId, Subject};
use rustls::pki_types::ServerName;
use secrets::{Domain, Generate, Vault};
use serde_json::{Value, json};
use store::Store;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use trust::{Opening, Own, SecretGrant, ServicePolicy};
use types::Mode;

use super::*;
use crate::OwnIdentity;

mod state;

const TRUST_DOMAIN: &str = "api.dev.invalid";
/// How long a test waits for what is to come, before it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// An authority that admits nobody, and gives identities to whoever is part of this process. `vrf` is given the secret `key`.
async fn authority(folder: &TempDir) -> Authority {
    let store = Store::open(&folder.path().join("store.redb")).unwrap();
    let domain = Domain { trust_domain: TRUST_DOMAIN.into(), mode: Mode::Development };
    let mut vault = Vault::open(store.clone(), &folder.path().join("master.key"), domain).await.unwrap();
    vault.ensure("key", Generate::Random, 1).await.unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let now = u64::try_from(now).unwrap();
    let vrf = ServicePolicy {
        policy: Policy::of_releases(Vec::new()),
        version: "1.0.0".into(),
        replicas: 2,
        config_digest: [0; 32],
        secrets: vec![SecretGrant { name: "key".into(), record: "key".into() }],
    };
    let oracle = ServicePolicy { secrets: Vec::new(), ..vrf.clone() };
    let opening = Opening {
        node: None,
        store,
        vault: Arc::new(tokio::sync::Mutex::new(vault)),
        roots: Roots::Development(Vec::new()),
        clocks: trust::Clocks { wall: Arc::new(move || now), boot: Arc::new(|| 0) },
        audit: folder.path().join("audit.jsonl"),
        manifest: json!({}),
        services: [("vrf".parse().unwrap(), vrf), ("oracle".parse().unwrap(), oracle)].into(),
        own: Own {
            workload: [0; 32],
            evidence: Arc::new(|_| Box::pin(std::future::ready(Err(EvidenceError("there is none".into()))))),
        },
    };
    Authority::open(opening).await.unwrap()
}

fn replica(ordinal: &str) -> Subject {
    replica_of("vrf", ordinal)
}

fn replica_of(service: &str, ordinal: &str) -> Subject {
    Subject::Service { service: service.parse().unwrap(), instance: ordinal.into() }
}

/// A connection to the mesh API of whoever has this identity.
struct Member(tokio_rustls::client::TlsStream<TcpStream>);

impl Member {
    async fn connect(authority: &Authority, address: SocketAddr, identity: Identity) -> Self {
        let root = RootPin::Spki(authority.root_spki().to_vec());
        let config =
            client_config(identity, root, TRUST_DOMAIN, Arc::new(|_| Ok(())), &[b"http/1.1"]).unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from(ANY_NAME).unwrap();
        // In TLS 1.3 the client is done before the server has looked at its certificate.
        Self(TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap())
    }

    async fn ask(&mut self, path: &str) -> std::io::Result<()> {
        self.0.write_all(format!("GET {path} HTTP/1.1\r\nhost: mesh\r\n\r\n").as_bytes()).await
    }

    /// Whether it is answered to another request.
    async fn is_answered(&mut self) -> bool {
        self.ask("/v1/watch").await.is_ok() && self.answer().await.is_ok()
    }

    /// The status and the document of the next answer.
    async fn answer(&mut self) -> std::io::Result<(u16, Value)> {
        let mut read = Vec::new();
        loop {
            if self.0.read_buf(&mut read).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let text = String::from_utf8_lossy(&read).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            if let Ok(document) = serde_json::from_str(body) {
                return Ok((head.split(' ').nth(1).unwrap().parse().unwrap(), document));
            }
        }
    }
}

/// Limits that a test reaches.
fn limits(handshakes: usize, strangers: usize, members: usize) -> Limits {
    Limits { handshakes, strangers, members, of_one: members }
}

/// Returns once this member has room: a connection that was closed takes none as soon as the server knows.
async fn has_room(authority: &Authority, address: SocketAddr, member: &OwnIdentity) {
    let admitted = async { while asked(authority, address, member.identity()).await.is_err() {} };
    timeout(PATIENCE, admitted).await.expect("whoever goes makes room");
}

/// The API, which serves until the test ends.
async fn serving(authority: &Authority, limits: Limits) -> (SocketAddr, JoinHandle<()>) {
    let own = OwnIdentity::new(authority.clone(), Subject::Authority("n1".into())).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let api = MeshApi::new(listener, authority.clone(), own.identity(), own.spki()).unwrap();
    let api = MeshApi { limits, ..api };
    (address, tokio::spawn(api.serve(std::future::pending())))
}

/// What a new connection is answered to a request that only members are answered.
async fn asked(
    authority: &Authority,
    address: SocketAddr,
    identity: Identity,
) -> std::io::Result<(Member, u16)> {
    let mut member = Member::connect(authority, address, identity).await;
    member.ask("/v1/watch").await?;
    let (status, _) = member.answer().await?;
    Ok((member, status))
}

#[test]
fn a_refusal_is_final_unless_it_says_otherwise() {
    let status = |fault: Fault| Refused::from(fault).0;
    let outdated = || Fault::new(Code::CollateralOutdated, "it is older");
    assert_eq!(status(outdated()), StatusCode::FORBIDDEN);
    assert_eq!(status(outdated().worth_another_try()), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(status(Fault::new(Code::JoinQuota, "too many")), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn connections_that_say_nothing_keep_no_member_out() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority(&folder).await;
    let (address, serving) = serving(&authority, limits(3, 1, 1)).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let one = OwnIdentity::new(authority.clone(), replica("0")).unwrap();
    let (_member, status) = asked(&authority, address, one.identity()).await.unwrap();
    assert_eq!(status, 200);
    let ended = silent[0].read(&mut [0; 1]).await;
    assert!(matches!(ended, Ok(0) | Err(_)), "the oldest is given up: {ended:?}");
    serving.abort();
}

#[tokio::test]
async fn strangers_have_room_of_their_own_and_take_none_from_members() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority(&folder).await;
    let (address, serving) = serving(&authority, limits(3, 2, 2)).await;
    let mut strangers = Vec::new();
    for _ in 0..3 {
        let (stranger, status) = asked(&authority, address, Identity::default()).await.unwrap();
        assert_eq!(status, 403);
        strangers.push(stranger);
    }
    assert!(!strangers[0].is_answered().await, "the oldest makes room for a third");
    for stranger in &mut strangers[1..] {
        assert!(stranger.is_answered().await);
    }
    let mut members = Vec::new();
    for ordinal in ["0", "1"] {
        let own = OwnIdentity::new(authority.clone(), replica(ordinal)).unwrap();
        let (member, status) = asked(&authority, address, own.identity()).await.unwrap();
        assert_eq!(status, 200);
        members.push(member);
    }
    let third = OwnIdentity::new(authority.clone(), replica("2")).unwrap();
    assert!(asked(&authority, address, third.identity()).await.is_err(), "members wait for their turn");
    members.pop();
    has_room(&authority, address, &third).await;
    serving.abort();
}

#[tokio::test]
async fn one_member_has_so_many_connections_and_takes_no_room_from_others() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority(&folder).await;
    let limits = Limits { of_one: 2, ..limits(3, 2, 4) };
    let (address, serving) = serving(&authority, limits).await;
    let one = OwnIdentity::new(authority.clone(), replica("0")).unwrap();
    let mut members = Vec::new();
    for _ in 0..2 {
        let (member, status) = asked(&authority, address, one.identity()).await.unwrap();
        assert_eq!(status, 200);
        members.push(member);
    }
    // Another certificate is no other member.
    let again = OwnIdentity::new(authority.clone(), replica("0")).unwrap();
    for identity in [one.identity(), again.identity()] {
        assert!(asked(&authority, address, identity).await.is_err(), "the newest is closed");
    }
    for member in &mut members {
        assert!(member.is_answered().await, "those that it has stay");
    }
    let other = OwnIdentity::new(authority.clone(), replica("1")).unwrap();
    assert_eq!(asked(&authority, address, other.identity()).await.unwrap().1, 200);
    members.pop();
    has_room(&authority, address, &again).await;
    serving.abort();
}

#[tokio::test]
async fn whoever_is_given_other_secrets_is_told_at_once_and_nobody_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority(&folder).await;
    let (address, serving) = serving(&authority, LIMITS).await;
    let connect = async |subject| {
        let identity = OwnIdentity::new(authority.clone(), subject).unwrap().identity();
        Member::connect(&authority, address, identity).await
    };
    let is_given = |name: &str| {
        let digest = authority.grants().borrow().get(&name.parse().unwrap()).unwrap().to_vec();
        json!(Bytes(digest))
    };
    let mut given = connect(replica("0")).await;
    let mut other = connect(replica_of("oracle", "0")).await;
    let mut gateway = connect(Subject::Gateway("n1".into())).await;
    for (member, digest) in
        [(&mut given, is_given("vrf")), (&mut other, is_given("oracle")), (&mut gateway, Value::Null)]
    {
        member.ask("/v1/watch").await.unwrap();
        let (_, answer) = member.answer().await.unwrap();
        assert_eq!(answer["granted"], digest);
        let known = digest.as_str().map(|digest| format!("&granted={digest}")).unwrap_or_default();
        member.ask(&format!("/v1/watch?epoch=0{known}")).await.unwrap();
    }
    let before = is_given("vrf");
    authority.rotate_secret("key", "a test").await.unwrap();
    let (_, answer) = given.answer().await.unwrap();
    assert_eq!(answer["granted"], is_given("vrf"));
    assert_ne!(answer["granted"], before);
    // Whoever comes too late for the change is told as well.
    let mut late = connect(replica("1")).await;
    late.ask(&format!("/v1/watch?epoch=0&granted={}", before.as_str().unwrap())).await.unwrap();
    assert_eq!(late.answer().await.unwrap().1["granted"], is_given("vrf"));
    // The next that these hear is a revocation.
    authority.revoke(RevokedType::Measurement, &"0".repeat(64), "a test").await.unwrap();
    for member in [&mut other, &mut gateway] {
        let (_, answer) = member.answer().await.unwrap();
        assert_eq!(answer["revocations"]["revocations"]["epoch"], json!(1));
    }
    serving.abort();
}

#[tokio::test]
async fn whoever_is_revoked_is_refused_on_every_connection_and_nobody_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority(&folder).await;
    let (address, serving) = serving(&authority, LIMITS).await;
    let one = OwnIdentity::new(authority.clone(), replica("0")).unwrap();
    let other = OwnIdentity::new(authority.clone(), replica("1")).unwrap();
    let mut revoked = Member::connect(&authority, address, one.identity()).await;
    let mut stays = Member::connect(&authority, address, other.identity()).await;
    for member in [&mut revoked, &mut stays] {
        member.ask("/v1/watch").await.unwrap();
        let (status, answer) = member.answer().await.unwrap();
        assert_eq!((status, &answer["revocations"]["revocations"]["epoch"]), (200, &json!(0)));
        // From here on it waits for a change.
        member.ask("/v1/watch?epoch=0").await.unwrap();
    }
    let id = SpiffeId { trust_domain: TRUST_DOMAIN.into(), subject: replica("0") }.to_string();
    authority.revoke(RevokedType::Instance, &id, "a test").await.unwrap();
    for member in [&mut revoked, &mut stays] {
        let (status, answer) = member.answer().await.unwrap();
        let list = &answer["revocations"]["revocations"];
        assert_eq!((status, &list["epoch"], &list["entries"][0]["value"]), (200, &json!(1), &json!(id)));
    }
    revoked.ask("/v1/watch?epoch=0").await.unwrap();
    let (status, refusal) = revoked.answer().await.unwrap();
    assert_eq!((status, &refusal["code"]), (403, &json!("REVOKED")));
    stays.ask("/v1/watch?epoch=0").await.unwrap();
    assert_eq!(stays.answer().await.unwrap().0, 200);
    let mut again = Member::connect(&authority, address, one.identity()).await;
    let answered = async {
        again.ask("/v1/watch").await?;
        again.answer().await
    };
    assert!(answered.await.is_err(), "its certificate is refused in the handshake");
    authority.restore(RevokedType::Instance, &id, "a test").await.unwrap();
    let mut again = Member::connect(&authority, address, one.identity()).await;
    again.ask("/v1/watch").await.unwrap();
    assert_eq!(again.answer().await.unwrap().0, 200);
    serving.abort();
}
