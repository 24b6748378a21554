//! The request line, the host, and the path.

use super::corpus::{Corpus, Meaning, shown};

pub(super) fn cases(corpus: &mut Corpus) {
    request_lines(corpus);
    versions(corpus);
    hosts(corpus);
    repeated_hosts(corpus);
    absolute_forms(corpus);
    paths(corpus);
    queries(corpus);
}

fn request_lines(corpus: &mut Corpus) {
    corpus.class("request lines");
    for line in [
        "GET  /r/{id} HTTP/1.1",
        "GET /r/{id}  HTTP/1.1",
        "GET\t/r/{id} HTTP/1.1",
        "GET /r/{id}\tHTTP/1.1",
        "GET /r/{id} HTTP/1.1 ",
        "GET /r/{id} HTTP/1.1\t",
        " GET /r/{id} HTTP/1.1",
        "\tGET /r/{id} HTTP/1.1",
        "GET /r/{id} x HTTP/1.1",
        "GET /r/{id}",
        "GET /r/{id} ",
        "/r/{id} HTTP/1.1",
        "GET HTTP/1.1 {id}",
        "GET {id} HTTP/1.1",
        "GET r/{id} HTTP/1.1",
        "{id}",
        "GET /r/{id} HTTP/1.1 HTTP/1.1",
        "GET /r/{id} HTTP/1.1 x",
        "GET /r/{id}\u{a0}HTTP/1.1",
        "GET /r/{id}\u{3000}HTTP/1.1",
        "GET ?{id} HTTP/1.1",
        "GET *{id} HTTP/1.1",
        "GET //r/{id} HTTP/1.1",
        "GET \\r\\{id} HTTP/1.1",
        "GET a:80 HTTP/1.1 {id}",
        "GET  HTTP/1.1{id}",
        "GET, /r/{id}, HTTP/1.1",
        "GET /r/{id} /r/x HTTP/1.1",
    ] {
        corpus.refused(&shown(line), format!("{line}\r\nhost: a\r\n\r\n"));
    }
}

fn versions(corpus: &mut Corpus) {
    corpus.class("versions");
    for version in [
        "HTTP/0.9",
        "HTTP/1.2",
        "HTTP/1.9",
        "HTTP/2.0",
        "HTTP/2",
        "HTTP/3",
        "HTTP/3.0",
        "HTTP/1",
        "HTTP/1.",
        "HTTP/.1",
        "HTTP/1.1.1",
        "HTTP/1.10",
        "HTTP/1.01",
        "HTTP/01.1",
        "HTTP/11",
        "HTTP/1,1",
        "HTTP/1 .1",
        "HTTP /1.1",
        "HTTP/ 1.1",
        "HTTP/+1.1",
        "HTTP/1.-1",
        "http/1.1",
        "Http/1.1",
        "HTTP1.1",
        "HTTP\\1.1",
        "HTTPS/1.1",
        "ICY/1.1",
        "HTTP/x.1",
        "HTTP/1.x",
        "HTTP/1.1x",
        "xHTTP/1.1",
        "HTTP/\u{661}.1",
        "HTTP//1.1",
        "SIP/2.0",
        "HTTP/9.9",
        "1.1",
        "HTTP",
        "HTTP/",
    ] {
        corpus.refused(&shown(version), format!("GET /r/{{id}} {version}\r\nhost: a\r\n\r\n"));
    }
}

/// What is no host with or without a port.
const NO_HOSTS: [&str; 75] = [
    "",
    " ",
    "a b",
    "a\tb",
    "a/b",
    "a/",
    "a?b",
    "a#b",
    "a\\b",
    "a@b",
    "u:p@a",
    "@a",
    "a@",
    "a,b",
    "a, b",
    "a;b",
    "a=b",
    "a:b",
    "a:",
    ":",
    ":80",
    "a:80:80",
    "a:+80",
    "a:-1",
    "a:65536",
    "a:99999999999999999999",
    "a:80a",
    "a:0x50",
    "a: 80",
    "a :80",
    "a%2eb",
    "%61",
    "a%00",
    "http://a",
    "//a",
    "[",
    "]",
    "[]",
    "[]:80",
    "[::1",
    "::1",
    "[::1]80",
    "[::1]:",
    "[::1]a",
    "[::1].a",
    "[::g]",
    "[1.2.3.4]",
    "[a]",
    "[:::]",
    "[1:2]",
    "[::1%25eth0]",
    "[v1.a]",
    "[::1]:x",
    "[[::1]]",
    "a|b",
    "a<b",
    "a\"b",
    "\"a\"",
    "a'b",
    "a(b)",
    "a{b}",
    "a^b",
    "a`b",
    "a&b",
    "a*b",
    "*",
    "a+b",
    "a$b",
    "a!b",
    "a~b",
    "\u{e9}",
    "a\u{3002}b",
    "a\u{ad}",
    "a\u{7f}",
    "a:\u{661}",
];

