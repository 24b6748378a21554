//! What a file means: every key with its value, whoever wrote it or left it out. Comments, the order of keys and the way in
//! which a value is written are no part of it, and neither is what the command line says instead.

mod diff;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::load::raw;
use crate::raw::RawFile;

pub use diff::Difference;

/// Where the `config` of a service stands: it is passed on unread, so a null in it is a value.
const CONFIG_DEPTH: usize = 3;

/// What a file means.
#[derive(Debug, Clone, PartialEq)]
pub struct Meaning(Value);

impl Meaning {
    pub(crate) fn of(raw: &RawFile) -> Self {
        let mut raw = raw.clone();
        // Nothing at all is all defaults.
        raw.services.0.iter_mut().for_each(|(_, service)| _ = service.get_or_insert_default());
        raw.secrets.0.iter_mut().for_each(|(_, secret)| _ = secret.get_or_insert_default());
        raw.gateway.rate_limits.tiers.0.iter_mut().for_each(|(_, tier)| _ = tier.get_or_insert_default());
        Self(written(&raw))
    }

    /// SHA-256 of the meaning as JSON without blanks, its keys in order. Another version of the program, with other keys, may
    /// give another one.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.0.to_string()).into()
    }

    /// The same with these keys of a service as another one has them.
    pub(crate) fn with(&self, other: &Self, service: &str, keys: &[&str]) -> Option<Self> {
        let mut changed = self.0.clone();
        let other = other.0.get("services")?.get(service)?;
        let entries = changed.get_mut("services")?.get_mut(service)?.as_object_mut()?;
        for key in keys {
            match other.get(key) {
                Some(value) => _ = entries.insert((*key).to_owned(), value.clone()),
                None => _ = entries.remove(*key),
            }
        }
        changed.sort_all_objects();
        Some(Self(changed))
    }

    /// A text that means it, with nothing in it but what is not so by itself: many a key may only be said beside another one, also
    /// with the value that it has without being said.
    pub(crate) fn to_json(&self) -> String {
        let mut said = self.0.clone();
        let means = |text: &Value| raw(&text.to_string()).map(|shaped| Self::of(&shaped.raw).0);
        let unsaid = means(&names_of(&self.0)).unwrap_or_default();
        let begun = means(&begun(&self.0)).unwrap_or_default();
        leave_out(&mut said, Some(&unsaid), Some(&begun), "");
        format!("{said:#}\n")
    }

    /// Everything in which `after` is another, in the order of the keys; nothing when both mean the same.
    pub fn differences(&self, after: &Self) -> Vec<Difference> {
        diff::differences(&self.0, &after.0)
    }
}

/// Raw structs as canonical JSON.
fn written(raw: &impl serde::Serialize) -> Value {
    let mut value = serde_json::to_value(raw).expect("the keys are text and the values are JSON");
    leave_out_nulls(&mut value, 1);
    value.sort_all_objects();
    value
}

/// Where things have names, which say that they are there though nothing else may be said of them.
const NAMED: [&str; 3] = ["/services", "/secrets", "/gateway/rateLimits/tiers"];

/// A text that has the same names and says nothing of them.
fn names_of(meaning: &Value) -> Value {
    let names = |path: &str| {
        let names = meaning.pointer(path).and_then(Value::as_object);
        let names = names.into_iter().flat_map(|entries| entries.keys());
        names.map(|name| (name.clone(), Value::Null)).collect::<serde_json::Map<_, _>>()
    };
    let tiers = serde_json::json!({"rateLimits": {"tiers": names(NAMED[2])}});
    serde_json::json!({"services": names(NAMED[0]), "secrets": names(NAMED[1]), "gateway": tiers})
}

/// A text that has everything which can have something in it, with nothing in it.
fn begun(meaning: &Value) -> Value {
    let has_more = |value: &Value| match value {
        Value::Object(_) => true,
        Value::Array(items) => items.iter().any(Value::is_object),
        _ => false,
    };
    match meaning {
        Value::Object(entries) => {
            let entries = entries.iter().filter(|(_, value)| has_more(value));
            entries.map(|(key, value)| (key.clone(), begun(value))).collect()
        }
        Value::Array(items) => items.iter().map(begun).collect(),
        other => other.clone(),
    }
}

/// Whether names are in what stands at this path.
fn has_names(value: &Value, path: &str) -> bool {
    let below = NAMED.iter().filter_map(|named| named.strip_prefix(path));
    let mut below = below.filter(|below| below.is_empty() || below.starts_with('/'));
    below.any(|below| value.pointer(below).and_then(Value::as_object).is_some_and(|names| !names.is_empty()))
}

/// Takes out of what stands at a path whatever is so by itself: as in a text in which it is not said, where that has something there,
/// and else as in one in which nothing is said but that it is there.
fn leave_out(value: &mut Value, unsaid: Option<&Value>, begun: Option<&Value>, path: &str) {
    match value {
        Value::Object(entries) => entries.retain(|key, value| {
            let at = format!("{path}/{key}");
            let (of_unsaid, of_begun) =
                (unsaid.and_then(|all| all.get(key)), begun.and_then(|all| all.get(key)));
            let is_so = match unsaid {
                Some(_) => of_unsaid == Some(value),
                None => of_begun == Some(value) && !value.is_object(),
            };
            let is_name = NAMED.contains(&path) || has_names(value, &at);
            if !is_so || is_name {
                leave_out(value, of_unsaid, of_begun, &at);
            }
            !is_so || is_name
        }),
        Value::Array(items) => items.iter_mut().enumerate().for_each(|(place, item)| {
            leave_out(item, None, begun.and_then(|items| items.get(place)), path);
        }),
        _ => {}
    }
}

/// What is off, or depends on the rest of the file, has no value.
fn leave_out_nulls(value: &mut Value, depth: usize) {
    match value {
        Value::Object(entries) => {
            entries.retain(|_, value| !value.is_null());
            let is_config = |key: &str| depth == CONFIG_DEPTH && key == "config";
            let entries = entries.iter_mut().filter(|(key, _)| !is_config(key));
            entries.for_each(|(_, value)| leave_out_nulls(value, depth + 1));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| leave_out_nulls(item, depth + 1)),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
