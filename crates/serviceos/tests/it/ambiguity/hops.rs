//! What belongs to the connection and not to the message, and what only the gateway may say.

use super::corpus::{Corpus, Ending, Expected, Meaning};

const GET: &str = "GET /r/{id} HTTP/1.1\r\nhost: a\r\n";
const POST: &str = "POST /r/{id} HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n";

pub(super) fn cases(corpus: &mut Corpus) {
    connection_options(corpus);
    upgrades(corpus);
    websockets(corpus);
    expectations(corpus);
    reserved_names(corpus);
    pipelines(corpus);
}

fn connection_options(corpus: &mut Corpus) {
    corpus.class("options of Connection");
    for named in
        ["content-length", "transfer-encoding", "host", "authorization", "x-api-key", "apikey", "cookie"]
    {
        for list in [
            named.to_owned(),
            named.to_ascii_uppercase(),
            format!("close, {named}"),
            format!("{named},keep-alive"),
            format!(" ,\t{named} ,"),
        ] {
            corpus.refused(&list, format!("{POST}connection: {list}\r\n\r\nhello"));
        }
        corpus.refused(
            &format!("{named}, the second"),
            format!("{POST}connection: x\r\nConnection: {named}\r\n\r\nhello"),
        );
    }
    let many = vec!["x"; 40].join(",");
    corpus.refused("forty options", format!("{GET}connection: {many}\r\n\r\n"));
    for named in [
        "x-serviceos-tenant",
        "x-serviceos-scopes",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-request-id",
        "traceparent",
        "via",
        "forwarded",
        "x-request-timeout",
        "te",
        "keep-alive",
        "proxy-connection",
        "trailer",
        "x-a",
        "content-type",
        "accept",
    ] {
        let input = format!("{GET}connection: {named}\r\n{named}: evil\r\n\r\n");
        corpus.passes(&format!("{named} is taken off"), input, Meaning::get());
    }
    for (name, lines, meaning) in [
        ("close", "connection: close\r\n", Meaning::get()),
        ("close in capitals", "Connection: CLOSE\r\n", Meaning::get()),
        ("close in a list", "connection: x, close\r\nx: 1\r\n", Meaning::get()),
        ("close in a second line", "connection: keep-alive\r\nconnection: close\r\n", Meaning::get()),
    ] {
        corpus.passes_last(name, format!("{GET}{lines}\r\n"), meaning);
    }
    for (name, lines, meaning) in [
        ("keep-alive with parameters", "connection: keep-alive\r\nkeep-alive: timeout=5\r\n", Meaning::get()),
        ("nothing", "connection:\r\n", Meaning::get()),
        ("only commas", "connection: ,,\t,\r\n", Meaning::get()),
        (
            "a proxy's",
            "proxy-connection: close\r\nproxy-authorization: x\r\nproxy-authenticate: x\r\n",
            Meaning::get(),
        ),
        ("TE", "te: trailers, chunked\r\nconnection: te\r\n", Meaning::get()),
        ("TE without a word", "te: chunked;q=0\r\n", Meaning::get()),
        ("something that no field has", "connection: y\r\nx: 1\r\n", Meaning::get().field("x", "1")),
        ("the same field twice", "connection: x\r\nx: 1\r\nX: 2\r\n", Meaning::get()),
    ] {
        corpus.passes(name, format!("{GET}{lines}\r\n"), meaning);
    }
}

fn upgrades(corpus: &mut Corpus) {
    corpus.class("upgrades");
    let settings = "http2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n";
    for protocol in [
        "h2c",
        "H2C",
        "h2",
        "h2c, x",
        "x, h2c",
        "HTTP/2.0",
        "http/1.1",
        "HTTP/3",
        "TLS/1.0",
        "tls",
        "TLS/1.2, HTTP/1.1",
        "websocket, h2c",
        "h2c,websocket",
        "",
        "a b",
        "x,",
        "h2c-16",
    ] {
        for options in ["upgrade, http2-settings", "Upgrade"] {
            let input = format!("{GET}upgrade: {protocol}\r\nconnection: {options}\r\n{settings}\r\n");
            corpus.passes(&format!("{protocol:?} by {options}"), input, Meaning::get());
        }
    }
    for (name, lines) in [
        ("not named by Connection", "upgrade: h2c\r\n"),
        ("named and not there", "connection: upgrade\r\n"),
        ("two of them", "connection: upgrade\r\nupgrade: foo\r\nupgrade: bar\r\n"),
        ("settings alone", "http2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"),
    ] {
        corpus.passes(name, format!("{GET}{lines}\r\n"), Meaning::get());
    }
    let asked = Meaning::get().field("upgrade", "foo");
    corpus.passes(
        "one that the replica does not take up",
        format!("{GET}connection: upgrade\r\nupgrade: foo\r\n\r\n"),
        asked,
    );
    let with_body = format!("{POST}connection: upgrade\r\nupgrade: foo\r\n\r\nhello");
    corpus.passes("one with a body", with_body, Meaning::post("hello"));
    let chunked = "GET /r/{id} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nconnection: upgrade\r\nupgrade: foo\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    corpus.passes("one with chunks", chunked, Meaning { method: "GET".into(), ..Meaning::post("hello") });
    corpus.passes_last(
        "one of HTTP/1.0",
        "GET /r/{id} HTTP/1.0\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
        Meaning::get(),
    );
}

