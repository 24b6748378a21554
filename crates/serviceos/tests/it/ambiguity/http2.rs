//! HTTP/2: requests that could be written in HTTP/1.1 in two ways.

use super::corpus::{Corpus, Meaning, join, shown};
use super::frames::{CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, block, frame};

pub(super) type Field<'a> = (&'a [u8], &'a [u8]);

pub(super) const METHOD: Field<'_> = (b":method", b"GET");
pub(super) const SCHEME: Field<'_> = (b":scheme", b"http");
pub(super) const AUTHORITY: Field<'_> = (b":authority", b"a");
pub(super) const PATH: Field<'_> = (b":path", b"/r/{id}");
pub(super) const POST: [Field<'_>; 4] = [(b":method", b"POST"), SCHEME, AUTHORITY, PATH];

pub(super) fn cases(corpus: &mut Corpus) {
    pseudo_fields(corpus);
    targets(corpus);
    authorities(corpus);
    field_names(corpus);
    field_values(corpus);
    of_the_connection(corpus);
    lengths(corpus);
    trailers(corpus);
}

/// A whole request in one frame.
fn request(fields: &[Field<'_>]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(fields))
}

/// A GET with more fields.
pub(super) fn get(more: &[Field<'_>]) -> Vec<u8> {
    request(&[&[METHOD, SCHEME, AUTHORITY, PATH], more].concat())
}

fn pseudo_fields(corpus: &mut Corpus) {
    corpus.class("h2 pseudo-header fields");
    for (name, fields) in [
        ("behind a field", vec![METHOD, SCHEME, AUTHORITY, (b"x", b"y"), PATH]),
        ("all behind a field", vec![(b"x", b"y"), METHOD, SCHEME, AUTHORITY, PATH]),
        ("no method", vec![SCHEME, AUTHORITY, PATH]),
        ("no scheme", vec![METHOD, AUTHORITY, PATH]),
        ("no path", vec![METHOD, SCHEME, AUTHORITY, (b"x", b"{id}")]),
        ("two methods", vec![METHOD, METHOD, SCHEME, AUTHORITY, PATH]),
        ("two other methods", vec![METHOD, (b":method", b"POST"), SCHEME, AUTHORITY, PATH]),
        ("two schemes", vec![METHOD, SCHEME, SCHEME, AUTHORITY, PATH]),
        ("two authorities", vec![METHOD, SCHEME, AUTHORITY, AUTHORITY, PATH]),
        ("two paths", vec![METHOD, SCHEME, AUTHORITY, PATH, (b":path", b"/private/{id}")]),
        ("an unknown one", vec![METHOD, SCHEME, AUTHORITY, PATH, (b":x", b"y")]),
        ("a status", vec![METHOD, SCHEME, AUTHORITY, PATH, (b":status", b"200")]),
        ("a protocol", vec![METHOD, SCHEME, AUTHORITY, PATH, (b":protocol", b"websocket")]),
        (
            "a CONNECT with a protocol",
            vec![(b":method", b"CONNECT"), SCHEME, AUTHORITY, PATH, (b":protocol", b"websocket")],
        ),
        ("a CONNECT", vec![(b":method", b"CONNECT"), AUTHORITY, (b"x", b"{id}")]),
        ("a CONNECT with a path", vec![(b":method", b"CONNECT"), SCHEME, AUTHORITY, PATH]),
        ("a TRACE", vec![(b":method", b"TRACE"), SCHEME, AUTHORITY, PATH]),
        ("an empty method", vec![(b":method", b""), SCHEME, AUTHORITY, PATH]),
        ("a method with a space", vec![(b":method", b"GET /private HTTP/1.1"), SCHEME, AUTHORITY, PATH]),
        ("a method with a line end", vec![(b":method", b"GET\r\nx: y"), SCHEME, AUTHORITY, PATH]),
        ("a scheme with a host", vec![METHOD, (b":scheme", b"http://b/"), AUTHORITY, PATH]),
        ("a scheme with a line end", vec![METHOD, (b":scheme", b"http\r\nx: y"), AUTHORITY, PATH]),
        ("a name in capitals", vec![(b":METHOD", b"GET"), SCHEME, AUTHORITY, PATH]),
        ("only a colon", vec![METHOD, SCHEME, AUTHORITY, PATH, (b":", b"x")]),
        ("none", vec![(b"x", b"{id}")]),
    ] {
        corpus.refused(name, request(&fields));
    }
}

fn targets(corpus: &mut Corpus) {
    corpus.class("h2 paths");
    let of = |path: &str| request(&[METHOD, SCHEME, AUTHORITY, (b":path", path.as_bytes()), (b"x", b"{id}")]);
    for path in [
        "",
        "*",
        "r/{id}",
        "?{id}",
        "//r/{id}",
        "/r/../{id}",
        "/r/./{id}",
        "/r//{id}",
        "/r/%2e%2e/{id}",
        "/r/{id}%2f",
        "/r/{id}%5c",
        "/r/{id};x",
        "/r/{id}\\",
        "/r/{id}%00",
        "/r/{id}%0d%0a",
        "/r/{id}%252f",
        "/r/{id}%c0%af",
        "/r/{id} HTTP/1.1",
        "/r/{id}\r\nx: y",
        "/r/{id}\nx",
        "/r/{id}\0",
        "/r/{id}\t",
        "/r/{id} ",
        " /r/{id}",
        "/r/{id}\u{7f}",
        "/r/{id}\u{e9}",
        "http://a/r/{id}",
        "http://b/r/{id}",
        "/r/{id}%",
        "/r/{id}%zz",
        "a:443",
    ] {
        corpus.refused(&shown(path), of(path));
    }
    let path = format!("/r/{{id}}{}", "a".repeat(8200));
    corpus.refused("over the limit", of(&path));
    // The fragment never gets as far as the gateway; what is left is plain.
    let plain = Meaning::get().field("x", "{id}");
    corpus.passes("a fragment", of("/r/{id}#/../x"), plain);
    corpus.passes(
        "a query",
        of("/r/{id}?/../%00"),
        Meaning::new("GET", "/r/{id}?/../%00").field("x", "{id}"),
    );
}

fn authorities(corpus: &mut Corpus) {
    corpus.class("h2 authorities");
    let of = |authority: &[u8]| request(&[METHOD, SCHEME, (b":authority", authority), PATH]);
    for authority in [
        &b""[..],
        b"u@a",
        b"u:p@a",
        b"@a",
        b"a:",
        b"a:x",
        b"a:65536",
        b"a/b",
        b"a?b",
        b"a#b",
        b"a b",
        b"a\r\nx: y",
        b"a\0",
        b"a,b",
        b"a%2f",
        b"[::1",
        b"[a]",
        b"a\\b",
        b"\xff",
    ] {
        corpus.refused(&shown(authority), of(authority));
    }
    let both = |host: &[u8]| get(&[(b"host", host)]);
    for host in [&b"b"[..], b"a:80", b"", b"a, a", b"a@a", b"a "] {
        corpus.refused(&format!("{} beside a Host {}", "a", shown(host)), both(host));
    }
    corpus.refused("two Hosts", get(&[(b"host", b"a"), (b"host", b"a")]));
    corpus.refused("neither", request(&[METHOD, SCHEME, PATH]));
    corpus.passes("the same twice", both(b"a"), Meaning::get());
    corpus.passes("only a Host", request(&[METHOD, SCHEME, PATH, (b"host", b"a")]), Meaning::get());
}

fn field_names(corpus: &mut Corpus) {
    corpus.class("h2 field names");
    for name in [
        &b""[..],
        b"X-A",
        b"x-A",
        b"x a",
        b"x:a",
        b"x\r\na",
        b"x\na",
        b"x\0",
        b"x\t",
        b" x",
        b"x ",
        b"x(",
        b"x\x7f",
        b"\xc3\xa9",
        b"x\x80",
        b"x: y\r\nz",
        b"Transfer-Encoding",
        b"transfer-encoding ",
        b"content-length ",
        b"Host",
    ] {
        corpus.refused(&shown(name), get(&[(name, b"5")]));
    }
    for name in [
        "x-serviceos-tenant",
        "x_serviceos_tenant",
        "x-forwarded-for",
        "x-forwarded_host",
        "x-request-id",
        "content_length",
        "transfer_encoding",
        "http2-settings",
    ] {
        corpus.passes(name, get(&[(name.as_bytes(), b"5")]), Meaning::get());
    }
}

fn field_values(corpus: &mut Corpus) {
    corpus.class("h2 field values");
    for value in [
        &b"a\r\nx: y"[..],
        b"a\nb",
        b"a\rb",
        b"a\0b",
        b"\r\n",
        b"\n",
        b"\0",
        b"a\r\n\r\nGET /r/{id}-smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        b"a\x0b",
        b"a\x7f",
        b" a",
        b"a ",
        b"\ta",
        b"a\t",
        b" ",
    ] {
        corpus.refused(&shown(value), get(&[(b"x-a", value)]));
    }
    for value in [&b""[..], b"a\tb", b"a\xff", b"a: b"] {
        corpus.passes(&shown(value), get(&[(b"x-a", value)]), Meaning::get().field("x-a", value));
    }
    let cookies = Meaning::get().field("cookie", "a=1; b=2");
    corpus.passes("two cookies", get(&[(b"cookie", b"a=1"), (b"cookie", b"b=2")]), cookies);
    let huge = vec![b'a'; 15_000];
    let fields: Vec<Field<'_>> = vec![(b"x-a", &huge[..]); 10];
    let mut input = Vec::new();
    for (place, field) in [&[METHOD, SCHEME, AUTHORITY, PATH][..], &fields].concat().chunks(1).enumerate() {
        let (kind, flags) = if place == 0 { (HEADERS, END_STREAM) } else { (CONTINUATION, 0) };
        input.extend(frame(
            kind,
            if place == fields.len() + 3 { flags | END_HEADERS } else { flags },
            1,
            &block(field),
        ));
    }
    corpus.refused("more than the limit", input);
    let many: Vec<Field<'_>> = vec![(b"x-a", b"b"); 110];
    corpus.refused("more fields than the limit", get(&many));
}

fn of_the_connection(corpus: &mut Corpus) {
    corpus.class("h2 fields of a connection");
    for (name, value) in [
        ("connection", "close"),
        ("connection", "x-a"),
        ("connection", ""),
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "identity"),
        ("transfer-encoding", ""),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "close"),
        ("upgrade", "h2c"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("te", "trailers, chunked"),
        ("te", ""),
        ("te", "Trailers"),
        ("te", "trailers "),
    ] {
        corpus.refused(&format!("{name}: {value}"), get(&[(name.as_bytes(), value.as_bytes())]));
    }
    corpus.passes("te: trailers", get(&[(b"te", b"trailers")]), Meaning::get());
    corpus.refused("expect: x", get(&[(b"expect", b"x")]));
}

/// A POST in pieces: its fields, then data.
fn post(more: &[Field<'_>], data: &[&[u8]]) -> Vec<u8> {
    let mut input = frame(HEADERS, END_HEADERS, 1, &block(&[&POST[..], more].concat()));
    for (place, piece) in data.iter().enumerate() {
        input.extend(frame(DATA, if place + 1 == data.len() { END_STREAM } else { 0 }, 1, piece));
    }
    input
}

fn lengths(corpus: &mut Corpus) {
    corpus.class("h2 lengths");
    let length = |value: &'static str| -> Vec<Field<'static>> { vec![(b"content-length", value.as_bytes())] };
    for (value, data) in
        [("4", "hello"), ("6", "hello"), ("0", "hello"), ("5", ""), ("18446744073709551615", "hello")]
    {
        corpus.cut_off(&format!("{value} for {data:?}"), post(&length(value), &[data.as_bytes()]));
        let pieces = [&data.as_bytes()[..data.len() / 2], &data.as_bytes()[data.len() / 2..]];
        corpus.cut_off(&format!("{value} for {data:?} in two"), post(&length(value), &pieces));
    }
    for value in ["+5", "-5", "5 ", " 5", "5,5", "0x5", "five", "", "5.0", "18446744073709551616", "5;"] {
        corpus.refused(&format!("{value:?}"), post(&length(value), &[b"hello"]));
    }
    corpus.refused(
        "two that differ",
        post(&[(b"content-length", b"5"), (b"content-length", b"6")], &[b"hello"]),
    );
    corpus.refused(
        "two that differ, the other way",
        post(&[(b"content-length", b"5"), (b"content-length", b"0")], &[b"hello"]),
    );
    corpus.refused(
        "the same twice",
        post(&[(b"content-length", b"5"), (b"content-length", b"5")], &[b"hello"]),
    );
    corpus.refused("one, and no data", get(&[(b"content-length", b"5")]));
    corpus.passes("the right one", post(&length("5"), &[b"hel", b"lo"]), Meaning::post("hello"));
    corpus.passes("with zeros", post(&length("005"), &[b"hello"]), Meaning::post("hello"));
    let smuggled = "0\r\n\r\nGET /r/{id}-smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    corpus.passes("none", post(&[], &[smuggled.as_bytes()]), Meaning::post(smuggled));
}

fn trailers(corpus: &mut Corpus) {
    corpus.class("h2 trailers");
    let with = |more: &[Field<'_>], trailers: &[Field<'_>], flags: u8| {
        let head = frame(HEADERS, END_HEADERS, 1, &block(&[&POST[..], more].concat()));
        let (data, end) =
            (frame(DATA, 0, 1, b"hello"), frame(HEADERS, END_HEADERS | flags, 1, &block(trailers)));
        join(&[&head, &data, &end])
    };
    for (name, fields) in [
        ("a name in capitals", (&b"X"[..], &b"y"[..])),
        ("a line end", (b"x", b"y\r\nz: 1")),
        ("transfer-encoding", (b"transfer-encoding", b"chunked")),
        ("connection", (b"connection", b"close")),
    ] {
        corpus.cut_off(name, with(&[], &[fields], END_STREAM));
    }
    // The protocol's own reader forgets these before the gateway sees them, so they reach nobody.
    for (name, field) in [("a path", (&b":path"[..], &b"/private"[..])), ("a method", (b":method", b"PUT"))] {
        corpus.passes(name, with(&[], &[field], END_STREAM), Meaning::post("hello"));
    }
    corpus.cut_off("without the end of the stream", with(&[], &[(b"x", b"y")], 0));
    for name in [
        "content-length",
        "host",
        "authorization",
        "content-encoding",
        "x-serviceos-tenant",
        "cookie",
        "x-forwarded-for",
    ] {
        let meaning = Meaning::post("hello").field("trailer", name);
        let declared: Field<'_> = (b"trailer", name.as_bytes());
        corpus.passes(name, with(&[declared], &[(name.as_bytes(), b"5")], END_STREAM), meaning);
    }
    let declared = Meaning::post("hello").field("trailer", "x-sum").trailer("x-sum", "5");
    corpus.passes(
        "a declared one",
        with(&[(b"trailer", b"x-sum")], &[(b"x-sum", b"5")], END_STREAM),
        declared,
    );
}
