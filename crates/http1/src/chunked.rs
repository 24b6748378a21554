//! The chunked coding (RFC 9112 section 7.1): its lines are read strictly and written anew.

use crate::error::BodyFault;

/// The longest line before a chunk, extensions and line end included, in bytes.
pub const MAX_CHUNK_LINE_BYTES: usize = 256;
/// Hexadecimal digits of a chunk's size: all of a u64.
const MAX_SIZE_DIGITS: usize = 16;

/// What ends a body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The line before a chunk at the start of `input`: the chunk's size and the line's length; `None` while it is not whole.
pub(crate) fn read_chunk_line(input: &[u8]) -> Result<Option<(u64, usize)>, BodyFault> {
    let window = &input[..input.len().min(MAX_CHUNK_LINE_BYTES)];
    let digits = window.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    if digits > MAX_SIZE_DIGITS {
        return Err(BodyFault("a chunk's size has too many digits"));
    }
    let Some(after) = window.get(digits) else {
        return Ok(None);
    };
    if digits == 0 || !matches!(after, b'\r' | b';') {
        return Err(BodyFault("a chunk's size is not a hexadecimal number"));
    }
    let Some(end) = memchr::memchr(b'\n', window) else {
        return if window.len() < MAX_CHUNK_LINE_BYTES {
            // A carriage return may be the first half of the line's end.
            check_extension(window[digits..].strip_suffix(b"\r").unwrap_or(&window[digits..]))?;
            Ok(None)
        } else {
            Err(BodyFault("the line before a chunk is too long"))
        };
    };
    if window[end - 1] != b'\r' {
        return Err(BodyFault("the line before a chunk does not end in CR LF"));
    }
    check_extension(&window[digits..end - 1])?;
    let size =
        std::str::from_utf8(&window[..digits]).ok().and_then(|text| u64::from_str_radix(text, 16).ok());
    let size = size.ok_or(BodyFault("a chunk's size is not a hexadecimal number"))?;
    Ok(Some((size, end + 1)))
}

/// Extensions mean nothing here and are not passed on, but they must not hide a line end.
fn check_extension(extension: &[u8]) -> Result<(), BodyFault> {
    let plain = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
    if extension.iter().all(plain) {
        Ok(())
    } else {
        Err(BodyFault("a chunk's extension has a control character"))
    }
}

/// Appends the line before a chunk of so many bytes.
pub fn write_chunk_size(out: &mut Vec<u8>, size: usize) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        out.push(HEX[(size >> (place * 4)) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_is_a_size_and_perhaps_extensions() {
        assert_eq!(read_chunk_line(b"0\r\n"), Ok(Some((0, 3))));
        assert_eq!(read_chunk_line(b"1aF\r\nxyz"), Ok(Some((0x1af, 5))));
        assert_eq!(read_chunk_line(b"5;a=\"b c\"\r\n"), Ok(Some((5, 11))));
        assert_eq!(read_chunk_line(b"ffffffffffffffff\r\n"), Ok(Some((u64::MAX, 18))));
        for partial in [&b""[..], b"5", b"5\r", b"5;", b"5;abc", b"5;abc\r"] {
            assert_eq!(read_chunk_line(partial), Ok(None), "{partial:?}");
        }
    }

    #[test]
    fn everything_else_is_refused_as_soon_as_it_is_seen() {
        let long = [b"5;".as_slice(), &[b'a'; MAX_CHUNK_LINE_BYTES]].concat();
        for bad in [
            &b"\r\n"[..],
            b";",
            b"g",
            b" 5\r\n",
            b"5 \r\n",
            b"5 ;a\r\n",
            b"+5\r\n",
            b"-5\r\n",
            b"0x5\r\n",
            b"5\n",
            b"5;a\n",
            b"5;a\rb\r\n",
            b"5;a\0\r\n",
            b"5;\x0b",
            b"5\rx",
            b"5\r\r",
            b"5\r\r\n",
            b"5;a\r\r\n",
            b"00000000000000005\r\n",
            b"5_0\r\n",
            b"5,\r\n",
            &long,
        ] {
            assert!(read_chunk_line(bad).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
    }

    proptest! {
        #[test]
        fn a_written_size_reads_back(size: usize) {
            let mut line = Vec::new();
            write_chunk_size(&mut line, size);
            prop_assert_eq!(read_chunk_line(&line), Ok(Some((size as u64, line.len()))));
        }
    }
}
