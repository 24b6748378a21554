//! Connections that are valid but for a few bytes.

use proptest::prelude::*;
use proptest::sample::{Index, select};

/// What is put into a valid connection, or in the place of a part of it.
const NASTY: [&str; 34] = [
    "\r",
    "\n",
    "\r\n",
    "\r\n\r\n",
    "\n\r",
    "\0",
    " ",
    "\t",
    "\u{b}",
    "\u{c}",
    "\u{7f}",
    ":",
    ";",
    ",",
    "+",
    "-",
    "0x",
    "0",
    "5",
    "f",
    "/",
    "//",
    "#",
    "@",
    "?",
    "*",
    "chunked",
    ", chunked",
    "identity",
    "HTTP/1.0",
    "content-length: 5\r\n",
    "transfer-encoding: chunked\r\n",
    "host: b\r\n",
    "connection: close\r\n",
];

/// One change.
#[derive(Debug, Clone)]
enum Mutation {
    Insert(Index, &'static str),
    Replace(Index, &'static str),
    Remove(Index),
    /// A byte becomes any other.
    Change(Index, u8),
    /// A part stands there twice.
    Repeat(Index, Index),
    Cut(Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        4 => (any::<Index>(), select(&NASTY[..])).prop_map(|(at, text)| Mutation::Insert(at, text)),
        2 => (any::<Index>(), select(&NASTY[..])).prop_map(|(at, text)| Mutation::Replace(at, text)),
        2 => any::<Index>().prop_map(Mutation::Remove),
        1 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Change(at, byte)),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Mutation::Repeat(from, to)),
        1 => any::<Index>().prop_map(Mutation::Cut),
    ]
}

fn apply(bytes: &mut Vec<u8>, mutation: &Mutation) {
    if bytes.is_empty() {
        return;
    }
    match mutation {
        Mutation::Insert(at, text) => {
            let at = at.index(bytes.len());
            bytes.splice(at..at, text.bytes());
        }
        Mutation::Replace(at, text) => {
            let at = at.index(bytes.len());
            bytes.splice(at..=at, text.bytes());
        }
        Mutation::Remove(at) => drop(bytes.remove(at.index(bytes.len()))),
        Mutation::Change(at, byte) => {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        Mutation::Repeat(from, to) => {
            let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
            let part = bytes[from.min(to)..from.max(to)].to_vec();
            bytes.splice(from.max(to)..from.max(to), part);
        }
        Mutation::Cut(at) => bytes.truncate(at.index(bytes.len())),
    }
}

fn method() -> impl Strategy<Value = String> {
    prop_oneof![12 => select(&["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS"][..]).prop_map(str::to_owned), 1 => "[!-~]{1,6}"]
}

fn target() -> impl Strategy<Value = String> {
    prop_oneof![
        12 => "/[a-z0-9/._~%-]{0,12}",
        1 => "/[!-~]{0,8}(\\?[!-~]{0,8})?",
        1 => "https?://a(:80)?/[a-z?]{0,6}",
    ]
}

fn field() -> impl Strategy<Value = String> {
    let odd = prop_oneof![
        Just("connection: close".to_owned()),
        Just("Connection: keep-alive, x-a".to_owned()),
        Just("connection: upgrade\r\nupgrade: websocket".to_owned()),
        Just("te: trailers".to_owned()),
        Just("trailer: x-sum".to_owned()),
        Just("expect: 100-continue".to_owned()),
        Just("cookie: a=1; b=2".to_owned()),
        Just("content-length: 0".to_owned()),
        Just("x-obs: \u{e9}".to_owned()),
    ];
    prop_oneof![12 => "x-[a-z]{1,3}:[ \t]{0,2}[!-~ \t]{0,8}", 1 => "[!-~]{1,8}: [!-~]{0,8}", 3 => odd]
}

/// A body and how it is announced.
fn body() -> impl Strategy<Value = (String, Vec<u8>)> {
    let data =
        || proptest::collection::vec(prop_oneof![Just(b'a'), Just(b'\r'), Just(b'\n'), any::<u8>()], 0..20);
    let chunk = (data(), "(;[!-~]{0,4})?", any::<bool>());
    let chunked = (proptest::collection::vec(chunk, 0..3), proptest::collection::vec(field(), 0..2));
    prop_oneof![
        3 => Just((String::new(), Vec::new())),
        3 => data().prop_map(|data| (format!("content-length: {}\r\n", data.len()), data)),
        3 => chunked.prop_map(|(chunks, trailers)| {
            let mut body = Vec::new();
            for (data, extension, capital) in chunks.into_iter().filter(|(data, ..)| !data.is_empty()) {
                let size = if capital { format!("{:X}", data.len()) } else { format!("{:x}", data.len()) };
                body.extend_from_slice(format!("{size}{extension}\r\n").as_bytes());
                body.extend_from_slice(&data);
                body.extend_from_slice(b"\r\n");
            }
            let trailers: String = trailers.iter().map(|trailer| format!("{trailer}\r\n")).collect();
            body.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
            ("transfer-encoding: chunked\r\n".to_owned(), body)
        }),
    ]
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    let version = prop_oneof![9 => Just("HTTP/1.1"), 1 => Just("HTTP/1.0")];
    let host = prop_oneof![9 => Just("host: a\r\n"), 1 => Just("Host:a:80\r\n"), 1 => Just("")];
    (method(), target(), version, host, proptest::collection::vec(field(), 0..4), body()).prop_map(
        |(method, target, version, host, fields, (announced, body))| {
            let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
            let head = format!("{method} {target} {version}\r\n{host}{fields}{announced}\r\n");
            [head.into_bytes(), body].concat()
        },
    )
}

/// One to three requests in a row, with none to three changes.
pub(crate) fn connection() -> impl Strategy<Value = Vec<u8>> {
    (
        proptest::collection::vec(request(), 1..4),
        prop_oneof![1 => Just(Vec::new()), 2 => proptest::collection::vec(mutation(), 1..4)],
    )
        .prop_map(|(requests, mutations)| {
            let mut bytes = requests.concat();
            for mutation in &mutations {
                apply(&mut bytes, mutation);
            }
            bytes
        })
}
