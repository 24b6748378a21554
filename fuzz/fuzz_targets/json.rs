//! The strict reader: what it takes serde reads as the same value, and what is written of it is taken again.

#![no_main]

use libfuzzer_sys::fuzz_target;

/// As deep as bodies may be.
const MAX_DEPTH: usize = 64;

fuzz_target!(|bytes: &[u8]| {
    match strict_json::read(bytes, MAX_DEPTH) {
        Ok(value) => {
            let written = value.to_string();
            assert_eq!(strict_json::read(written.as_bytes(), MAX_DEPTH).as_ref(), Ok(&value));
            // The one text that serde takes for a number although it is none.
            if !written.contains("$serde_json") {
                assert_eq!(serde_json::from_slice::<serde_json::Value>(bytes).ok(), Some(value));
            }
        }
        Err(refused) => assert!(refused.offset <= bytes.len()),
    }
});
