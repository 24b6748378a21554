//! The chunked coding: sizes, extensions, ends, and trailers.

use super::corpus::{Corpus, Ending, Expected, Meaning, join, shown};

const HEAD: &str = "POST /r/{id} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n";

pub(super) fn cases(corpus: &mut Corpus) {
    sizes(corpus);
    extensions(corpus);
    ends(corpus);
    trailers(corpus);
    declared_trailers(corpus);
}

fn chunked(body: &[u8]) -> Vec<u8> {
    join(&[HEAD.as_bytes(), b"\r\n", body])
}

fn sizes(corpus: &mut Corpus) {
    corpus.class("chunk sizes");
    for good in ["5", "05", "005", "0000000000000005"] {
        let body = format!("{good}\r\nhello\r\n0\r\n\r\n");
        corpus.passes(good, chunked(body.as_bytes()), Meaning::post("hello"));
        let last = format!("5\r\nhello\r\n{}\r\n\r\n", good.replace('5', "0"));
        corpus.passes(&format!("{good}, the last"), chunked(last.as_bytes()), Meaning::post("hello"));
    }
    corpus.passes("A", chunked(b"A\r\n0123456789\r\n0\r\n\r\n"), Meaning::post("0123456789"));
    corpus.passes(
        "a, then B",
        chunked(b"a\r\n0123456789\r\nB\r\n0123456789a\r\n0\r\n\r\n"),
        Meaning::post("01234567890123456789a"),
    );
    let bad: [&[u8]; 40] = [
        b"",
        b" 5",
        b"5 ",
        b"\t5",
        b"5\t",
        b"+5",
        b"-5",
        b"0x5",
        b"0X5",
        b"x5",
        b"5h",
        b"#5",
        b"$5",
        b"_5",
        b"5_",
        b"0_5",
        b"5,",
        b"5.0",
        b"\"5\"",
        b"5 5",
        b"five",
        b"\xa05",
        b"5\xa0",
        b"5\0",
        b"\x005",
        b"5\x0b",
        b"\x0b5",
        b"5\x0c",
        b"5\x1f",
        b"\xef\xbc\x95",
        b"00000000000000005",
        b"100000000000000005",
        b"10000000000000000",
        b"fffffffffffffffff",
        b"-0",
        b"+0",
        b"0x",
        b"5%",
        b"%35",
        b"5\r",
    ];
    for size in bad {
        corpus.cut_off(&shown(size), chunked(&join(&[size, b"\r\nhello\r\n0\r\n\r\n"])));
        let second = join(&[b"3\r\nabc\r\n", size, b"\r\nhello\r\n0\r\n\r\n"]);
        corpus.cut_off(&format!("{}, the second", shown(size)), chunked(&second));
    }
    // Sizes that are numbers, and that no body comes up to.
    for size in ["ffffffffffffffff", "7fffffffffffffff", "100000005", "10000000", "FFFFFFFE"] {
        let body = format!("{size}\r\nhello\r\n0\r\n\r\n");
        corpus.add(size, chunked(body.as_bytes()), Ending::Closed, Expected::CutOff);
    }
}

fn extensions(corpus: &mut Corpus) {
    corpus.class("chunk extensions");
    for good in [";", ";a", ";a=b", ";a=\"b c\"", ";;", "; a = b", ";a\t", ";\u{e9}", ";a=\"0\\r\\n\""] {
        let body = format!("5{good}\r\nhello\r\n0{good}\r\n\r\n");
        corpus.passes(good, chunked(body.as_bytes()), Meaning::post("hello"));
    }
    let long = vec![b'a'; 300];
    let mut bad: Vec<Vec<u8>> = [
        &b";a\n"[..],
        b";\n",
        b";a\rb",
        b";\r\r",
        b";a\0",
        b";\x0b",
        b";a\x7f",
        b";a=\"\n\"",
        b";a=\"\r\"",
        b" ;a",
        b"\t;a",
        b",a",
        b"=a",
        b":a",
        b" a",
        b"\n",
        b"\0;a",
        b";a\x1b",
        b";a\x08",
    ]
    .map(<[u8]>::to_vec)
    .to_vec();
    bad.push(join(&[b";", &long]));
    bad.push(join(&[b";a=\"", &long, b"\""]));
    for extension in bad {
        corpus.cut_off(&shown(&extension), chunked(&join(&[b"5", &extension, b"\r\nhello\r\n0\r\n\r\n"])));
        let last = join(&[b"5\r\nhello\r\n0", &extension, b"\r\n\r\n"]);
        corpus.cut_off(&format!("{}, the last", shown(&extension)), chunked(&last));
    }
}

