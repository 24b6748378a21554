//! The parser's errors in the words of this crate.

use serde_saphyr::{Error, Location};

use crate::nearest::{nearest, one_of};
use crate::report::{Finding, Origin};

pub(crate) fn finding(error: &Error) -> Finding {
    let error = error.without_snippet();
    let (message, help) = explain(error);
    Finding { origin: error.location().map_or(Origin::Default, Origin::from), message, help }
}

/// Whether the error is a key that nobody knows, behind which the rest can be read.
pub(crate) fn is_unknown_key(error: &Error) -> bool {
    match error.without_snippet() {
        Error::SerdeUnknownField { .. } => true,
        Error::AliasError { error, .. } => is_unknown_key(error),
        _ => false,
    }
}

/// A key that none of those is that may stand there.
pub(crate) fn unknown_key(key: &str, expected: &[&str], place: Location) -> Finding {
    let message = format!("unknown key `{key}`");
    Finding { origin: place.into(), message, help: key_help(key, expected) }
}

fn explain(error: &Error) -> (String, Option<String>) {
    let help = |text: &str| Some(text.to_owned());
    match error {
        Error::SerdeUnknownField { field, expected, .. } => {
            (format!("unknown key `{field}`"), key_help(field, expected))
        }
        Error::DuplicateMappingKey { key, .. } => {
            let key = key.as_ref().map_or("this key".to_owned(), |key| format!("the key `{key}`"));
            (format!("{key} is written twice"), help("keep one of the two"))
        }
        Error::Unexpected { expected, .. } => shape(expected),
        Error::NullIntoString { .. } => {
            ("expected text, found nothing".to_owned(), help("write a value, or leave the key out"))
        }
        Error::MultipleDocuments { .. } => {
            ("the file holds more than one document".to_owned(), help("take the `---` between them out"))
        }
        Error::UnknownAnchor { .. } => (
            "this alias names an anchor that is not defined before it".to_owned(),
            help("put text that begins with `*` in quotes"),
        ),
        Error::Budget { breach, .. } => {
            (format!("the file is larger or deeper than any configuration: {breach:?}"), None)
        }
        Error::AliasError { error, .. } => explain(error),
        other => {
            let message = without_place(other);
            let help = message
                .contains("tab")
                .then(|| "indent with spaces; YAML does not allow tabs there".to_owned());
            (message, help)
        }
    }
}

fn key_help(field: &str, expected: &[&str]) -> Option<String> {
    match nearest(field, expected.iter().copied()) {
        Some(key) => Some(format!("did you mean `{key}`?")),
        None if expected.is_empty() => None,
        None => Some(format!("the keys here are {}", one_of(expected).replace(" or ", " and "))),
    }
}

/// The parser names events; people know mappings, lists and values.
fn shape(expected: &str) -> (String, Option<String>) {
    let (message, help) = match expected {
        "mapping start" => {
            ("expected a mapping", Some("write `key: value` lines, indented, or `{key: value}`"))
        }
        "sequence start" => ("expected a list", Some("write `[one, two]`, or one `- item` line each")),
        "string scalar" => ("expected a single value, found a list or a mapping", None),
        other => return (format!("expected {other}"), None),
    };
    (message.to_owned(), help.map(str::to_owned))
}

/// The library ends its messages with the place, which the report already has in front.
fn without_place(error: &Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) if error.location().is_some() => text[..end].to_owned(),
        _ => text,
    }
}
