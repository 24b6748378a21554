//! Who is let in to a connection into the mesh, and how it ends.

use jiff::SignedDuration;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::PrivateKeyDer;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

/// The identity of the peers of these tests.
pub(crate) const SPIFFE_ID: &str = "spiffe://test.dev.invalid/service/vrf/0";

/// Who gives certificates in a mesh. They are for the one name that is asked for, so that an ordinary verifier takes them:
/// what is tried here is what comes behind the verifier.
pub(crate) struct MeshAuthority(CertifiedIssuer<'static, KeyPair>);

/// A certificate in use.
pub(crate) struct Leaf {
    pub(crate) sha256: [u8; 32],
    pub(crate) acceptor: TlsAcceptor,
}

impl MeshAuthority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn leaf(&self) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![MESH_NAME.to_owned()]).unwrap();
        let leaf = params.signed_by(&key, &self.0).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let config = config.with_single_cert(vec![leaf.der().clone()], key).unwrap();
        let sha256 = digest(&SHA256, leaf.der()).as_ref().try_into().unwrap();
        Leaf { sha256, acceptor: TlsAcceptor::from(Arc::new(config)) }
    }

    pub(crate) fn client(&self) -> TlsClient {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        TlsClient::new(config.with_no_client_auth())
    }
}

/// A replica of which this is expected.
fn instance(address: std::net::SocketAddr, peer: &Arc<MeshPeer>) -> Instance {
    let instance = Instance::new("vrf/0".parse().unwrap(), 1, address, "1.0.0".into());
    Instance { channel: Channel::Mesh(Arc::clone(peer)), ..instance }
}

fn peer(leaf: &Leaf) -> Arc<MeshPeer> {
    Arc::new(MeshPeer::new(SPIFFE_ID.to_owned(), leaf.sha256))
}

async fn listener() -> (TcpListener, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Connects to a server that has `shown`; what comes of it, and what the server was sent.
async fn meet(authority: &MeshAuthority, shown: &Leaf, peer: &Arc<MeshPeer>) -> (Result<(), String>, String) {
    let (listener, address) = listener().await;
    let acceptor = shown.acceptor.clone();
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut sent = String::new();
        if let Ok(mut stream) = acceptor.accept(stream).await {
            // A connection that is dropped has no end that TLS knows of.
            let _dropped = stream.read_to_string(&mut sent).await.is_err();
        }
        sent
    });
    let connected = match secured(&instance(address, peer), Some(&authority.client())).await {
        Ok(mut stream) => {
            assert_eq!(stream.scheme(), http::uri::Scheme::HTTPS);
            stream.write_all(b"hello").await.unwrap();
            stream.shutdown().await.unwrap();
            Ok(())
        }
        Err(ConnectError::Tls(error)) => Err(error.replace(&address.to_string(), "ADDRESS")),
        Err(other) => panic!("{other:?}"),
    };
    (connected, serving.await.unwrap())
}

#[tokio::test]
async fn the_pinned_certificate_is_let_in_and_another_one_of_the_same_authority_is_not() {
    let authority = MeshAuthority::new();
    let (own, other) = (authority.leaf(), authority.leaf());
    let peer = peer(&own);
    assert_eq!(meet(&authority, &own, &peer).await, (Ok(()), "hello".into()));
    let (refused, sent) = meet(&authority, &other, &peer).await;
    let expected = format!(
        "TLS with ADDRESS: its certificate is {} (SHA-256), and that of {SPIFFE_ID} is {}",
        hex(&other.sha256),
        hex(&own.sha256)
    );
    assert_eq!((refused, sent.as_str()), (Err(expected), ""), "nothing is sent to it");
}

