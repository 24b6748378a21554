//! One check, over a connection of its own, since whether a replica accepts one is part of the question. The connection is
//! made as calls make theirs.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Method, Request, StatusCode, Version, header};
use http1::{BodyDecoder, Buffer, HeadScan, Limits, ResponseHead, Step, parse_response};
use service_registry::Instance;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::connect::{ConnectError, TlsClient, secured};
use crate::policy::UpstreamProtocol;
use crate::wire::Stream;

/// What a check asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// `GET` of this path; passed by an answer of 2xx.
    Http(String),
    /// Whether a connection is accepted.
    Tcp,
    /// `grpc.health.v1.Health/Check` of the whole server; passed by `SERVING`.
    Grpc,
}

/// How a check reaches an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckChannel {
    /// What is asked.
    pub probe: Probe,
    /// What is spoken.
    pub protocol: UpstreamProtocol,
    /// What TLS is made with, where the instance is reached by it.
    pub tls: Option<TlsClient>,
}

/// Why a check was not passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CheckError {
    /// The replica failed it.
    Failed(String),
    /// This machine had no room for the check, which says nothing of the replica.
    Local(String),
}

impl CheckError {
    pub(crate) fn into_text(self) -> String {
        match self {
            Self::Failed(text) | Self::Local(text) => text,
        }
    }
}

/// Limits of an answer's head and body; a health page is short.
const HEAD: Limits = Limits { head_bytes: 64 << 10, fields: 100, target_bytes: 1024 };
const MAX_BODY_BYTES: usize = 1 << 20;
/// Interim answers before the one that counts, as for calls.
const MAX_INTERIM: u32 = 16;
const GRPC_CHECK: &str = "/grpc.health.v1.Health/Check";
/// A request for the health of the whole server: a frame that holds an empty message.
const GRPC_REQUEST: &[u8] = &[0, 0, 0, 0, 0];
/// The answer `SERVING`: a frame that holds field 1 with the value 1.
const GRPC_SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 1];

/// Checks once. The caller limits the time.
pub(crate) async fn run(instance: Arc<Instance>, channel: CheckChannel) -> Result<(), CheckError> {
    let connected = secured(&instance, channel.tls.as_ref()).await;
    let stream = connected.map_err(|error| match error {
        ConnectError::Local(text) => CheckError::Local(text),
        ConnectError::Refused(text) | ConnectError::Tls(text) => CheckError::Failed(text),
    })?;
    let host = instance.authority.as_str();
    let asked = match (channel.probe, channel.protocol) {
        (Probe::Tcp, _) => Ok(()),
        (Probe::Http(path), UpstreamProtocol::Http1) => over_http1(stream, host, &path).await,
        (Probe::Http(path), UpstreamProtocol::Http2) => over_http2(stream, host, &path).await,
        (Probe::Grpc, _) => over_grpc(stream, host).await,
    };
    asked.map_err(CheckError::Failed)
}

async fn over_http1(mut stream: Stream, host: &str, path: &str) -> Result<(), String> {
    let failed = |error: String| format!("GET {path}: {error}");
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: serviceos-health\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(|error| failed(error.to_string()))?;
    stream.flush().await.map_err(|error| failed(error.to_string()))?;
    let (mut input, mut head) = (Buffer::new(4096), ResponseHead::default());
    for interim in 0.. {
        if interim > MAX_INTERIM {
            return Err(failed("it sent only interim answers".into()));
        }
        read_head(&mut stream, &mut input, &mut head).await.map_err(failed)?;
        if !head.status().is_informational() {
            break;
        }
    }
    // Read to its end, so that a replica that answers a head and then hangs does not pass.
    let (mut body, mut size) = (BodyDecoder::new(head.framing()), 0);
    loop {
        match body.step(&mut input).map_err(|fault| failed(fault.to_string()))? {
            Step::End => break,
            Step::Data => {
                let ready = body.data(&input).len();
                size += ready;
                body.consume(&mut input, ready);
                if size > MAX_BODY_BYTES {
                    return Err(failed("its answer is longer than 1 MiB".into()));
                }
            }
            Step::More => {
                if read(&mut stream, &mut input).await.map_err(failed)? == 0 {
                    body.close().map_err(|fault| failed(fault.to_string()))?;
                }
            }
        }
    }
    passed(head.status(), path)
}

/// Reads the next head of the answer, which may be an interim one.
async fn read_head(stream: &mut Stream, input: &mut Buffer, head: &mut ResponseHead) -> Result<(), String> {
    let mut scan = HeadScan::default();
    let length = loop {
        if let Some(length) = scan.advance(input.data(), &HEAD).map_err(|fault| fault.to_string())? {
            break length;
        }
        if read(stream, input).await? == 0 {
            return Err("it closed the connection".into());
        }
    };
    let parsed = parse_response(&input.data()[..length], &Method::GET, &HEAD, head);
    input.consume(length);
    parsed.map_err(|fault| fault.to_string())
}

fn passed(status: StatusCode, path: &str) -> Result<(), String> {
    if status.is_success() { Ok(()) } else { Err(format!("GET {path} answered {status}")) }
}

