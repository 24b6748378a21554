//! A path that is taken as it is: no reader, however careless, finds another path in it.

#![no_main]

use edge_gateway::fuzzing::path_ambiguity;
use libfuzzer_sys::fuzz_target;

/// Decodes what looks like an escape and leaves the rest.
fn unescape(path: &[u8]) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let (mut out, mut at) = (Vec::new(), 0);
    while at < path.len() {
        match (path[at], digit(path.get(at + 1)), digit(path.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

/// Reads UTF-8 without a check for forms that are too long.
fn code_points(bytes: &[u8]) -> Vec<u32> {
    let (mut out, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let lead = u32::from(bytes[at]);
        let (more, bits) = match lead {
            0xc0..=0xdf => (1, lead & 0x1f),
            0xe0..=0xef => (2, lead & 0x0f),
            0xf0..=0xf7 => (3, lead & 0x07),
            _ => (0, lead),
        };
        let tail =
            bytes.get(at + 1..at + 1 + more).filter(|tail| tail.iter().all(|byte| byte & 0xc0 == 0x80));
        match tail {
            Some(tail) => {
                out.push(tail.iter().fold(bits, |value, byte| value << 6 | u32::from(byte & 0x3f)));
                at += 1 + more;
            }
            None => {
                out.push(lead);
                at += 1;
            }
        }
    }
    out
}

fuzz_target!(|path: &[u8]| {
    // Only visible ASCII comes as far as this: http1 refuses everything else.
    if !path.iter().all(u8::is_ascii_graphic) || path_ambiguity(path).is_some() {
        return;
    }
    let once = unescape(path);
    assert_eq!(unescape(&once), once, "escaped twice");
    let read = code_points(&once);
    assert_eq!(
        read.iter().filter(|point| **point == u32::from(b'/')).count(),
        path.iter().filter(|byte| **byte == b'/').count(),
        "a hidden slash"
    );
    assert!(read.iter().all(|point| *point > 0x1f
        && *point != 0x7f
        && ![u32::from(b'\\'), u32::from(b';')].contains(point)));
    let segments: Vec<&[u32]> = read.split(|point| *point == u32::from(b'/')).collect();
    let dots = |segment: &&[u32]| {
        (1..=2).contains(&segment.len()) && segment.iter().all(|point| *point == u32::from(b'.'))
    };
    assert!(!segments.iter().any(dots), "a dot segment");
    assert!(segments[1..segments.len() - 1].iter().all(|segment| !segment.is_empty()), "an empty segment");
});
