//! The lines of a head: bytes that have no place there, names, ends of lines, limits.

use super::corpus::{Corpus, Meaning, join, shown};

pub(super) fn cases(corpus: &mut Corpus) {
    stray_bytes(corpus);
    line_ends(corpus);
    names(corpus);
    methods(corpus);
    folds(corpus);
    limits(corpus);
}

/// Bytes that some reader somewhere takes for an end, a space, or nothing at all.
const STRAY: [&[u8]; 14] = [
    b"\0", b"\x01", b"\x08", b"\x0b", b"\x0c", b"\x1b", b"\x1f", b"\x7f", b"\r", b"\n", b"\x80", b"\x85",
    b"\xa0", b"\xff",
];

/// Each of them in each place of a head.
fn stray_bytes(corpus: &mut Corpus) {
    corpus.class("stray bytes");
    let places: [(&str, &[u8], &[u8]); 12] = [
        ("before everything", b"", b"GET /r/{id} HTTP/1.1\r\nhost: a\r\nx-a: b\r\n\r\n"),
        ("in the method", b"G", b"ET /r/{id} HTTP/1.1\r\nhost: a\r\nx-a: b\r\n\r\n"),
        ("behind the method", b"GET", b" /r/{id} HTTP/1.1\r\nhost: a\r\nx-a: b\r\n\r\n"),
        ("before the target", b"GET ", b"/r/{id} HTTP/1.1\r\nhost: a\r\nx-a: b\r\n\r\n"),
        ("in the path", b"GET /r/", b"{id} HTTP/1.1\r\nhost: a\r\nx-a: b\r\n\r\n"),
        ("in the query", b"GET /r/{id}?a", b"b HTTP/1.1\r\nhost: a\r\nx-a: b\r\n\r\n"),
        ("before the version", b"GET /r/{id} ", b"HTTP/1.1\r\nhost: a\r\nx-a: b\r\n\r\n"),
        ("in the version", b"GET /r/{id} HTTP/1", b".1\r\nhost: a\r\nx-a: b\r\n\r\n"),
        ("behind the version", b"GET /r/{id} HTTP/1.1", b"\r\nhost: a\r\nx-a: b\r\n\r\n"),
        ("before a name", b"GET /r/{id} HTTP/1.1\r\nhost: a\r\n", b"x-a: b\r\n\r\n"),
        ("in a name", b"GET /r/{id} HTTP/1.1\r\nhost: a\r\nx-", b"a: b\r\n\r\n"),
        ("behind a name", b"GET /r/{id} HTTP/1.1\r\nhost: a\r\nx-a", b": b\r\n\r\n"),
    ];
    for (place, before, after) in places {
        for byte in STRAY {
            corpus.refused(&format!("{} {place}", shown(byte)), join(&[before, byte, after]));
        }
    }
    for (place, before, after) in [
        ("before a value", &b" "[..], &b"b"[..]),
        ("in a value", b" b", b"c"),
        ("behind a value", b" b", b""),
    ] {
        for byte in STRAY {
            let line = join(&[b"GET /r/{id} HTTP/1.1\r\nhost: a\r\nx-a:", before, byte, after, b"\r\n\r\n"]);
            let name = format!("{} {place}", shown(byte));
            if byte[0] < 0x80 {
                corpus.refused(&name, line);
            } else {
                let value = join(&[before.trim_ascii(), byte, after]);
                corpus.passes(&name, line, Meaning::get().field("x-a", value));
            }
        }
    }
}

