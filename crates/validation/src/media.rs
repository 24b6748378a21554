//! Media types, as far as the content of a request is chosen by them.

use types::media::{is_essence, is_token};

/// Optional white space (RFC 9110 section 5.6.3), and no other: a reader of bytes knows no more of it.
const SPACE: [char; 2] = [' ', '\t'];

/// Type and subtype of a `Content-Type`, and its charset where one is named; `None` where it is no media type, or one that two
/// readers could take for two (RFC 9110 sections 5.6.6 and 8.3.1).
pub fn media_type(value: &[u8]) -> Option<(&str, Option<&str>)> {
    let value = std::str::from_utf8(value).ok()?;
    let (essence, mut rest) = value.split_at(value.find(';').unwrap_or(value.len()));
    let essence = essence.trim_matches(SPACE);
    if !is_essence(essence) {
        return None;
    }
    let (mut names, mut charset) = (Vec::new(), None);
    while let Some(after) = rest.strip_prefix(';') {
        let after = after.trim_start_matches(SPACE);
        // There may be none between two semicolons.
        if after.is_empty() || after.starts_with(';') {
            rest = after;
            continue;
        }
        let (name, value, after) = parameter(after)?;
        // The one with a star would be another charset of the same (RFC 8187).
        let name = name.to_ascii_lowercase();
        if name == "charset*" || names.contains(&name) {
            return None;
        }
        if name == "charset" {
            charset = Some(value);
        }
        names.push(name);
        rest = after;
    }
    rest.trim_matches(SPACE).is_empty().then_some((essence, charset))
}

/// A parameter that text begins with, its value without quotes, and what stands behind it.
fn parameter(text: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = text.split_once('=')?;
    let (value, rest) = match rest.strip_prefix('"') {
        // No charset has a character that would have to be escaped, and nothing else is asked for.
        Some(quoted) => quoted.split_once('"').filter(|(value, _)| !value.contains('\\'))?,
        None => rest
            .split_at_checked(rest.find([';', ' ', '\t']).unwrap_or(rest.len()))
            .filter(|(value, _)| is_token(value))?,
    };
    is_token(name).then_some((name, value, rest.trim_start_matches(SPACE)))
}

/// How well a media type fits one that is taken, which may be a range; `None` where it does not.
pub(crate) fn fit(taken: &str, essence: &str) -> Option<u8> {
    if taken.eq_ignore_ascii_case(essence) {
        return Some(2);
    }
    if taken == "*/*" {
        return Some(0);
    }
    let kind = taken.strip_suffix("/*")?;
    let (own, _) = essence.split_once('/')?;
    own.eq_ignore_ascii_case(kind).then_some(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_type_and_subtype_count_and_the_charset_is_found() {
        let read = |text: &'static str| media_type(text.as_bytes());
        assert_eq!(read("application/json"), Some(("application/json", None)));
        assert_eq!(read("Text/JSON; a=b; Charset=\"UTF-8\""), Some(("Text/JSON", Some("UTF-8"))));
        assert_eq!(read("application/json;"), Some(("application/json", None)));
        assert_eq!(read("a/b; ;c=d ; charset=x"), Some(("a/b", Some("x"))));
        assert_eq!(read("application/json ;charset=latin1"), Some(("application/json", Some("latin1"))));
        for none in [
            "",
            "json",
            "/json",
            "a/",
            "a b/c",
            "a/b,c/d",
            "; charset=utf-8",
            "a/b; , c/d",
            "a/b; charset",
            "a/b; charset=",
            "a/b; charset=utf-8; charset=utf-7",
            "a/b; charset*=utf-7",
            "a/b; x=\"; charset=utf-8\"; charset=utf-7; charset=utf-8",
            "a/b; x=\"\\\"; charset=utf-8\"",
            "a/b; x=\"open",
            "a/b; c d=e",
            "a/b\u{a0}",
            "a/b;\u{a0}charset=utf-8",
            "a/b;\u{2003}",
        ] {
            assert_eq!(read(none), None, "{none}");
        }
        assert_eq!(read("a/b; x=\"; charset=utf-8\"; charset=utf-7"), Some(("a/b", Some("utf-7"))));
        assert_eq!(
            (fit("a/b", "A/B"), fit("a/*", "a/c"), fit("*/*", "x/y"), fit("a/*", "b/a")),
            (Some(2), Some(1), Some(0), None)
        );
    }
}
