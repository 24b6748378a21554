//! In what two files differ, as lines for people: `services.vrf.healthCheck.interval: 10s -> 5s`.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::written;
use crate::raw::{RawEndpoint, RawRoute, RawSecret, RawService, RawTier};

/// Longer values are cut, in characters.
const MAX_VALUE_CHARS: usize = 300;
/// What stands in the place of a value that is for the service alone.
const HIDDEN: &str = "(hidden)";

/// One key that is another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The whole key, such as `services.vrf.routes[0].timeout`.
    pub key: String,
    /// What it was; nothing where it was left out and has no default.
    pub before: Option<String>,
    /// What it is now.
    pub after: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [before, after] =
            [&self.before, &self.after].map(|value| value.as_deref().unwrap_or("(left out)"));
        write!(formatter, "{}: {before} -> {after}", self.key)
    }
}

pub(super) fn differences(before: &Value, after: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(&mut Vec::new(), Some(before), Some(after), &mut found);
    found
}

/// One step of the way to a value.
#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Key(&'a str),
    Item(usize),
}

fn compare<'a>(
    path: &mut Vec<Step<'a>>,
    before: Option<&'a Value>,
    after: Option<&'a Value>,
    found: &mut Vec<Difference>,
) {
    match (before, after) {
        (Some(before), Some(after)) if before == after => {}
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            for key in keys {
                path.push(Step::Key(key));
                compare(path, before.get(key), after.get(key), found);
                path.pop();
            }
        }
        (Some(Value::Array(before)), Some(Value::Array(after)))
            if before.iter().chain(after).any(Value::is_object) =>
        {
            compare_items(path, before, after, found);
        }
        _ => {
            let mut shown = |value: Option<&'a Value>| value.map(|value| cut(&shown(path, value, None)));
            let (before, after) = (shown(before), shown(after));
            found.push(Difference { key: name(path), before, after });
        }
    }
}

/// Whatever both lists begin and end with is the same, however many items stand between.
fn compare_items<'a>(
    path: &mut Vec<Step<'a>>,
    before: &'a [Value],
    after: &'a [Value],
    found: &mut Vec<Difference>,
) {
    let same = before.iter().zip(after).take_while(|(before, after)| before == after).count();
    let (before, after) = (&before[same..], &after[same..]);
    let pairs = before.iter().rev().zip(after.iter().rev());
    let same_end = pairs.take_while(|(before, after)| before == after).count();
    let (before, after) = (&before[..before.len() - same_end], &after[..after.len() - same_end]);
    for item in 0..before.len().max(after.len()) {
        path.push(Step::Item(same + item));
        compare(path, before.get(item), after.get(item), found);
        path.pop();
    }
}

fn name(path: &[Step<'_>]) -> String {
    let mut name = String::new();
    for step in path {
        match step {
            Step::Item(index) => name.push_str(&format!("[{index}]")),
            Step::Key(key) if is_plain(key) => {
                let dot = if name.is_empty() { "" } else { "." };
                name.push_str(&format!("{dot}{key}"));
            }
            Step::Key(key) => name.push_str(&format!("[{}]", Value::from(*key))),
        }
    }
    name
}

fn is_plain(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// A value as it would be written on one line; of what is new or gone, what is its default is left out.
fn shown<'a>(path: &mut Vec<Step<'a>>, value: &'a Value, default: Option<&Value>) -> String {
    if is_hidden(path) {
        return HIDDEN.to_owned();
    }
    match value {
        Value::Object(entries) => {
            let own = defaults_at(path);
            let default = own.as_ref().or(default);
            let default = |key: &String| default.and_then(|default| default.get(key));
            let told = entries.iter().filter(|(key, value)| default(key) != Some(value));
            let told = told.map(|(key, value)| {
                path.push(Step::Key(key));
                let value = shown(path, value, default(key));
                path.pop();
                format!("{}: {value}", word(key))
            });
            format!("{{{}}}", told.collect::<Vec<_>>().join(", "))
        }
        Value::Array(items) => {
            let items = items.iter().enumerate().map(|(index, item)| {
                path.push(Step::Item(index));
                let item = shown(path, item, None);
                path.pop();
                item
            });
            format!("[{}]", items.collect::<Vec<_>>().join(", "))
        }
        Value::String(text) => word(text),
        other => other.to_string(),
    }
}

/// Text without quotes where it reads as nothing else.
fn word(text: &str) -> String {
    let plain = |char: char| char.is_ascii_alphanumeric() || "-_./:%+$*@=".contains(char);
    let is_text = serde_json::from_str::<Value>(text).is_err() && text.chars().all(plain);
    if is_text && !text.is_empty() { text.to_owned() } else { Value::from(text).to_string() }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_VALUE_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn keys<'a>(path: &[Step<'a>]) -> Vec<&'a str> {
    let key = |step: &Step<'a>| match step {
        Step::Key(key) => key,
        Step::Item(_) => "",
    };
    path.iter().map(key).collect()
}

/// A variable of a command may be anything, a token among them, and what is shown here goes to logs.
fn is_hidden(path: &[Step<'_>]) -> bool {
    matches!(keys(path).as_slice(), ["services", _, "env", _])
}

/// What a mapping in that place says when it says nothing.
fn defaults_at(path: &[Step<'_>]) -> Option<Value> {
    match keys(path).as_slice() {
        ["services", _] => Some(written(&RawService::default())),
        ["services", _, "routes", ""] => Some(written(&RawRoute::default())),
        ["services", _, "endpointSet", ""] => Some(written(&RawEndpoint::default())),
        ["secrets", _] => Some(written(&RawSecret::default())),
        ["gateway", "rateLimits", "tiers", _] => Some(written(&RawTier::default())),
        _ => None,
    }
}
