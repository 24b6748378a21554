//! A replica that speaks HTTP/1.1 and does what a script says, as `bench.rs` has it. A word stands for a request:
//!
//! | word | what the replica does |
//! |---|---|
//! | `200` | answers so, with its name as the body; `503-later` adds `Retry-After` |
//! | `grpc-14` | answers 200, and with this status of gRPC in the head; `body-grpc-14` has it behind the body |
//! | `reset` | reads the request and closes the connection |
//! | `nonsense` | reads the request and answers what is no HTTP |
//! | `hang` | reads the request and does no more |
//! | `break-off` | answers 200 and closes the connection in the middle of the body |
//! | `stall` | answers 200 and does no more in the middle of the body |
//! | `end` | closes the connection without waiting for a request |

use std::collections::VecDeque;
use std::future::pending;

use http::Method;
use http1::{BodyDecoder, Buffer, HeadScan, Limits, RequestHead, Step, parse_request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::bench::Log;

/// Plays the connections that come.
pub(super) async fn play(
    listener: TcpListener,
    id: String,
    mut connections: VecDeque<Vec<String>>,
    log: Log,
) {
    let mut carried = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let words = connections[0].clone();
        if connections.len() > 1 {
            connections.pop_front();
        }
        carried.spawn(carry(stream, id.clone(), words, log.clone()));
    }
}

async fn carry(mut stream: TcpStream, id: String, words: Vec<String>, log: Log) {
    let mut input = Buffer::new(4096);
    for word in words {
        if word == "end" {
            return;
        }
        let Some((method, size)) = read_request(&mut stream, &mut input).await else { return };
        log.line(&format!("  {id} has {method} {size}: {word}"));
        let (status, later) = match word.strip_suffix("-later") {
            Some(status) => (status, "retry-after: 1\r\n"),
            None => (&*word, ""),
        };
        let answer = match status {
            "reset" => return,
            "break-off" | "stall" => format!("HTTP/1.1 200 -\r\ncontent-length: 999\r\n\r\n{id}"),
            "hang" => pending().await,
            "nonsense" => "SSH-2.0-replica\r\n\r\n".to_owned(),
            status if status.contains("grpc-") => grpc_answer(status, &id),
            status => format!("HTTP/1.1 {status} -\r\n{later}content-length: {}\r\n\r\n{id}", id.len()),
        };
        // Whoever asked may have gone away.
        let _gone = stream.write_all(answer.as_bytes()).await.is_err();
        if word == "break-off" {
            return;
        }
    }
    // Open until the other side ends it.
    let _ended = stream.read(&mut [0]).await.is_err();
}

fn grpc_answer(word: &str, id: &str) -> String {
    let head = "HTTP/1.1 200 -\r\ncontent-type: application/grpc\r\n";
    let length = id.len();
    match word.strip_prefix("body-grpc-") {
        Some(status) => format!(
            "{head}transfer-encoding: chunked\r\n\r\n{length:x}\r\n{id}\r\n0\r\ngrpc-status: {status}\r\n\r\n"
        ),
        None => {
            let status = &word["grpc-".len()..];
            format!("{head}grpc-status: {status}\r\ncontent-length: {length}\r\n\r\n{id}")
        }
    }
}

/// The method and the size of the body of a whole request; `None` where the connection ends instead.
async fn read_request(stream: &mut TcpStream, input: &mut Buffer) -> Option<(Method, usize)> {
    let limits = Limits { head_bytes: 4096, fields: 100, target_bytes: 1024 };
    let (mut scan, mut head) = (HeadScan::default(), RequestHead::default());
    let length = loop {
        match scan.advance(input.data(), &limits).unwrap() {
            Some(length) => break length,
            None => fill(stream, input).await?,
        }
    };
    parse_request(&input.data()[..length], &limits, &mut head).unwrap();
    input.consume(length);
    let (mut decoder, mut size) = (BodyDecoder::new(head.framing()), 0);
    loop {
        match decoder.step(input).unwrap() {
            Step::End => return Some((head.method().clone(), size)),
            Step::More => fill(stream, input).await?,
            Step::Data => {
                let ready = decoder.data(input).len();
                decoder.consume(input, ready);
                size += ready;
            }
        }
    }
}

async fn fill(stream: &mut TcpStream, input: &mut Buffer) -> Option<()> {
    let read = stream.read(input.space()).await.ok().filter(|read| *read > 0)?;
    input.filled(read);
    Some(())
}
