//! What the fields of a head say about the connection and about the body, judged the same way for both directions.

use crate::body::Framing;
use crate::error::Malformed;
use crate::fields::Fields;
use crate::known::Known;
use crate::request::Version;

/// Options of one `Connection` header; more mean nothing that is meant well.
const MAX_OPTIONS: usize = 32;

/// What `Connection` says (RFC 9110 section 7.6.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Options {
    close: bool,
    keep_alive: bool,
    pub(crate) upgrade: bool,
}

impl Options {
    /// Whether the connection stays open after the message (RFC 9112 section 9.3).
    pub(crate) fn persists(self, version: Version) -> bool {
        !self.close && (self.keep_alive || version >= Version::Http11)
    }
}

/// Reads `Connection`, and marks every field that it names as one of the connection.
pub(crate) fn connection(bytes: &[u8], fields: &mut Fields) -> Result<Options, Malformed> {
    let mut options = Options::default();
    if !fields.has(Known::Connection) {
        return Ok(options);
    }
    let mut count = 0;
    for place in 0..fields.len() {
        let field = fields.list()[place];
        if field.known() != Some(Known::Connection) {
            continue;
        }
        for option in bytes[field.value().range()].split(|byte| *byte == b',') {
            let option = option.trim_ascii();
            count += usize::from(!option.is_empty());
            if count > MAX_OPTIONS {
                return Err("its Connection header has too many options");
            }
            if option.eq_ignore_ascii_case(b"close") {
                options.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                options.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                options.upgrade = true;
            } else if !option.is_empty() {
                mark(bytes, fields, option)?;
            }
        }
    }
    Ok(options)
}

/// Taking these off would change where the message ends, whom it is for, or who sends it.
const NEVER_NAMED: [Known; 9] = [
    Known::ContentLength,
    Known::TransferEncoding,
    Known::Host,
    Known::Authorization,
    Known::XApiKey,
    Known::ApiKey,
    Known::Signature,
    Known::SignatureInput,
    Known::Cookie,
];

fn mark(bytes: &[u8], fields: &mut Fields, option: &[u8]) -> Result<(), Malformed> {
    if Known::of(option).is_some_and(|known| NEVER_NAMED.contains(&known)) {
        return Err("its Connection header names a field of the message");
    }
    for place in 0..fields.len() {
        if bytes[fields.list()[place].name().range()].eq_ignore_ascii_case(option) {
            fields.hide(place);
        }
    }
    Ok(())
}

/// What the fields announce of the body (RFC 9112 section 6.3); `None` when they announce nothing.
pub(crate) fn framing(bytes: &[u8], fields: &Fields, version: Version) -> Result<Option<Framing>, Malformed> {
    let (length, coding) = (fields.first(Known::ContentLength), fields.first(Known::TransferEncoding));
    if fields.is_repeated(Known::ContentLength) {
        return Err("it has more than one Content-Length");
    }
    if fields.is_repeated(Known::TransferEncoding) {
        return Err("it has more than one Transfer-Encoding");
    }
    match (length, coding) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err("it has both Content-Length and Transfer-Encoding"),
        (Some(length), None) => {
            let digits = &bytes[length.value().range()];
            content_length(digits).map(|length| Some(Framing::Length(length)))
        }
        (None, Some(coding)) if bytes[coding.value().range()].eq_ignore_ascii_case(b"chunked") => {
            if version < Version::Http11 {
                return Err("it has a Transfer-Encoding that HTTP/1.0 does not have");
            }
            Ok(Some(Framing::Chunked))
        }
        (None, Some(_)) => Err("its Transfer-Encoding is not exactly `chunked`"),
    }
}

/// Digits and nothing else (RFC 9110 section 8.6).
fn content_length(digits: &[u8]) -> Result<u64, Malformed> {
    let value = digits.iter().try_fold(0_u64, |value, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    });
    value.filter(|_| !digits.is_empty()).ok_or("its Content-Length is not a number")
}