fn ends(corpus: &mut Corpus) {
    corpus.class("ends of chunks");
    for (name, body) in [
        ("a bare line feed behind the size", &b"5\nhello\r\n0\r\n\r\n"[..]),
        ("a bare line feed behind the chunk", b"5\r\nhello\n0\r\n\r\n"),
        ("nothing behind the chunk", b"5\r\nhello0\r\n\r\n"),
        ("a carriage return behind the chunk", b"5\r\nhello\r0\r\n\r\n"),
        ("two bytes behind the chunk", b"5\r\nhelloXX0\r\n\r\n"),
        ("an empty line behind the chunk", b"5\r\nhello\r\n\r\n0\r\n\r\n"),
        ("a carriage return twice", b"5\r\r\nhello\r\n0\r\n\r\n"),
        ("a chunk that is longer", b"5\r\nhello world\r\n0\r\n\r\n"),
        ("a chunk that is shorter", b"6\r\nhello\r\n0\r\n\r\n"),
        ("line feeds for both", b"5\n\nhello\r\n0\r\n\r\n"),
        ("a line feed behind the last size", b"5\r\nhello\r\n0\n\r\n"),
        ("a line feed at the very end", b"5\r\nhello\r\n0\r\n\n"),
        ("nothing but line feeds at the end", b"5\r\nhello\r\n0\n\n"),
        ("a line feed before its carriage return", b"5\n\rhello\n\r0\n\r\n\r"),
        ("a space behind the last size", b"5\r\nhello\r\n0 \r\n\r\n"),
        ("a carriage return at the very end", b"5\r\nhello\r\n0\r\n\rx"),
        ("no chunk at all", b"\r\n\r\n"),
        ("a body without chunks", b"hello\r\n\r\n"),
    ] {
        corpus.cut_off(name, chunked(body));
    }
    for (name, body) in [
        ("no last chunk", &b"5\r\nhello\r\n"[..]),
        ("half of a chunk", b"5\r\nhel"),
        ("half of the last size", b"5\r\nhello\r\n0"),
        ("no end behind the last size", b"5\r\nhello\r\n0\r\n"),
        ("half an end", b"5\r\nhello\r\n0\r\n\r"),
        ("trailers without an end", b"5\r\nhello\r\n0\r\ngrpc-status: 0\r\n"),
        ("nothing", b""),
    ] {
        corpus.add(name, chunked(body), Ending::Closed, Expected::CutOff);
    }
    corpus.passes("no data", chunked(b"0\r\n\r\n"), Meaning::post(""));
    let many = b"1\r\nx\r\n".repeat(500);
    corpus.passes("many small ones", chunked(&join(&[&many, b"0\r\n\r\n"])), Meaning::post("x".repeat(500)));
    let smuggled = "0\r\n\r\nGET /r/{id}-smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    let inside = format!("{:x}\r\n{smuggled}\r\n0\r\n\r\n", smuggled.len());
    corpus.passes("an end as data", chunked(inside.as_bytes()), Meaning::post(smuggled));
}

fn trailers(corpus: &mut Corpus) {
    corpus.class("trailer sections");
    let long = format!("grpc-message: {}", "a".repeat(9000));
    let many = "grpc-x: 1\r\n".repeat(40);
    let bad: [&[u8]; 19] = [
        b"x\n",
        b"x: y\n",
        b"x : y\r\n",
        b" x: y\r\n",
        b"\tx: y\r\n",
        b": y\r\n",
        b"x\r\n",
        b"x: \0\r\n",
        b"x: y\rz\r\n",
        b"x: y\r\n z\r\n",
        b"x: y\r\n\tz\r\n",
        b"x\0: y\r\n",
        b"x(: y\r\n",
        b"\xc3\xa9: y\r\n",
        b"x: y\x0b\r\n",
        b"x: \x7f\r\n",
        b"GET /r/{id}-smuggled HTTP/1.1\r\n",
        long.as_bytes(),
        many.as_bytes(),
    ];
    for section in bad {
        let body = join(&[b"5\r\nhello\r\n0\r\n", section, b"\r\n"]);
        corpus.cut_off(&shown(section), chunked(&body));
    }
}

/// Trailers that a client declares: only such that say nothing about the message reach the replica.
fn declared_trailers(corpus: &mut Corpus) {
    corpus.class("trailer fields");
    let with = |name: &str, value: &str| {
        format!("{HEAD}trailer: {name}\r\n\r\n5\r\nhello\r\n0\r\n{name}: {value}\r\n\r\n")
    };
    let post = |name: &str| Meaning::post("hello").field("trailer", name);
    for name in ["x-checksum", "grpc-status", "server-timing"] {
        corpus.passes(name, with(name, "0"), post(name).trailer(name, "0"));
    }
    for name in [
        "content-length",
        "transfer-encoding",
        "host",
        "trailer",
        "connection",
        "te",
        "upgrade",
        "expect",
        "authorization",
        "cookie",
        "x-api-key",
        "apikey",
        "proxy-authorization",
        "content-type",
        "content-encoding",
        "content-range",
        "content-location",
        "range",
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
        "if-range",
        "cache-control",
        "max-forwards",
        "pragma",
        "set-cookie",
        "www-authenticate",
        "authentication-info",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-forwarded-port",
        "x-real-ip",
        "x-original-url",
        "x-rewrite-url",
        "x-http-method-override",
        "x-request-id",
        "traceparent",
        "x-serviceos-tenant",
        "x-serviceos-scopes",
        "x_serviceos_tenant",
        "content_length",
        "idempotency-key",
        "grpc-timeout",
        "keep-alive",
        "proxy-connection",
    ] {
        corpus.passes(name, with(name, "5"), post(name));
    }
    let undeclared = format!("{HEAD}\r\n5\r\nhello\r\n0\r\nx-checksum: 0\r\n\r\n");
    corpus.passes("an undeclared one", undeclared, Meaning::post("hello"));
    let repeated = format!(
        "{HEAD}trailer: x-a\r\ntrailer: x-b\r\n\r\n5\r\nhello\r\n0\r\nx-b: 1\r\nx-b: 2\r\nx-c: 3\r\n\r\n"
    );
    let meaning = post("x-a").field("trailer", "x-b").trailer("x-b", "1").trailer("x-b", "2");
    corpus.passes("declared twice", repeated, meaning);
}
