//! A whole connection: heads and bodies in a row. However it is cut into pieces it is read the same, and what was accepted
//! means the same after it was sent on.

#![no_main]

#[path = "../../crates/http1/tests/it/reader.rs"]
mod reader;

use libfuzzer_sys::fuzz_target;
use reader::{Reader, assert_means_the_same_sent_on, read};

fuzz_target!(|bytes: &[u8]| {
    let whole = read(bytes);
    let mut in_pieces = Reader::default();
    for piece in bytes.chunks(1 + bytes.len() % 7) {
        in_pieces.feed(piece);
    }
    assert_eq!(in_pieces.finish(), whole);
    assert_means_the_same_sent_on(&whole.0);
});
