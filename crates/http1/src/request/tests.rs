use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::HeadScan;

const LIMITS: Limits = Limits { head_bytes: 1024, fields: 10, target_bytes: 100 };

fn parse(text: &[u8]) -> Result<RequestHead, RequestFault> {
    let mut head = RequestHead::default();
    let length = HeadScan::default().advance(text, &LIMITS)?.expect("the head is whole");
    parse_request(&text[..length], &LIMITS, &mut head)?;
    Ok(head)
}

fn shown(text: &str) -> String {
    let head = match parse(text.as_bytes()) {
        Ok(head) => head,
        Err(fault) => return format!("refused: {fault}\n"),
    };
    let mut shown = format!(
        "{} {} for {} with {:?}, {}{}\n",
        head.method(),
        String::from_utf8_lossy(head.origin()),
        String::from_utf8_lossy(head.host()),
        head.framing(),
        if head.persists() { "persists" } else { "closes" },
        head.upgrade().map_or(String::new(), |upgrade| format!(", upgrade {upgrade}")),
    );
    for (field, name, value) in head.fields() {
        let hop = if field.hop_by_hop { " (hop by hop)" } else { "" };
        shown += &format!("  {}={:?}{hop}\n", String::from_utf8_lossy(name), String::from_utf8_lossy(value));
    }
    shown
}

fn check(text: &str, expected: Expect) {
    expected.assert_eq(&shown(text));
}

