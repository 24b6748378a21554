//! A client that speaks HTTP/2 and nothing else, in the clear by prior knowledge or under TLS.

use std::future::Future;
use std::net::SocketAddr;

use bytes::Bytes;
use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};
use http::{HeaderMap, Method};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::{Answer, LIMIT, Tls};

/// One connection.
pub struct Http2 {
    runtime: Runtime,
    send: SendRequest<Bytes>,
}

/// A request with its body, which is sent in as many pieces as the other side takes.
type Request = (http::Request<()>, Vec<u8>, HeaderMap);

impl Http2 {
    /// Connects in the clear.
    ///
    /// # Panics
    /// When there is no HTTP/2 on the other side.
    pub fn connect(address: SocketAddr) -> Self {
        Self::open(connected(address))
    }

    /// Connects under TLS, asking for a name.
    ///
    /// # Panics
    /// When there is no HTTP/2 on the other side.
    pub fn connect_tls(address: SocketAddr, tls: &Tls, name: &str) -> Self {
        let (connector, name) =
            (TlsConnector::from(tls.config()), ServerName::try_from(name.to_owned()).expect("a name"));
        Self::open(async move {
            let stream = connector.connect(name, connected(address).await).await.expect("a handshake");
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            stream
        })
    }

    fn open<S>(connecting: impl Future<Output = S>) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("an event loop");
        let send = runtime.block_on(async {
            let (send, connection) = h2::client::handshake(connecting.await).await.expect("HTTP/2");
            tokio::spawn(connection);
            send
        });
        Self { runtime, send }
    }

    /// A request with these fields; the authority is `localhost`.
    ///
    /// # Panics
    /// When it is none.
    pub fn request(method: &str, path: &str, fields: &[(&str, &str)]) -> http::Request<()> {
        let mut request = http::Request::builder()
            .method(Method::from_bytes(method.as_bytes()).expect("a method"))
            .uri(format!("http://localhost{path}"));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request")
    }

    /// Sends a request with a body.
    ///
    /// # Panics
    /// When there is no whole answer.
    pub fn send(&self, request: http::Request<()>, body: Vec<u8>) -> Answer {
        self.together(vec![(request, body, HeaderMap::new())]).remove(0).expect("a whole answer")
    }

    /// Sends a request without a body; `None` where the other side has said that the connection takes no more, so that it was not sent,
    /// or was not looked at, which it says too (RFC 9113 section 6.8).
    ///
    /// # Errors
    /// It was sent, and there is no whole answer.
    ///
    /// # Panics
    /// When it takes too long.
    pub fn try_send(&self, request: http::Request<()>) -> Result<Option<Answer>, h2::Error> {
        self.runtime.block_on(async {
            let sent = async {
                // What has come since the last time is read first.
                tokio::task::yield_now().await;
                let Ok(send) = self.send.clone().ready().await else { return Ok(None) };
                match exchange(send, (request, Vec::new(), HeaderMap::new())).await {
                    Err(error) if error.is_go_away() && error.is_remote() && is_calm(&error) => Ok(None),
                    exchanged => exchanged.map(Some),
                }
            };
            timeout(LIMIT, sent).await.expect("an answer in time")
        })
    }

    /// Sends a request without a body, and resets its stream once `seen` returns.
    ///
    /// # Panics
    /// When it cannot be sent.
    pub fn reset_after(&self, request: http::Request<()>, seen: impl FnOnce()) {
        let mut open = self.begin(request);
        seen();
        open.1.send_reset(h2::Reason::CANCEL);
        self.runtime.block_on(tokio::task::yield_now());
    }

    /// Sends a request without a body, whose answer nobody reads.
    ///
    /// # Panics
    /// When it cannot be sent.
    pub fn begin(&self, request: http::Request<()>) -> (ResponseFuture, SendStream<Bytes>) {
        self.runtime.block_on(async {
            let mut send = self.send.clone().ready().await.expect("an open connection");
            let open = send.send_request(request, true).expect("an open connection");
            // The connection's task writes it.
            tokio::task::yield_now().await;
            open
        })
    }

    /// Sends requests at the same time, each with its body and trailers; their answers, in the same order.
    ///
    /// # Panics
    /// When it takes too long.
    pub fn together(&self, requests: Vec<Request>) -> Vec<Result<Answer, h2::Error>> {
        let mut answers: Vec<_> = (0..requests.len()).map(|_| None).collect();
        self.runtime.block_on(async {
            let mut open = JoinSet::new();
            for (number, request) in requests.into_iter().enumerate() {
                let send = self.send.clone();
                open.spawn(async move { (number, exchange(send, request).await) });
            }
            while let Some(done) = timeout(LIMIT, open.join_next()).await.expect("answers in time") {
                let (number, answer) = done.expect("a task that does not panic");
                answers[number] = Some(answer);
            }
        });
        answers.into_iter().map(|answer| answer.expect("an answer for each")).collect()
    }
}

fn is_calm(error: &h2::Error) -> bool {
    error.reason() == Some(h2::Reason::NO_ERROR)
}

async fn connected(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.expect("connecting");
    stream.set_nodelay(true).expect("setting an option");
    stream
}

async fn exchange(send: SendRequest<Bytes>, (request, body, trailers): Request) -> Result<Answer, h2::Error> {
    let mut send = send.ready().await?;
    let no_body = body.is_empty() && trailers.is_empty();
    let (response, mut sending) = send.send_request(request, no_body)?;
    let upload = async move {
        let mut rest = Bytes::from(body);
        while !rest.is_empty() {
            sending.reserve_capacity(rest.len());
            let capacity = std::future::poll_fn(|context| sending.poll_capacity(context)).await;
            // The answer is there already, so nobody wants the rest.
            let Some(Ok(capacity)) = capacity else { return };
            if sending.send_data(rest.split_to(capacity.min(rest.len())), false).is_err() {
                return;
            }
        }
        if !no_body {
            let _the_answer_is_there = sending.send_trailers(trailers).is_err();
        }
    };
    let download = async move {
        let (parts, mut receiving) = response.await?.into_parts();
        let mut answer = Answer {
            status: parts.status.as_u16(),
            headers: texts(&parts.headers),
            body: Vec::new(),
            trailers: Vec::new(),
        };
        while let Some(chunk) = receiving.data().await {
            let chunk = chunk?;
            answer.body.extend_from_slice(&chunk);
            receiving.flow_control().release_capacity(chunk.len())?;
        }
        answer.trailers = receiving.trailers().await?.as_ref().map(texts).unwrap_or_default();
        Ok(answer)
    };
    tokio::join!(upload, download).1
}

/// Fields as text.
pub(crate) fn texts(fields: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    fields.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}
