//! In what two files differ, as lines for people: `services.vrf.healthCheck.interval: 10s -> 5s`.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use types::difference::{self, Step, cut, place};

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
    difference::differences(before, after).into_iter().map(told).collect()
}

fn told(found: difference::Difference<'_>) -> Difference {
    let difference::Difference { mut path, before, after } = found;
    let key = place(&path);
    let mut shown =
        |value: Option<_>| value.map(|value| cut(&shown(&mut path, value, None), MAX_VALUE_CHARS));
    let (before, after) = (shown(before), shown(after));
    Difference { key, before, after }
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
