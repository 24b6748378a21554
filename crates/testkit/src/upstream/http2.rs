//! The server's HTTP/2, on an event loop of its own thread.

use std::net::TcpListener as StdTcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::{Book, Seen, filler, lock};
use crate::http2::texts;

pub(super) fn serve(listener: StdTcpListener, book: &Arc<Book>, tls: Option<Arc<rustls::ServerConfig>>) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("an event loop");
    runtime.block_on(async {
        listener.set_nonblocking(true).expect("setting an option");
        let listener = TcpListener::from_std(listener).expect("a listener");
        let mut open = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            if book.stops() {
                return;
            }
            let _delayed = stream.set_nodelay(true);
            let number = book.connections.fetch_add(1, Ordering::SeqCst) + 1;
            let (book, tls) = (Arc::clone(book), tls.clone());
            open.spawn(async move {
                let Some(config) = tls else { return connection(stream, book, number).await };
                // A client that does not trust it is what is tested.
                if let Ok(stream) = TlsAcceptor::from(config).accept(stream).await {
                    connection(stream, book, number).await;
                }
            });
        }
    });
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, book: Arc<Book>, number: u64) {
    let (mut open, mut leaves) = (JoinSet::new(), book.leaves.subscribe());
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    loop {
        let next = tokio::select! {
            next = connection.accept() => next,
            Ok(()) = leaves.changed() => {
                connection.graceful_shutdown();
                continue;
            }
        };
        let Some(Ok((request, respond))) = next else { return };
        let book = Arc::clone(&book);
        open.spawn(async move {
            // Clients that break off are what is tested.
            let _how_it_ended = stream_of(request, respond, &book, number).await.is_err();
        });
    }
}

async fn stream_of(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    book: &Arc<Book>,
    connection: u64,
) -> Result<(), h2::Error> {
    let (parts, body) = request.into_parts();
    let target = parts.uri.path_and_query().map_or(String::new(), ToString::to_string);
    if target == "/health" {
        respond.send_response(response(book.health_status()), true)?;
        return Ok(());
    }
    let mut headers = texts(&parts.headers);
    headers.push((":authority".into(), parts.uri.authority().map_or(String::new(), ToString::to_string)));
    let method = parts.method.to_string();
    let number = book.begin(Seen { connection, method, target: target.clone(), headers, ..Seen::default() });
    let (first, rest) = target[1..].split_once('/').unwrap_or((&target[1..], ""));
    let size = rest.parse::<usize>().unwrap_or_default();
    if first == "mirror" {
        let mut sending = respond.send_response(response(200), false)?;
        read(body, book, number, Some(&mut sending)).await?;
        return sending.send_data(Bytes::new(), true);
    }
    if first == "wait" {
        let reset = std::future::poll_fn(|context| respond.poll_reset(context)).await;
        book.note(number, |seen| seen.gone = true);
        return reset.map(|_| ());
    }
    read(body, book, number, None).await?;
    match first {
        "grpc" => {
            let status = if book.is_failing() { rest } else { "0" };
            let mut head = response(200);
            head.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
            let mut sending = respond.send_response(head, false)?;
            sending.send_data(Bytes::from_static(b"body"), false)?;
            let status = HeaderValue::from_str(status).expect("a status");
            sending
                .send_trailers(HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), status)]))
        }
        "reset" if book.is_failing() => {
            respond.send_reset(rest.parse::<u32>().expect("a code").into());
            Ok(())
        }
        _ if book.is_failing() => respond.send_response(response(500), true).map(drop),
        "reset" => respond.send_response(response(200), true).map(drop),
        "echo" => {
            let body = lock(&book.seen)[number].json().to_string();
            send(&mut respond, response(200), body.into()).await
        }
        "fixed" => {
            let mut head = response(200);
            head.headers_mut().insert("content-length", HeaderValue::from(size));
            if parts.method == Method::HEAD {
                return respond.send_response(head, true).map(drop);
            }
            send(&mut respond, head, filler(size).into()).await
        }
        "status" => respond.send_response(response(rest.parse().unwrap_or(200)), true).map(drop),
        "end-apart" => send(&mut respond, response(rest.parse().unwrap_or(200)), Bytes::new()).await,
        "together" => {
            while book.count_of(&target) < size {
                tokio::task::yield_now().await;
            }
            respond.send_response(response(200), true).map(drop)
        }
        "trailers" => {
            let mut head = response(200);
            head.headers_mut().insert("trailer", HeaderValue::from_static("x-sum"));
            let mut sending = respond.send_response(head, false)?;
            sending.send_data(Bytes::from_static(b"body"), false)?;
            let fields = [("x-sum", "7"), ("x-undeclared", "1"), ("grpc-status", "0")];
            let fields = fields
                .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)));
            sending.send_trailers(HeaderMap::from_iter(fields))
        }
        _ => respond.send_response(response(404), true).map(drop),
    }
}

fn response(status: u16) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = http::StatusCode::from_u16(status).expect("a status");
    response
}

/// Reads the request's body, and sends it back where that is wanted.
async fn read(
    mut body: RecvStream,
    book: &Book,
    number: usize,
    mut back: Option<&mut SendStream<Bytes>>,
) -> Result<(), h2::Error> {
    while let Some(piece) = body.data().await {
        let piece = piece?;
        book.note(number, |seen| seen.take(&piece));
        body.flow_control().release_capacity(piece.len())?;
        if let Some(sending) = &mut back {
            pass(sending, piece).await?;
        }
    }
    let trailers = body.trailers().await?;
    book.note(number, |seen| {
        seen.whole = true;
        seen.trailers = trailers.as_ref().map(texts).unwrap_or_default();
    });
    Ok(())
}

async fn send(respond: &mut SendResponse<Bytes>, head: Response<()>, body: Bytes) -> Result<(), h2::Error> {
    let mut sending = respond.send_response(head, false)?;
    pass(&mut sending, body).await?;
    sending.send_data(Bytes::new(), true)
}

async fn pass(sending: &mut SendStream<Bytes>, mut rest: Bytes) -> Result<(), h2::Error> {
    while !rest.is_empty() {
        sending.reserve_capacity(rest.len());
        let capacity = std::future::poll_fn(|context| sending.poll_capacity(context)).await;
        let capacity = capacity.unwrap_or(Ok(0))?;
        if capacity == 0 {
            return Err(h2::Reason::CANCEL.into());
        }
        sending.send_data(rest.split_to(capacity.min(rest.len())), false)?;
    }
    Ok(())
}
