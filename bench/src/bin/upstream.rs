//! The upstreams: one process that answers at once and does nothing else, so that what is measured is the proxy.
//!
//! `bench-upstream FOLDER` prints six ports in one line and then serves until it is killed: three in the clear, and three by
//! TLS 1.3 to whoever shows a certificate of the authority in the folder. Over HTTP/1.1: `/1m` is 1 MiB, `/v1/random/keys` what
//! a replica of vrf would answer, any other path a JSON document of 163 bytes; a body of announced length is read and thrown
//! away. Over HTTP/2, told by its preface, in the clear alone: gRPC calls get the message that they sent. Whoever is not on
//! this machine is hung up on.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// In the clear, and as many under TLS.
const PORTS: usize = 3;
const BUFFER_BYTES: usize = 64 * 1024;
const LARGE_BYTES: usize = 1024 * 1024;
const SMALL_BYTES: usize = 163;
const KEYS_PATH: &str = "/v1/random/keys";
/// What a replica of vrf lists while its secrets have one epoch.
const KEYS_BODY: &[u8] = br#"{"keys":[{"keyId":"6fa6e7712bc1a5661d28f62e1d0456b5","epoch":1,"suite":"ECVRF-EDWARDS25519-SHA512-TAI","publicKey":"550b3bee471b09a250a153db0c1c0126c72593271913dfee2784d9e291d2ddb2","signingKey":"580cf510ee522e502eb3eb43a931ac9d81c0be91c953fb1dd9c170fd2321219a"}]}"#;
/// The streams of one connection and the connection itself may run ahead by so much.
const WINDOW_BYTES: u32 = 1024 * 1024;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let folder = std::env::args_os().nth(1).context("usage: bench-upstream FOLDER")?;
    let tls = TlsAcceptor::from(Arc::new(mutual_tls(Path::new(&folder))?));
    let answers = Arc::new(Answers { small: small(), large: answer(&vec![b'x'; LARGE_BYTES]), keys: keys() });
    let (listeners, ports) = bind().await?;
    println!("{ports}");

    let mut tasks = tokio::task::JoinSet::new();
    for (number, listener) in listeners.into_iter().enumerate() {
        let tls = (number >= PORTS).then(|| tls.clone());
        tasks.spawn(accept(listener, tls, Arc::clone(&answers)));
    }
    tasks.join_next().await.context("there are no listeners")??
}

/// As replicas of the mesh have it: TLS 1.3, AES-128, no resumption, and nobody without a certificate. The suite is the only
/// one, so that no proxy has a dearer one than another.
fn mutual_tls(folder: &Path) -> anyhow::Result<ServerConfig> {
    let provider = Arc::new(CryptoProvider {
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
        ..aws_lc_rs::default_provider()
    });
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join("authority.pem"))?)?;
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build()?;
    let certificate = CertificateDer::from_pem_file(folder.join("upstream.pem"))?;
    let key = PrivateKeyDer::from_pem_file(folder.join("upstream-key.pem"))?;
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![certificate], key)?;
    tls.send_tls13_tickets = 0;
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(tls)
}

/// Listens on every address, because all of 127.0.0.0/8 is used to have many upstreams on few ports.
async fn bind() -> anyhow::Result<(Vec<TcpListener>, String)> {
    let mut listeners = Vec::new();
    let mut ports = Vec::new();
    for _ in 0..2 * PORTS {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        ports.push(listener.local_addr()?.port().to_string());
        listeners.push(listener);
    }
    Ok((listeners, ports.join(" ")))
}

async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    answers: Arc<Answers>,
) -> anyhow::Result<()> {
    loop {
        let (stream, peer) = listener.accept().await?;
        if !is_local(peer) {
            continue;
        }
        stream.set_nodelay(true)?;
        let (tls, answers) = (tls.clone(), Arc::clone(&answers));
        tokio::spawn(async move {
            // A proxy that is stopped breaks its connections off, which is nobody's mistake.
            if let Err(error) = serve(stream, tls, &answers).await
                && error.downcast_ref::<std::io::Error>().is_none()
            {
                eprintln!("bench-upstream: {error:#}");
            }
        });
    }
}

async fn serve(stream: TcpStream, tls: Option<TlsAcceptor>, answers: &Answers) -> anyhow::Result<()> {
    if let Some(tls) = tls {
        let stream = tls.accept(stream).await.map_err(|error| anyhow!("TLS: {error}"))?;
        return serve_http1(stream, answers).await;
    }
    let mut beginning = [0; 4];
    // A client that sends its first bytes one by one is taken for HTTP/1.1; the proxies do not.
    let peeked = stream.peek(&mut beginning).await?;
    if &beginning[..peeked] == b"PRI " {
        serve_http2(stream).await
    } else {
        serve_http1(stream, answers).await
    }
}

