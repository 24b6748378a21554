//! The chunked coding: pieces make no difference, and what was read is read again from what is written.

#![no_main]

use http1::{BodyDecoder, Buffer, Framing, LAST_CHUNK, Step, write_chunk_size};
use libfuzzer_sys::fuzz_target;

/// The body, and how many bytes of its coding were left; nothing where it is malformed or does not end.
fn decode(bytes: &[u8], size: usize) -> Option<(Vec<u8>, usize)> {
    let (mut decoder, mut buffer, mut body) =
        (BodyDecoder::new(Framing::Chunked), Buffer::default(), Vec::new());
    let mut used = 0;
    let mut pieces = bytes.chunks(size);
    loop {
        match decoder.step(&mut buffer).ok()? {
            Step::More => {
                let piece = pieces.next()?;
                used += piece.len();
                buffer.append(piece);
            }
            Step::Data => {
                let length = decoder.data(&buffer).len();
                body.extend_from_slice(decoder.data(&buffer));
                decoder.consume(&mut buffer, length);
            }
            Step::End => return Some((body, bytes.len() - used + buffer.data().len())),
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let whole = decode(bytes, bytes.len().max(1));
    assert_eq!(decode(bytes, 1 + bytes.len() % 7), whole);
    let Some((body, _)) = whole else { return };
    let mut out = Vec::new();
    for piece in body.chunks(5) {
        write_chunk_size(&mut out, piece.len());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(LAST_CHUNK);
    assert_eq!(decode(&out, out.len()), Some((body, 0)));
});
