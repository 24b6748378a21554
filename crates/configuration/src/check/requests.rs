//! What a route asks of the content of its requests.

use std::path::Path;

use serde_json::Value;
use types::ByteSize;
use types::media::{is_essence, is_json};

use super::{BODY_BYTES, Checker};
use crate::raw::{RawOpenApi, RawRequest};
use crate::report::Origin;
use crate::scalar::{Spanned, Text, quoted};
use crate::settings::{ContentRule, Line, Protocol, RequestSettings, RuleFile};

/// The largest body that is held against a schema: it is read whole, and judged while nobody else is served by that worker.
const MAX_JUDGED_BYTES: ByteSize = ByteSize(4 << 20);
/// What a schema is for where nothing else is said.
const JSON: &str = "application/json";

impl Checker {
    /// What a route asks of requests: the largest body where it is another, and their content.
    pub(super) fn request(
        &mut self,
        key: &str,
        raw: RawRequest,
        origin: Origin,
        base_dir: &Path,
        protocol: Option<Protocol>,
    ) -> (Option<ByteSize>, Option<RequestSettings>) {
        let key = format!("{key}.request");
        let size_origin = raw.body_bytes.as_ref().map(|field| field.origin);
        let body_bytes =
            raw.body_bytes.map(|field| self.size(&format!("{key}.bodyBytes"), field, BODY_BYTES));
        let content_origin = raw.content_type.as_ref().map(|text| text.origin);
        let schema_origin = raw.schema.as_ref().map(|schema| Origin::from(schema.referenced));
        let document_origin = raw.openapi.as_ref().map(|document| Origin::from(document.referenced));
        let Some(place) = schema_origin.or(document_origin).or(content_origin) else {
            return (body_bytes, None);
        };
        if protocol == Some(Protocol::Grpc) {
            let message = format!("{key}: what gRPC carries is no JSON, and is not held against a schema");
            self.wrong(place, message, Some("leave contentType, schema and openapi out".to_owned()));
        }
        let content_type =
            raw.content_type.map(|text| self.content_type(&key, text, schema_origin.is_some()));
        let rule = match (raw.schema, raw.openapi) {
            (Some(_), Some(_)) => {
                let help = "an operation says itself what its content is: keep one of the two".to_owned();
                self.wrong(place, format!("{key}: `schema` and `openapi` exclude each other"), Some(help));
                ContentRule::Any
            }
            (Some(schema), None) => self.schema(&key, schema, base_dir),
            (None, Some(document)) => {
                if let Some(origin) = content_origin {
                    let help = "the operation says itself which content it takes: leave it out".to_owned();
                    self.wrong(
                        origin,
                        format!("{key}: `contentType` and `openapi` exclude each other"),
                        Some(help),
                    );
                }
                self.operation(&key, document, base_dir)
            }
            (None, None) => ContentRule::Any,
        };
        let is_judged = rule != ContentRule::Any;
        let largest = body_bytes.unwrap_or(self.body_bytes);
        if is_judged && largest > MAX_JUDGED_BYTES {
            let found = format!(
                "{key}.bodyBytes: a body that is held against a schema may have at most {MAX_JUDGED_BYTES}, not {largest}"
            );
            let help = format!("write `request: {{bodyBytes: {MAX_JUDGED_BYTES}}}`, or less");
            self.wrong(size_origin.unwrap_or(origin), found, Some(help));
        }
        let content_type = content_type.or_else(|| {
            matches!(rule, ContentRule::Inline(_) | ContentRule::File(_)).then(|| JSON.to_owned())
        });
        let line = Line(place.line());
        (body_bytes, Some(RequestSettings { key, line, content_type, rule }))
    }

    fn content_type(&mut self, key: &str, text: Text, has_schema: bool) -> String {
        let lower = text.value.to_ascii_lowercase();
        // A range is none.
        if !is_essence(&lower) || lower.contains('*') {
            let found = quoted(&text.value);
            let message =
                format!("{key}.contentType: expected a media type such as application/json, found {found}");
            self.wrong(text.origin, message, Some("write type and subtype alone".to_owned()));
        } else if has_schema && !is_json(&lower) {
            let message =
                format!("{key}.contentType: only JSON is held against a schema, and {lower} is none");
            self.wrong(
                text.origin,
                message,
                Some("write application/json, or leave `schema` out".to_owned()),
            );
        }
        lower
    }

    fn schema(&mut self, key: &str, written: Spanned<Value>, base_dir: &Path) -> ContentRule {
        let origin = Origin::from(written.referenced);
        match written.value {
            Value::String(path) => {
                self.rule_file(&format!("{key}.schema"), Text { value: path, origin }, base_dir)
            }
            schema @ (Value::Object(_) | Value::Bool(_)) => return ContentRule::Inline(schema),
            _ => {
                let message = format!("{key}.schema: expected a path or a schema");
                self.wrong(
                    origin,
                    message,
                    Some("write `schema: schemas/draw.json`, or the schema itself".to_owned()),
                );
                return ContentRule::Any;
            }
        }
        .map_or(ContentRule::Any, ContentRule::File)
    }

    fn operation(&mut self, key: &str, written: Spanned<RawOpenApi>, base_dir: &Path) -> ContentRule {
        let origin = Origin::from(written.referenced);
        let RawOpenApi { document, operation } = written.value;
        let (Some(document), Some(operation)) = (document, operation) else {
            let message = format!("{key}.openapi: a document and an operation are needed");
            let help = "write `openapi: {document: api.yaml, operation: createDraw}`".to_owned();
            self.wrong(origin, message, Some(help));
            return ContentRule::Any;
        };
        let file = self.rule_file(&format!("{key}.openapi.document"), document, base_dir);
        file.map_or(ContentRule::Any, |document| ContentRule::Operation {
            document,
            operation: operation.value,
        })
    }

    fn rule_file(&mut self, key: &str, text: Text, base_dir: &Path) -> Option<RuleFile> {
        let before = self.findings.len();
        let path = self.path(base_dir, &text, key);
        (self.findings.len() == before).then_some(RuleFile { written: text.value, path })
    }
}
