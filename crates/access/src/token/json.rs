//! JSON that is read in one way only: no name twice in an object at whatever depth, no deeper than 16, no number beyond what a
//! double can hold, and nothing behind it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// How deep lists and objects may stand in each other.
const MAX_DEPTH: usize = 16;
/// How serde_json hands on a number whose digits are kept.
const NUMBER: &str = "$serde_json::private::Number";

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json {
    /// A null, a true or a false: nothing that anybody here asks for.
    Other,
    Number(f64),
    Text(String),
    List(Vec<Json>),
    Object(Object),
}

/// An object.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Object(BTreeMap<String, Json>);

impl Object {
    pub(super) fn get(&self, name: &str) -> Option<&Json> {
        self.0.get(name)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What stands at a path: under that very name, or else under its parts between dots, one in the other.
    pub(super) fn at(&self, path: &str) -> Option<&Json> {
        if let Some(found) = self.get(path) {
            return Some(found);
        }
        let (first, rest) = path.split_once('.')?;
        match self.get(first)? {
            Json::Object(inner) => inner.at(rest),
            _ => None,
        }
    }
}

/// Reads bytes that hold one object and nothing else.
pub(super) fn read(bytes: &[u8]) -> Result<Object, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Depth(0).deserialize(&mut deserializer)?;
    deserializer.end()?;
    match value {
        Json::Object(object) => Ok(object),
        _ => Err(Error::custom("an object is expected")),
    }
}

/// So deep stands what is read.
#[derive(Clone, Copy)]
struct Depth(usize);

impl Depth {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        if self.0 == MAX_DEPTH { Err(E::custom("too deep")) } else { Ok(Self(self.0 + 1)) }
    }
}

impl<'de> DeserializeSeed<'de> for Depth {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

fn number<E: Error>(number: f64) -> Result<Json, E> {
    if number.is_finite() { Ok(Json::Number(number)) } else { Err(E::custom("a number out of range")) }
}

impl<'de> Visitor<'de> for Depth {
    type Value = Json;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_bool<E>(self, _value: bool) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Json, E> {
        number(value as f64)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Json, E> {
        number(value as f64)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json, E> {
        number(value)
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Json, E> {
        Ok(Json::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let (depth, mut list) = (self.deeper()?, Vec::new());
        while let Some(item) = items.next_element_seed(depth)? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let (depth, mut object) = (self.deeper()?, BTreeMap::new());
        while let Some(name) = entries.next_key::<Cow<'_, str>>()? {
            if object.is_empty() && name == NUMBER {
                let digits: String = entries.next_value()?;
                let value = digits.parse().map_err(|_| A::Error::custom("a number is expected"))?;
                return number(value);
            }
            let value = entries.next_value_seed(depth)?;
            if object.insert(name.into_owned(), value).is_some() {
                return Err(A::Error::custom("a name twice"));
            }
        }
        Ok(Json::Object(Object(object)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_read(text: &str) -> bool {
        read(text.as_bytes()).is_ok()
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
        assert!(read(b"{\"a\": \"\xff\"}").is_err());
    }

    #[test]
    fn nothing_stands_deeper_than_sixteen() {
        let deep = |depth: usize| format!("{{\"a\": {}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(is_read(&deep(MAX_DEPTH - 1)) && !is_read(&deep(MAX_DEPTH)));
        assert!(!is_read(&"[".repeat(100_000)) && !is_read(&"{\"a\":".repeat(100_000)));
    }

    #[test]
    fn what_looks_like_a_number_to_the_reader_is_one_or_nothing() {
        let number = |text: &str| read(text.as_bytes()).ok().and_then(|object| object.get("a").cloned());
        assert_eq!(number("{\"a\": 1.5}"), Some(Json::Number(1.5)));
        let disguised = |rest: &str| number(&format!("{{\"a\": {{\"{NUMBER}\": {rest}}}}}"));
        assert_eq!(disguised("\"1.5\""), Some(Json::Number(1.5)));
        assert_eq!(disguised("\"x\""), None);
        assert_eq!(disguised("\"1\", \"b\": 1"), None);
        assert_eq!(disguised("[]"), None);
    }

    #[test]
    fn a_path_is_a_name_or_names_with_dots_between() {
        let object =
            read(br#"{"a": {"b": {"c": "1"}, "d.e": "2"}, "https://x.org/roles": "3", "a.b": "4"}"#).unwrap();
        let text = |path: &str| match object.at(path) {
            Some(Json::Text(text)) => text.clone(),
            other => format!("{other:?}"),
        };
        let found = ["a.b.c", "a.d.e", "https://x.org/roles", "a.b"].map(text);
        assert_eq!(found, ["1", "2", "3", "4"]);
        for nothing in ["", ".", "a.", "a.x", "b", "a.b.c.d", "a.d"] {
            assert_eq!(object.at(nothing), None, "{nothing}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_json_to_others_too(text in "[\\[\\]{}:,\"a1.e+ -]{0,24}") {
            if is_read(&text) {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok_and(|value| value.is_object()));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _read = read(&bytes);
        }
    }
}
