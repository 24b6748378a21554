//! What a route asks of the content of a request, as far as the file says it: what it names is read by whoever serves.

use std::path::PathBuf;

use serde_json::Value;

/// What a route asks of the content of its requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestSettings {
    /// The key, such as `services.vrf.routes[0].request`.
    pub key: String,
    /// Where it stands.
    pub line: Line,
    /// The one media type that is taken: type and subtype alone.
    pub content_type: Option<String>,
    /// What the content must be.
    pub rule: ContentRule,
}

impl RequestSettings {
    /// The file that is to be read for it.
    pub fn file(&self) -> Option<&RuleFile> {
        match &self.rule {
            ContentRule::File(file) | ContentRule::Operation { document: file, .. } => Some(file),
            ContentRule::Any | ContentRule::Inline(_) => None,
        }
    }
}

/// What content must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContentRule {
    /// Anything.
    Any,
    /// What this JSON Schema describes.
    Inline(Value),
    /// What the JSON Schema in a file describes.
    File(RuleFile),
    /// What an operation of an OpenAPI document takes.
    Operation {
        /// The document.
        document: RuleFile,
        /// The `operationId`, or method and path.
        operation: String,
    },
}

/// A file that the configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleFile {
    /// As it is written.
    pub written: String,
    /// Where it is; absolute.
    pub path: PathBuf,
}

/// A line of the file, from 1; 0 where there is none. What stands in another line is no other thing.
#[derive(Debug, Clone, Copy)]
pub struct Line(pub usize);

impl PartialEq for Line {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Line {}
