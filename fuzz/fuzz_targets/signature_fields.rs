//! The structured fields of a signature: what is accepted has one meaning, which is written as it stands there.

#![no_main]

use access::read_fields;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Some(read) = read_fields(text) else { return };
    assert_eq!(read_fields(&read).as_deref(), Some(read.as_str()));
    // Between two members there may be spaces; nothing else may be left out or added.
    let bare = |text: &str| text.replace([' ', '\t'], "");
    assert_eq!(bare(&read), bare(text));
    assert!(text.is_ascii());
});
