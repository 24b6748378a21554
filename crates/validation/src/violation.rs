//! What is wrong with a request, in words that may be told to whoever sent it. Nothing of the body's values is repeated: they may
//! be secret, and they may be long.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

/// So many violations are told at most.
pub const MAX_VIOLATIONS: usize = 100;
/// The alternatives of a violation of which is told what is wrong with them.
pub const MAX_ALTERNATIVES: usize = 4;
/// The longest message, in characters.
const MAX_MESSAGE_CHARS: usize = 200;
/// The longest JSON Pointer into a body, in bytes: what lies deeper is told of what holds it.
pub(crate) const MAX_POINTER_BYTES: usize = 512;

/// Where something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the body, under this JSON Pointer (RFC 6901).
    Body(String),
    /// In a parameter: `path`, `query` or `header`, and its name.
    Parameter(&'static str, String),
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Where.
    pub place: Place,
    /// Which keyword of the schema says so: a JSON Pointer into its document.
    pub schema: String,
    /// What is expected there.
    pub message: String,
    /// Where one of several alternatives is expected: of the first of them, what is wrong with each first. At most
    /// [`MAX_ALTERNATIVES`], and none of them has any.
    pub alternatives: Vec<Violation>,
}

impl Violation {
    pub(crate) fn new(place: Place, schema: String, message: impl Into<String>) -> Self {
        Self { place, schema, message: message.into(), alternatives: Vec::new() }
    }
}

impl Serialize for Violation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match &self.place {
            Place::Body(pointer) => {
                map.serialize_entry("in", "body")?;
                map.serialize_entry("pointer", pointer)?;
            }
            Place::Parameter(kind, name) => {
                map.serialize_entry("in", kind)?;
                map.serialize_entry("name", name)?;
            }
        }
        map.serialize_entry("schema", &self.schema)?;
        map.serialize_entry("message", &self.message)?;
        if !self.alternatives.is_empty() {
            map.serialize_entry("alternatives", &self.alternatives)?;
        }
        map.end()
    }
}

/// Everything that is wrong, in the order of the schema, as far as it is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Violations {
    /// At most [`MAX_VIOLATIONS`].
    pub listed: Vec<Violation>,
    /// Whether there may be others.
    pub more: bool,
}

impl Violations {
    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// Adds one; false once no more are told.
    pub(crate) fn add(&mut self, violation: Violation) -> bool {
        if self.listed.len() == MAX_VIOLATIONS {
            self.more = true;
            return false;
        }
        self.listed.push(violation);
        true
    }
}

/// No more of a text than a message may have.
pub(crate) fn shortened(text: String) -> String {
    match text.char_indices().nth(MAX_MESSAGE_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// A JSON Pointer with one segment more.
pub(crate) fn beneath(pointer: &str, segment: &str) -> String {
    format!("{pointer}/{}", segment.replace('~', "~0").replace('/', "~1"))
}
