//! The head of a request: what is accepted is plain, and means the same after it was sent on.

#![no_main]

#[path = "../../crates/http1/tests/it/reader.rs"]
mod reader;

use http1::{Framing, HeadScan, RequestHead, parse_request};
use libfuzzer_sys::fuzz_target;
use reader::{LIMITS, assert_means_the_same_sent_on, message};

fuzz_target!(|bytes: &[u8]| {
    let mut in_pieces = HeadScan::default();
    let found = (0..=bytes.len())
        .map(|end| in_pieces.advance(&bytes[..end], &LIMITS))
        .find(|found| *found != Ok(None));
    let whole = HeadScan::default().advance(bytes, &LIMITS);
    let Ok(Some(length)) = whole else {
        // What is refused whole may be refused with another reason where less of it is known.
        assert!(found.is_none_or(|found| found.is_err()));
        return;
    };
    assert_eq!(found, Some(whole));
    let mut head = RequestHead::default();
    if parse_request(&bytes[..length], &LIMITS, &mut head).is_err() {
        return;
    }
    assert!(head.path().starts_with(b"/") && head.origin().iter().all(u8::is_ascii_graphic));
    assert!(!head.host().is_empty() && head.host().iter().all(u8::is_ascii_graphic));
    for (_, name, value) in head.fields() {
        assert!(!name.is_empty() && name.iter().all(|byte| byte.is_ascii_graphic() && *byte != b':'));
        assert!(value.iter().all(|byte| *byte == b'\t' || *byte >= b' ' && *byte != 0x7f));
    }
    let mut message = message(&head);
    message.framing = Framing::Length(0);
    assert_means_the_same_sent_on(&[message]);
});
