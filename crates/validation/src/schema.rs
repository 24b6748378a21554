//! A JSON Schema that was checked, ready to judge bodies.
//!
//! The verdict is the library's `jsonschema`, which remembers what it has judged and so takes a bounded time for any body. It would
//! list errors without a bound, though, and of every alternative; what is told to a client comes from `explain`, and only once the
//! verdict is that something is wrong.

use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, PatternOptions, Uri, Validator};
use serde_json::Value;
use thiserror::Error;

use crate::exact::{self, MAX_COMPARED_BYTES};
use crate::explain::explain;
use crate::program::Program;
use crate::violation::{Violations, beneath, shortened};

/// The deepest nesting of a document with schemas.
pub const MAX_SCHEMA_DEPTH: usize = 64;
/// What the automaton of one pattern may take, in bytes.
const MAX_PATTERN_BYTES: usize = 1 << 20;
/// The one dialect.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";
/// Keywords whose values are no schemas and may hold anything.
pub(crate) const DATA: [&str; 5] = ["const", "enum", "default", "examples", "example"];

/// Why a document is no schema that bodies can be judged by.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}: {message}", if pointer.is_empty() { "at its root" } else { pointer.as_str() })]
pub struct SchemaError {
    /// A JSON Pointer into the document.
    pub pointer: String,
    /// What is wrong there.
    pub message: String,
}

impl SchemaError {
    pub(crate) fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: shortened(message.into()) }
    }
}

/// A schema of JSON Schema 2020-12. `format` and the keywords of content are annotations, as the standard has them, and refuse
/// nothing.
#[derive(Debug)]
pub struct Schema {
    validator: Validator,
    program: Program,
}

impl Schema {
    /// The schema that a document is.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn compile(document: &Value) -> Result<Self, SchemaError> {
        check_depth(document)?;
        if !matches!(document, Value::Bool(_) | Value::Object(_)) {
            return Err(SchemaError::new("", "a schema is a mapping, or true or false"));
        }
        Self::build(document, document, "")
    }

    /// The schema that stands in a larger document, whose references lead through that one.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub(crate) fn compile_at(document: &Value, pointer: &str) -> Result<Self, SchemaError> {
        let mut whole = document.clone();
        if let Value::Object(members) = &mut whole {
            let fragment: String = pointer.bytes().map(escaped).collect();
            members.insert("$ref".to_owned(), Value::String(format!("#{fragment}")));
        }
        Self::build(document, &whole, pointer)
    }

    fn build(document: &Value, whole: &Value, pointer: &str) -> Result<Self, SchemaError> {
        let program = Program::compile(document, pointer)?;
        for place in program.roots() {
            let schema = document.pointer(place).unwrap_or(&Value::Null);
            check_dialect(schema, place)?;
            check_meta(schema, place)?;
        }
        let validator =
            options().build(whole).map_err(|error| match (error.kind(), program.unresolved()) {
                (ValidationErrorKind::Referencing(_), Some((place, reference))) => {
                    let message = format!(
                        "the reference {reference} leads to nothing in this document, and nothing is fetched"
                    );
                    SchemaError::new(place, message)
                }
                _ => SchemaError::new(format!("{pointer}{}", error.instance_path()), error.to_string()),
            })?;
        Ok(Self { validator, program })
    }

    /// Whether a value is what the schema describes.
    pub fn is_valid(&self, value: &Value) -> bool {
        exact::judging(MAX_COMPARED_BYTES, || self.fits(value))
    }

    /// Everything that is wrong with a value, as far as it is told; empty where it is valid.
    pub fn check(&self, value: &Value) -> Violations {
        exact::judging(MAX_COMPARED_BYTES, || self.judge(value))
    }

    fn judge(&self, value: &Value) -> Violations {
        if self.fits(value) { Violations::default() } else { explain(&self.program, value) }
    }

    /// What was not compared may have been asked for or its contrary, so that it decides nothing.
    fn fits(&self, value: &Value) -> bool {
        self.validator.is_valid(value) && !exact::is_too_much()
    }
}

/// How everything is compiled: nothing is fetched, and a pattern takes a time that grows with the text alone.
pub(crate) fn options() -> jsonschema::ValidationOptions<'static> {
    let patterns = PatternOptions::regex().size_limit(MAX_PATTERN_BYTES).dfa_size_limit(MAX_PATTERN_BYTES);
    let options = jsonschema::options()
        .with_draft(Draft::Draft202012)
        .with_pattern_options(patterns)
        .should_validate_formats(false)
        .with_retriever(Nowhere);
    exact::with_keywords(options)
}

/// Nothing outside of a document is part of a schema.
struct Nowhere;

impl jsonschema::Retrieve for Nowhere {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        Err(format!("{uri} is outside of the document").into())
    }
}

fn check_meta(schema: &Value, pointer: &str) -> Result<(), SchemaError> {
    jsonschema::draft202012::meta::validate(schema)
        .map_err(|error| SchemaError::new(format!("{pointer}{}", error.instance_path()), error.to_string()))
}

pub(crate) fn check_depth(document: &Value) -> Result<(), SchemaError> {
    fn is_too_deep(value: &Value, left: usize) -> bool {
        match value {
            Value::Array(items) => left == 0 || items.iter().any(|item| is_too_deep(item, left - 1)),
            Value::Object(members) => left == 0 || members.values().any(|item| is_too_deep(item, left - 1)),
            _ => false,
        }
    }
    if is_too_deep(document, MAX_SCHEMA_DEPTH) {
        let message = format!("it is nested deeper than {MAX_SCHEMA_DEPTH}");
        return Err(SchemaError::new("", message));
    }
    Ok(())
}

/// Another dialect may mean other things by the same words.
fn check_dialect(value: &Value, pointer: &str) -> Result<(), SchemaError> {
    match value {
        Value::Array(items) => items
            .iter()
            .enumerate()
            .try_for_each(|(index, item)| check_dialect(item, &format!("{pointer}/{index}"))),
        Value::Object(members) => {
            if let Some(Value::String(dialect)) = members.get("$schema")
                && dialect.trim_end_matches('#') != DIALECT
            {
                let message = format!(
                    "the dialect {dialect} is not supported: leave `$schema` out, or write {DIALECT}"
                );
                return Err(SchemaError::new(beneath(pointer, "$schema"), message));
            }
            let schemas = members.iter().filter(|(name, _)| !DATA.contains(&name.as_str()));
            schemas.into_iter().try_for_each(|(name, value)| check_dialect(value, &beneath(pointer, name)))
        }
        _ => Ok(()),
    }
}

/// A byte of a JSON Pointer in a fragment (RFC 3986 section 3.5).
fn escaped(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
        char::from(byte).to_string()
    } else {
        format!("%{byte:02X}")
    }
}

#[cfg(test)]
mod tests;
