//! The upstreams: one process that answers at once and does nothing else, so that what is measured is the proxy.
//!
//! It prints its three ports in one line and then serves until it is killed. Over HTTP/1.1: `/1m` is 1 MiB, any other path
//! a JSON document of 163 bytes; a body of announced length is read and thrown away. Over HTTP/2, told by its preface: gRPC
//! calls get the message that they sent. Whoever is not on this machine is hung up on.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const PORTS: usize = 3;
const BUFFER_BYTES: usize = 64 * 1024;
const LARGE_BYTES: usize = 1024 * 1024;
const SMALL_BYTES: usize = 163;
/// The streams of one connection and the connection itself may run ahead by so much.
const WINDOW_BYTES: u32 = 1024 * 1024;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let answers = Arc::new(Answers { small: small(), large: answer(&vec![b'x'; LARGE_BYTES]) });
    let (listeners, ports) = bind().await?;
    println!("{ports}");

    let mut tasks = tokio::task::JoinSet::new();
    for listener in listeners {
        tasks.spawn(accept(listener, Arc::clone(&answers)));
    }
    tasks.join_next().await.context("there are no listeners")??
}

/// Listens on every address, because all of 127.0.0.0/8 is used to have many upstreams on few ports.
async fn bind() -> anyhow::Result<(Vec<TcpListener>, String)> {
    let mut listeners = Vec::new();
    let mut ports = Vec::new();
    for _ in 0..PORTS {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        ports.push(listener.local_addr()?.port().to_string());
        listeners.push(listener);
    }
    Ok((listeners, ports.join(" ")))
}

async fn accept(listener: TcpListener, answers: Arc<Answers>) -> anyhow::Result<()> {
    loop {
        let (stream, peer) = listener.accept().await?;
        if !is_local(peer) {
            continue;
        }
        stream.set_nodelay(true)?;
        let answers = Arc::clone(&answers);
        tokio::spawn(async move {
            // A proxy that is stopped breaks its connections off, which is nobody's mistake.
            if let Err(error) = serve(stream, &answers).await
                && error.downcast_ref::<std::io::Error>().is_none()
            {
                eprintln!("bench-upstream: {error:#}");
            }
        });
    }
}

async fn serve(stream: TcpStream, answers: &Answers) -> anyhow::Result<()> {
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

async fn serve_http1(mut stream: TcpStream, answers: &Answers) -> anyhow::Result<()> {
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
        let answer = if request.large { &answers.large } else { &answers.small };
        stream.write_all(answer).await?;
        filled = 0;
    }
}

struct Head {
    /// Bytes of head and body.
    length: usize,
    large: bool,
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
    Ok(Some(Head { length: head + body, large: request.path == Some("/1m") }))
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
    fn only_this_machine_is_served() {
        assert!(is_local("127.0.3.9:80".parse().unwrap()));
        assert!(!is_local("192.0.2.1:80".parse().unwrap()));
    }
}
