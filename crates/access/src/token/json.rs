//! What tokens and sets of keys are written in: JSON that can be read in one way only, with no number beyond what a double can
//! hold. One object, and what is asked of it.

use serde_json::{Map, Value};

/// How deep lists and objects may stand in each other.
const MAX_DEPTH: usize = 16;

/// An object.
pub(super) type Object = Map<String, Value>;

/// Reads bytes that hold one object and nothing else.
pub(super) fn read(bytes: &[u8]) -> Option<Object> {
    match strict_json::read(bytes, MAX_DEPTH) {
        Ok(Value::Object(object)) if object.values().all(is_within_doubles) => Some(object),
        _ => None,
    }
}

/// What others would read as infinite, or not at all.
fn is_within_doubles(value: &Value) -> bool {
    match value {
        Value::Number(_) => number(value).is_some(),
        Value::Array(items) => items.iter().all(is_within_doubles),
        Value::Object(members) => members.values().all(is_within_doubles),
        _ => true,
    }
}

/// The number that a value is.
pub(super) fn number(value: &Value) -> Option<f64> {
    value.as_f64().filter(|number| number.is_finite())
}

/// The text of a member.
pub(super) fn text<'a>(object: &'a Object, name: &str) -> Option<&'a str> {
    object.get(name)?.as_str()
}

/// What stands at a path: under that very name, or else under its parts between dots, one in the other.
pub(super) fn at<'a>(object: &'a Object, path: &str) -> Option<&'a Value> {
    if let Some(found) = object.get(path) {
        return Some(found);
    }
    let (first, rest) = path.split_once('.')?;
    at(object.get(first)?.as_object()?, rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_read(text: &str) -> bool {
        read(text.as_bytes()).is_some()
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_not_read() {
        for good in [
            "{}",
            " {\"a\": [1, -2.5e3, null, true, \"\\u00fc\"]} ",
            "{\"a\": {\"a\": 1}, \"b\": {\"a\": 1}}",
        ] {
            assert!(is_read(good), "{good}");
        }
        for bad in [
            "",
            "[]",
            "1",
            "{} {}",
            "{},",
            "{\"a\": 1, \"a\": 1}",
            "{\"a\": 1, \"\\u0061\": 1}",
            "{\"b\": [{\"a\": 1, \"a\": 2}]}",
            "{\"a\": 1e400}",
            "{\"a\": [{\"b\": -1e309}]}",
            "{\"a\": NaN}",
            "{\"a\": 01}",
            "{\"a\": +1}",
            "{\"a\": .5}",
            "{'a': 1}",
            "{\"a\": 1,}",
            "{\"a\": \"\\ud800\"}",
            "{\"a\": \"\t\"}",
            "\u{feff}{}",
        ] {
            assert!(!is_read(bad), "{bad}");
        }
        assert!(read(b"{\"a\": \"\xff\"}").is_none());
    }

    #[test]
    fn nothing_stands_deeper_than_sixteen() {
        let deep = |depth: usize| format!("{{\"a\": {}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(is_read(&deep(MAX_DEPTH - 1)) && !is_read(&deep(MAX_DEPTH)));
        assert!(!is_read(&"[".repeat(100_000)) && !is_read(&"{\"a\":".repeat(100_000)));
    }

    #[test]
    fn no_object_is_taken_for_a_number() {
        let member = |text: &str| read(text.as_bytes()).unwrap().remove("a").unwrap();
        assert_eq!(number(&member("{\"a\": 1.5}")), Some(1.5));
        assert_eq!(number(&member("{\"a\": \"1.5\"}")), None);
        for rest in ["\"1.5\"", "\"x\"", "\"1\", \"b\": 1", "[]"] {
            let disguised = member(&format!("{{\"a\": {{\"$serde_json::private::Number\": {rest}}}}}"));
            assert!(disguised.is_object() && number(&disguised).is_none(), "{rest}");
        }
    }

    #[test]
    fn a_path_is_a_name_or_names_with_dots_between() {
        let object =
            read(br#"{"a": {"b": {"c": "1"}, "d.e": "2"}, "https://x.org/roles": "3", "a.b": "4"}"#).unwrap();
        let text = |path: &str| match at(&object, path) {
            Some(Value::String(text)) => text.clone(),
            other => format!("{other:?}"),
        };
        let found = ["a.b.c", "a.d.e", "https://x.org/roles", "a.b"].map(text);
        assert_eq!(found, ["1", "2", "3", "4"]);
        for nothing in ["", ".", "a.", "a.x", "b", "a.b.c.d", "a.d"] {
            assert_eq!(at(&object, nothing), None, "{nothing}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_json_to_others_too(text in "[\\[\\]{}:,\"a1.e+ -]{0,24}") {
            if is_read(&text) {
                prop_assert!(serde_json::from_str::<Value>(&text).is_ok_and(|value| value.is_object()));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _read = read(&bytes);
        }
    }
}
