//! A configuration file: every text gives settings, or errors that can be shown.

#![no_main]

use std::num::NonZeroUsize;
use std::path::Path;

use configuration::{any_config, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(error) = parse(text, "serviceos.yaml", Path::new("/etc"), NonZeroUsize::MIN, any_config) {
        assert!(error.count() > 0 && !error.to_string().is_empty());
    }
});
