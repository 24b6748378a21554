//! A copy of a request's head for the case that it must be sent again.
//!
//! Every call that may be repeated needs one, and almost none uses it, so it must cost next to nothing: the headers are
//! copied as bytes into one buffer. Cloning the map instead would allocate twice and touch a shared count for each value.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};

use crate::RequestBody;

/// A request that can be made again.
pub(crate) struct Spare {
    method: Method,
    uri: Uri,
    /// Name and value of each header, each behind its length.
    headers: Vec<u8>,
    body: RequestBody,
}

impl Spare {
    /// A copy, where the body can be sent once more.
    pub(crate) fn of(request: &Request<RequestBody>) -> Option<Self> {
        let body = request.body().again()?;
        let mut headers = Vec::with_capacity(1024);
        for (name, value) in request.headers() {
            for part in [name.as_str().as_bytes(), value.as_bytes()] {
                headers.extend_from_slice(&u32::try_from(part.len()).ok()?.to_be_bytes());
                headers.extend_from_slice(part);
            }
        }
        Some(Self { method: request.method().clone(), uri: request.uri().clone(), headers, body })
    }

    /// The request again.
    pub(crate) fn into_request(self) -> Request<RequestBody> {
        let mut request = Request::new(self.body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = read(&self.headers).expect("the headers were written from a header map");
        request
    }
}

fn read(mut bytes: &[u8]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    while !bytes.is_empty() {
        let name = HeaderName::from_bytes(part(&mut bytes)?).ok()?;
        let value = HeaderValue::from_bytes(part(&mut bytes)?).ok()?;
        headers.append(name, value);
    }
    Some(headers)
}

fn part<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (part, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    *bytes = rest;
    Some(part)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn the_copy_is_the_same_request_with_repeated_and_odd_headers() {
        let body = RequestBody::Whole(Some(Bytes::from_static(b"body")));
        let mut request = Request::put("/path?query").body(body).unwrap();
        let headers = [("accept", &b"a"[..]), ("accept", b"b"), ("x-empty", b""), ("x-bytes", b"\xff\xfe")];
        for (name, value) in headers {
            request.headers_mut().append(name, HeaderValue::from_bytes(value).unwrap());
        }
        let copy = Spare::of(&request).unwrap().into_request();
        assert_eq!(
            (copy.method(), copy.uri(), copy.headers()),
            (request.method(), request.uri(), request.headers())
        );
        assert!(matches!(copy.body(), RequestBody::Whole(Some(bytes)) if bytes == "body"));
    }
}
