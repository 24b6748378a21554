//! The far side in tests: names with a script of answers, and a server on loopback that says what it is told to say.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use crate::{Resolve, Resolving};

/// Names with a script of answers: each resolution takes the next one, and the last one stays.
#[derive(Debug, Default)]
pub struct FakeResolver {
    names: Mutex<HashMap<String, Vec<Vec<IpAddr>>>>,
}

impl FakeResolver {
    /// Adds a name and what its resolutions answer, one after the other.
    #[must_use]
    pub fn name(mut self, name: &str, answers: &[&[&str]]) -> Self {
        let address = |text: &&str| text.parse().expect("a test names addresses");
        let answers = answers.iter().map(|answer| answer.iter().map(address).collect()).collect();
        self.names.get_mut().expect("no test panics with the lock").insert(name.to_owned(), answers);
        self
    }

    /// How many answers of a name are left; the last one is never taken away.
    pub fn left(&self, name: &str) -> usize {
        self.names.lock().expect("no test panics with the lock").get(name).map_or(0, Vec::len)
    }
}

impl Resolve for FakeResolver {
    fn resolve<'a>(&'a self, host: &'a str) -> Resolving<'a> {
        let mut names = self.names.lock().expect("no test panics with the lock");
        let answer = match names.get_mut(host) {
            Some(answers) if answers.len() > 1 => Ok(answers.remove(0)),
            Some(answers) => Ok(answers.first().cloned().unwrap_or_default()),
            None => Err(io::Error::new(io::ErrorKind::NotFound, "no such name")),
        };
        Box::pin(std::future::ready(answer))
    }
}

impl Resolve for Arc<FakeResolver> {
    fn resolve<'a>(&'a self, host: &'a str) -> Resolving<'a> {
        self.as_ref().resolve(host)
    }
}

/// A server on 127.0.0.1 that reads one request per connection and answers with bytes that a function chose.
#[derive(Debug)]
pub struct FakeServer {
    address: SocketAddr,
    certificate: Option<Vec<u8>>,
    heads: watch::Receiver<Vec<String>>,
    task: AbortHandle,
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeServer {
    /// Plain http. `answer` gets the request's head and gives the bytes of the answer, or `None` to stay silent.
    pub async fn http(answer: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        Self::start(answer, None).await
    }

    /// https, with a fresh certificate of its own for `127.0.0.1` and `localhost`.
    pub async fn https(answer: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).expect("the names are valid");
        Self::start(answer, Some(made)).await
    }

    async fn start(
        answer: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static,
        made: Option<rcgen::CertifiedKey<rcgen::KeyPair>>,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback has a free port");
        let address = listener.local_addr().expect("the listener is bound");
        let certificate = made.as_ref().map(|made| made.cert.der().to_vec());
        let acceptor = made.as_ref().map(acceptor);
        let (seen, heads) = watch::channel(Vec::new());
        let (answer, seen) = (Arc::new(answer), Arc::new(seen));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, seen, acceptor) = (Arc::clone(&answer), Arc::clone(&seen), acceptor.clone());
                // It ends with the runtime of the test, or when the client hangs up.
                tokio::spawn(async move {
                    match acceptor {
                        None => converse(stream, &*answer, &seen).await,
                        Some(acceptor) => converse(acceptor.accept(stream).await?, &*answer, &seen).await,
                    }
                });
            }
        });
        Self { address, certificate, heads, task: task.abort_handle() }
    }

    /// `127.0.0.1:PORT`, as an entry of `allowLoopback`.
    pub fn host_and_port(&self) -> String {
        self.address.to_string()
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// A URL of this server.
    pub fn url(&self, path: &str) -> String {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.address)
    }

    /// Its certificate in DER, to be trusted as a root.
    pub fn certificate(&self) -> Vec<u8> {
        self.certificate.clone().unwrap_or_default()
    }

    /// The heads of all requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.heads.borrow().clone()
    }

    /// Returns once so many requests have been read.
    pub async fn seen(&self, requests: usize) {
        let mut heads = self.heads.clone();
        heads
            .wait_for(|heads| heads.len() >= requests)
            .await
            .expect("the server lives as long as its handle");
    }
}

fn acceptor(made: &rcgen::CertifiedKey<rcgen::KeyPair>) -> TlsAcceptor {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("the key belongs to the certificate");
    TlsAcceptor::from(Arc::new(config))
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    answer: &(dyn Fn(&str) -> Option<Vec<u8>> + Send + Sync),
    seen: &watch::Sender<Vec<String>>,
) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let bytes = answer(&head);
    seen.send_modify(|heads| heads.push(head));
    match bytes {
        Some(bytes) => {
            stream.write_all(&bytes).await?;
            stream.shutdown().await
        }
        // Silent, but open for as long as the client waits.
        None => stream.read_u8().await.map(drop),
    }
}
