//! Fields behind a body (RFC 9110 section 6.5).

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::error::BodyFault;
use crate::fields::{Field, Fields, Span, field_access};
use crate::known::Known;
use crate::request::span_of_value;

/// The longest trailer section, in bytes: 8 KiB. It must fit into a buffer whole.
pub const MAX_TRAILER_BYTES: usize = 8 << 10;
/// Fields of a trailer section.
const MAX_FIELDS: usize = 32;
/// What stands in front of a body or nowhere, beside the known names: it says how to route, to read, to cache or to
/// authenticate the message (RFC 9110 section 6.5.1).
const NEVER_BEHIND: [&str; 10] = [
    "age",
    "authentication-info",
    "expires",
    "location",
    "max-forwards",
    "pragma",
    "range",
    "set-cookie",
    "vary",
    "www-authenticate",
];
/// The same for all names that begin so.
const FAMILIES_NEVER_BEHIND: [&str; 7] =
    ["access-control-", "content-", "if-", "sec-", "x-forwarded-", "x-http-method", "x-serviceos-"];

/// The fields behind a body.
#[derive(Debug, Clone, Default)]
pub struct Trailers {
    bytes: Vec<u8>,
    fields: Fields,
}

field_access!(Trailers);

impl Trailers {
    /// Takes over the trailers of an HTTP/2 message. Spaces around a value have no meaning in HTTP/1.1 and no place in
    /// HTTP/2.
    ///
    /// # Errors
    /// More of them than HTTP/1.1 may have here.
    pub fn of_http2(fields: &HeaderMap) -> Result<Self, BodyFault> {
        if fields.len() > MAX_FIELDS {
            return Err(BodyFault("it has too many trailers"));
        }
        let mut trailers = Self::default();
        for (name, value) in fields {
            trailers.append(name.as_str().as_bytes(), value.as_bytes().trim_ascii());
        }
        if trailers.bytes.len() > MAX_TRAILER_BYTES {
            return Err(BodyFault("its trailers have too many bytes"));
        }
        Ok(trailers)
    }

    /// Appends a field.
    pub fn append(&mut self, name: &[u8], value: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        let middle = start + name.len();
        let field = Field::new(Span::new(start, middle), Span::new(middle, self.bytes.len()), &self.bytes);
        self.fields.push(field);
    }

    /// The same in the form of HTTP/2; a field that cannot be is left out.
    pub fn to_http2(&self) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.fields.len());
        for (_, name, value) in self.fields() {
            let (name, value) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value));
            if let (Ok(name), Ok(value)) = (name, value) {
                map.append(name, value);
            }
        }
        map
    }
}

/// Reads the trailer section at the start of `input`, its empty line included: the fields and the section's length; `None`
/// while its end has not come.
pub(crate) fn read_trailers(input: &[u8]) -> Result<Option<(Trailers, usize)>, BodyFault> {
    let mut line = 0;
    while let Some(found) = memchr::memchr(b'\n', &input[line..]) {
        let end = line + found;
        if end == line || input[end - 1] != b'\r' {
            return Err(BodyFault("a trailer's line does not end in CR LF"));
        }
        let is_empty = end == line + 1;
        line = end + 1;
        if line > MAX_TRAILER_BYTES {
            break;
        }
        if is_empty {
            return parse(&input[..line]).map(|trailers| Some((trailers, line)));
        }
    }
    if input.len() > MAX_TRAILER_BYTES || line > MAX_TRAILER_BYTES {
        return Err(BodyFault("its trailers have too many bytes"));
    }
    Ok(None)
}

fn parse(section: &[u8]) -> Result<Trailers, BodyFault> {
    let mut room = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let parsed = httparse::parse_headers(section, &mut room).map_err(|error| match error {
        httparse::Error::TooManyHeaders => BodyFault("it has too many trailers"),
        _ => BodyFault("a trailer's line is malformed"),
    })?;
    let httparse::Status::Complete((length, tokens)) = parsed else {
        return Err(BodyFault("its trailers do not end where they should"));
    };
    if length != section.len() {
        return Err(BodyFault("its trailers do not end where they should"));
    }
    let mut trailers = Trailers { bytes: section.to_vec(), fields: Fields::default() };
    for token in tokens {
        let (name, value) = (Span::of(token.name.as_bytes(), section), span_of_value(token.value, section));
        trailers.fields.push(Field::new(name, value, &trailers.bytes));
    }
    Ok(trailers)
}

/// Whether a field may be passed on behind a body: those of gRPC, and those that the head has declared, of which the first
/// 32 names count; never one that frames, routes, authenticates or controls the message (RFC 9110 section 6.5.1).
pub fn may_pass_as_trailer<'a>(name: &[u8], declared: impl Iterator<Item = &'a [u8]>) -> bool {
    if !may_pass_as_grpc_metadata(name) || name.contains(&b'_') {
        return false;
    }
    let of_grpc = name.len() > "grpc-".len() && begins(name, "grpc-");
    let names = declared.flat_map(|list| list.split(|byte| *byte == b',')).take(MAX_FIELDS);
    of_grpc || names.into_iter().any(|own| own.trim_ascii().eq_ignore_ascii_case(name))
}

