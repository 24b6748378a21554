//! Requests against the schema of their route, through the real gateway: what is refused, and that what passes is what was sent.

mod files;
mod operations;

use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use testkit::{Answer, Connection, Http2, Mesh, Request, Running, Upstream, checksum};

use crate::bodies::head;
use crate::refusal_counts::until_counted;

const SCHEMA: &str = "{type: object, required: [min, max], additionalProperties: false, \
    properties: {min: {type: integer, minimum: 0}, max: {type: integer}, label: {type: string, maxLength: 4000}}}";
const GOOD: &str = r#"{ "max": 100, "min":1,"label":"é\u00e9 \ud83d\ude00" }"#;

/// A service whose only route asks this of requests; everything beneath `/site`.
fn route(upstream: &Upstream, protocol: &str, request: &str, more: &str) -> Mesh {
    let route = format!(
        "{{match: {{path: \"/site/{{*rest}}\"}}, stripPrefix: true, scopes: [site], request: {request}{more}}}"
    );
    Mesh::new().endpoints_with(
        "site",
        &[upstream.address],
        &format!("protocol: {protocol}, routes: [{route}]"),
    )
}

fn site(upstream: &Upstream) -> Running {
    route(upstream, "http1", &format!("{{bodyBytes: 16KiB, schema: {SCHEMA}}}"), "").up()
}

fn post(mesh: &Running, media_type: &str, body: &str) -> Answer {
    Request::new("POST", "/site/mirror").key(&mesh.key).text(media_type, body).send(mesh.gateway)
}

fn violations(answer: &Answer) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let one = |one: &Value| (text(&one["pointer"]), text(&one["message"]));
    answer.json()["violations"].as_array().unwrap().iter().map(one).collect()
}

