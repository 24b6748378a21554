//! A second reader of HTTP/1.1, written for these tests and sharing no code with the gateway: it takes only what the gateway
//! ought to write, one way of writing everything.

use super::corpus::Meaning;

/// What the gateway writes into every request itself: exactly once each.
const OWN: [&str; 9] = [
    "host",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "via",
    "x-request-id",
    "traceparent",
    "forwarded",
    "x-request-timeout",
];

/// What must never reach a replica from a client.
const FORBIDDEN: [&str; 11] = [
    "keep-alive",
    "te",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "http2-settings",
    "authorization",
    "x-api-key",
    "apikey",
    "expect",
    "x-serviceos-subject",
];

/// A request whose every byte was accounted for.
#[derive(Debug, Clone)]
pub(super) struct Request {
    /// What it means, without what the gateway added.
    pub(super) meaning: Meaning,
    /// How long it is on the wire.
    pub(super) length: usize,
}

/// Reads one request; `None` while its end has not come.
pub(super) fn request(bytes: &[u8]) -> Result<Option<Request>, String> {
    let Some(head) = find(bytes, b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = latin1(&bytes[..head]);
    let mut lines = text.split("\r\n");
    let words: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, target, "HTTP/1.1"] = words[..] else {
        return Err(format!("a request line of {words:?}"));
    };
    let is_origin =
        target.starts_with('/') && target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if !is_token(method) || !is_origin {
        return Err(format!("a request line of {words:?}"));
    }
    let fields = lines.map(field).collect::<Result<Vec<_>, _>>()?;
    let after = head + 4;
    let Some((body, trailers, used)) = body(&fields, &bytes[after..])? else {
        return Ok(None);
    };
    let host = own_fields(&fields)?;
    let fields = clients_fields(fields);
    let (method, target) = (method.to_owned(), target.to_owned());
    let meaning = Meaning { method, target, host, fields, body, trailers };
    Ok(Some(Request { meaning, length: after + used }))
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// Each byte is a character of its own, so that none is lost.
fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn is_token(text: &str) -> bool {
    let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_tchar)
}

fn field(line: &str) -> Result<(String, Vec<u8>), String> {
    let (name, value) = line.split_once(": ").ok_or_else(|| format!("a field line {line:?}"))?;
    let value: Vec<u8> = value.chars().map(|byte| u8::try_from(byte).expect("one byte each")).collect();
    let plain = value.iter().all(|byte| *byte == b'\t' || *byte >= b' ' && *byte != 0x7f);
    let trimmed = value.trim_ascii() == value;
    if is_token(name) && plain && trimmed {
        Ok((name.to_ascii_lowercase(), value))
    } else {
        Err(format!("a field line {line:?}"))
    }
}

type Body = (Vec<u8>, Vec<(String, Vec<u8>)>, usize);

/// The body, its trailers and its length on the wire; `None` while its end has not come.
fn body(fields: &[(String, Vec<u8>)], bytes: &[u8]) -> Result<Option<Body>, String> {
    let framing: Vec<_> =
        fields.iter().filter(|(name, _)| name == "content-length" || name == "transfer-encoding").collect();
    match framing[..] {
        [] => Ok(Some((Vec::new(), Vec::new(), 0))),
        [(name, value)] if name == "content-length" => {
            let length = number(value, 10)?;
            Ok(bytes.get(..length).map(|body| (body.to_vec(), Vec::new(), length)))
        }
        [(_, value)] if value == b"chunked" => chunks(bytes),
        _ => Err(format!("framing of {framing:?}")),
    }
}

/// Digits without a sign, without leading zeros, without capitals.
fn number(digits: &[u8], radix: u32) -> Result<usize, String> {
    let text = latin1(digits);
    let value = usize::from_str_radix(&text, radix).map_err(|_| format!("a number {text:?}"))?;
    let again = if radix == 16 { format!("{value:x}") } else { value.to_string() };
    if again == text { Ok(value) } else { Err(format!("a number {text:?}")) }
}

