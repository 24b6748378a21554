use std::convert::Infallible;

use expect_test::expect;
use http::{HeaderMap, HeaderName};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::command::testing::{Front, Server, read_until, upstream};

fn front(server: &Server) -> Front {
    Front::new(upstream(server.address, Protocol::Http1), Reserved::Passed, Protocol::Http1)
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).header("host", "api.example").body(Body::empty()).unwrap()
}

#[tokio::test]
async fn a_request_reaches_the_command_as_it_was_but_for_its_connection() {
    let server = Server::new().await;
    let mut front = front(&server);
    front.send("GET /v1?a=%2F HTTP/1.1\r\nHost: api.example\r\nx-serviceos-tenant: acme\r\nx-forwarded-for: 192.0.2.1\r\nConnection: x-own\r\nx-own: 1\r\n\r\n").await;
    let (head, _open) = server
        .answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: timeout=5\r\nx-a: b\r\n\r\nhi")
        .await;
    expect![[r#"
        GET /v1?a=%2F HTTP/1.1
        host: api.example
        x-serviceos-tenant: acme
        x-forwarded-for: 192.0.2.1

    "#]]
    .assert_eq(&head.replace("\r\n", "\n"));
    let answer = front.until("hi").await;
    let lines: Vec<_> = answer.split("\r\n").filter(|line| !line.starts_with("date")).collect();
    assert_eq!(lines, ["HTTP/1.1 200 OK", "content-length: 2", "x-a: b", "", "hi"]);
}

#[tokio::test]
async fn what_only_a_gateway_may_say_is_not_believed_of_another_service() {
    let server = Server::new().await;
    let upstream = upstream(server.address, Protocol::Http1);
    let mut front = Front::new(upstream, Reserved::Stripped, Protocol::Http1);
    front.send("GET / HTTP/1.1\r\nhost: a\r\nx-serviceos-tenant: acme\r\n\r\n").await;
    let (head, _open) = server.answer("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(head, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
}

#[tokio::test]
async fn bodies_flow_both_ways_at_the_same_time() {
    let server = Server::new().await;
    let mut front = front(&server);
    front.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n").await;
    let mut stream = server.accept().await;
    assert!(read_until(&mut stream, "one\r\n").await.contains("transfer-encoding: chunked"));
    stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nuno\r\n").await.unwrap();
    assert!(front.until("uno\r\n").await.contains("transfer-encoding: chunked"));
    front.send("3\r\ntwo\r\n0\r\n\r\n").await;
    assert_eq!(read_until(&mut stream, "0\r\n\r\n").await, "3\r\ntwo\r\n0\r\n\r\n");
    stream.write_all(b"3\r\ndue\r\n0\r\n\r\n").await.unwrap();
    assert_eq!(front.until("0\r\n\r\n").await, "3\r\ndue\r\n0\r\n\r\n");
}

#[tokio::test]
async fn trailers_reach_the_other_end_in_both_directions() {
    let server = Server::new().await;
    let mut front = front(&server);
    front
        .send("POST / HTTP/1.1\r\nhost: a\r\nte: trailers\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx-sum: 1\r\n\r\n")
        .await;
    let mut stream = server.accept().await;
    let head = read_until(&mut stream, "\r\n\r\n").await;
    assert!(head.contains("trailer: x-sum\r\n") && head.contains("te: trailers\r\n"), "{head}");
    assert_eq!(read_until(&mut stream, "\r\n\r\n").await, "1\r\na\r\n0\r\nx-sum: 1\r\n\r\n");
    stream
        .write_all(b"HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n1\r\nb\r\n0\r\nx-sum: 2\r\n\r\n")
        .await
        .unwrap();
    front.until("\r\n\r\n").await;
    assert_eq!(front.until("\r\n\r\n").await, "1\r\nb\r\n0\r\nx-sum: 2\r\n\r\n");
}

#[tokio::test]
async fn a_change_of_the_protocol_makes_one_connection_of_two() {
    let server = Server::new().await;
    let mut front = front(&server);
    front.send("GET /ws HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n").await;
    let switching = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nx-a: b\r\n\r\nfirst";
    let (head, mut stream) = server.answer(switching).await;
    assert!(head.contains("connection: upgrade\r\n") && head.contains("upgrade: websocket\r\n"), "{head}");
    let answer = front.until("first").await;
    assert!(
        answer.contains("connection: upgrade\r\n") && answer.contains("upgrade: websocket\r\n"),
        "{answer}"
    );
    assert!(answer.contains("x-a: b\r\n"), "{answer}");
    front.send("ping").await;
    assert_eq!(read_until(&mut stream, "ping").await, "ping");
    stream.write_all(b"pong").await.unwrap();
    assert_eq!(front.until("pong").await, "pong");
    drop(stream);
    assert_eq!(front.stream.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_refused_change_of_the_protocol_is_an_ordinary_answer() {
    let server = Server::new().await;
    let mut front = front(&server);
    front.send("GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n").await;
    let (_head, mut open) =
        server.answer("HTTP/1.1 426 Upgrade Required\r\ncontent-length: 2\r\n\r\nno").await;
    assert!(front.until("no").await.starts_with("HTTP/1.1 426 Upgrade Required\r\n"));
    front.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    read_until(&mut open, "\r\n\r\n").await;
    open.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nyes").await.unwrap();
    front.until("yes").await;
}

#[tokio::test]
async fn a_protocol_that_nobody_asked_for_is_an_error() {
    let server = Server::new().await;
    let answered = front(&server).ask(get("/"));
    let switching = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
    let ((status, body), _) = tokio::join!(answered, server.answer(switching));
    assert!(status == 502 && body.contains("UPSTREAM_FAILED"), "{status} {body}");
}

#[tokio::test]
async fn one_connection_to_the_command_serves_request_after_request() {
    let server = Server::new().await;
    let mut front = front(&server);
    let mut stream = None;
    for number in 0..3 {
        front.send(&format!("GET /{number} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        let mut open = match stream.take() {
            Some(stream) => stream,
            None => server.accept().await,
        };
        assert!(read_until(&mut open, "\r\n\r\n").await.starts_with(&format!("GET /{number} ")));
        open.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nyes").await.unwrap();
        front.until("yes").await;
        stream = Some(open);
    }
}

#[tokio::test]
async fn a_connection_that_the_command_has_closed_costs_no_request() {
    let server = Server::new().await;
    let mut front = front(&server);
    for number in 0..3 {
        front.send(&format!("GET /{number} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        let (_head, closed) = server.answer("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nyes").await;
        front.until("yes").await;
        drop(closed);
    }
    // One that closes it as soon as the next request is there.
    front.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let (_head, mut open) = server.answer("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nyes").await;
    front.until("yes").await;
    front.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    read_until(&mut open, "\r\n\r\n").await;
    drop(open);
    let (_head, _open) = server.answer("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nyes").await;
    front.until("yes").await;
}

#[tokio::test]
async fn a_request_that_may_have_been_executed_is_not_sent_again() {
    let server = Server::new().await;
    let mut front = front(&server);
    front.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let (_head, mut open) = server.answer("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nyes").await;
    front.until("yes").await;
    front.send("DELETE / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    read_until(&mut open, "\r\n\r\n").await;
    drop(open);
    assert!(front.until("\r\n\r\n").await.starts_with("HTTP/1.1 502 Bad Gateway"));
}

#[tokio::test]
async fn where_nothing_was_sent_to_the_command_nothing_is_answered_so_that_another_replica_is_tried() {
    let server = Server::new().await;
    let upstream = upstream(server.address, Protocol::Http1);
    drop(server);
    let mut front = Front::new(Arc::clone(&upstream), Reserved::Passed, Protocol::Http1);
    front.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi").await;
    assert_eq!(front.stream.read(&mut [0]).await.unwrap(), 0);
    let front = Front::new(upstream, Reserved::Passed, Protocol::Http2);
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(front.stream)).await.unwrap();
    let driver = tokio::spawn(connection);
    let request = Request::post("http://infer.example/").body(Body::from("hi")).unwrap();
    let refused = sender.send_request(request).await.unwrap_err();
    let reason =
        std::error::Error::source(&refused).and_then(|cause| cause.downcast_ref::<h2::Error>()?.reason());
    assert_eq!(reason, Some(h2::Reason::REFUSED_STREAM));
    assert!(!sender.is_closed(), "other requests go on");
    driver.abort();
}

#[tokio::test]
async fn a_body_of_a_request_that_usually_has_none_reaches_the_command() {
    for method in ["GET", "HEAD", "DELETE"] {
        let server = Server::new().await;
        let mut front = front(&server);
        front
            .send(&format!(
                "{method} / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\r\n"
            ))
            .await;
        let mut stream = server.accept().await;
        let head = read_until(&mut stream, "\r\n\r\n").await;
        assert_eq!(head.matches("transfer-encoding: chunked\r\n").count(), 1, "{head}");
        assert_eq!(read_until(&mut stream, "0\r\n\r\n").await, "3\r\none\r\n0\r\n\r\n");
    }
}

#[tokio::test]
async fn another_protocol_than_websocket_is_not_asked_for() {
    let server = Server::new().await;
    let mut front = front(&server);
    front.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n\r\n").await;
    let (head, _open) = server.answer("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nyes").await;
    assert_eq!(head, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(front.until("yes").await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn what_only_a_gateway_may_say_is_not_believed_in_trailers_either() {
    let server = Server::new().await;
    let upstream = upstream(server.address, Protocol::Http1);
    let mut front = Front::new(upstream, Reserved::Stripped, Protocol::Http1);
    front
        .send("POST / HTTP/1.1\r\nhost: a\r\nte: trailers\r\ntrailer: x-sum, x-serviceos-tenant\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx-sum: 1\r\nx-serviceos-tenant: acme\r\n\r\n")
        .await;
    let mut stream = server.accept().await;
    read_until(&mut stream, "\r\n\r\n").await;
    assert_eq!(read_until(&mut stream, "\r\n\r\n").await, "1\r\na\r\n0\r\nx-sum: 1\r\n\r\n");
}

#[tokio::test]
async fn an_answer_that_breaks_off_breaks_off_for_the_caller_too() {
    let server = Server::new().await;
    let mut front = front(&server);
    front.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let (_head, stream) = server.answer("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
    front.until("half").await;
    drop(stream);
    assert_eq!(front.stream.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_caller_that_goes_away_ends_its_request_to_the_command() {
    let server = Server::new().await;
    let mut front = front(&server);
    front.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut stream = server.accept().await;
    read_until(&mut stream, "\r\n\r\n").await;
    drop(front);
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_replica_is_no_proxy() {
    let server = Server::new().await;
    let mut front = front(&server);
    front.send("CONNECT example.org:443 HTTP/1.1\r\nhost: example.org:443\r\n\r\n").await;
    assert!(front.until("\r\n\r\n").await.starts_with("HTTP/1.1 405 Method Not Allowed"));
}

/// Answers by HTTP/2 with what it was asked, and with trailers of which no header speaks, as gRPC does.
async fn serve_http2(server: Server) {
    let stream = server.accept().await;
    let service = service_fn(async |request: Request<Incoming>| {
        let asked = format!("{} {} {:?}", request.method(), request.uri(), request.headers().get("te"));
        let body = request.into_body().collect().await.unwrap();
        let sent = body.trailers().and_then(|trailers| trailers.get("x-sum")).cloned();
        let mut trailers = trailers("grpc-status", "0");
        trailers.insert("x-sum", sent.unwrap_or(HeaderValue::from_static("none")));
        Ok::<_, Infallible>(Response::new(whole(asked, trailers)))
    });
    let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let _ended = http.serve_connection(TokioIo::new(stream), service).await.is_ok();
}

fn whole(text: impl Into<Bytes>, trailers: HeaderMap) -> Body {
    Body::new(Full::new(text.into()).with_trailers(async move { Some(Ok(trailers)) }))
}

fn trailers(name: &'static str, value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))])
}

#[tokio::test]
async fn a_command_that_speaks_http2_is_spoken_to_so_and_its_trailers_pass() {
    let server = Server::new().await;
    let upstream = upstream(server.address, Protocol::Http2);
    let serving = tokio::spawn(serve_http2(server));
    let front = Front::new(Arc::clone(&upstream), Reserved::Passed, Protocol::Http2);
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(front.stream)).await.unwrap();
    let driver = tokio::spawn(connection);
    for number in ["1", "2"] {
        let request = Request::post("http://infer.example/pkg.Service/Method").header("te", "trailers");
        let request = request.body(whole("asked", trailers("x-sum", number))).unwrap();
        let answer = sender.send_request(request).await.unwrap().into_body().collect().await.unwrap();
        let sums = answer.trailers().map(|trailers| trailers["x-sum"].clone());
        assert_eq!(sums, Some(HeaderValue::from_static(number)));
        assert_eq!(answer.trailers().unwrap()["grpc-status"], "0");
        expect![[r#"POST http://infer.example/pkg.Service/Method Some("trailers")"#]]
            .assert_eq(str::from_utf8(&answer.to_bytes()).unwrap());
    }
    driver.abort();
    // The same one connection serves a caller that knows HTTP/1.1 alone.
    let front = Front::new(upstream, Reserved::Passed, Protocol::Http1);
    let (status, body) = front.ask(get("/v1")).await;
    assert_eq!((status, body.as_str()), (200, "GET http://api.example/v1 None"));
    serving.abort();
}