fn websockets(corpus: &mut Corpus) {
    corpus.class("websockets");
    let with = |version: &str, key: &str| {
        format!("{GET}connection: upgrade\r\nupgrade: websocket\r\n{version}{key}\r\n")
    };
    let (version, key) = ("sec-websocket-version: 13\r\n", "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n");
    for (name, input) in [
        ("no version", with("", key)),
        ("version 8", with("sec-websocket-version: 8\r\n", key)),
        ("version 013", with("sec-websocket-version: 013\r\n", key)),
        ("two versions", with("sec-websocket-version: 13\r\nsec-websocket-version: 13\r\n", key)),
        ("a list of versions", with("sec-websocket-version: 13, 8\r\n", key)),
        ("no key", with(version, "")),
        ("a short key", with(version, "sec-websocket-key: AAAA\r\n")),
        ("a key that is no base64", with(version, "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ!!\r\n")),
        ("two keys", with(version, &key.repeat(2))),
        ("a POST", with(version, key).replacen("GET", "POST", 1)),
    ] {
        corpus.refused(name, input);
    }
    // The replica answers 200, so no tunnel begins, and what follows is a request.
    let meaning = Meaning::get()
        .field("sec-websocket-version", "13")
        .field("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .field("upgrade", "websocket");
    corpus.passes("one that the replica does not take up", with(version, key), meaning);
}

fn expectations(corpus: &mut Corpus) {
    corpus.class("expectations");
    for value in [
        "",
        "x",
        "100",
        "100-continu",
        "100-continue, x",
        "x, 100-continue",
        "100-continue;q=1",
        "200-ok",
        "y 100-continue",
        "100_continue",
    ] {
        corpus.denied(&format!("{value:?}"), 417, format!("{GET}expect: {value}\r\n\r\n"));
        let refused = format!("{POST}expect: {value}\r\n\r\nhello");
        corpus.refused(&format!("{value:?} with a body"), refused);
    }
    corpus.denied("two of them", 417, format!("{GET}expect: 100-continue\r\nexpect: x\r\n\r\n"));
    corpus.refused("one in a folded line", format!("{POST}expect: 100-continue\r\n x\r\n\r\nhello"));
    for value in ["100-continue", "100-CONTINUE", "\t100-continue "] {
        corpus.passes(value, format!("{POST}expect: {value}\r\n\r\nhello"), Meaning::post("hello"));
        corpus.passes(
            &format!("{value} without a body"),
            format!("{GET}expect: {value}\r\n\r\n"),
            Meaning::get(),
        );
    }
    corpus.passes(
        "the same twice",
        format!("{POST}expect: 100-continue\r\nexpect: 100-continue\r\n\r\nhello"),
        Meaning::post("hello"),
    );
}

/// Names that only the gateway may set, as they are and as others read them.
fn reserved_names(corpus: &mut Corpus) {
    corpus.class("reserved names");
    for name in [
        "x-serviceos-tenant",
        "X-ServiceOS-Tenant",
        "x-serviceos-scopes",
        "x-serviceos-subject",
        "x-serviceos-anything",
        "x_serviceos_tenant",
        "X_SERVICEOS_TENANT",
        "x-serviceos_tenant",
        "x_serviceos-tenant",
        "x_serviceos_scopes",
        "x-forwarded-for",
        "x_forwarded_for",
        "X-Forwarded_For",
        "x-forwarded-proto",
        "x_forwarded_proto",
        "x-forwarded-host",
        "x_forwarded_host",
        "forwarded",
        "x-real-ip",
        "x_real_ip",
        "x-forwarded-port",
        "x-forwarded-prefix",
        "x-forwarded-server",
        "x-original-url",
        "x-rewrite-url",
        "x-request-id",
        "x_request_id",
        "traceparent",
        "x-request-timeout",
        "x_request_timeout",
        "authorization",
        "x-api-key",
        "x_api_key",
        "apikey",
        "proxy-authorization",
        "proxy_authorization",
        "content_type",
        "user_agent",
        "te",
        "keep-alive",
        "keep_alive",
        "http2-settings",
        "http2_settings",
        "transfer_encoding",
        "content_length",
        "idempotency_key",
    ] {
        corpus.passes(name, format!("{GET}{name}: 5\r\n\r\n"), Meaning::get());
        corpus.passes(
            &format!("{name} twice"),
            format!("{GET}{name}: 5\r\n{name}: admin, root\r\n\r\n"),
            Meaning::get(),
        );
    }
    for name in ["x-serviceo-tenant", "xserviceos-tenant", "x-a_b", "_", "x-real", "x-forwarded"] {
        corpus.passes(name, format!("{GET}{name}: 5\r\n\r\n"), Meaning::get().field(name, "5"));
    }
}

fn pipelines(corpus: &mut Corpus) {
    corpus.class("pipelines");
    let get = |suffix: &str| format!("GET /r/{{id}}{suffix} HTTP/1.1\r\nhost: a\r\n\r\n");
    let meaning = |suffix: &str| Meaning::new("GET", &format!("/r/{{id}}{suffix}"));
    let three = Expected::Neutralised(["-1", "-2", "-3"].map(meaning).to_vec());
    corpus.add("three requests", get("-1") + &get("-2") + &get("-3"), Ending::Tail, three);
    let bodies = format!("{POST}\r\nhello{}", get("-2"));
    corpus.add(
        "a body, then a request",
        bodies,
        Ending::Tail,
        Expected::Neutralised(vec![Meaning::post("hello"), meaning("-2")]),
    );
    let chunks =
        "POST /r/{id} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let both = Expected::Neutralised(vec![Meaning::post("hello"), Meaning::post("hello")]);
    corpus.add("chunks twice", chunks.repeat(2), Ending::Tail, both);
    let denied = Expected::Neutralised(vec![meaning("-1")]);
    corpus.add(
        "a request behind the last one",
        format!("{}{}", get("-1").replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n"), get("-2")),
        Ending::UnansweredTail,
        denied,
    );
}
