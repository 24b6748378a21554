//! What the tests of forwarding have in common: a caller's connection, and servers whose every byte is the test's.

use std::net::SocketAddr;
use std::sync::Arc;

use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use sdk::{Body, Cut, Protocol, Tunnels};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::forward::Forward;
use super::headers::Reserved;
use super::upstream::{Connected, Upstream};

/// What fits between a caller and the launcher.
const PIPE_BYTES: usize = 64 << 10;

/// Requests to a server at an address.
pub(super) fn upstream(address: SocketAddr, protocol: Protocol) -> Arc<Upstream> {
    let connector = Box::new(move || {
        let connected: std::pin::Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(async move {
            let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
            Ok(Connected { stream: Box::new(stream), until: Box::pin(std::future::pending()) })
        });
        connected
    });
    Arc::new(Upstream::new(protocol, connector))
}

/// A connection of a caller's, and whoever answers on it.
pub(super) struct Front {
    pub(super) stream: DuplexStream,
    _answering: JoinSet<()>,
}

impl Front {
    pub(super) fn new(upstream: Arc<Upstream>, reserved: Reserved, protocol: Protocol) -> Self {
        let (stream, ours) = tokio::io::duplex(PIPE_BYTES);
        let (tunnels, opened) = Tunnels::new();
        let forward = Forward::new(upstream, tunnels, reserved);
        let mut answering = JoinSet::new();
        answering.spawn(async move {
            let (_never, not_stopped) = watch::channel(Cut::No);
            sdk::answer(ours, protocol, forward, opened, not_stopped).await;
        });
        Self { stream, _answering: answering }
    }

    /// Sends bytes as they are.
    pub(super) async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads until this has come.
    pub(super) async fn until(&mut self, end: &str) -> String {
        read_until(&mut self.stream, end).await
    }

    /// What one request is answered, status and body.
    pub(super) async fn ask(self, request: http::Request<Body>) -> (u16, String) {
        let (mut sender, connection) = http1::handshake(TokioIo::new(self.stream)).await.unwrap();
        let driver = tokio::spawn(connection);
        let response = sender.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        driver.abort();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }
}

pub(super) async fn read_until(stream: &mut (impl AsyncReadExt + Unpin), end: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        let byte = stream.read_u8().await;
        let byte = byte.unwrap_or_else(|_| panic!("it ends after {:?}", String::from_utf8_lossy(&read)));
        read.push(byte);
    }
    String::from_utf8(read).unwrap()
}

/// A server, one connection of it at a time.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    listener: TcpListener,
}

impl Server {
    pub(super) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { address: listener.local_addr().unwrap(), listener }
    }

    pub(super) async fn accept(&self) -> TcpStream {
        self.listener.accept().await.unwrap().0
    }

    /// Reads the head of one request on a new connection, and answers it so.
    pub(super) async fn answer(&self, answer: &str) -> (String, TcpStream) {
        let mut stream = self.accept().await;
        let head = read_until(&mut stream, "\r\n\r\n").await;
        stream.write_all(answer.as_bytes()).await.unwrap();
        (head, stream)
    }
}
