use expect_test::expect;

use super::*;

const LIMITS: Limits = Limits { head_bytes: 1024, fields: 10, target_bytes: 100 };

#[test]
fn answers_and_how_their_bodies_end() {
    let mut text = String::new();
    for (method, answer) in [
        (Method::GET, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"),
        (Method::HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"),
        (Method::GET, "HTTP/1.1 200\r\nTransfer-Encoding: Chunked\r\n"),
        (Method::GET, "HTTP/1.1 200 OK\r\n"),
        (Method::GET, "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n"),
        (Method::GET, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n"),
        (Method::GET, "HTTP/1.1 204 No Content\r\n"),
        (Method::GET, "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n"),
        (Method::GET, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"),
        (Method::GET, "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n"),
        (Method::GET, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        (Method::GET, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n"),
        (Method::GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n"),
        (Method::GET, "HTTP/1.1 099 OK\r\n"),
        (Method::GET, "HTTP/1.1 600 OK\r\n"),
        (Method::GET, "HTTP/1.1 200 OK\r\na : b\r\n"),
        (Method::GET, "ICY 200 OK\r\n"),
    ] {
        let mut head = ResponseHead::default();
        let bytes = format!("{answer}\r\n");
        let parsed = parse_response(bytes.as_bytes(), &method, &LIMITS, &mut head).map(|()| {
            let persists = if head.persists() { "persists" } else { "closes" };
            format!("{} {:?} {persists}", head.status().as_u16(), head.framing())
        });
        text += &format!("{method} {answer:?}: {}\n", parsed.unwrap_or_else(|fault| fault.to_string()));
    }
    expect![[r#"
        GET "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n": 200 Length(5) persists
        HEAD "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n": 200 Length(0) persists
        GET "HTTP/1.1 200\r\nTransfer-Encoding: Chunked\r\n": 200 Chunked persists
        GET "HTTP/1.1 200 OK\r\n": 200 UntilClose closes
        GET "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n": 200 Length(5) closes
        GET "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n": 200 Length(5) closes
        GET "HTTP/1.1 204 No Content\r\n": 204 Length(0) persists
        GET "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n": 304 Length(0) persists
        GET "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n": 101 Length(0) persists
        GET "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n": its answer is malformed: it announces a body where there is none
        GET "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n": its answer is malformed: it has both Content-Length and Transfer-Encoding
        GET "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n": its answer is malformed: it has more than one Content-Length
        GET "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n": its answer is malformed: its Transfer-Encoding is not exactly `chunked`
        GET "HTTP/1.1 099 OK\r\n": its answer is malformed: its status is not a number from 100 to 599
        GET "HTTP/1.1 600 OK\r\n": its answer is malformed: its status is not a number from 100 to 599
        GET "HTTP/1.1 200 OK\r\na : b\r\n": its answer is malformed: a header line is malformed
        GET "ICY 200 OK\r\n": its answer is malformed: its first line is not a status line
    "#]].assert_eq(&text);
}

#[test]
fn what_has_no_body_has_none_over_http_2_either() {
    let mut text = String::new();
    for (method, status) in [
        (Method::GET, StatusCode::OK),
        (Method::HEAD, StatusCode::OK),
        (Method::GET, StatusCode::NO_CONTENT),
        (Method::GET, StatusCode::NOT_MODIFIED),
        (Method::GET, StatusCode::RESET_CONTENT),
    ] {
        for announced in [Framing::Chunked, Framing::Length(5)] {
            let mut head = ResponseHead::default();
            head.set_http2(&method, status, &HeaderMap::new(), announced).unwrap();
            text += &format!("{method} {}, {announced:?}: {:?}\n", status.as_u16(), head.framing());
        }
    }
    expect![[r#"
        GET 200, Chunked: Chunked
        GET 200, Length(5): Length(5)
        HEAD 200, Chunked: Length(0)
        HEAD 200, Length(5): Length(0)
        GET 204, Chunked: Length(0)
        GET 204, Length(5): Length(0)
        GET 304, Chunked: Length(0)
        GET 304, Length(5): Length(0)
        GET 205, Chunked: Chunked
        GET 205, Length(5): Length(5)
    "#]]
    .assert_eq(&text);
}
