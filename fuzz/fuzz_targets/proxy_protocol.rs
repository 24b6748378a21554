//! The PROXY protocol: a header is read whole or not at all, and what follows it makes no difference.

#![no_main]

use edge_gateway::fuzzing::proxy_header;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(Some((source, length))) = proxy_header(bytes) else { return };
    assert_eq!(proxy_header(&bytes[..length]), Ok(Some((source, length))));
    for end in 0..length {
        assert_eq!(proxy_header(&bytes[..end]), Ok(None), "of {end} bytes");
    }
});
