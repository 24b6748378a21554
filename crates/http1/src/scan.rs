//! Finds where a head ends, whatever pieces it comes in. Each byte is looked at once, so that a head which trickles in byte
//! by byte costs no more than one that comes at once.

use memchr::memchr;

use crate::error::RequestFault;
use crate::request::Limits;

/// How far a head was looked through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HeadScan {
    /// Bytes that were looked at.
    seen: usize,
    /// Where the line begins that is not complete yet.
    line: usize,
    /// Complete lines so far, the first line among them.
    lines: usize,
}

impl HeadScan {
    /// The length of the head at the start of `bytes`, empty line included; `None` while its end has not come.
    ///
    /// `bytes` is everything since the head began: what was seen before, and perhaps more.
    ///
    /// # Errors
    /// A line that does not end in CR LF, and whatever is over a limit already, before the rest of it is waited for.
    pub fn advance(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<usize>, RequestFault> {
        while let Some(found) = memchr(b'\n', &bytes[self.seen..]) {
            let end = self.seen + found;
            if end == self.line || bytes[end - 1] != b'\r' {
                return Err(RequestFault::Malformed("a line of its head does not end in CR LF"));
            }
            let is_empty = end == self.line + 1;
            self.check_line(end - 1, limits)?;
            (self.seen, self.line) = (end + 1, end + 1);
            if is_empty {
                if self.lines == 0 {
                    return Err(RequestFault::Malformed("it begins with an empty line"));
                }
                return Ok(Some(self.seen));
            }
            self.lines += 1;
            if self.lines > limits.fields + 1 {
                return Err(RequestFault::TooManyFields);
            }
        }
        self.seen = bytes.len();
        // A carriage return may be the first half of the line's end, which does not count.
        self.check_line(self.seen - usize::from(bytes[self.line..].ends_with(b"\r")), limits)?;
        Ok(None)
    }

    /// The line that begins at `line` and has come as far as `end`.
    fn check_line(&self, end: usize, limits: &Limits) -> Result<(), RequestFault> {
        if self.lines == 0 {
            // Method, version and spaces beside the target.
            if end - self.line > limits.target_bytes + Limits::BESIDE_TARGET_BYTES {
                return Err(RequestFault::TargetTooLong);
            }
            return Ok(());
        }
        if end > limits.target_bytes + Limits::BESIDE_TARGET_BYTES + limits.head_bytes {
            return Err(RequestFault::TooManyBytes);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits { head_bytes: 64, fields: 4, target_bytes: 32 };

    fn scan(bytes: &[u8]) -> Result<Option<usize>, RequestFault> {
        HeadScan::default().advance(bytes, &LIMITS)
    }

    #[test]
    fn the_end_is_the_first_empty_line() {
        assert_eq!(scan(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nrest\r\n\r\n"), Ok(Some(27)));
        assert_eq!(scan(b"GET / HTTP/1.1\r\nHost: a\r\n\r"), Ok(None));
        assert_eq!(scan(b""), Ok(None));
    }

    #[test]
    fn bare_line_feeds_and_empty_beginnings_are_refused_before_the_end_came() {
        for bad in [&b"GET / HTTP/1.1\n"[..], b"\n", b"GET / HTTP/1.1\r\nHost: a\n", b"\r\n", b"\r\nGET"] {
            assert!(matches!(scan(bad), Err(RequestFault::Malformed(_))), "{bad:?}");
        }
    }

    #[test]
    fn limits_hold_before_the_end_came() {
        let long_target = [b'a'; 200];
        assert_eq!(scan(&long_target), Err(RequestFault::TargetTooLong));
        let lines = b"GET / HTTP/1.1\r\na:\r\nb:\r\nc:\r\nd:\r\ne:\r\n";
        assert_eq!(scan(lines), Err(RequestFault::TooManyFields));
        let mut long_line = b"GET / HTTP/1.1\r\na: ".to_vec();
        long_line.resize(400, b'a');
        assert_eq!(scan(&long_line), Err(RequestFault::TooManyBytes));
    }

    #[test]
    fn a_line_at_its_limit_may_come_without_its_line_feed() {
        let mut line = vec![b'a'; LIMITS.target_bytes + Limits::BESIDE_TARGET_BYTES];
        line.extend_from_slice(b"\r\n\r\n");
        let mut in_pieces = HeadScan::default();
        for end in 0..line.len() {
            assert_eq!(in_pieces.advance(&line[..end], &LIMITS), Ok(None), "{end}");
        }
        assert_eq!(in_pieces.advance(&line, &LIMITS), Ok(Some(line.len())));
        line.insert(0, b'a');
        assert_eq!(scan(&line), Err(RequestFault::TargetTooLong));
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(bytes in "[a\r\n: ]{0,60}", cut in 0..60usize) {
            let bytes = bytes.as_bytes();
            let mut scan = HeadScan::default();
            let first = scan.advance(&bytes[..cut.min(bytes.len())], &LIMITS);
            let pieces = if matches!(first, Ok(None)) { scan.advance(bytes, &LIMITS) } else { first };
            let whole = HeadScan::default().advance(bytes, &LIMITS);
            // In pieces an error may come earlier, so that it is another one, but a head that is good whole has none.
            prop_assert!(pieces == whole || first.is_err() && whole.is_err());
        }
    }
}
