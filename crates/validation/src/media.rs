//! Media types, as far as the content of a request is chosen by them.

/// Type and subtype of a `Content-Type`, and its charset where one is named; `None` where it is no media type
/// (RFC 9110 section 8.3.1).
pub fn media_type(value: &[u8]) -> Option<(&str, Option<&str>)> {
    let value = std::str::from_utf8(value).ok()?;
    let mut parts = value.split(';');
    let essence = parts.next()?.trim();
    let (kind, subtype) = essence.split_once('/')?;
    let is_token = |text: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        !text.is_empty() && text.bytes().all(allowed)
    };
    if !is_token(kind) || !is_token(subtype) {
        return None;
    }
    let charset = parts.find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
    });
    Some((essence, charset))
}

/// Whether content of this media type is JSON (RFC 8259, RFC 6839 section 3.1).
pub fn is_json(essence: &str) -> bool {
    let lower = essence.to_ascii_lowercase();
    lower == "application/json" || lower == "text/json" || lower.ends_with("+json")
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
        assert_eq!(read("application/json ;charset=latin1"), Some(("application/json", Some("latin1"))));
        for none in ["", "json", "/json", "a/", "a b/c", "a/b,c/d", "; charset=utf-8"] {
            assert_eq!(read(none), None, "{none}");
        }
        assert!(is_json("Application/Problem+JSON") && !is_json("application/jsonp"));
        assert_eq!(
            (fit("a/b", "A/B"), fit("a/*", "a/c"), fit("*/*", "x/y"), fit("a/*", "b/a")),
            (Some(2), Some(1), Some(0), None)
        );
    }
}
