//! The head of a request.

use std::mem::MaybeUninit;

use http::{HeaderMap, Method};

use crate::body::Framing;
use crate::error::{Malformed, RequestFault};
use crate::fields::{Field, Fields, Span, field_access};
use crate::judge;
use crate::known::Known;
use crate::target::{self, Target};

/// How much of a head is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all field lines together.
    pub head_bytes: usize,
    /// Field lines.
    pub fields: usize,
    /// Bytes of the target.
    pub target_bytes: usize,
}

impl Limits {
    /// What a request line may have beside its target: a method, two spaces and the version.
    pub const BESIDE_TARGET_BYTES: usize = 64;
    /// Field lines that are tokenised without allocating.
    pub(crate) const ON_STACK: usize = 128;
}

/// The version that a message was sent in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// `HTTP/1.0`
    Http10,
    /// `HTTP/1.1`
    Http11,
    /// HTTP/2, whose heads are brought into the same form.
    Http2,
}

/// The head of a request: its bytes, and where everything stands in them. Made to be used again for the next one.
#[derive(Debug, Clone)]
pub struct RequestHead {
    bytes: Vec<u8>,
    fields: Fields,
    method: Method,
    version: Version,
    target: Target,
    framing: Framing,
    persists: bool,
    upgrade: Option<Span>,
}

impl Default for RequestHead {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            fields: Fields::default(),
            method: Method::GET,
            version: Version::Http11,
            target: Target::default(),
            framing: Framing::Length(0),
            persists: true,
            upgrade: None,
        }
    }
}

field_access!(RequestHead);

impl RequestHead {
    /// The method.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The version that it was sent in.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The path, visible ASCII that begins with a slash.
    pub fn path(&self) -> &[u8] {
        &self.bytes[self.target.path.range()]
    }

    /// Path and query, as they are sent on; visible ASCII.
    pub fn origin(&self) -> &[u8] {
        &self.bytes[self.target.origin.range()]
    }

    /// Host and port as the client named them; visible ASCII.
    pub fn host(&self) -> &[u8] {
        let authority = match self.fields.first(Known::Host) {
            Some(field) => field.value(),
            None => self.target.authority.unwrap_or_default(),
        };
        &self.bytes[authority.range()]
    }

    /// How the body is delimited.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Whether the connection stays open afterwards, as far as the client is concerned.
    pub fn persists(&self) -> bool {
        self.persists
    }

    /// The protocol that the client wants to change to, where it does.
    pub fn upgrade(&self) -> Option<&str> {
        // Visible ASCII, which was checked when the head was read.
        self.upgrade.and_then(|upgrade| std::str::from_utf8(&self.bytes[upgrade.range()]).ok())
    }

    /// Forgets the request and keeps the room that it took. What cannot be read leaves a head as this does: a GET without
    /// a path.
    pub fn clear(&mut self) {
        let (mut bytes, mut fields) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.fields));
        bytes.clear();
        fields.clear();
        *self = Self { bytes, fields, ..Self::default() };
    }

    /// The room that it takes for bytes, used or not.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Takes over the head of an HTTP/2 request, whose names are in lower case already and whose connection has no fields
    /// (RFC 9113 section 8.2.2).
    ///
    /// # Errors
    /// What HTTP/2 leaves to be judged: the authority, the path, and fields that HTTP/2 does not have.
    pub fn set_http2(
        &mut self,
        method: &Method,
        authority: Option<&str>,
        origin: &str,
        fields: &HeaderMap,
        framing: Framing,
        limits: &Limits,
    ) -> Result<(), RequestFault> {
        self.clear();
        (self.method, self.version, self.framing) = (method.clone(), Version::Http2, framing);
        self.persists = true;
        if origin.len() > limits.target_bytes {
            return Err(RequestFault::TargetTooLong);
        }
        if fields.len() > limits.fields {
            return Err(RequestFault::TooManyFields);
        }
        let origin = self.append(origin.as_bytes());
        let authority = authority.map(|authority| self.append(authority.as_bytes()));
        self.push_http2_fields(fields);
        // The target has a limit of its own, so a short one leaves no more to the fields.
        if self.bytes.len() - origin.len() > limits.head_bytes {
            return Err(RequestFault::TooManyBytes);
        }
        if self.bytes[origin.range()].first() != Some(&b'/') {
            return Err(RequestFault::Malformed("its URL has no path"));
        }
        let parsed =
            target::parse(&self.bytes[origin.range()], &self.bytes).map_err(RequestFault::Malformed)?;
        self.target = Target { authority, ..parsed };
        self.judge_http2(authority).map_err(RequestFault::Malformed)
    }

    /// Several `Cookie` fields are one in any other version (RFC 9113 section 8.2.3).
    fn push_http2_fields(&mut self, fields: &HeaderMap) {
        for (name, value) in fields {
            if name == http::header::COOKIE {
                continue;
            }
            let (name, value) = (self.append(name.as_str().as_bytes()), self.append(value.as_bytes()));
            self.fields.push(Field::new(name, value, &self.bytes));
        }
        let mut cookies = fields.get_all(http::header::COOKIE).iter();
        if let Some(first) = cookies.next() {
            let name = self.append(b"cookie");
            let mut value = self.append(first.as_bytes());
            for cookie in cookies {
                self.append(b"; ");
                let end = self.append(cookie.as_bytes()).range().end;
                value = Span::new(value.range().start, end);
            }
            self.fields.push(Field::new(name, value, &self.bytes));
        }
    }

    fn judge_http2(&mut self, authority: Option<Span>) -> Result<(), Malformed> {
        for forbidden in [
            Known::Connection,
            Known::TransferEncoding,
            Known::Upgrade,
            Known::KeepAlive,
            Known::ProxyConnection,
        ] {
            if self.fields.has(forbidden) {
                return Err("it has a field of HTTP/1.1 that HTTP/2 does not have");
            }
        }
        if self.is_repeated(Known::ContentLength) {
            return Err("it has more than one Content-Length");
        }
        if self.fields().any(|(_, _, value)| value.trim_ascii().len() != value.len()) {
            return Err("a header's value begins or ends with a space");
        }
        if self.value(Known::Te).is_some_and(|te| te != b"trailers") {
            return Err("its TE is not exactly `trailers`");
        }
        self.judge_host(authority)
    }

    /// One host, named once, or twice the same.
    fn judge_host(&self, authority: Option<Span>) -> Result<(), Malformed> {
        if self.is_repeated(Known::Host) {
            return Err("it has more than one Host");
        }
        let authority = authority.map(|authority| &self.bytes[authority.range()]);
        let host = match (self.value(Known::Host), authority) {
            (Some(host), Some(authority)) if !host.eq_ignore_ascii_case(authority) => {
                return Err("its URL names another host than Host does");
            }
            (Some(host), _) | (None, Some(host)) => host,
            (None, None) => return Err("it has no Host"),
        };
        if target::is_authority(host) { Ok(()) } else { Err("its Host is not a host and a port") }
    }

    fn append(&mut self, part: &[u8]) -> Span {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(part);
        Span::new(start, self.bytes.len())
    }
}