fn chunks(bytes: &[u8]) -> Result<Option<Body>, String> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let Some(end) = find(&bytes[at..], b"\r\n") else { return Ok(None) };
        let size = number(&bytes[at..at + end], 16)?;
        at += end + 2;
        if size == 0 {
            break;
        }
        let Some(chunk) = bytes.get(at..at + size + 2) else { return Ok(None) };
        if !chunk.ends_with(b"\r\n") {
            return Err("a chunk without its end".to_owned());
        }
        body.extend_from_slice(&chunk[..size]);
        at += size + 2;
    }
    let mut trailers = Vec::new();
    loop {
        let Some(end) = find(&bytes[at..], b"\r\n") else { return Ok(None) };
        let line = &bytes[at..at + end];
        at += end + 2;
        if line.is_empty() {
            return Ok(Some((body, trailers, at)));
        }
        trailers.push(field(&latin1(line))?);
    }
}

/// Judges what stands in every request, and says which host it is for.
fn own_fields(fields: &[(String, Vec<u8>)]) -> Result<String, String> {
    let all = |wanted: &str| fields.iter().filter(|(name, _)| name == wanted).collect::<Vec<_>>();
    if let Some(name) = OWN.iter().find(|name| all(name).len() != 1) {
        return Err(format!("{} fields {name}", all(name).len()));
    }
    let shadows = |name: &str| name.contains('_') && OWN.contains(&name.replace('_', "-").as_str());
    if let Some((name, _)) =
        fields.iter().find(|(name, _)| FORBIDDEN.contains(&name.as_str()) || shadows(name))
    {
        return Err(format!("a field {name}"));
    }
    let read_so = |name: &str| name.replace('_', "-");
    let reserved: Vec<_> =
        fields.iter().filter(|(name, _)| read_so(name).starts_with("x-serviceos-")).collect();
    if !matches!(&reserved[..], [(name, value)] if name == "x-serviceos-tenant" && value == b"default") {
        return Err(format!("the gateway's own fields {reserved:?}"));
    }
    let (connection, upgrade) = (all("connection"), all("upgrade"));
    if connection.len() != upgrade.len() || connection.iter().any(|(_, value)| value != b"upgrade") {
        return Err(format!("{connection:?} beside {upgrade:?}"));
    }
    Ok(latin1(&all("host")[0].1))
}

fn clients_fields(mut fields: Vec<(String, Vec<u8>)>) -> Vec<(String, Vec<u8>)> {
    fields.retain(|(name, _)| {
        let name = name.as_str();
        !OWN.contains(&name)
            && !["content-length", "transfer-encoding", "x-serviceos-tenant", "connection"].contains(&name)
    });
    fields
}

#[test]
fn the_second_reader_takes_one_way_of_writing_everything() {
    let own = "host: a\r\nx-forwarded-for: 1\r\nx-forwarded-proto: http\r\nx-forwarded-host: a\r\nvia: v\r\nx-request-id: 1\r\n\
               traceparent: t\r\nforwarded: f\r\nx-request-timeout: 1ms\r\nx-serviceos-tenant: default\r\n";
    let read =
        |lines: &str, body: &str| request(format!("POST /r HTTP/1.1\r\n{own}{lines}\r\n{body}").as_bytes());
    let chunked = "transfer-encoding: chunked\r\n";
    let whole = read(&format!("x: y\r\n{chunked}"), "5\r\nhello\r\n0\r\nz: 1\r\n\r\nrest").unwrap().unwrap();
    let wanted = Meaning::new("POST", "/r").field("x", "y").trailer("z", "1");
    assert_eq!(whole.meaning, Meaning { body: b"hello".to_vec(), ..wanted });
    assert_eq!(read("content-length: 5\r\n", "hell").unwrap().map(|whole| whole.length), None);
    for (lines, body) in [
        ("x : y\r\n", ""),
        ("x:y\r\n", ""),
        ("x:  y\r\n", ""),
        ("x: y \r\n", ""),
        ("x: y\n\r\n", ""),
        ("host: a\r\n", ""),
        ("te: trailers\r\n", ""),
        ("x_request_id: 1\r\n", ""),
        ("x-serviceos-scopes: 1\r\n", ""),
        ("connection: close\r\n", ""),
        ("content-length: 05\r\n", "hello"),
        ("content-length: 5\r\ncontent-length: 5\r\n", "hello"),
        ("content-length: 5\r\ntransfer-encoding: chunked\r\n", "hello"),
        ("transfer-encoding: Chunked\r\n", "0\r\n\r\n"),
        (chunked, "5 \r\nhello\r\n0\r\n\r\n"),
        (chunked, "A\r\n"),
        (chunked, "5;a\r\n"),
        (chunked, "1\r\nhello"),
    ] {
        assert!(read(lines, body).is_err(), "{lines:?} {body:?}");
    }
}
