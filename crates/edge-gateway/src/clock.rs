//! Times as text, request ids and trace contexts, made cheaply: the text of a second is written once.

use std::cell::RefCell;
use std::time::SystemTime;

/// One worker's clock and id source.
pub(crate) struct Clock {
    second: RefCell<(u64, String)>,
    random: RefCell<fastrand::Rng>,
}

/// The id of one request: a UUIDv7 of this gateway's, or what a trusted proxy has given it.
#[derive(Clone, Copy)]
pub(crate) struct RequestId {
    text: [u8; Self::MAX_BYTES],
    length: u8,
}

impl RequestId {
    /// The longest id that is taken over from a proxy.
    const MAX_BYTES: usize = 64;

    /// An id that came from outside, where it is short and plain.
    pub(crate) fn given(text: &[u8]) -> Option<Self> {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
        if text.is_empty() || text.len() > Self::MAX_BYTES || !text.iter().all(plain) {
            return None;
        }
        let mut id = Self { text: [0; Self::MAX_BYTES], length: 0 };
        id.text[..text.len()].copy_from_slice(text);
        id.length = u8::try_from(text.len()).ok()?;
        Some(id)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.text[..usize::from(self.length)]
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

/// The W3C trace context that a replica is given.
pub(crate) type Traceparent = [u8; 55];

impl Clock {
    pub(crate) fn new(random: fastrand::Rng) -> Self {
        Self { second: RefCell::new((u64::MAX, String::new())), random: RefCell::new(random) }
    }

    /// Appends a time as RFC 3339 with milliseconds.
    pub(crate) fn write(&self, out: &mut Vec<u8>, time: SystemTime) {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut second = self.second.borrow_mut();
        if second.0 != since.as_secs() {
            let timestamp = jiff::Timestamp::try_from(time).unwrap_or_default();
            *second = (since.as_secs(), timestamp.strftime("%Y-%m-%dT%H:%M:%S").to_string());
        }
        out.extend_from_slice(second.1.as_bytes());
        let millis = since.subsec_millis();
        let digit = |number: u32| b'0' + (number % 10) as u8;
        out.extend_from_slice(&[b'.', digit(millis / 100), digit(millis / 10), digit(millis), b'Z']);
    }

    /// A new request id, a UUIDv7 (RFC 9562): ids sort by time.
    pub(crate) fn request_id(&self, now: SystemTime) -> RequestId {
        let mut random = [0; 10];
        self.random.borrow_mut().fill(&mut random);
        let millis = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
        let millis = u64::try_from(millis).unwrap_or_default();
        let id = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
        let mut text = [0; RequestId::MAX_BYTES];
        let length = id.hyphenated().encode_lower(&mut text).len();
        RequestId { text, length: u8::try_from(length).unwrap_or_default() }
    }

    /// The trace context of a request (W3C Trace Context, level 1): the client's trace where it has one, a new span always.
    pub(crate) fn traceparent(&self, incoming: Option<&[u8]>) -> Traceparent {
        let mut out: Traceparent = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let mut random = [0; 24];
        self.random.borrow_mut().fill(&mut random);
        match incoming.filter(|text| is_traceparent(text)) {
            Some(text) => {
                out[3..35].copy_from_slice(&text[3..35]);
                out[53..].copy_from_slice(&text[53..55]);
            }
            None => write_hex(&mut out[3..35], &random[..16]),
        }
        // All zeros mean that there is no span.
        random[23] |= 1;
        write_hex(&mut out[36..52], &random[16..]);
        out
    }
}

fn write_hex(out: &mut [u8], bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for (place, byte) in out.chunks_exact_mut(2).zip(bytes) {
        place.copy_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
}

/// Version 00, and ids that are not all zeros.
fn is_traceparent(text: &[u8]) -> bool {
    let hex = |part: &[u8]| part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let some = |part: &[u8]| part.iter().any(|byte| *byte != b'0');
    text.len() == 55
        && text.starts_with(b"00-")
        && (text[35], text[52]) == (b'-', b'-')
        && hex(&text[3..35])
        && hex(&text[36..52])
        && hex(&text[53..])
        && some(&text[3..35])
        && some(&text[36..52])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(millis: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
    }

    #[test]
    fn times_are_rfc_3339_with_milliseconds_and_ids_begin_with_the_time() {
        let clock = Clock::new(fastrand::Rng::with_seed(1));
        let mut out = Vec::new();
        for millis in [1_700_000_000_007, 1_700_000_000_999, 1_700_000_001_000] {
            clock.write(&mut out, at(millis));
            out.push(b' ');
        }
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "2023-11-14T22:13:20.007Z 2023-11-14T22:13:20.999Z 2023-11-14T22:13:21.000Z ");
        let id = clock.request_id(at(1_700_000_000_007));
        assert!(id.as_str().starts_with("018bcfe5-6807-7") && id.as_str().len() == 36, "{}", id.as_str());
    }

    #[test]
    fn ids_from_outside_are_short_and_plain() {
        assert_eq!(RequestId::given(b"a-B_1.2").unwrap().as_str(), "a-B_1.2");
        for bad in [&b""[..], b"a b", b"a\"", &[b'a'; 65]] {
            assert!(RequestId::given(bad).is_none());
        }
    }

    #[test]
    fn a_trace_goes_on_and_a_broken_one_begins_anew() {
        let clock = Clock::new(fastrand::Rng::with_seed(1));
        let incoming = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let outgoing = clock.traceparent(Some(incoming));
        assert_eq!(&outgoing[..36], &incoming[..36]);
        assert_ne!(&outgoing[36..52], &incoming[36..52]);
        assert_eq!(&outgoing[52..], b"-01");
        for bad in [&b"00-00000000000000000000000000000000-b7ad6b7169203331-01"[..], b"01-x", b""] {
            let fresh = clock.traceparent(Some(bad));
            assert!(is_traceparent(&fresh) && fresh.ends_with(b"-00"));
        }
    }
}
