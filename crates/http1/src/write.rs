//! The bytes of heads.

use http::StatusCode;

/// Appends the first line of a response.
pub fn write_status_line(out: &mut Vec<u8>, status: StatusCode) {
    if status == StatusCode::OK {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends a field. Name and value are those of a message that was read, or of the house's own making: neither can hold a
/// line end.
pub fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    debug_assert!(!value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)), "a value has no line end");
    let start = out.len();
    out.resize(start + name.len() + value.len() + 4, 0);
    let (own_name, rest) = out[start..].split_at_mut(name.len());
    own_name.copy_from_slice(name);
    rest[..2].copy_from_slice(b": ");
    rest[2..2 + value.len()].copy_from_slice(value);
    rest[2 + value.len()..].copy_from_slice(b"\r\n");
}

/// Appends a number in decimal digits, without the detour over `fmt`.
pub fn write_decimal(out: &mut Vec<u8>, mut value: u64) {
    if value < 10 {
        out.push(b'0' + value as u8);
        return;
    }
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[first..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_written_as_they_are_read() {
        let mut out = Vec::new();
        write_status_line(&mut out, StatusCode::OK);
        write_status_line(&mut out, StatusCode::NOT_FOUND);
        write_status_line(&mut out, StatusCode::from_u16(299).unwrap());
        write_field(&mut out, b"content-length", b"5");
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "HTTP/1.1 200 OK\r\nHTTP/1.1 404 Not Found\r\nHTTP/1.1 299 \r\ncontent-length: 5\r\n"
        );
    }

    #[test]
    fn numbers_are_plain_decimals() {
        for value in [0, 9, 10, 404, u64::MAX] {
            let mut out = Vec::new();
            write_decimal(&mut out, value);
            assert_eq!(out, value.to_string().as_bytes());
        }
    }
}
