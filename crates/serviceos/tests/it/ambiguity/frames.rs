//! HTTP/2 as bytes: frames, and header blocks without compression, so that anything can be said in them.

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const ACK: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const PADDED: u8 = 8;

/// One frame (RFC 9113 section 4.1).
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame is short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header block of literals that are neither indexed nor compressed (RFC 7541 section 6.2.2).
pub(super) fn block<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name.as_ref(), value.as_ref()] {
            push_length(&mut block, text.len());
            block.extend_from_slice(text);
        }
    }
    block
}

/// An integer with a prefix of seven bits (RFC 7541 section 5.1).
fn push_length(block: &mut Vec<u8>, length: usize) {
    if length < 127 {
        block.push(length as u8);
        return;
    }
    block.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        block.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    block.push(rest as u8);
}

/// What the other side said, as far as a test wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// The head of an answer: a stream and its status.
    Answer(u32, u16),
    /// A stream ended in good order.
    End(u32),
    Reset(u32),
    GoAway,
    Other,
}

/// Takes one frame off the beginning of what was read.
pub(super) fn read(input: &mut Vec<u8>) -> Option<[Option<Said>; 2]> {
    let header: [u8; 9] = *input.first_chunk()?;
    let length = 9 + usize::from(header[0]) * 65_536 + usize::from(header[1]) * 256 + usize::from(header[2]);
    if input.len() < length {
        return None;
    }
    let frame: Vec<u8> = input.drain(..length).collect();
    let stream = u32::from_be_bytes([header[5] & 127, header[6], header[7], header[8]]);
    let said = match header[3] {
        HEADERS => Said::Answer(stream, status(&frame[9..])),
        RST_STREAM => Said::Reset(stream),
        GOAWAY => Said::GoAway,
        _ => Said::Other,
    };
    let ends = matches!(header[3], DATA | HEADERS) && header[4] & END_STREAM != 0;
    Some([Some(said), ends.then_some(Said::End(stream))])
}

/// The status at the beginning of a header block, as the `h2` crate writes it first: by its place in the static table, or
/// as three digits (RFC 7541 appendices A and B); 0 where it is written otherwise.
fn status(block: &[u8]) -> u16 {
    const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    match block {
        [index @ 0x88..=0x8e, ..] => INDEXED[usize::from(index - 0x88)],
        [0x08 | 0x48, 3, digits @ ..] if digits.len() >= 3 => {
            std::str::from_utf8(&digits[..3]).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
        }
        [0x08 | 0x48, length @ 0x81..=0x84, coded @ ..] => {
            let coded = &coded[..usize::from(length & 127).min(coded.len())];
            huffman_digits(coded)
        }
        _ => 0,
    }
}

/// The digits 0 to 2 have five bits, 3 to 9 six.
fn huffman_digits(coded: &[u8]) -> u16 {
    let bits: Vec<u8> = coded.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let value = |bits: &[u8]| bits.iter().fold(0_u16, |value, bit| value * 2 + u16::from(*bit));
    let (mut number, mut at) = (0, 0);
    for _ in 0..3 {
        let Some(short) = bits.get(at..at + 5).map(value) else { return 0 };
        if short < 3 {
            (number, at) = (number * 10 + short, at + 5);
        } else {
            let Some(long) = bits.get(at..at + 6).map(value) else { return 0 };
            (number, at) = (number * 10 + long.wrapping_sub(0x19) + 3, at + 6);
        }
    }
    number
}