fn hosts(corpus: &mut Corpus) {
    corpus.class("hosts");
    for host in NO_HOSTS {
        corpus.refused(&shown(host), format!("GET /r/{{id}} HTTP/1.1\r\nhost: {host}\r\n\r\n"));
    }
    for host in [
        "a",
        "A.B",
        "a.b.",
        "a-b_c",
        "127.0.0.1",
        "127.0.0.1:80",
        "[::1]",
        "[::1]:8080",
        "[::ffff:1.2.3.4]",
        "a:0",
        "xn--e1afmkfd",
    ] {
        corpus.passes(
            host,
            format!("GET /r/{{id}} HTTP/1.1\r\nhost: {host}\r\n\r\n"),
            Meaning::get().host(host),
        );
    }
    corpus.passes("with spaces around", "GET /r/{id} HTTP/1.1\r\nHost: \t a \t\r\n\r\n", Meaning::get());
}

fn repeated_hosts(corpus: &mut Corpus) {
    corpus.class("missing and repeated hosts");
    for (name, lines) in [
        ("none", ""),
        ("none, with a body", "content-length: 0\r\n"),
        ("two", "host: a\r\nhost: b\r\n"),
        ("the same twice", "host: a\r\nhost: a\r\n"),
        ("twice in another case", "host: a\r\nHOST: a\r\n"),
        ("three", "host: a\r\nhost: a\r\nhost: a\r\n"),
        ("one that is empty", "host:\r\nhost: a\r\n"),
        ("one at the end", "host: a\r\nx-a: b\r\nhost: b\r\n"),
        ("one behind a space", "host: a\r\n host: b\r\n"),
        ("one before a space", "host: a\r\nhost : b\r\n"),
        ("only an underscore", "h_ost: a\r\n"),
        ("only a forwarded one", "x-forwarded-host: a\r\n"),
        ("a list", "host: a, a\r\n"),
    ] {
        corpus.refused(name, format!("GET /r/{{id}} HTTP/1.1\r\n{lines}\r\n"));
    }
}