fn line_ends(corpus: &mut Corpus) {
    corpus.class("ends of lines");
    let get = "GET /r/{id} HTTP/1.1\r\nhost: a\r\n\r\n";
    for (name, input) in [
        ("an empty line before", format!("\r\n{get}")),
        ("two empty lines before", format!("\r\n\r\n{get}")),
        ("a line feed before", format!("\n{get}")),
        ("a space before", format!(" {get}")),
        ("only line feeds", get.replace("\r\n", "\n")),
        ("only carriage returns", get.replace("\r\n", "\r")),
        ("line feeds before carriage returns", get.replace("\r\n", "\n\r")),
        ("carriage returns twice", get.replace("\r\n", "\r\r\n")),
        ("a line feed behind the request line", get.replacen("\r\n", "\n", 1)),
        ("a line feed at the end", get.replace("\r\n\r\n", "\r\n\n")),
        ("line feeds at the end", get.replace("\r\n\r\n", "\n\n")),
        ("a line feed behind the last field", get.replace("\r\n\r\n", "\n\r\n")),
        ("a space on the empty line", get.replace("\r\n\r\n", "\r\n \r\n")),
        ("a tab on the empty line", get.replace("\r\n\r\n", "\r\n\t\r\n")),
        ("a carriage return on the empty line", get.replace("\r\n\r\n", "\r\n\r\r\n")),
        ("a null on the empty line", get.replace("\r\n\r\n", "\r\n\0\r\n")),
        ("a line separator", get.replace("\r\nhost", "\u{2028}host")),
        ("a next line", get.replace("\r\nhost", "\u{85}host")),
        ("no head, only a body", "hello world\r\n\r\n{id}".to_owned()),
        ("a TLS hello", "\u{16}\u{3}\u{1}{id}\r\n\r\n".to_owned()),
        ("a PROXY line", format!("PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n{get}")),
        ("an answer", "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n{id}".to_owned()),
        ("an HTTP/2 preface without an end", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n{id}".to_owned()),
    ] {
        corpus.refused(name, input);
    }
}

fn names(corpus: &mut Corpus) {
    corpus.class("field names");
    let with = |line: &[u8]| join(&[b"GET /r/{id} HTTP/1.1\r\nhost: a\r\n", line, b"\r\n\r\n"]);
    for byte in b"\"(),/;<=>?@[\\]{}" {
        corpus.refused(&format!("{} in it", char::from(*byte)), with(&[b'x', *byte, b'a', b':', b'b']));
    }
    for line in [
        &b": b"[..],
        b":",
        b" : b",
        b"x-a",
        b"x-a b",
        b"x a: b",
        b"x-a : b",
        b"x-a\t: b",
        b"\xc3\xa9: b",
        b"x-\xe2\x84\xaa: b",
        b"=x: b",
        b"\"x\": b",
        b"x-a;: b",
        b"x-a\r\n: b",
        b"host",
        b"host :b",
    ] {
        corpus.refused(&shown(line), with(line));
    }
    for byte in b"!#$%&'*+.^`|~" {
        let name = format!("x{}a", char::from(*byte));
        corpus.passes(&name, with(format!("{name}: b").as_bytes()), Meaning::get().field(&name, "b"));
    }
    for (line, name, value) in [
        ("x-a:b", "x-a", "b"),
        ("x-a:", "x-a", ""),
        ("x-a:   \t ", "x-a", ""),
        ("x-a::b", "x-a", ":b"),
        ("X-A: b", "x-a", "b"),
        ("x-a: b \t", "x-a", "b"),
        ("x-a: b\tc", "x-a", "b\tc"),
        ("1: b", "1", "b"),
    ] {
        corpus.passes(line, with(line.as_bytes()), Meaning::get().field(name, value));
    }
}

fn methods(corpus: &mut Corpus) {
    corpus.class("methods");
    let with = |method: &str| format!("{method} /r/{{id}} HTTP/1.1\r\nhost: a\r\n\r\n");
    for byte in "\"(),/:;<=>?@[\\]{}".chars() {
        corpus.refused(&format!("G{byte}T"), with(&format!("G{byte}T")));
    }
    for bad in ["", "GE T", "GET\t", "G\u{c9}T", "GET,", "\u{feff}GET", "GET /r/x HTTP/1.1\r\n"] {
        corpus.refused(&shown(bad), with(bad));
    }
    for method in ["get", "Get", "GETT", "G!T", "X-Y", "PRI", "HTTP", "1", "PURGE", "GET_"] {
        corpus.passes(method, with(method), Meaning::new(method, "/r/{id}"));
    }
    corpus.denied("TRACE", 405, with("TRACE"));
    corpus.denied("CONNECT", 405, with("CONNECT"));
    corpus.refused("CONNECT of an authority", "CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n{id}");
    corpus.refused("OPTIONS of everything", "OPTIONS * HTTP/1.1\r\nhost: a\r\nx: {id}\r\n\r\n");
}

fn folds(corpus: &mut Corpus) {
    corpus.class("folded lines");
    for name in ["x-a", "host", "content-length", "transfer-encoding", "authorization", "connection"] {
        for (space, fold) in [
            ("a space", "\r\n b"),
            ("a tab", "\r\n\tb"),
            ("nothing else", "\r\n \r\n"),
            ("a line feed", "\n b"),
        ] {
            let host = if name == "host" { "" } else { "host: a\r\n" };
            let input = format!("GET /r/{{id}} HTTP/1.1\r\n{host}{name}: a{fold}\r\n\r\n");
            corpus.refused(&format!("{name} by {space}"), input);
        }
    }
    corpus.refused("the first line", "GET /r/{id} HTTP/1.1\r\n host: a\r\nhost: a\r\n\r\n");
    corpus.refused("the request line", "GET\r\n /r/{id} HTTP/1.1\r\nhost: a\r\n\r\n");
}

fn limits(corpus: &mut Corpus) {
    corpus.class("limits");
    let head = "GET /r/{id} HTTP/1.1\r\nhost: a\r\n";
    corpus.refused("one line over the limit", format!("{head}{}\r\n", "x: 1\r\n".repeat(100)));
    corpus.refused("a thousand lines", format!("{head}{}\r\n", "x: 1\r\n".repeat(1000)));
    corpus.refused("a value over the limit", format!("{head}x: {}\r\n\r\n", "a".repeat(66_000)));
    corpus.refused("a name over the limit", format!("{head}{}: a\r\n\r\n", "x".repeat(66_000)));
    let lines = format!("x: {}\r\n", "a".repeat(1000));
    corpus.refused("many long lines", format!("{head}{}\r\n", lines.repeat(70)));
    corpus.refused(
        "a path over the limit",
        format!("GET /r/{{id}}{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(8200)),
    );
    corpus.refused(
        "a query over the limit",
        format!("GET /r/{{id}}?{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(8200)),
    );
    corpus.refused(
        "a method over the limit",
        format!("{} /r/{{id}} HTTP/1.1\r\nhost: a\r\n\r\n", "G".repeat(8300)),
    );
    corpus.refused("a request line without an end", format!("GET /r/{{id}}{}", "a".repeat(9000)));
    let name = "x".repeat(300);
    let meaning = Meaning::get().field(&name, "b");
    corpus.passes("a long name", format!("{head}{name}: b\r\n\r\n"), meaning);
}
