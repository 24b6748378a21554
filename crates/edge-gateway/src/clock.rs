//! Times as text, request ids and trace contexts, made cheaply: the text of a second is written once.

use std::cell::{Cell, RefCell};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// How long the two clocks of the machine are taken to run alike.
const ANCHORED: Duration = Duration::from_secs(1);

/// One worker's clock and id source.
pub(crate) struct Clock {
    /// The same moment on both clocks, so that one reading tells both.
    anchor: Cell<(Instant, SystemTime)>,
    second: RefCell<(u64, String)>,
    random: RefCell<fastrand::Rng>,
}

/// The id of one request: a UUIDv7 of this gateway's, or what a trusted proxy has given it.
#[derive(Clone, Copy)]
pub(crate) struct RequestId {
    text: [u8; Self::MAX_BYTES],
    length: u8,
    /// The number that it is, where it was made here.
    own: Option<[u8; 16]>,
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
        let mut id = Self { text: [0; Self::MAX_BYTES], length: 0, own: None };
        id.text[..text.len()].copy_from_slice(text);
        id.length = u8::try_from(text.len()).ok()?;
        Some(id)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.text[..usize::from(self.length)]
    }

    /// The id as that of a trace, where it was made here.
    pub(crate) fn trace_id(&self) -> Option<[u8; 32]> {
        self.own.map(hex_of)
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

/// The W3C trace context that a replica is given.
pub(crate) type Traceparent = [u8; 55];

impl Clock {
    pub(crate) fn new(random: fastrand::Rng) -> Self {
        let anchor = Cell::new((Instant::now(), SystemTime::now()));
        Self { anchor, second: RefCell::new((u64::MAX, String::new())), random: RefCell::new(random) }
    }

    /// The time of day at a moment that was just read.
    pub(crate) fn time(&self, now: Instant) -> SystemTime {
        let (instant, time) = self.anchor.get();
        let since = now.saturating_duration_since(instant);
        if since < ANCHORED {
            return time + since;
        }
        let time = SystemTime::now();
        self.anchor.set((now, time));
        time
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

    /// A new request id, a UUIDv7 (RFC 9562 section 5.7): ids sort by time.
    pub(crate) fn request_id(&self, now: SystemTime) -> RequestId {
        let millis = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
        let mut random = self.random.borrow_mut();
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(
            &((millis as u64) << 16 | 0x7000 | u64::from(random.u16(..0x1000))).to_be_bytes(),
        );
        bytes[8..].copy_from_slice(&(1 << 63 | random.u64(..) >> 2).to_be_bytes());
        let mut text = [b'-'; RequestId::MAX_BYTES];
        for (place, part) in [(0, 0..4), (9, 4..6), (14, 6..8), (19, 8..10), (24, 10..16)] {
            let length = part.len() * 2;
            write_hex(&mut text[place..place + length], &bytes[part]);
        }
        RequestId { text, length: 36, own: Some(bytes) }
    }

    /// The trace context of a request (W3C Trace Context, level 1): the client's trace where it has one, else one whose id is
    /// the request's own; a new span always.
    pub(crate) fn traceparent(&self, incoming: Option<&[u8]>, id: &RequestId) -> Traceparent {
        let mut out: Traceparent = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let mut random = self.random.borrow_mut();
        match incoming.filter(|text| is_traceparent(text)) {
            Some(text) => {
                out[3..35].copy_from_slice(&text[3..35]);
                out[53..].copy_from_slice(&text[53..55]);
            }
            None => {
                let digits = id.trace_id();
                let digits = digits.unwrap_or_else(|| hex_of(random.u128(1..).to_be_bytes()));
                out[3..35].copy_from_slice(&digits);
            }
        }
        // All zeros mean that there is no span.
        write_hex(&mut out[36..52], &random.u64(1..).to_be_bytes());
        out
    }
}

/// Both digits of every byte.
static HEX: [[u8; 2]; 256] = {
    let (digits, mut table, mut byte) = (b"0123456789abcdef", [[0; 2]; 256], 0);
    while byte < 256 {
        table[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    table
};

fn hex_of(bytes: [u8; 16]) -> [u8; 32] {
    let mut digits = [0; 32];
    write_hex(&mut digits, &bytes);
    digits
}

fn write_hex(out: &mut [u8], bytes: &[u8]) {
    for (place, byte) in out.chunks_exact_mut(2).zip(bytes) {
        place.copy_from_slice(&HEX[usize::from(*byte)]);
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
        assert!(matches!(id.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "the variant of RFC 9562");
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
        let id = clock.request_id(at(1_700_000_000_007));
        let outgoing = clock.traceparent(Some(incoming), &id);
        assert_eq!(&outgoing[..36], &incoming[..36]);
        assert_ne!(&outgoing[36..52], &incoming[36..52]);
        assert_eq!(&outgoing[52..], b"-01");
        for bad in [&b"00-00000000000000000000000000000000-b7ad6b7169203331-01"[..], b"01-x", b""] {
            let fresh = clock.traceparent(Some(bad), &id);
            assert!(is_traceparent(&fresh) && fresh.ends_with(b"-00"));
            assert_eq!(fresh[3..35], id.trace_id().unwrap());
        }
    }
}