async fn read(stream: &mut Stream, input: &mut Buffer) -> Result<usize, String> {
    if input.space().is_empty() {
        let larger = input.capacity() * 2;
        let mut grown = Buffer::new(larger);
        grown.append(input.data());
        *input = grown;
    }
    let read = stream.read(input.space()).await.map_err(|error| error.to_string())?;
    input.filled(read);
    Ok(read)
}

async fn over_http2(stream: Stream, host: &str, path: &str) -> Result<(), String> {
    let request = Request::get(format!("{}://{host}{path}", stream.scheme()))
        .header(header::USER_AGENT, "serviceos-health");
    let request = request.version(Version::HTTP_2).body(()).map_err(|error| error.to_string())?;
    let answered = ask(stream, request, None).await.map_err(|error| format!("GET {path}: {error}"))?;
    passed(answered.status, path)
}

async fn over_grpc(stream: Stream, host: &str) -> Result<(), String> {
    let request = Request::post(format!("{}://{host}{GRPC_CHECK}", stream.scheme()))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .version(Version::HTTP_2)
        .body(())
        .map_err(|error| error.to_string())?;
    let failed = |error: String| format!("{GRPC_CHECK}: {error}");
    let answered = ask(stream, request, Some(Bytes::from_static(GRPC_REQUEST))).await.map_err(failed)?;
    let status =
        answered.trailers.get("grpc-status").map_or("none", |status| status.to_str().unwrap_or("none"));
    if status != "0" {
        return Err(failed(format!("grpc-status is {status}")));
    }
    if answered.body == GRPC_SERVING { Ok(()) } else { Err(failed("the server is not SERVING".into())) }
}

struct Answered {
    status: StatusCode,
    body: Vec<u8>,
    trailers: HeaderMap,
}

/// One request over a new HTTP/2 connection, which is driven beside it.
async fn ask(stream: Stream, request: Request<()>, body: Option<Bytes>) -> Result<Answered, String> {
    let (send, connection) = h2::client::handshake(stream).await.map_err(|error| error.to_string())?;
    let exchange = exchange(send, request, body);
    tokio::pin!(connection, exchange);
    tokio::select! {
        answered = &mut exchange => answered,
        ended = &mut connection => match ended {
            // The connection may end in the same moment in which the answer is complete.
            Ok(()) => exchange.await,
            Err(error) => Err(error.to_string()),
        },
    }
}

fn exchange(
    send: SendRequest<Bytes>,
    request: Request<()>,
    body: Option<Bytes>,
) -> impl Future<Output = Result<Answered, String>> {
    let text = |error: h2::Error| error.to_string();
    async move {
        let mut send = send.ready().await.map_err(text)?;
        let (response, mut sending) = send.send_request(request, body.is_none()).map_err(text)?;
        if let Some(body) = body {
            sending.send_data(body, true).map_err(text)?;
        }
        let (parts, mut receiving) = response.await.map_err(text)?.into_parts();
        let mut body = Vec::new();
        while let Some(piece) = receiving.data().await {
            let piece = piece.map_err(text)?;
            receiving.flow_control().release_capacity(piece.len()).map_err(text)?;
            body.extend_from_slice(&piece);
            if body.len() > MAX_BODY_BYTES {
                return Err("its answer is longer than 1 MiB".into());
            }
        }
        // An answer that is trailers only has them in its head.
        let trailers = receiving.trailers().await.map_err(text)?.unwrap_or(parts.headers);
        Ok(Answered { status: parts.status, body, trailers })
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// What a check over HTTP/1.1 makes of an answer, and what it asked.
    async fn check(answer: &'static str) -> (Result<(), CheckError>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answering = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 4096];
            let length = stream.read(&mut asked).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            asked.truncate(length);
            String::from_utf8(asked).unwrap()
        });
        let named = Instance::new("api/0".parse().unwrap(), 1, address, "1".into());
        let instance = Instance { authority: "api.example.org:8080".into(), ..named };
        let probe = Probe::Http("/health".into());
        let channel = CheckChannel { probe, protocol: UpstreamProtocol::Http1, tls: None };
        let passed = run(Arc::new(instance), channel).await;
        (passed, answering.await.unwrap())
    }

    #[tokio::test]
    async fn it_names_the_endpoint_as_the_configuration_does() {
        let (passed, asked) = check("HTTP/1.1 204 -\r\n\r\n").await;
        assert_eq!(passed, Ok(()));
        assert!(asked.contains("\r\nhost: api.example.org:8080\r\n"), "{asked}");
    }

    #[tokio::test]
    async fn interim_answers_are_not_the_answer() {
        let hints = "HTTP/1.1 103 -\r\nlink: </a>\r\n\r\nHTTP/1.1 200 -\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(check(hints).await.0, Ok(()));
        let only = "HTTP/1.1 100 -\r\n\r\n";
        let failed = CheckError::Failed("GET /health: it closed the connection".into());
        assert_eq!(check(only).await.0, Err(failed));
    }
}