/// Reads a whole head, as [`crate::HeadScan`] has found it, into `head`.
///
/// # Errors
/// Everything that is malformed or could be understood in two ways (RFC 9112 sections 2 to 7), and what is over a limit.
pub fn parse_request(bytes: &[u8], limits: &Limits, head: &mut RequestHead) -> Result<(), RequestFault> {
    head.clear();
    head.bytes.extend_from_slice(bytes);
    let mut on_stack = [const { MaybeUninit::uninit() }; Limits::ON_STACK];
    let mut on_heap = Vec::new();
    let room = if limits.fields <= Limits::ON_STACK {
        &mut on_stack[..limits.fields]
    } else {
        on_heap.resize(limits.fields, MaybeUninit::uninit());
        &mut on_heap[..]
    };
    let RequestHead { bytes, fields, .. } = head;
    let mut tokens = httparse::Request::new(&mut []);
    let status = tokens.parse_with_uninit_headers(bytes, room).map_err(request_fault)?;
    if status != httparse::Status::Complete(bytes.len()) {
        return Err(RequestFault::Malformed("its head does not end where it should"));
    }
    let (Some(method), Some(path), Some(version)) = (tokens.method, tokens.path, tokens.version) else {
        return Err(RequestFault::Malformed("its first line is not a request line"));
    };
    head.version = if version == 0 { Version::Http10 } else { Version::Http11 };
    head.method = Method::from_bytes(method.as_bytes())
        .map_err(|_| RequestFault::Malformed("its method is not a token"))?;
    if path.len() > limits.target_bytes {
        return Err(RequestFault::TargetTooLong);
    }
    let first_line = method.len() + path.len() + "  HTTP/1.1\r\n".len();
    if bytes.len() - first_line > limits.head_bytes {
        return Err(RequestFault::TooManyBytes);
    }
    head.target = target::parse(path.as_bytes(), bytes).map_err(RequestFault::Malformed)?;
    for token in tokens.headers.iter() {
        let (name, value) = (Span::of(token.name.as_bytes(), bytes), span_of_value(token.value, bytes));
        fields.push(Field::new(name, value, bytes));
    }
    judge_http1(head).map_err(RequestFault::Malformed)
}

/// A value that is empty may point anywhere.
pub(crate) fn span_of_value(value: &[u8], bytes: &[u8]) -> Span {
    if value.is_empty() { Span::default() } else { Span::of(value, bytes) }
}

fn judge_http1(head: &mut RequestHead) -> Result<(), Malformed> {
    let options = judge::connection(&head.bytes, &mut head.fields)?;
    head.persists = options.persists(head.version);
    head.framing = judge::framing(&head.bytes, &head.fields, head.version)?.unwrap_or(Framing::Length(0));
    // HTTP/1.0 has no upgrades (RFC 9110 section 7.8).
    if options.upgrade && head.version >= Version::Http11 && !head.fields.is_repeated(Known::Upgrade) {
        let wanted = head.fields.first(Known::Upgrade).map(|field| field.value());
        let is_token =
            |span: &Span| span.len() > 0 && head.bytes[span.range()].iter().all(u8::is_ascii_graphic);
        head.upgrade = wanted.filter(is_token);
    }
    if !head.has(Known::Host) {
        return Err("it has no Host");
    }
    head.judge_host(head.target.authority)
}

fn request_fault(error: httparse::Error) -> RequestFault {
    RequestFault::Malformed(match error {
        httparse::Error::TooManyHeaders => return RequestFault::TooManyFields,
        httparse::Error::HeaderName => "a header's name is not a token, or has a space before its colon",
        httparse::Error::HeaderValue => {
            "a header's value has a control character, or goes on in the next line"
        }
        httparse::Error::NewLine => "a line of its head does not end in CR LF",
        httparse::Error::Version => "its version is neither HTTP/1.1 nor HTTP/1.0",
        httparse::Error::Token | httparse::Error::Status => "its first line is not a request line",
    })
}

#[cfg(test)]
mod tests;