#[test]
fn what_passes_is_exactly_what_was_sent_however_it_was_cut() {
    let (one, two) = (Upstream::new(), Upstream::http2());
    for (upstream, protocol) in [(&one, "http1"), (&two, "http2")] {
        let mesh = route(upstream, protocol, &format!("{{schema: {SCHEMA}}}"), "").up();
        let answer = post(&mesh, "Application/JSON; charset=UTF-8; x=y", GOOD);
        assert_eq!((answer.status, answer.text().as_str()), (200, GOOD), "{protocol}");
        let large =
            format!(r#"{{"min": 1, "max": 2, "label": "{}"}}"#, "x".repeat(4000)) + &" ".repeat(90_000);
        assert!(post(&mesh, "application/json", &large).body == large.as_bytes(), "{protocol}");
        let client = Http2::connect(mesh.gateway);
        let fields = [("x-api-key", mesh.key.as_str()), ("content-type", "application/json")];
        let request = || Http2::request("POST", "/site/mirror", &fields);
        let answer = client.send(request(), large.clone().into_bytes());
        assert!(answer.status == 200 && answer.body == large.as_bytes(), "{protocol}");
        let refused = client.send(request(), b"{}".to_vec());
        assert_eq!(refused.problem(), (422, "VALIDATION_FAILED".into()), "{protocol}");
        assert_eq!(client.send(request(), GOOD.into()).text(), GOOD, "the connection goes on");
        let seen = upstream.seen();
        assert!(seen.iter().all(|seen| seen.whole), "{protocol}");
        assert_eq!(
            seen.iter().map(|seen| seen.body_bytes as usize).collect::<Vec<_>>(),
            [GOOD.len(), large.len(), large.len(), GOOD.len()]
        );
        assert_eq!(seen[1].checksum, checksum(large.as_bytes()));
    }
    let mesh = site(&one);
    let length = format!("content-type: application/json\r\ncontent-length: {}\r\n\r\n", GOOD.len());
    let mut client = Connection::open(mesh.gateway);
    for at in 0..=GOOD.len() {
        let (before, after) = GOOD.as_bytes().split_at(at);
        client.write(head(&mesh, "POST /site/mirror HTTP/1.1") + &length).unwrap();
        client.write(before).unwrap();
        client.write(after).unwrap();
        assert_eq!(client.answer().unwrap().text(), GOOD, "cut at {at}");
    }
    let chunked = "content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    client.write(head(&mesh, "POST /site/mirror HTTP/1.1") + chunked).unwrap();
    for byte in GOOD.as_bytes() {
        client.write([&b"1;a=b\r\n"[..], &[*byte], b"\r\n"].concat()).unwrap();
    }
    client.write("0\r\n\r\n").unwrap();
    assert_eq!(client.answer().unwrap().text(), GOOD);
    let seen = one.seen().pop().unwrap();
    assert_eq!(
        seen.header("content-length"),
        Some(GOOD.len().to_string().as_str()),
        "its length is known now"
    );
    assert_eq!(seen.header("transfer-encoding"), None);
}

#[test]
fn every_violation_is_told_and_nothing_of_the_body_is_repeated() {
    let upstream = Upstream::new();
    let mesh = site(&upstream);
    let refused =
        post(&mesh, "application/json", r#"{"min": -1, "label": 5, "secret-name": "secret-value"}"#);
    assert_eq!(refused.problem(), (422, "VALIDATION_FAILED".into()));
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    let json = refused.json();
    assert_eq!(json["detail"], "the body is not what this route takes: there are 4 violations");
    assert_eq!(json["requestId"], refused.header("x-request-id").unwrap());
    assert_eq!(
        json["violations"][1],
        json!({"in": "body", "pointer": "/min", "schema": "/properties/min/minimum", "message": "must be at least 0"})
    );
    let expected = [
        ("", "must have the member \"max\""),
        ("/min", "must be at least 0"),
        ("/label", "must be a string"),
        ("/secret-name", "must not be there"),
    ];
    assert_eq!(violations(&refused), expected.map(|(place, message)| (place.to_owned(), message.to_owned())));
    assert!(!refused.text().contains("secret-value"));
    let many =
        format!("{{{}}}", (0..500).map(|number| format!("\"a{number}\":1")).collect::<Vec<_>>().join(","));
    let refused = post(&mesh, "application/json", &many);
    assert_eq!(violations(&refused).len(), 100);
    assert_eq!(
        refused.json()["detail"],
        "the body is not what this route takes: there are more than 100 violations"
    );
    assert_eq!(upstream.count(), 0, "no replica has seen any of it");
    until_counted(&mesh, "serviceos_requests_refused_total", "content", 2);
}

#[test]
fn what_is_no_json_that_can_be_read_in_one_way_is_malformed() {
    let upstream = Upstream::new();
    let mesh = site(&upstream);
    let deep = format!("{{\"min\":1,\"max\":{}{}}}", "[".repeat(64), "]".repeat(64));
    let long = format!("{{\"min\":1,\"max\":{}}}", "9".repeat(65));
    for (body, detail) in [
        ("{\"min\":1,", "the JSON ends too early (at byte 9)"),
        ("{\"min\":1,\"max\":2,\"min\":3}", "an object has two members of the same name (at byte 17)"),
        ("{\"min\":1,\"max\":2} {}", "something stands behind the JSON (at byte 18)"),
        ("\u{feff}{}", "the JSON begins with a byte order mark (at byte 0)"),
        (&deep, "arrays and objects are nested deeper than 64 (at byte 78)"),
        (&long, "a number has more than 64 digits (at byte 15)"),
        ("{\"min\":1e1000}", "a number has an exponent of more than 3 digits (at byte 7)"),
    ] {
        let refused = post(&mesh, "application/json", body);
        assert_eq!(refused.problem(), (400, "VALIDATION_FAILED".into()), "{body}");
        assert_eq!(refused.json()["detail"], format!("the body is not what this route takes: {detail}"));
    }
    let empty = Request::new("POST", "/site/mirror").key(&mesh.key).send(mesh.gateway);
    assert_eq!(empty.problem(), (400, "VALIDATION_FAILED".into()));
    assert_eq!(empty.json()["detail"], "this route needs a body, and the request has none");
    assert_eq!(upstream.count(), 0);
}

#[test]
fn another_media_type_charset_or_encoding_is_refused_with_what_is_taken() {
    let upstream = Upstream::new();
    let mesh = site(&upstream);
    for media_type in
        ["text/plain", "application/jsonp", "json", "application/json; charset=latin1", "application/*"]
    {
        let refused = post(&mesh, media_type, GOOD);
        assert_eq!(refused.problem(), (415, "MEDIA_TYPE_UNSUPPORTED".into()), "{media_type}");
        assert_eq!(refused.header("accept"), Some("application/json"), "{media_type}");
        assert!(
            refused.json()["detail"].as_str().unwrap().starts_with("this route takes application/json: ")
        );
    }
    let mut client = Connection::open(mesh.gateway);
    let mut refused = |fields: &str| {
        let text =
            head(&mesh, "POST /site/mirror HTTP/1.1") + &format!("{fields}content-length: 2\r\n\r\n{{}}");
        client.write(text).unwrap();
        client.answer().unwrap()
    };
    assert_eq!(
        refused("").problem(),
        (415, "MEDIA_TYPE_UNSUPPORTED".into()),
        "it does not say what its body is"
    );
    let two = "content-type: application/json\r\ncontent-type: application/json\r\n";
    assert_eq!(refused(two).problem().0, 415);
    let packed = refused("content-type: application/json\r\ncontent-encoding: gzip\r\n");
    assert_eq!((packed.problem().0, packed.header("accept-encoding")), (415, Some("identity")));
    let plain = refused("content-type: application/json\r\ncontent-encoding: identity\r\n");
    assert_eq!(plain.problem().0, 422, "on the same connection, since what was refused was read");
    until_counted(&mesh, "serviceos_requests_refused_total", "media_type", 8);
    assert_eq!(upstream.count(), 0);
}

#[test]
fn methods_without_content_need_no_body_and_one_that_comes_is_judged() {
    let upstream = Upstream::new();
    let mesh = site(&upstream);
    for method in ["GET", "HEAD", "DELETE"] {
        let request = Request::new(method, "/site/echo").key(&mesh.key);
        assert_eq!(request.send(mesh.gateway).status, 200, "{method}");
        let client = Http2::connect(mesh.gateway);
        let answer =
            client.send(Http2::request(method, "/site/echo", &[("x-api-key", &mesh.key)]), Vec::new());
        assert_eq!(answer.status, 200, "{method}");
    }
    let with = |body: &str| {
        Request::new("DELETE", "/site/echo")
            .key(&mesh.key)
            .text("application/json", body)
            .send(mesh.gateway)
            .status
    };
    assert_eq!((with("{}"), with(GOOD)), (422, 200));
}

#[test]
fn sizes_waits_and_words_before_the_body_are_as_for_any_other() {
    let upstream = Upstream::new();
    let mesh =
        route(&upstream, "http1", &format!("{{bodyBytes: 1KiB, schema: {SCHEMA}}}"), ", timeout: 400ms").up();
    let json = "content-type: application/json\r\n";
    let mut client = Connection::open(mesh.gateway);
    let begin = head(&mesh, "POST /site/mirror HTTP/1.1") + json;
    client.write(format!("{begin}expect: 100-continue\r\ncontent-length: {}\r\n\r\n", GOOD.len())).unwrap();
    assert_eq!(client.answer_head().unwrap().status, 100);
    client.write(GOOD).unwrap();
    assert_eq!(client.answer().unwrap().text(), GOOD);
    client.write(format!("{begin}content-length: 1025\r\n\r\n")).unwrap();
    assert_eq!(client.answer().unwrap().problem(), (413, "BODY_TOO_LARGE".into()));

    let mut client = Connection::open(mesh.gateway);
    client
        .write(format!("{begin}transfer-encoding: chunked\r\n\r\n401\r\n{}\r\n", " ".repeat(1025)))
        .unwrap();
    assert_eq!(client.answer().unwrap().problem(), (413, "BODY_TOO_LARGE".into()));
    let mut client = Connection::open(mesh.gateway);
    client.write(format!("{begin}content-length: 9\r\n\r\n{{\"min")).unwrap();
    assert_eq!(client.answer().unwrap().problem(), (408, "REQUEST_TIMEOUT".into()));
    let mut client = Connection::open(mesh.gateway);
    client.write(format!("{begin}transfer-encoding: chunked\r\n\r\nzz\r\n")).unwrap();
    assert_eq!(client.answer().unwrap().problem(), (400, "REQUEST_MALFORMED".into()));
    // Who may not call learns nothing of what the route takes.
    let unknown = Request::new("POST", "/site/mirror").text("text/plain", "x").send(mesh.gateway);
    assert_eq!(unknown.problem(), (401, "AUTH_REQUIRED".into()));
    assert_eq!(upstream.count(), 1);
}

#[test]
fn trailers_stay_behind_a_body_that_was_read_whole() {
    let (one, two) = (Upstream::new(), Upstream::http2());
    for (upstream, protocol) in [(&one, "http1"), (&two, "http2")] {
        let mesh = route(upstream, protocol, &format!("{{schema: {SCHEMA}}}"), "").up();
        let mut client = Connection::open(mesh.gateway);
        let fields = "content-type: application/json\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n";
        let body = format!("{:x}\r\n{GOOD}\r\n0\r\nx-sum: 7\r\n\r\n", GOOD.len());
        client.write(head(&mesh, "POST /site/echo HTTP/1.1") + fields + &body).unwrap();
        assert_eq!(client.answer().unwrap().status, 200, "{protocol}");
        let http2 = Http2::connect(mesh.gateway);
        let fields =
            [("x-api-key", mesh.key.as_str()), ("content-type", "application/json"), ("trailer", "x-sum")];
        let trailers =
            HeaderMap::from_iter([(http::HeaderName::from_static("x-sum"), HeaderValue::from_static("7"))]);
        let sent = (Http2::request("POST", "/site/echo", &fields), GOOD.into(), trailers);
        assert_eq!(http2.together(vec![sent]).remove(0).unwrap().status, 200, "{protocol}");
        for seen in upstream.seen() {
            assert_eq!(seen.trailers, [("x-sum".to_owned(), "7".to_owned())], "{protocol}");
            assert_eq!(seen.body_bytes as usize, GOOD.len(), "{protocol}");
        }
    }
}

#[test]
fn a_media_type_alone_lets_every_body_of_it_stream() {
    let upstream = Upstream::new();
    let mesh = route(&upstream, "http1", "{contentType: image/png}", "").up();
    assert_eq!(post(&mesh, "image/png", "no picture at all").text(), "no picture at all");
    assert_eq!(post(&mesh, "application/json", "{}").problem(), (415, "MEDIA_TYPE_UNSUPPORTED".into()));
    assert_eq!(Request::new("POST", "/site/mirror").key(&mesh.key).send(mesh.gateway).status, 200);
    // It is passed on before it has ended.
    let mut client = Connection::open(mesh.gateway);
    let fields = "content-type: image/png\r\ncontent-length: 8\r\n\r\nhalf";
    client.write(head(&mesh, "POST /site/mirror HTTP/1.1") + fields).unwrap();
    assert_eq!(client.answer_head().unwrap().status, 200);
    client.write("half").unwrap();
    assert_eq!(client.exactly(8).unwrap(), b"halfhalf");
}
