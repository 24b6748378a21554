//! The strict reader of bodies: what it takes serde reads as the same value, and what is written of it is taken again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use validation::read_json;

fuzz_target!(|bytes: &[u8]| {
    match read_json(bytes) {
        Ok(value) => {
            let written = value.to_string();
            assert_eq!(read_json(written.as_bytes()).as_ref(), Ok(&value));
            // The one text that serde takes for a number although it is none.
            if !written.contains("$serde_json") {
                assert_eq!(serde_json::from_slice::<serde_json::Value>(bytes).ok(), Some(value));
            }
        }
        Err(refused) => assert!(refused.offset <= bytes.len()),
    }
});