fn is_local(peer: SocketAddr) -> bool {
    peer.ip().is_loopback()
}

/// Whole answers, head and body.
struct Answers {
    small: Vec<u8>,
    large: Vec<u8>,
    keys: Vec<u8>,
}

/// A JSON document of exactly `SMALL_BYTES`.
fn small() -> Vec<u8> {
    let mut body = br#"{"value":"42.1337","status":"fresh","text":""#.to_vec();
    body.resize(SMALL_BYTES - 2, b'x');
    body.extend_from_slice(b"\"}");
    answer(&body)
}

fn answer(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// The head and the body that a replica sends.
fn keys() -> Vec<u8> {
    let date = jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT");
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\ndate: {date}\r\n\r\n",
        KEYS_BODY.len()
    );
    [head.as_bytes(), KEYS_BODY].concat()
}

async fn serve_http1(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answers: &Answers,
) -> anyhow::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        let Some(request) = parse(&buffer[..filled])? else { continue };
        let mut left = request.length.saturating_sub(filled);
        while left > 0 {
            let read = stream.read(&mut buffer).await?;
            if read == 0 {
                bail!("the body ended early");
            }
            left = left.checked_sub(read).context("pipelined requests are not served")?;
        }
        let answer = match request.wanted {
            Wanted::Small => &answers.small,
            Wanted::Large => &answers.large,
            Wanted::Keys => &answers.keys,
        };
        stream.write_all(answer).await?;
        // Under TLS, what the socket did not take yet.
        stream.flush().await?;
        filled = 0;
    }
}

struct Head {
    /// Bytes of head and body.
    length: usize,
    wanted: Wanted,
}

enum Wanted {
    Small,
    Large,
    Keys,
}

/// None until the head is whole.
fn parse(bytes: &[u8]) -> anyhow::Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head) = request.parse(bytes)? else { return Ok(None) };
    let find = |name: &str| request.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    if find("transfer-encoding").is_some() {
        bail!("a request without an announced length");
    }
    let body = match find("content-length") {
        Some(length) => std::str::from_utf8(length.value)?.parse()?,
        None => 0,
    };
    let wanted = match request.path {
        Some("/1m") => Wanted::Large,
        Some(KEYS_PATH) => Wanted::Keys,
        _ => Wanted::Small,
    };
    Ok(Some(Head { length: head + body, wanted }))
}

async fn serve_http2(stream: TcpStream) -> anyhow::Result<()> {
    let mut connection = h2::server::Builder::new()
        .initial_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .handshake::<_, Bytes>(stream)
        .await?;
    while let Some(accepted) = connection.accept().await {
        let Ok((request, respond)) = accepted else { return Ok(()) };
        tokio::spawn(async move {
            if let Err(error) = echo(request, respond).await {
                eprintln!("bench-upstream: HTTP/2: {error:#}");
            }
        });
    }
    Ok(())
}

/// The message of a call, sent back.
async fn echo(
    request: Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
) -> anyhow::Result<()> {
    let mut body = request.into_body();
    let mut message = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        message.extend_from_slice(&chunk);
    }
    let head = Response::builder().header("content-type", "application/grpc").body(())?;
    let mut answer = respond.send_response(head, false)?;
    answer.send_data(message.freeze(), false)?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    answer.send_trailers(trailers)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_small_answer_has_the_size_that_is_promised() {
        let answer = String::from_utf8(small()).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(body.len(), SMALL_BYTES);
        assert!(head.ends_with("Content-Length: 163"), "{head}");
    }

    #[test]
    fn the_keys_are_answered_as_a_replica_does() {
        let answer = String::from_utf8(keys()).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let names: Vec<&str> =
            head.lines().skip(1).filter_map(|line| Some(line.split_once(": ")?.0)).collect();
        assert_eq!(names, ["content-type", "content-length", "date"]);
        // As long as what was seen of one: a record of 390 bytes, of which 17 are those of TLS.
        assert_eq!((answer.len(), body.len()), (373, 264));
        let request = parse(b"GET /v1/random/keys HTTP/1.1\r\n\r\n").unwrap().unwrap();
        assert!(matches!(request.wanted, Wanted::Keys));
    }

    #[test]
    fn only_this_machine_is_served() {
        assert!(is_local("127.0.3.9:80".parse().unwrap()));
        assert!(!is_local("192.0.2.1:80".parse().unwrap()));
    }
}
