//! Which request paths are taken as they are. A path that a replica might read differently than the route table did is
//! refused, and routes know a path by its plain spelling alone, so that no spelling reaches a route that the plain path
//! could not.

use std::borrow::Cow;

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
                Some(lead @ 0xc0..) if is_overlong(lead, &after[2..]) => {
                    return Some("the path writes a character in more bytes than it needs");
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

/// Whether a character begins here that UTF-8 writes in fewer bytes: some readers take `%c0%af` for a slash (RFC 3629
/// section 10).
fn is_overlong(lead: u8, rest: &[u8]) -> bool {
    let second = || rest.strip_prefix(b"%").and_then(|digits| digits.first_chunk()).and_then(decode);
    match lead {
        0xc0 | 0xc1 => true,
        0xe0 => second().is_some_and(|second| second < 0xa0),
        0xf0 => second().is_some_and(|second| second < 0x90),
        _ => false,
    }
}

/// The path as routes know it: a visible character behind a percent sign means what it means bare, and the digits of all
/// others are capitals (RFC 3986 section 6.2.2).
pub(crate) fn plain(path: &[u8]) -> Cow<'_, [u8]> {
    if !path.contains(&b'%') {
        return Cow::Borrowed(path);
    }
    let (mut plain, mut rest) = (Vec::with_capacity(path.len()), path);
    while let Some((meaning, after)) = first(rest) {
        plain.extend_from_slice(meaning.as_bytes());
        rest = after;
    }
    Cow::Owned(plain)
}

/// What is left of a path behind a beginning in its plain spelling, however that is spelled here.
pub(crate) fn strip_prefix<'a>(path: &'a [u8], mut prefix: &[u8]) -> Option<&'a [u8]> {
    let mut rest = path;
    while !prefix.is_empty() {
        let (meaning, after) = first(rest)?;
        prefix = prefix.strip_prefix(meaning.as_bytes())?;
        rest = after;
    }
    Some(rest)
}

/// One character of a path.
enum Meaning {
    Bare(u8),
    /// One that is not visible, with its percent sign.
    Escaped([u8; 3]),
}

impl Meaning {
    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Bare(byte) => std::slice::from_ref(byte),
            Self::Escaped(bytes) => bytes,
        }
    }
}

/// What the beginning of a path means, and what follows.
fn first(path: &[u8]) -> Option<(Meaning, &[u8])> {
    let (byte, after) = path.split_first()?;
    let Some(digits) = after.first_chunk::<2>().filter(|_| *byte == b'%') else {
        return Some((Meaning::Bare(*byte), after));
    };
    let meaning = match decode(digits) {
        Some(visible) if visible.is_ascii_graphic() => Meaning::Bare(visible),
        _ => Meaning::Escaped([b'%', digits[0].to_ascii_uppercase(), digits[1].to_ascii_uppercase()]),
    };
    Some((meaning, &after[2..]))
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
            "/%e0%a4%85%F0%9F%98%80",
            "/%E9",
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
            "/a%c0%af",
            "/a/%C0%AE%c0%ae",
            "/%c1%9c",
            "/%e0%80%af",
            "/%e0%9F%bf",
            "/%f0%80%80%af",
        ];
        for trick in tricks {
            assert!(ambiguity(trick.as_bytes()).is_some(), "{trick}");
        }
    }

    #[test]
    fn a_route_may_be_configured_exactly_where_a_request_may_ask_for_it() {
        for lead in 0x80..=0xff_u8 {
            for second in [0x20, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xe0, 0xf4] {
                let path = format!("/a%{lead:02X}%{second:02X}");
                let text = format!("services: {{vrf: {{routes: [{{match: {{path: '{path}'}}}}]}}}}");
                let read = configuration::parse(
                    &text,
                    "serviceos.yaml",
                    std::path::Path::new("/srv"),
                    std::num::NonZeroUsize::MIN,
                    configuration::any_config,
                );
                assert_eq!(read.is_ok(), ambiguity(path.as_bytes()).is_none(), "{path}");
            }
        }
    }

    #[test]
    fn every_spelling_of_a_path_has_the_same_plain_one() {
        for (spelled, expected) in [
            ("/v1/feeds", "/v1/feeds"),
            ("/v1/%66eed%73", "/v1/feeds"),
            ("/%7e%2D", "/~-"),
            ("/caf%c3%a9%20", "/caf%C3%A9%20"),
            ("/a%3fb%23", "/a?b#"),
        ] {
            assert_eq!(plain(spelled.as_bytes()), expected.as_bytes(), "{spelled}");
        }
    }

    #[test]
    fn a_prefix_is_stripped_however_it_is_spelled_and_the_rest_keeps_its_spelling() {
        let rest = |path: &'static str| strip_prefix(path.as_bytes(), b"/caf%C3%A9");
        assert_eq!(rest("/caf%C3%A9/%78?%79"), Some(&b"/%78?%79"[..]));
        assert_eq!(rest("/%63af%c3%a9"), Some(&b""[..]));
        for other in ["/caf%C3", "/caf", "/cafe", "/CAF%C3%A9", "/caf%C3%A8"] {
            assert_eq!(rest(other), None, "{other}");
        }
    }
}
