//! What a file means: every key with its value, whoever wrote it or left it out. Comments, the order of keys and the way in
//! which a value is written are no part of it, and neither is what the command line says instead.

mod diff;

use serde_json::Value;
use sha2::{Digest, Sha256};

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

    /// A text that means it.
    pub(crate) fn to_json(&self) -> String {
        format!("{:#}\n", self.0)
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
