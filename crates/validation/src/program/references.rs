//! Where references lead, within one document.

use std::collections::HashMap;

use serde_json::Value;

use crate::schema::DATA;
use crate::violation::beneath;

/// The names that the schemas of a document have.
#[derive(Debug, Default)]
pub(crate) struct References {
    /// By `$id`, as it is written, and where it stands.
    resources: HashMap<String, String>,
    /// By the place of the resource, and the name.
    anchors: HashMap<(String, String), String>,
    /// The places of all resources but the root.
    places: Vec<String>,
}

impl References {
    pub(crate) fn of(document: &Value) -> Self {
        let mut references = Self::default();
        references.collect(document, "", "");
        references
    }

    fn collect(&mut self, value: &Value, place: &str, resource: &str) {
        match value {
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.collect(item, &format!("{place}/{index}"), resource);
                }
            }
            Value::Object(members) => {
                let mut resource = resource;
                if let Some(Value::String(id)) = members.get("$id") {
                    self.resources.insert(id.trim_end_matches('#').to_owned(), place.to_owned());
                    self.places.push(place.to_owned());
                    resource = place;
                }
                for keyword in ["$anchor", "$dynamicAnchor"] {
                    if let Some(Value::String(name)) = members.get(keyword) {
                        self.anchors.insert((resource.to_owned(), name.clone()), place.to_owned());
                    }
                }
                for (name, value) in members.iter().filter(|(name, _)| !DATA.contains(&name.as_str())) {
                    self.collect(value, &beneath(place, name), resource);
                }
            }
            _ => {}
        }
    }

    /// Where a reference of the schema at `place` leads; `None` where that is not known here.
    pub(crate) fn resolve(&self, reference: &str, place: &str) -> Option<String> {
        let (resource, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let root =
            if resource.is_empty() { self.resource_of(place) } else { self.resources.get(resource)? };
        if fragment.is_empty() {
            return Some(root.to_owned());
        }
        if !fragment.starts_with('/') {
            return self.anchors.get(&(root.to_owned(), fragment.to_owned())).cloned();
        }
        Some(format!("{root}{}", decoded(fragment)?))
    }

    /// The innermost resource that holds a place.
    fn resource_of(&self, place: &str) -> &str {
        let holds = |resource: &&String| {
            place.strip_prefix(resource.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.places.iter().filter(holds).max_by_key(|resource| resource.len()).map_or("", String::as_str)
    }
}

/// A fragment without its percent-encoding.
pub(crate) fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok()
}