#[tokio::test]
async fn during_a_renewal_both_certificates_are_let_in_as_long_as_the_one_before_is_valid() {
    let authority = MeshAuthority::new();
    let (first, second) = (authority.leaf(), authority.leaf());
    let peer = peer(&first);
    peer.renewed(second.sha256, (first.sha256, Timestamp::now() + SignedDuration::from_hours(1)));
    assert_eq!(meet(&authority, &first, &peer).await.0, Ok(()));
    assert_eq!(meet(&authority, &second, &peer).await.0, Ok(()));
    let third = authority.leaf();
    peer.renewed(third.sha256, (second.sha256, Timestamp::now()));
    assert!(meet(&authority, &second, &peer).await.0.is_err());
    assert_eq!(meet(&authority, &third, &peer).await.0, Ok(()));
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_though_it_is_pinned() {
    let stranger = MeshAuthority::new().leaf();
    let (refused, _) = meet(&MeshAuthority::new(), &stranger, &peer(&stranger)).await;
    assert!(refused.unwrap_err().contains("invalid peer certificate"));
}

#[tokio::test]
async fn nothing_is_connected_to_a_peer_that_has_ended_or_that_tls_is_not_set_up_for() {
    let authority = MeshAuthority::new();
    let leaf = authority.leaf();
    let peer = peer(&leaf);
    let (listener, address) = listener().await;
    let without = secured(&instance(address, &peer), None).await;
    assert!(matches!(without, Err(ConnectError::Tls(error)) if error.contains("not set up")));
    drop(listener.accept().await.unwrap());
    peer.end();
    let Err(ConnectError::Tls(error)) = secured(&instance(address, &peer), Some(&authority.client())).await
    else {
        panic!("it was let in");
    };
    assert_eq!(error, format!("the identity {SPIFFE_ID} has ended"));
    let waiting = std::pin::pin!(listener.accept());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(waiting.poll(&mut context).is_pending(), "nobody came");
}

#[tokio::test]
async fn who_goes_before_it_has_said_who_it_is_may_be_anybody() {
    let authority = MeshAuthority::new();
    let peer = peer(&authority.leaf());
    let (listener, address) = listener().await;
    let (instance, client) = (instance(address, &peer), authority.client());
    let going = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut hello = [0; 5];
        stream.read_exact(&mut hello).await.unwrap();
    };
    let (shown, ()) = tokio::join!(proves_itself(&instance, &client), going);
    let Err(Unproven::Unreached(reason)) = shown else { panic!("{shown:?}") };
    assert!(reason.starts_with("TLS with 127.0.0.1:"), "{reason}");
    let speaking = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"220 mail.example\r\n").await.unwrap();
        stream
    };
    let (shown, _stream) = tokio::join!(proves_itself(&instance, &client), speaking);
    assert!(matches!(shown, Err(Unproven::Another(_))), "{shown:?}");
}

#[tokio::test]
async fn the_end_of_a_peer_ends_a_handshake_that_the_other_side_lets_hang() {
    let authority = MeshAuthority::new();
    let peer = peer(&authority.leaf());
    let (listener, address) = listener().await;
    let instance = instance(address, &peer);
    let client = authority.client();
    let ending = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _begun = stream.read_u8().await.unwrap();
        peer.end();
        stream
    };
    let (refused, _hangs) = tokio::join!(secured(&instance, Some(&client)), ending);
    let Err(ConnectError::Tls(error)) = refused else { panic!("{refused:?}") };
    assert!(error.ends_with("its identity has ended"), "{error}");
}

#[tokio::test]
async fn the_end_of_a_peer_ends_what_is_read_written_and_left_idle_on_any_thread() {
    let authority = MeshAuthority::new();
    let leaf = authority.leaf();
    let peer = peer(&leaf);
    let (listener, address) = listener().await;
    let (instance, client) = (instance(address, &peer), authority.client());
    let acceptor = leaf.acceptor.clone();
    // It takes nothing and says nothing, so that a reader and a writer both wait.
    let serving = tokio::spawn(async move {
        let mut streams = Vec::new();
        for _ in 0..3 {
            streams.push(acceptor.accept(listener.accept().await.unwrap().0).await.unwrap());
        }
        streams
    });
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(secured(&instance, Some(&client)).await.unwrap());
    }
    let _open = serving.await.unwrap();
    let [mut reader, mut writer, idle] = <[Stream; 3]>::try_from(streams).unwrap();
    let mut idle = Wire::new(idle, Rc::new(BufferPool::default()));
    assert!(idle.is_quiet());
    let reading = tokio::spawn(async move { reader.read(&mut [0; 16]).await.unwrap_err() });
    let writing = tokio::spawn(async move {
        loop {
            if let Err(error) = writer.write_all(&[0; 64 << 10]).await {
                return error;
            }
        }
    });
    tokio::task::yield_now().await;
    assert!(!reading.is_finished() && !writing.is_finished());
    std::thread::spawn(move || peer.end()).join().unwrap();
    assert!(!idle.is_quiet(), "it is not used again");
    for error in [reading.await.unwrap(), writing.await.unwrap()] {
        assert_eq!(error.to_string(), "its identity has ended");
    }
}
