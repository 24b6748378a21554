//! WebSocket's handshake (RFC 6455 section 4): a tunnel begins only after one that is whole on both sides.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use http1::{Known, RequestHead, ResponseHead};

use crate::FlowError;

/// What the key is hashed together with (RFC 6455 section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

pub(crate) fn is_websocket(protocol: &str) -> bool {
    protocol.eq_ignore_ascii_case("websocket")
}

/// Checks the client's side.
pub(crate) fn validate_request(head: &RequestHead) -> Result<(), FlowError> {
    if *head.method() != Method::GET {
        return Err(FlowError::Malformed("a WebSocket begins with GET"));
    }
    if head.only_value(Known::SecWebsocketVersion) != Some(b"13") {
        return Err(FlowError::Malformed("its Sec-WebSocket-Version is not 13"));
    }
    let key = head.only_value(Known::SecWebsocketKey).and_then(|key| STANDARD.decode(key).ok());
    if key.is_some_and(|key| key.len() == 16) {
        Ok(())
    } else {
        Err(FlowError::Malformed("its Sec-WebSocket-Key is not 16 bytes in base64"))
    }
}

/// Whether the replica has taken up what was asked of it: the same protocol, and for WebSocket proof that it read the key.
pub(crate) fn is_taken_up(request: &RequestHead, answer: &ResponseHead, wanted: &str) -> bool {
    let same =
        answer.only_value(Known::Upgrade).is_some_and(|own| own.eq_ignore_ascii_case(wanted.as_bytes()));
    if !is_websocket(wanted) {
        return same;
    }
    let accept = request.only_value(Known::SecWebsocketKey).map(accept_of);
    same && accept
        .is_some_and(|accept| answer.only_value(Known::SecWebsocketAccept) == Some(accept.as_bytes()))
}

fn accept_of(key: &[u8]) -> String {
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_value_is_that_of_rfc_6455_section_1_3() {
        assert_eq!(accept_of(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
