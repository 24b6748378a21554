//! Times as text and request ids, made cheaply: the text of a second is written once.

use std::cell::RefCell;

use http::HeaderValue;
use jiff::Timestamp;

/// One worker's clock and id source.
pub(crate) struct Clock {
    second: RefCell<(i64, String)>,
    random: RefCell<fastrand::Rng>,
}

impl Clock {
    pub(crate) fn new(random: fastrand::Rng) -> Self {
        Self { second: RefCell::new((i64::MIN, String::new())), random: RefCell::new(random) }
    }

    /// Appends a time as RFC 3339 with milliseconds.
    pub(crate) fn write(&self, out: &mut Vec<u8>, time: Timestamp) {
        let mut second = self.second.borrow_mut();
        if second.0 != time.as_second() {
            *second = (time.as_second(), time.strftime("%Y-%m-%dT%H:%M:%S").to_string());
        }
        let millis = time.subsec_millisecond().unsigned_abs();
        out.extend_from_slice(second.1.as_bytes());
        let digit = |number: u32| b'0' + u8::try_from(number % 10).expect("a digit is below 10");
        out.extend_from_slice(&[b'.', digit(millis / 100), digit(millis / 10), digit(millis), b'Z']);
    }

    /// A new request id, a UUIDv7 (RFC 9562): ids sort by time.
    pub(crate) fn request_id(&self, now: Timestamp) -> HeaderValue {
        let mut random = [0; 10];
        self.random.borrow_mut().fill(&mut random);
        let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
        let id = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        let text: &str = id.hyphenated().encode_lower(&mut text);
        HeaderValue::from_str(text).expect("a UUID is visible ASCII")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_with_milliseconds_and_ids_begin_with_the_time() {
        let clock = Clock::new(fastrand::Rng::with_seed(1));
        let mut out = Vec::new();
        for millis in [1_700_000_000_007, 1_700_000_000_999, 1_700_000_001_000] {
            clock.write(&mut out, Timestamp::from_millisecond(millis).unwrap());
            out.push(b' ');
        }
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "2023-11-14T22:13:20.007Z 2023-11-14T22:13:20.999Z 2023-11-14T22:13:21.000Z ");
        let id = clock.request_id(Timestamp::from_millisecond(1_700_000_000_007).unwrap());
        assert!(id.to_str().unwrap().starts_with("018bcfe5-6807-7"), "{id:?}");
    }
}
