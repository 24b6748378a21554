//! The head of a response.

use std::mem::MaybeUninit;

use http::{HeaderMap, Method, StatusCode};

use crate::body::Framing;
use crate::error::{Malformed, RequestFault, ResponseFault};
use crate::fields::{Field, Fields, Span, field_access};
use crate::judge;
use crate::known::Known;
use crate::request::{Limits, Version, span_of_value};

/// The head of a response. Made to be used again for the next one.
#[derive(Debug, Clone)]
pub struct ResponseHead {
    bytes: Vec<u8>,
    fields: Fields,
    status: StatusCode,
    framing: Framing,
    persists: bool,
}

impl Default for ResponseHead {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            fields: Fields::default(),
            status: StatusCode::OK,
            framing: Framing::Length(0),
            persists: true,
        }
    }
}

field_access!(ResponseHead);

impl ResponseHead {
    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// How the body is delimited; nothing for an answer that has none.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Whether the connection can be used again, as far as the other side is concerned.
    pub fn persists(&self) -> bool {
        self.persists
    }

    /// The length that the head names, also where no body follows, as in an answer to HEAD.
    pub fn announced_length(&self) -> Option<&[u8]> {
        self.value(Known::ContentLength)
    }

    /// The room that it takes for bytes, used or not.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.fields.clear();
    }

    /// Takes over the head of an HTTP/2 response to a request of that method, whose frames and length announce such a body.
    ///
    /// # Errors
    /// A field of HTTP/1.1 that HTTP/2 does not have.
    pub fn set_http2(
        &mut self,
        method: &Method,
        status: StatusCode,
        fields: &HeaderMap,
        announced: Framing,
    ) -> Result<(), ResponseFault> {
        self.clear();
        (self.status, self.persists) = (status, true);
        self.framing = if is_bodiless(method, status) { Framing::Length(0) } else { announced };
        for (name, value) in fields {
            let (name, value) = (self.append(name.as_str().as_bytes()), self.append(value.as_bytes()));
            self.fields.push(Field::new(name, value, &self.bytes));
        }
        let forbidden = [Known::Connection, Known::TransferEncoding, Known::Upgrade];
        if forbidden.iter().any(|known| self.fields.has(*known)) {
            return Err(ResponseFault::Malformed("it has a field of HTTP/1.1 that HTTP/2 does not have"));
        }
        Ok(())
    }

    fn append(&mut self, part: &[u8]) -> Span {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(part);
        Span::new(start, self.bytes.len())
    }
}

/// Reads a whole head, as [`crate::HeadScan`] has found it, into `head`. The method is that of the request that it answers.
///
/// # Errors
/// Everything that is malformed or could be understood in two ways, as for requests.
pub fn parse_response(
    bytes: &[u8],
    method: &Method,
    limits: &Limits,
    head: &mut ResponseHead,
) -> Result<(), ResponseFault> {
    head.clear();
    head.bytes.extend_from_slice(bytes);
    let mut on_stack = [const { MaybeUninit::uninit() }; Limits::ON_STACK];
    let room = &mut on_stack[..limits.fields.min(Limits::ON_STACK)];
    let ResponseHead { bytes, fields, .. } = head;
    let mut tokens = httparse::Response::new(&mut []);
    let parsed =
        httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut tokens, bytes, room);
    let status = parsed.map_err(|error| match error {
        httparse::Error::TooManyHeaders => ResponseFault::TooLarge,
        httparse::Error::HeaderName | httparse::Error::HeaderValue => {
            ResponseFault::Malformed("a header line is malformed")
        }
        _ => ResponseFault::Malformed("its first line is not a status line"),
    })?;
    if status != httparse::Status::Complete(bytes.len()) {
        return Err(ResponseFault::Malformed("its head does not end where it should"));
    }
    let code = tokens.code.filter(|code| (100..600).contains(code));
    let code = code.and_then(|code| StatusCode::from_u16(code).ok());
    head.status = code.ok_or(ResponseFault::Malformed("its status is not a number from 100 to 599"))?;
    let version = if tokens.version == Some(0) { Version::Http10 } else { Version::Http11 };
    for token in tokens.headers.iter() {
        let (name, value) = (Span::of(token.name.as_bytes(), bytes), span_of_value(token.value, bytes));
        fields.push(Field::new(name, value, bytes));
    }
    judge(head, method, version).map_err(ResponseFault::Malformed)
}

fn judge(head: &mut ResponseHead, method: &Method, version: Version) -> Result<(), Malformed> {
    let options = judge::connection(&head.bytes, &mut head.fields)?;
    let announced = judge::framing(&head.bytes, &head.fields, version)?;
    head.framing = match announced {
        _ if is_bodiless(method, head.status) => Framing::Length(0),
        Some(framing) => framing,
        None => Framing::UntilClose,
    };
    head.persists = options.persists(version) && head.framing != Framing::UntilClose;
    // A body that must not be there would be taken for the next answer.
    let hidden = announced.is_some_and(|announced| announced != Framing::Length(0));
    if hidden && (head.status == StatusCode::NO_CONTENT || head.status.is_informational()) {
        return Err("it announces a body where there is none");
    }
    Ok(())
}

/// Whether an answer has no body, whatever it announces (RFC 9110 section 6.4.1).
fn is_bodiless(method: &Method, status: StatusCode) -> bool {
    *method == Method::HEAD
        || status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
}

impl From<RequestFault> for ResponseFault {
    fn from(fault: RequestFault) -> Self {
        match fault {
            RequestFault::Malformed(why) => Self::Malformed(why),
            RequestFault::TargetTooLong | RequestFault::TooManyBytes | RequestFault::TooManyFields => {
                Self::TooLarge
            }
        }
    }
}

#[cfg(test)]
mod tests;