/// Whether a media type is gRPC's, with or without the name of its messages' format. gRPC-Web is another protocol, whose
/// status stands in the body.
pub fn is_grpc(content_type: &[u8]) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    let Some((begin, rest)) = content_type.split_at_checked(GRPC.len()) else { return false };
    begin.eq_ignore_ascii_case(GRPC) && matches!(rest.first(), None | Some(b'+' | b';' | b' ' | b'\t'))
}

/// Whether a field may be passed on behind the body of an answer in gRPC, where trailers are metadata that nobody declares
/// (gRPC over HTTP/2, `Trailers`): all but those that frame, route, authenticate or control the message.
pub fn may_pass_as_grpc_metadata(name: &[u8]) -> bool {
    let of_message =
        Known::of(name).is_some_and(|known| !matches!(known, Known::GrpcStatus | Known::GrpcRetryPushbackMs));
    !of_message
        && !NEVER_BEHIND.iter().any(|own| name.eq_ignore_ascii_case(own.as_bytes()))
        && !FAMILIES_NEVER_BEHIND.into_iter().any(|family| begins(name, family))
}

fn begins(name: &[u8], prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailers_are_read_whole_or_not_at_all() {
        let (trailers, length) = read_trailers(b"grpc-status: 0\r\nx-sum: abc\r\n\r\nrest").unwrap().unwrap();
        assert_eq!(length, 30);
        let shown: Vec<_> = trailers.fields().map(|(_, name, value)| (name, value)).collect();
        assert_eq!(shown, [(&b"grpc-status"[..], &b"0"[..]), (b"x-sum", b"abc")]);
        assert_eq!(trailers.value(Known::GrpcStatus), Some(&b"0"[..]));
        assert_eq!(read_trailers(b"\r\n").unwrap().unwrap().1, 2);
        for partial in [&b""[..], b"\r", b"a: b\r\n", b"a: b\r\n\r", b"a"] {
            assert!(read_trailers(partial).unwrap().is_none(), "{partial:?}");
        }
        let long = vec![b'a'; MAX_TRAILER_BYTES + 1];
        let many = "a: b\r\n".repeat(MAX_FIELDS + 1) + "\r\n";
        for bad in [
            &b"a\n"[..],
            b"\n",
            b"a : b\r\n\r\n",
            b" a: b\r\n\r\n",
            b"a\r\n\r\n",
            b"a: \0\r\n\r\n",
            &long,
            many.as_bytes(),
        ] {
            assert!(read_trailers(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn trailers_of_http_2_have_the_limits_of_others() {
        let of = |count: usize, bytes: usize| {
            let name = |number| HeaderName::try_from(format!("x-{number:02}")).unwrap();
            let value = HeaderValue::try_from("v".repeat(bytes)).unwrap();
            let fields = (0..count).map(|number| (name(number), value.clone())).collect();
            Trailers::of_http2(&fields).map(|trailers| trailers.field_count())
        };
        assert_eq!(of(MAX_FIELDS, 10), Ok(MAX_FIELDS));
        assert!(of(MAX_FIELDS + 1, 10).is_err());
        assert_eq!(of(1, MAX_TRAILER_BYTES - 4), Ok(1));
        assert!(of(1, MAX_TRAILER_BYTES - 3).is_err());
    }

    #[test]
    fn names_beyond_those_that_could_pass_are_not_declared() {
        let list = (0..=MAX_FIELDS).map(|number| format!("x-{number}")).collect::<Vec<_>>().join(",");
        let passes = |number: usize| {
            may_pass_as_trailer(format!("x-{number}").as_bytes(), [list.as_bytes()].into_iter())
        };
        assert_eq!((passes(0), passes(MAX_FIELDS - 1), passes(MAX_FIELDS)), (true, true, false));
    }

    #[test]
    fn grpc_is_told_from_what_begins_like_it() {
        for (kind, expected) in [
            ("application/grpc", true),
            ("Application/gRPC+proto", true),
            ("application/grpc; charset=x", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/grp", false),
            ("application/json", false),
        ] {
            assert_eq!(is_grpc(kind.as_bytes()), expected, "{kind}");
        }
    }

    #[test]
    fn only_trailers_of_grpc_and_declared_ones_pass_and_never_those_of_the_message() {
        let lists = [
            &b"X-Sum, content-length , authorization"[..],
            b"x-serviceos-tenant",
            b"Content-Encoding,if-match,range",
        ];
        let declared = || lists.into_iter();
        for (name, passes) in [
            ("grpc-status", true),
            ("grpc-message", true),
            ("Grpc-Status-Details-Bin", true),
            ("x-sum", true),
            ("x-other", false),
            ("content-length", false),
            ("authorization", false),
            ("x-serviceos-tenant", false),
            ("content-encoding", false),
            ("If-Match", false),
            ("range", false),
            ("grpc-retry-pushback-ms", true),
            ("grpc-timeout", false),
            ("host", false),
        ] {
            assert_eq!(may_pass_as_trailer(name.as_bytes(), declared()), passes, "{name}");
        }
        for (name, passes) in [
            ("grpc-status", true),
            ("x-undeclared", true),
            ("with_underscore", true),
            ("content-length", false),
            ("authorization", false),
            ("x-serviceos-tenant", false),
        ] {
            assert_eq!(may_pass_as_grpc_metadata(name.as_bytes()), passes, "{name}");
        }
    }
}
