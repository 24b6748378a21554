//! Media types, as far as configuration and requests must read them alike.

/// Whether text is a token (RFC 9110 section 5.6.2).
pub fn is_token(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed)
}

/// Whether text is type and subtype, and nothing behind them (RFC 9110 section 8.3.1).
pub fn is_essence(text: &str) -> bool {
    text.split_once('/').is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype))
}

/// Whether content of this type and subtype is JSON (RFC 8259, RFC 6839 section 3.1).
pub fn is_json(essence: &str) -> bool {
    let lower = essence.to_ascii_lowercase();
    lower == "application/json" || lower == "text/json" || lower.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_and_subtype_are_two_tokens_and_json_is_known_by_them() {
        for essence in ["application/json", "A/b", "*/*", "application/vnd.a+json"] {
            assert!(is_essence(essence), "{essence}");
        }
        for other in ["", "json", "/json", "a/", "a/b/c", "a b/c", "a/b;c=d", "a/\u{e9}"] {
            assert!(!is_essence(other), "{other}");
        }
        assert!(is_json("Application/Problem+JSON") && is_json("text/json"));
        assert!(!is_json("application/jsonp") && !is_json("image/json"));
    }
}
