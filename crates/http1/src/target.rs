//! The request target (RFC 9112 section 3.2) and the authority (RFC 9110 section 4.2).

use std::net::Ipv6Addr;

use crate::error::Malformed;
use crate::fields::Span;

/// Where the parts of a target stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Target {
    /// Path and query together, as they are sent on.
    pub(crate) origin: Span,
    /// The path alone.
    pub(crate) path: Span,
    /// Host and port, where the target names them.
    pub(crate) authority: Option<Span>,
}

/// Takes a target in origin form or absolute form apart. Asterisk form and authority form lead to no route, so they are
/// refused like anything else that has no path.
pub(crate) fn parse(target: &[u8], bytes: &[u8]) -> Result<Target, Malformed> {
    if !target.iter().all(u8::is_ascii_graphic) {
        return Err("its URL has a byte that is not visible ASCII");
    }
    if target.contains(&b'#') {
        return Err("its URL has a fragment");
    }
    if target.first() == Some(&b'/') {
        return Ok(with_origin(target, bytes, None));
    }
    let rest = strip_scheme(target).ok_or("its URL has no path")?;
    let end = rest.iter().position(|byte| b"/?".contains(byte)).unwrap_or(rest.len());
    let (authority, origin) = rest.split_at(end);
    if !is_authority(authority) {
        return Err("its URL does not name a host and a port");
    }
    if origin.first() != Some(&b'/') {
        return Err("its URL has no path");
    }
    Ok(with_origin(origin, bytes, Some(Span::of(authority, bytes))))
}

fn with_origin(origin: &[u8], bytes: &[u8], authority: Option<Span>) -> Target {
    let path = origin.iter().position(|byte| *byte == b'?').unwrap_or(origin.len());
    Target { origin: Span::of(origin, bytes), path: Span::of(&origin[..path], bytes), authority }
}

fn strip_scheme(target: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = target.split_at(target.iter().position(|byte| *byte == b':')?);
    let known = scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https");
    if known { rest.strip_prefix(b"://") } else { None }
}

/// Whether this is a host, with or without a port, and nothing else: no user, no escapes.
pub(crate) fn is_authority(text: &[u8]) -> bool {
    let (host_is_valid, rest) = if text.first() == Some(&b'[') {
        let Some(end) = text.iter().position(|byte| *byte == b']') else { return false };
        let inner = std::str::from_utf8(&text[1..end]).ok().and_then(|inner| inner.parse::<Ipv6Addr>().ok());
        (inner.is_some(), &text[end + 1..])
    } else {
        let end = text.iter().position(|byte| *byte == b':').unwrap_or(text.len());
        (end > 0 && text[..end].iter().all(|byte| IN_NAME[usize::from(*byte)]), &text[end..])
    };
    host_is_valid && is_port(rest)
}

/// What a host's name is made of.
static IN_NAME: [bool; 256] = {
    let (mut table, mut byte) = ([false; 256], 0_u8);
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        byte += 1;
    }
    table
};

/// Nothing, or a colon and a number that is a port.
fn is_port(rest: &[u8]) -> bool {
    let Some((colon, digits)) = rest.split_first() else { return true };
    let value = digits.iter().try_fold(0_u32, |value, digit| {
        digit.is_ascii_digit().then(|| value.saturating_mul(10).saturating_add(u32::from(digit - b'0')))
    });
    *colon == b':' && (1..=5).contains(&digits.len()) && value.is_some_and(|value| value <= 65_535)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn targets_are_origin_form_or_absolute_form() {
        let mut shown = String::new();
        for target in [
            "/",
            "/a?b=/c?d",
            "http://h/a",
            "HTTPS://h:443/a?b",
            "http://[::1]:8080/",
            "http://h",
            "http://h?a",
            "http:///a",
            "http://u@h/",
            "http://h:x/",
            "ftp://h/",
            "h:443",
            "*",
            "a",
            "/a#b",
            "/a\u{7f}",
            "/é",
            "",
        ] {
            let bytes = target.as_bytes();
            let text = |span: Span| std::str::from_utf8(&bytes[span.range()]).unwrap();
            let parsed = parse(bytes, bytes).map(|parsed| {
                format!("{:?} {:?} {:?}", parsed.authority.map(text), text(parsed.path), text(parsed.origin))
            });
            shown += &format!("{target:?}: {}\n", parsed.unwrap_or_else(|why| format!("refused: {why}")));
        }
        expect![[r#"
            "/": None "/" "/"
            "/a?b=/c?d": None "/a" "/a?b=/c?d"
            "http://h/a": Some("h") "/a" "/a"
            "HTTPS://h:443/a?b": Some("h:443") "/a" "/a?b"
            "http://[::1]:8080/": Some("[::1]:8080") "/" "/"
            "http://h": refused: its URL has no path
            "http://h?a": refused: its URL has no path
            "http:///a": refused: its URL does not name a host and a port
            "http://u@h/": refused: its URL does not name a host and a port
            "http://h:x/": refused: its URL does not name a host and a port
            "ftp://h/": refused: its URL has no path
            "h:443": refused: its URL has no path
            "*": refused: its URL has no path
            "a": refused: its URL has no path
            "/a#b": refused: its URL has a fragment
            "/a\u{7f}": refused: its URL has a byte that is not visible ASCII
            "/é": refused: its URL has a byte that is not visible ASCII
            "": refused: its URL has no path
        "#]]
        .assert_eq(&shown);
    }

    #[test]
    fn an_authority_is_a_host_and_perhaps_a_port() {
        for good in ["a", "a.b-c_d", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::ffff:1.2.3.4]:65535"] {
            assert!(is_authority(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            ":80",
            "a:",
            "a:65536",
            "a:000080",
            "a:8a",
            "a b",
            "a@b",
            "a%2f",
            "[",
            "[]",
            "[]:80",
            "[::1",
            "[::1]x",
            "[1.2.3.4]",
            "[:::]",
            "[1:2]",
            "[abc]",
            "a/b",
            "a,b",
            "a:1:2",
        ] {
            assert!(!is_authority(bad.as_bytes()), "{bad}");
        }
    }
}