#[test]
fn a_plain_request() {
    check(
        "POST /v1/random?x=1 HTTP/1.1\r\nHost: api.example.org:8080\r\nContent-Length: 17\r\nX-A:  b c \r\nempty:\r\n\r\n",
        expect![[r#"
            POST /v1/random?x=1 for api.example.org:8080 with Length(17), persists
              Host="api.example.org:8080"
              Content-Length="17"
              X-A="b c"
              empty=""
        "#]],
    );
}

#[test]
fn the_connection_header_names_what_ends_here() {
    check(
        "GET / HTTP/1.1\r\nHost: a\r\nX-Mine: 1\r\nConnection: close, X-Mine,,Upgrade\r\nUpgrade: websocket\r\nKeep-Alive: 5\r\n\r\n",
        expect![[r#"
            GET / for a with Length(0), closes, upgrade websocket
              Host="a"
              X-Mine="1" (hop by hop)
              Connection="close, X-Mine,,Upgrade" (hop by hop)
              Upgrade="websocket" (hop by hop)
              Keep-Alive="5" (hop by hop)
        "#]],
    );
}

#[test]
fn http_1_0_closes_unless_it_says_otherwise() {
    check(
        "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
        expect![[r#"
        GET / for a with Length(0), closes
          Host="a"
    "#]],
    );
    check(
        "GET / HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n",
        expect![[r#"
            GET / for a with Length(0), persists
              Host="a"
              Connection="Keep-Alive" (hop by hop)
        "#]],
    );
}

#[test]
fn a_field_that_connection_names_counts_for_nothing() {
    let text = "GET / HTTP/1.1\r\nHost: a\r\nIdempotency-Key: 1\r\nx-user: 1\r\nidempotency-key: 2\r\n\
                Connection: Idempotency-Key, X-User\r\n\r\n";
    let head = parse(text.as_bytes()).unwrap();
    assert!(!head.has(Known::IdempotencyKey) && !head.is_repeated(Known::IdempotencyKey));
    assert_eq!(head.value(Known::IdempotencyKey), None);
    assert_eq!((head.values(Known::IdempotencyKey).count(), head.values_of("x-user").count()), (0, 0));
    assert_eq!(head.field_count(), 5);
}

#[test]
fn http_1_0_has_no_upgrades() {
    let wanted = |version| {
        let text = format!("GET / HTTP/{version}\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
        parse(text.as_bytes()).unwrap().upgrade().map(str::to_owned)
    };
    assert_eq!((wanted("1.1").as_deref(), wanted("1.0")), (Some("x"), None));
}

#[test]
fn what_could_mean_two_things_is_refused() {
    let mut text = String::new();
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 5",
        "Content-Length: +5",
        "Content-Length: 0x5",
        "Content-Length:",
        "Content-Length: 99999999999999999999",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: , chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding:",
        "Transfer-Encoding : chunked",
        " folded: 1",
        "a: b\r\n c",
        "a\tb: c",
        "é: c",
        ": c",
        "a",
        "a: b\0c",
        "a: b\rc",
        "Host: b",
        "Connection: content-length",
        "Connection: host",
    ] {
        let answer = shown(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n"));
        text += &format!("{fields:?}: {}", answer.lines().next().unwrap_or_default());
        text.push('\n');
    }
    expect![[r#"
        "Content-Length: 5\r\nTransfer-Encoding: chunked": refused: it is malformed: it has both Content-Length and Transfer-Encoding
        "Content-Length: 5\r\nContent-Length: 5": refused: it is malformed: it has more than one Content-Length
        "Content-Length: 5\r\nContent-Length: 6": refused: it is malformed: it has more than one Content-Length
        "Content-Length: 5, 5": refused: it is malformed: its Content-Length is not a number
        "Content-Length: +5": refused: it is malformed: its Content-Length is not a number
        "Content-Length: 0x5": refused: it is malformed: its Content-Length is not a number
        "Content-Length:": refused: it is malformed: its Content-Length is not a number
        "Content-Length: 99999999999999999999": refused: it is malformed: its Content-Length is not a number
        "Transfer-Encoding: gzip, chunked": refused: it is malformed: its Transfer-Encoding is not exactly `chunked`
        "Transfer-Encoding: chunked, chunked": refused: it is malformed: its Transfer-Encoding is not exactly `chunked`
        "Transfer-Encoding: , chunked": refused: it is malformed: its Transfer-Encoding is not exactly `chunked`
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked": refused: it is malformed: it has more than one Transfer-Encoding
        "Transfer-Encoding: xchunked": refused: it is malformed: its Transfer-Encoding is not exactly `chunked`
        "Transfer-Encoding: identity": refused: it is malformed: its Transfer-Encoding is not exactly `chunked`
        "Transfer-Encoding:": refused: it is malformed: its Transfer-Encoding is not exactly `chunked`
        "Transfer-Encoding : chunked": refused: it is malformed: a header's name is not a token, or has a space before its colon
        " folded: 1": refused: it is malformed: a header's name is not a token, or has a space before its colon
        "a: b\r\n c": refused: it is malformed: a header's name is not a token, or has a space before its colon
        "a\tb: c": refused: it is malformed: a header's name is not a token, or has a space before its colon
        "é: c": refused: it is malformed: a header's name is not a token, or has a space before its colon
        ": c": refused: it is malformed: a header's name is not a token, or has a space before its colon
        "a": refused: it is malformed: a header's name is not a token, or has a space before its colon
        "a: b\0c": refused: it is malformed: a header's value has a control character, or goes on in the next line
        "a: b\rc": refused: it is malformed: a header's value has a control character, or goes on in the next line
        "Host: b": refused: it is malformed: it has more than one Host
        "Connection: content-length": refused: it is malformed: its Connection header names a field of the message
        "Connection: host": refused: it is malformed: its Connection header names a field of the message
    "#]]
    .assert_eq(&text);
}

#[test]
fn first_lines_and_hosts_that_are_refused() {
    let mut text = String::new();
    for head in [
        "GET / HTTP/1.1\r\n",
        "GET http://a/ HTTP/1.1\r\n",
        "GET http://a/ HTTP/1.1\r\nHost: b\r\n",
        "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n",
        "GET / HTTP/1.1\r\nHost: a,b\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n",
        "GET /  HTTP/1.1\r\nHost: a\r\n",
        "GET / HTTP/1.1 \r\nHost: a\r\n",
        "GET / HTTP/2.0\r\nHost: a\r\n",
        "GET / http/1.1\r\nHost: a\r\n",
        "GET /\r\nHost: a\r\n",
        "G(T / HTTP/1.1\r\nHost: a\r\n",
        "GET /a#b HTTP/1.1\r\nHost: a\r\n",
        "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n",
    ] {
        let answer = shown(&format!("{head}\r\n"));
        text += &format!("{head:?}: {}", answer.lines().next().unwrap_or_default());
        text.push('\n');
    }
    expect![[r#"
        "GET / HTTP/1.1\r\n": refused: it is malformed: it has no Host
        "GET http://a/ HTTP/1.1\r\n": refused: it is malformed: it has no Host
        "GET http://a/ HTTP/1.1\r\nHost: b\r\n": refused: it is malformed: its URL names another host than Host does
        "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n": refused: it is malformed: its URL does not name a host and a port
        "GET / HTTP/1.1\r\nHost:\r\n": refused: it is malformed: its Host is not a host and a port
        "GET / HTTP/1.1\r\nHost: a b\r\n": refused: it is malformed: its Host is not a host and a port
        "GET / HTTP/1.1\r\nHost: a,b\r\n": refused: it is malformed: its Host is not a host and a port
        "GET  / HTTP/1.1\r\nHost: a\r\n": refused: it is malformed: its first line is not a request line
        "GET /  HTTP/1.1\r\nHost: a\r\n": refused: it is malformed: its version is neither HTTP/1.1 nor HTTP/1.0
        "GET / HTTP/1.1 \r\nHost: a\r\n": refused: it is malformed: a line of its head does not end in CR LF
        "GET / HTTP/2.0\r\nHost: a\r\n": refused: it is malformed: its version is neither HTTP/1.1 nor HTTP/1.0
        "GET / http/1.1\r\nHost: a\r\n": refused: it is malformed: its version is neither HTTP/1.1 nor HTTP/1.0
        "GET /\r\nHost: a\r\n": refused: it is malformed: its first line is not a request line
        "G(T / HTTP/1.1\r\nHost: a\r\n": refused: it is malformed: its first line is not a request line
        "GET /a#b HTTP/1.1\r\nHost: a\r\n": refused: it is malformed: its URL has a fragment
        "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n": refused: it is malformed: its URL has no path
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n": refused: it is malformed: its URL has no path
        "GET / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n": refused: it is malformed: it has a Transfer-Encoding that HTTP/1.0 does not have
    "#]].assert_eq(&text);
}

#[test]
fn limits_have_their_own_answers() {
    let head = |target: usize, fields: usize, value: usize| {
        let mut text = format!("GET /{} HTTP/1.1\r\nHost: a\r\n", "a".repeat(target - 1));
        for number in 1..fields {
            text += &format!("x{number}: {}\r\n", "v".repeat(value));
        }
        parse((text + "\r\n").as_bytes()).map(|head| head.field_count())
    };
    assert_eq!(head(100, 10, 50), Ok(10));
    assert_eq!(head(101, 1, 1), Err(RequestFault::TargetTooLong));
    assert_eq!(head(1, 11, 1), Err(RequestFault::TooManyFields));
    assert_eq!(head(1, 10, 200), Err(RequestFault::TooManyBytes));
}

#[test]
fn a_head_of_http_2_has_the_same_form() {
    let mut fields = HeaderMap::new();
    for (name, value) in [("cookie", "a=1"), ("accept", "*/*"), ("cookie", "b=2"), ("te", "trailers")] {
        fields.append(name, value.parse().unwrap());
    }
    let mut head = RequestHead::default();
    let mut set = |authority, origin, fields: &HeaderMap| {
        head.set_http2(&Method::POST, authority, origin, fields, Framing::Chunked, &LIMITS)?;
        Ok::<_, RequestFault>((
            head.host().to_owned(),
            head.origin().to_owned(),
            head.value(Known::Cookie).map(<[u8]>::to_vec),
        ))
    };
    let good = set(Some("a:1"), "/x?y", &fields).unwrap();
    assert_eq!(good, (b"a:1".to_vec(), b"/x?y".to_vec(), Some(b"a=1; b=2".to_vec())));
    fields.insert("host", "A:1".parse().unwrap());
    assert_eq!(set(Some("a:1"), "/", &fields).unwrap().0, b"A:1");
    assert!(set(None, "/", &HeaderMap::new()).is_err());
    assert!(set(Some("u@a"), "/", &HeaderMap::new()).is_err());
    assert!(set(Some("b"), "/", &fields).is_err());
    assert!(set(Some("a"), "http://a/", &HeaderMap::new()).is_err());
    for (name, value) in
        [("connection", "close"), ("transfer-encoding", "chunked"), ("te", "gzip"), ("upgrade", "x")]
    {
        let mut fields = HeaderMap::new();
        fields.insert(name, value.parse().unwrap());
        assert!(set(Some("a"), "/", &fields).is_err(), "{name}");
    }
    for value in [" a", "a ", "\ta", "a\t", " "] {
        let mut fields = HeaderMap::new();
        fields.insert("x-a", value.parse().unwrap());
        assert!(set(Some("a"), "/", &fields).is_err(), "{value:?}");
    }
    let mut fields = HeaderMap::new();
    fields.append("content-length", "5".parse().unwrap());
    assert!(set(Some("a"), "/", &fields).is_ok());
    fields.append("content-length", "5".parse().unwrap());
    assert!(set(Some("a"), "/", &fields).is_err());
}

#[test]
fn a_head_that_cannot_be_read_shows_nothing_of_the_one_before() {
    let plain: HeaderMap =
        [(http::header::AUTHORIZATION, "Bearer secret".parse().unwrap())].into_iter().collect();
    let many: HeaderMap = (0..11)
        .map(|number| (http::HeaderName::try_from(format!("x-{number}")).unwrap(), "1".parse().unwrap()))
        .collect();
    let wide: HeaderMap = [(http::header::ACCEPT, "w".repeat(1100).parse().unwrap())].into_iter().collect();
    let long = "/".repeat(101);
    for (origin, fields) in
        [("/a", &many), (&*long, &plain), ("/a", &wide), ("*", &plain), ("/é", &plain), ("", &plain)]
    {
        let mut head = RequestHead::default();
        let before = b"POST /before?q HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n";
        parse_request(before, &LIMITS, &mut head).unwrap();
        let refused = head.set_http2(&Method::GET, Some("a"), origin, fields, Framing::Length(0), &LIMITS);
        assert!(refused.is_err(), "{origin}");
        let shown = (head.path(), head.origin(), head.framing(), head.upgrade());
        assert_eq!(shown, (&b""[..], &b""[..], Framing::Length(0), None), "{origin}");

        parse_request(before, &LIMITS, &mut head).unwrap();
        parse_request(b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", &LIMITS, &mut head).unwrap_err();
        let shown = (head.method(), head.path(), head.framing(), head.persists(), head.upgrade());
        assert_eq!(shown, (&Method::GET, &b""[..], Framing::Length(0), true, None));
    }
}

#[test]
fn a_short_target_leaves_no_more_room_for_the_fields_of_http_2() {
    let set = |target: usize, value: usize| {
        let fields = [(http::header::ACCEPT, "w".repeat(value).parse().unwrap())].into_iter().collect();
        let origin = format!("/{}", "a".repeat(target - 1));
        let mut head = RequestHead::default();
        head.set_http2(&Method::GET, Some("a"), &origin, &fields, Framing::Length(0), &LIMITS)
    };
    let most = LIMITS.head_bytes - "a".len() - "accept".len();
    for target in [1, LIMITS.target_bytes] {
        assert_eq!(set(target, most), Ok(()));
        assert_eq!(set(target, most + 1), Err(RequestFault::TooManyBytes));
    }
}

proptest! {
    #[test]
    fn no_head_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = bytes;
        bytes.extend_from_slice(b"\r\n\r\n");
        let mut head = RequestHead::default();
        if let Ok(Some(length)) = HeadScan::default().advance(&bytes, &LIMITS) {
            let _any_answer = parse_request(&bytes[..length], &LIMITS, &mut head);
        }
    }
}
