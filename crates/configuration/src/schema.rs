//! The JSON Schema of the file, made of the very structs that read it: their keys, words, units and defaults.

use std::collections::BTreeSet;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::raw::RawFile;

/// Where the parts of the schema stand.
const PARTS: &str = "#/$defs/";
/// What the structs that read the file begin with, and their parts of the schema do not.
const RAW: &str = "Raw";

/// The schema of the file, JSON Schema 2020-12. What must fit together, and the ranges of most numbers, only the check knows.
pub fn schema() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<RawFile>().to_value();
    schema["title"] = "ServiceOS".into();
    schema["description"] = "the configuration file, serviceos.yaml".into();
    let parts = schema["$defs"].take();
    let parts = parts.as_object().into_iter().flatten();
    let mappings = parts.clone().filter(|(_, part)| part["type"] == "object");
    let mappings = mappings.map(|(name, _)| format!("{PARTS}{name}")).collect();
    let parts: Map<_, _> = parts
        .map(|(name, part)| {
            let mut part = part.clone();
            finish(&mut part, &mappings);
            (name.trim_start_matches(RAW).to_owned(), part)
        })
        .collect();
    finish(&mut schema, &mappings);
    schema["$defs"] = parts.into();
    schema
}

fn finish(schema: &mut Value, mappings: &BTreeSet<String>) {
    match schema {
        Value::Object(entries) => {
            if let Some(Value::Object(properties)) = entries.get_mut("properties") {
                properties.values_mut().for_each(|property| finish_property(property, mappings));
            }
            if let Some(Value::String(reference)) = entries.get_mut("$ref") {
                *reference = reference.replace(&format!("{PARTS}{RAW}"), PARTS);
            }
            entries.values_mut().for_each(|value| finish(value, mappings));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| finish(item, mappings)),
        _ => {}
    }
}

/// Where a mapping or a list stands, nothing at all may stand too. A default that is a mapping is that of each of its keys.
fn finish_property(property: &mut Value, mappings: &BTreeSet<String>) {
    let Value::Object(keys) = property else { return };
    if keys.get("default").is_some_and(|default| default.is_null() || default.is_object()) {
        keys.shift_remove("default");
    }
    match (&keys.get("$ref"), keys.get("type").and_then(Value::as_str)) {
        (Some(Value::String(reference)), _) if mappings.contains(reference) => {
            let either = json!([{"$ref": reference}, {"type": "null"}]);
            keys.shift_remove("$ref");
            keys.insert("anyOf".to_owned(), either);
        }
        (_, Some(kind @ ("array" | "object"))) => {
            let either = json!([kind, "null"]);
            keys.insert("type".to_owned(), either);
        }
        _ => {}
    }
}
