//! What the content of a request must be: JSON that can be read in one way only (`strict-json`), a JSON Schema 2020-12 that it must match, an
//! operation of an OpenAPI 3.1 document.
//!
//! Pure: text and bytes in, a verdict out. It knows no connection, reads no file and asks no clock. What is judged may come from
//! anybody, so everything that it could make large has a bound with a name; schemas come from the operator, and are checked once.

mod decimal;
mod exact;
mod explain;
mod media;
mod openapi;
mod program;
mod rule;
mod schema;
mod violation;

pub use media::media_type;
pub use openapi::Operation;
pub use rule::{Content, Fields, Judged, MAX_DEPTH, RequestRule, read_json};
pub use schema::{MAX_SCHEMA_DEPTH, Schema, SchemaError};
pub use strict_json::NotJson;
pub use violation::{MAX_ALTERNATIVES, MAX_VIOLATIONS, Place, Violation, Violations};