fn absolute_forms(corpus: &mut Corpus) {
    corpus.class("absolute forms");
    for (target, host) in [
        ("http://b/r/{id}", "a"),
        ("http://a/r/{id}", "b"),
        ("http://a:80/r/{id}", "a"),
        ("http://a/r/{id}", "a:80"),
        ("http://a:81/r/{id}", "a:80"),
        ("http://u@a/r/{id}", "a"),
        ("http://u:p@a/r/{id}", "a"),
        ("http://a@b/r/{id}", "b"),
        ("http://@a/r/{id}", "a"),
        ("http://a/r/{id}#x", "a"),
        ("http://a#/r/{id}", "a"),
        ("http://a", "a"),
        ("http://a?{id}", "a"),
        ("http:///r/{id}", "a"),
        ("http:/r/{id}", "a"),
        ("http:r/{id}", "a"),
        ("http//a/r/{id}", "a"),
        ("://a/r/{id}", "a"),
        ("//a/r/{id}", "a"),
        ("ftp://a/r/{id}", "a"),
        ("file:///r/{id}", "a"),
        ("ws://a/r/{id}", "a"),
        ("gopher://a/r/{id}", "a"),
        ("javascript:/r/{id}", "a"),
        ("http://a\\r\\{id}", "a"),
        ("http://a\\@b/r/{id}", "b"),
        ("http://a:x/r/{id}", "a:x"),
        ("http://a:65536/r/{id}", "a:65536"),
        ("http://[::1/r/{id}", "[::1"),
        ("http://a b/r/{id}", "a"),
        ("http://a,b/r/{id}", "a,b"),
        ("http://a%2f/r/{id}", "a%2f"),
        ("http://a:/r/{id}", "a:"),
        ("http://a./r/{id}", "a"),
        ("http://a/../r/{id}", "a"),
        ("http://a//r/{id}", "a"),
        ("http://a/r/%2e%2e/{id}", "a"),
        ("http://\u{e9}/r/{id}", "\u{e9}"),
        ("http://a/r/{id}", ""),
        ("http://a/r/{id}", "a\r\nhost: a"),
        ("https://b/r/{id}", "a"),
        ("http://a;b/r/{id}", "a"),
        ("a:80", "a:80"),
        ("a", "a"),
        ("*", "a"),
    ] {
        corpus.refused(
            &shown(format!("{target} of {host}")),
            format!("GET {target} HTTP/1.1\r\nhost: {host}\r\nx: {{id}}\r\n\r\n"),
        );
    }
    corpus.refused("without a Host", "GET http://a/r/{id} HTTP/1.1\r\n\r\n");
    for target in ["http://a/r/{id}", "HTTP://A/r/{id}", "https://a/r/{id}"] {
        corpus.passes(target, format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n"), Meaning::get());
    }
    let query = Meaning::new("GET", "/r/{id}?http://b/");
    corpus.passes("a URL in the query", "GET http://a/r/{id}?http://b/ HTTP/1.1\r\nhost: a\r\n\r\n", query);
}

/// Segments that some reader takes for a way up, for a separator, or for nothing.
const DETOURS: [&str; 56] = [
    "..",
    ".",
    "%2e%2e",
    "%2E%2E",
    ".%2e",
    "%2e.",
    "%2e",
    "..%2f",
    "%2e%2e%2f",
    "..%5c",
    "%5c",
    "%5C..",
    "..\\",
    "\\",
    "..;",
    ".;",
    ";",
    "..;x=y",
    "%3b",
    "%3B..",
    "a;b",
    "%00",
    "..%00",
    "%00..",
    "%0a",
    "%0d%0a",
    "%09",
    "%1f",
    "%7f",
    "%2f",
    "%2F",
    "%2f..%2f",
    "%252e%252e",
    "%252f",
    "%25",
    "%25%32%65",
    "%c0%ae%c0%ae",
    "%c0%af",
    "%c1%9c",
    "%c1%1c",
    "%e0%80%ae",
    "%e0%80%af",
    "%e0%9f%bf",
    "%f0%80%80%af",
    "%f0%8f%bf%bf",
    "%u002e",
    "%u2215",
    "%",
    "%2",
    "%zz",
    "%2g",
    "%%32%65",
    "%+2e",
    "% 2e",
    "%-1",
    "",
];

/// More of them, in other places.
const AMBIGUOUS_PATHS: [&str; 34] = [
    "/r/{id}/..",
    "/r/{id}/.",
    "/r/{id}//",
    "/r/{id}%2f",
    "/r/{id}%2e",
    "/r/{id};x",
    "/r/{id}\\",
    "/./r/{id}",
    "/../r/{id}",
    "/../../r/{id}",
    "//r/{id}",
    "///r/{id}",
    "/%2fr/{id}",
    "/%2e/r/{id}",
    "/%2e%2e/r/{id}",
    "/;/r/{id}",
    "/r;/{id}",
    "/r%00/{id}",
    "/r/{id}%00.html",
    "/r/{id}#",
    "/r/{id}#/../x",
    "/r/#{id}",
    "\\r\\{id}",
    "/r/{id}\u{e9}",
    "/r/{id}\u{ff0f}..",
    "/r/..%ef%bc%8f{id};",
    "./r/{id}",
    "../r/{id}",
    "/strip//private/{id}",
    "/strip/../private/{id}",
    "/strip/%2e%2e/private/{id}",
    "/strip/./private/{id}",
    "/strip/..",
    "/strip/http://b/{id}",
];

/// Spellings that a replica, or what stands behind it, might read as another path. `/private` needs a key, `/r` needs none.
fn paths(corpus: &mut Corpus) {
    corpus.class("paths");
    for middle in DETOURS {
        let input = format!("GET /r/{middle}/private/{{id}} HTTP/1.1\r\nhost: a\r\n\r\n");
        corpus.refused(&format!("/r/{}/", shown(middle)), input);
    }
    for path in AMBIGUOUS_PATHS {
        corpus.refused(&shown(path), format!("GET {path} HTTP/1.1\r\nhost: a\r\nx: {{id}}\r\n\r\n"));
    }
    for path in
        ["/R/{id}", "/r%20/{id}", "/r.{id}", "/rr/{id}", "/r", "/", "/*", "/strip.", "/private%20/{id}"]
    {
        corpus.denied(path, 404, format!("GET {path} HTTP/1.1\r\nhost: a\r\nx: {{id}}\r\n\r\n"));
    }
    for path in
        ["/private/{id}", "/private/r/{id}", "/private/{id}?/r/", "/%70rivate/{id}", "/priv%61%74%65/{id}"]
    {
        corpus.denied(path, 401, format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n"));
    }
    for path in [
        "/r/{id}/",
        "/r/{id}/...",
        "/r/{id}/..a",
        "/r/.{id}",
        "/r/{id}%20",
        "/r/{id}%C3%A9",
        "/r/{id}%e2%82%ac",
        "/r/{id}%ef%bc%8f",
        "/r/{id}:80",
        "/r/{id}@b",
        "/r/{id}*",
        "/r/{id}~",
        "/r/%70rivate/{id}",
        "/%72/{id}",
    ] {
        corpus.passes(path, format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n"), Meaning::new("GET", path));
    }
    for (path, rest) in [
        ("/strip/{id}", "/{id}"),
        ("/strip/strip/{id}", "/strip/{id}"),
        ("/%73tri%70/%73trip/{id}", "/%73trip/{id}"),
        ("/strip/{id}?/strip/", "/{id}?/strip/"),
    ] {
        corpus.passes(path, format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n"), Meaning::new("GET", rest));
    }
}

/// Tricks with paths mean nothing in a query, which is passed on as it is.
fn queries(corpus: &mut Corpus) {
    corpus.class("queries");
    for query in [
        "?",
        "??",
        "?a=/../b",
        "?%2e%2e%2f",
        "?%00",
        "?a;b",
        "?a\\b",
        "?%",
        "?%zz",
        "?a=b&a=c",
        "?//",
        "?[]={}",
        "?\"<>^`|",
    ] {
        let target = format!("/r/{{id}}{query}");
        corpus.passes(
            query,
            format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n"),
            Meaning::new("GET", &target),
        );
    }
    for query in ["?#", "?a#b", "?\u{e9}", "?a b"] {
        corpus.refused(query, format!("GET /r/{{id}}{query} HTTP/1.1\r\nhost: a\r\n\r\n"));
    }
}
