//! An operation of an OpenAPI 3.1 document: which requests it takes. What it says and cannot be enforced here is refused when the
//! document is checked, so that nothing of it is ignored in silence.

mod parameters;

use serde_json::{Map, Value};
use types::media::is_json;

use crate::rule::{Body, Content, RequestRule};
use crate::schema::{Schema, SchemaError, check_depth};
use crate::violation::beneath;
pub(crate) use parameters::Parameters;

/// The methods that a path item has.
const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];
/// The dialects that are JSON Schema 2020-12, with annotations or without.
const DIALECTS: [&str; 2] =
    ["https://spec.openapis.org/oas/3.1/dialect/base", "https://json-schema.org/draft/2020-12/schema"];
/// How many references may lead to each other.
const MAX_REFERENCES: usize = 16;
/// How many operations a message names.
const NAMED_OPERATIONS: usize = 8;

/// An operation.
#[derive(Debug)]
pub struct Operation {
    /// Its method, in upper case.
    pub method: String,
    /// The template of its path.
    pub path: String,
    /// What its requests must be.
    pub rule: RequestRule,
}

/// Where an operation stands.
struct Found<'a> {
    method: &'static str,
    path: &'a str,
    item: String,
    operation: String,
}

impl Operation {
    /// The operation that has this `operationId`, or that is named by its method and its path, such as `POST /v1/random`.
    ///
    /// # Errors
    /// What is wrong with the document as far as the operation needs it, and where.
    pub fn compile(document: &Value, name: &str) -> Result<Self, SchemaError> {
        check_depth(document)?;
        check_version(document)?;
        let document = Document(document);
        let found = document.find(name)?;
        let operation = document.object(&found.operation)?;
        let (contents, body) = match operation.get("requestBody") {
            None => (Vec::new(), Body::Optional),
            Some(_) => document.body(&beneath(&found.operation, "requestBody"))?,
        };
        let parameters = Parameters::compile(&document, found.path, &found.item, &found.operation)?;
        Ok(Self {
            method: found.method.to_ascii_uppercase(),
            path: found.path.to_owned(),
            rule: RequestRule { contents, body, parameters },
        })
    }
}

fn check_version(document: &Value) -> Result<(), SchemaError> {
    let version = document.get("openapi").and_then(Value::as_str);
    match version {
        Some(version) if version == "3.1" || version.starts_with("3.1.") => {}
        Some(version) => {
            let message = format!("OpenAPI {version} is not supported, only 3.1");
            return Err(SchemaError::new("/openapi", message));
        }
        None => {
            return Err(SchemaError::new(
                "/openapi",
                "this is no OpenAPI document: it does not say `openapi: 3.1.0`",
            ));
        }
    }
    match document.get("jsonSchemaDialect") {
        Some(dialect) if !dialect.as_str().is_some_and(|dialect| DIALECTS.contains(&dialect)) => {
            Err(SchemaError::new("/jsonSchemaDialect", format!("the dialect {dialect} is not supported")))
        }
        _ => Ok(()),
    }
}

/// A document, in which references are followed.
pub(crate) struct Document<'a>(pub(crate) &'a Value);

impl<'a> Document<'a> {
    fn find(&self, name: &str) -> Result<Found<'a>, SchemaError> {
        let Some(Value::Object(paths)) = self.0.get("paths") else {
            return Err(SchemaError::new("/paths", "the document has no paths"));
        };
        let (mut found, mut known) = (Vec::new(), Vec::new());
        for path in paths.keys() {
            let item = self.resolve(&beneath("/paths", path))?;
            let members = self.object(&item)?;
            for method in METHODS {
                let Some(operation) = members.get(method) else { continue };
                let id = operation.get("operationId").and_then(Value::as_str);
                let own = format!("{} {path}", method.to_ascii_uppercase());
                if id == Some(name) || (id.is_none() && own == name) {
                    let operation = beneath(&item, method);
                    found.push(Found { method, path, item: item.clone(), operation });
                }
                known.push(id.map_or(own, str::to_owned));
            }
        }
        if found.len() > 1 {
            return Err(SchemaError::new(
                found[1].operation.clone(),
                format!("there is another operation {name}"),
            ));
        }
        found.pop().ok_or_else(|| {
            let more = if known.len() > NAMED_OPERATIONS { ", …" } else { "" };
            known.truncate(NAMED_OPERATIONS);
            let message = format!("there is no operation {name}, but {}{more}", known.join(", "));
            SchemaError::new("/paths", message)
        })
    }

    /// Where what stands under a pointer really stands.
    pub(crate) fn resolve(&self, pointer: &str) -> Result<String, SchemaError> {
        let mut at = pointer.to_owned();
        for _ in 0..MAX_REFERENCES {
            let Some(value) = self.0.pointer(&at) else {
                return Err(SchemaError::new(pointer, "the reference leads to nothing"));
            };
            let Some(reference) = value.get("$ref") else { return Ok(at) };
            let target = reference.as_str().and_then(|reference| reference.strip_prefix('#'));
            let target = target.filter(|target| target.starts_with('/'));
            at = target.and_then(crate::program::decoded).ok_or_else(|| {
                let message =
                    format!("the reference {reference} leads out of the document, or not by a JSON Pointer");
                SchemaError::new(beneath(&at, "$ref"), message)
            })?;
        }
        Err(SchemaError::new(pointer, format!("more than {MAX_REFERENCES} references lead to each other")))
    }

    pub(crate) fn object(&self, pointer: &str) -> Result<&'a Map<String, Value>, SchemaError> {
        let value = self.0.pointer(pointer).and_then(Value::as_object);
        value.ok_or_else(|| SchemaError::new(pointer, "a mapping is expected"))
    }

    fn body(&self, pointer: &str) -> Result<(Vec<Content>, Body), SchemaError> {
        let place = self.resolve(pointer)?;
        let body = self.object(&place)?;
        let required = match body.get("required") {
            None | Some(Value::Bool(false)) => Body::Optional,
            Some(Value::Bool(true)) => Body::Required,
            Some(_) => {
                return Err(SchemaError::new(beneath(&place, "required"), "true or false is expected"));
            }
        };
        let within = beneath(&place, "content");
        let mut contents = Vec::new();
        for (media_type, content) in self.object(&within)? {
            let place = beneath(&within, media_type);
            let essence = crate::media::media_type(media_type.as_bytes()).map(|(essence, _)| essence);
            let Some(essence) = essence else {
                return Err(SchemaError::new(place, "this is no media type"));
            };
            let schema = match content.get("schema") {
                None => None,
                Some(_) if !is_json(essence) => {
                    let message = format!(
                        "only JSON is held against a schema, and {essence} is none: leave its schema out"
                    );
                    return Err(SchemaError::new(beneath(&place, "schema"), message));
                }
                Some(_) => Some(Schema::compile_at(self.0, &beneath(&place, "schema"))?),
            };
            contents.push(Content { media_type: essence.to_owned(), schema });
        }
        Ok((contents, required))
    }
}

#[cfg(test)]
mod tests;
