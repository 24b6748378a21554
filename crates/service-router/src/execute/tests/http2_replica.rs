//! A replica that speaks HTTP/2 and does what a script says. As in `bench.rs`, connections are separated by `|`, and the last
//! one repeats; so does the last word of a connection. A word stands for a call on it:
//!
//! | word | what the replica does |
//! |---|---|
//! | `200` | answers so, with its name as the body |
//! | `304-late-end` | answers so, and ends the stream by a frame without data behind the head |
//! | `big` | answers 200, with its name and 100,000 bytes more |
//! | `reset` | ends the stream by `INTERNAL_ERROR` |
//! | `decline` | ends it by `REFUSED_STREAM` |
//! | `break-off` | answers 200 and ends the stream in the middle of the body |
//! | `hang` | does no more |
//! | `leave` | says that it takes no further calls on the connection, and answers 200 without an end |
//! | `freeze` | neither reads nor writes on the connection any more |
//! | `close` | closes the connection |
//! | `end` | closes the connection in good order once the calls before are answered, without waiting for another |
//! | `drop` | the same without a word |
//! | `max-9` | first: takes 9 calls at once on the connection |
//! | `disown` | alone: closes the connection in good order, having begun with none of its calls |

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::Poll;

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream};
use http::{Request, Response};
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
        carried.spawn(carry(stream, id.clone(), words.into(), log.clone()));
    }
}

async fn carry(stream: TcpStream, id: String, mut words: VecDeque<String>, log: Log) {
    if words[0] == "disown" {
        return disown(stream, &id, &log).await;
    }
    let mut builder = Builder::new();
    if let Some(most) = words[0].strip_prefix("max-") {
        builder.max_concurrent_streams(most.parse().unwrap());
        words.pop_front();
    }
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
    let mut calls = JoinSet::new();
    loop {
        match &*words[0] {
            "end" => connection.graceful_shutdown(),
            "drop" => {
                return poll_fn(|context| {
                    let _nobody_asks = connection.poll_accept(context).is_ready();
                    while let Poll::Ready(Some(_)) = calls.poll_join_next(context) {}
                    if !calls.is_empty() {
                        return Poll::Pending;
                    }
                    let _the_answers_are_sent = connection.poll_accept(context).is_ready();
                    Poll::Ready(())
                })
                .await;
            }
            _ => {}
        }
        let Some(Ok((request, respond))) = connection.accept().await else { return };
        let word = if words.len() > 1 { words.pop_front().unwrap() } else { words[0].clone() };
        match &*word {
            "close" | "freeze" => {
                log.line(&format!("  {id} has {}: {word}", request.method()));
                if word == "close" {
                    return;
                }
                std::future::pending::<()>().await;
            }
            "leave" => connection.graceful_shutdown(),
            _ => {}
        }
        calls.spawn(answer(request, respond, id.clone(), word, log.clone()));
    }
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    id: String,
    word: String,
    log: Log,
) {
    let (head, mut body) = request.into_parts();
    let mut size = 0;
    while let Some(Ok(piece)) = body.data().await {
        size += piece.len();
        body.flow_control().release_capacity(piece.len()).unwrap();
    }
    log.line(&format!("  {id} has {} {size}: {word}", head.method));
    match &*word {
        "reset" => return respond.send_reset(Reason::INTERNAL_ERROR),
        "decline" => return respond.send_reset(Reason::REFUSED_STREAM),
        "hang" => return std::future::pending().await,
        _ => {}
    }
    let status: u16 = word.get(..3).and_then(|status| status.parse().ok()).unwrap_or(200);
    let mut sending =
        respond.send_response(Response::builder().status(status).body(()).unwrap(), false).unwrap();
    let text = match &*word {
        "big" => id + &"x".repeat(100_000),
        "304-late-end" => String::new(),
        _ => id,
    };
    // Whoever asked may have gone away.
    let ends = word != "leave" && word != "break-off";
    let _gone = sending.send_data(text.into(), ends).is_err();
    match &*word {
        "leave" => std::future::pending().await,
        "break-off" => {
            // Only once the head is on its way is this the end of an answer.
            tokio::task::yield_now().await;
            sending.send_reset(Reason::INTERNAL_ERROR);
        }
        _ => {}
    }
}

/// `SETTINGS`, and for the first call `GOAWAY` with 0 as the last stream and `NO_ERROR` (RFC 9113 sections 6.5 and 6.8).
async fn disown(mut stream: TcpStream, id: &str, log: &Log) {
    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    const GOAWAY: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    const PREFACE_BYTES: usize = 24;
    const HEADERS: u8 = 1;
    stream.write_all(SETTINGS).await.unwrap();
    stream.read_exact(&mut [0; PREFACE_BYTES]).await.unwrap();
    let mut frame = [0; 9];
    loop {
        stream.read_exact(&mut frame).await.unwrap();
        let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]);
        stream.read_exact(&mut vec![0; length as usize]).await.unwrap();
        if frame[3] == HEADERS {
            break;
        }
    }
    log.line(&format!("  {id} disowns a call"));
    stream.write_all(GOAWAY).await.unwrap();
    // Open until the other side ends it.
    while stream.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {}
}
