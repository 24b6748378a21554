//! Which request paths are taken as they are. A path that a replica might read differently than the route table did is
//! refused, so that no spelling reaches a route that the plain path could not.

/// Why a path is refused; `None` when it is plain.
pub(crate) fn ambiguity(path: &[u8]) -> Option<&'static str> {
    if path.first() != Some(&b'/') {
        return Some("the path does not begin with a slash");
    }
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        match first {
            b'%' => match after.first_chunk::<2>().and_then(decode) {
                None => {
                    return Some(
                        "the path has a percent sign that is not followed by two hexadecimal digits",
                    );
                }
                Some(b'/' | b'\\' | b'.' | b';' | b'%' | 0..=0x1f | 0x7f) => {
                    return Some(
                        "the path hides a separator, a dot or a control character behind a percent sign",
                    );
                }
                Some(_) => {}
            },
            b'\\' | b';' => return Some("the path has a backslash or a semicolon"),
            b'/' if after.first() == Some(&b'/') => return Some("the path has an empty segment"),
            b'/' if is_dot_segment(after) => return Some("the path has a dot segment"),
            _ => {}
        }
        rest = after;
    }
    None
}

fn is_dot_segment(after_slash: &[u8]) -> bool {
    let end = after_slash.iter().position(|byte| *byte == b'/').unwrap_or(after_slash.len());
    matches!(&after_slash[..end], b"." | b"..")
}

fn decode(digits: &[u8; 2]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(digits[0])? * 16 + digit(digits[1])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_paths_are_taken() {
        for plain in [
            "/",
            "/v1/random",
            "/v1/random/",
            "/v1/price/BTC-USD",
            "/a%20b",
            "/.well-known/x",
            "/a..b",
            "/%E2%82%AC",
        ] {
            assert_eq!(ambiguity(plain.as_bytes()), None, "{plain}");
        }
    }

    #[test]
    fn every_trick_is_refused() {
        let tricks = [
            "",
            "*",
            "v1",
            "//",
            "/a//b",
            "/a/../b",
            "/..",
            "/.",
            "/a/.",
            "/./a",
            "/a/%2e%2e/b",
            "/%2E",
            "/a%2fb",
            "/a%5cb",
            "/a\\b",
            "/a;b",
            "/a%3Bb",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a%00",
            "/a%0a",
            "/a%252e",
            "/a/..",
        ];
        for trick in tricks {
            assert!(ambiguity(trick.as_bytes()).is_some(), "{trick}");
        }
    }
}
