//! What a route asks of a request: which content, and what that and the parameters must be.

use serde_json::Value;
use strict_json::NotJson;

use crate::media::fit;
use crate::openapi::Parameters;
use crate::schema::Schema;
use crate::violation::Violations;

/// The deepest nesting of arrays and objects in a body.
pub const MAX_DEPTH: usize = 64;

/// Reads one JSON value as bodies are read.
///
/// # Errors
/// The first thing that is wrong, and where.
pub fn read_json(bytes: &[u8]) -> Result<Value, NotJson> {
    strict_json::read(bytes, MAX_DEPTH)
}

/// What a request must be.
#[derive(Debug, Default)]
pub struct RequestRule {
    pub(crate) contents: Vec<Content>,
    pub(crate) body: Body,
    pub(crate) parameters: Parameters,
}

/// Whether there must be a body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Body {
    /// Where the method is one that sends content.
    #[default]
    AsTheMethod,
    Required,
    Optional,
}

/// Content that is taken.
#[derive(Debug)]
pub struct Content {
    pub(crate) media_type: String,
    pub(crate) schema: Option<Schema>,
}

/// Hands over the values of a header field, whose name is in lower case.
pub type Fields<'a> = dyn Fn(&str, &mut dyn FnMut(&[u8])) + 'a;

/// What became of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judged {
    /// It may pass.
    Valid,
    /// It is no JSON that can be read in one way only.
    NotJson(NotJson),
    /// It is JSON, and not what the schema describes.
    Violating(Violations),
}

impl Content {
    /// Its media type.
    pub fn media_type(&self) -> &str {
        &self.media_type
    }

    /// Whether a body has to be read for it.
    pub fn is_judged(&self) -> bool {
        self.schema.is_some()
    }

    /// What a body is.
    pub fn judge(&self, body: &[u8]) -> Judged {
        let Some(schema) = &self.schema else { return Judged::Valid };
        match read_json(body) {
            Err(why) => Judged::NotJson(why),
            Ok(value) => {
                let violations = schema.check(&value);
                if violations.is_empty() { Judged::Valid } else { Judged::Violating(violations) }
            }
        }
    }
}

impl RequestRule {
    /// Content of one media type, and what it must be.
    pub fn of_schema(media_type: &str, schema: Option<Schema>) -> Self {
        let content = Content { media_type: media_type.to_owned(), schema };
        Self { contents: vec![content], ..Self::default() }
    }

    /// All content that is taken; any where there is none.
    pub fn contents(&self) -> &[Content] {
        &self.contents
    }

    /// The content that is taken by this media type, which is type and subtype alone: that which names it most closely.
    pub fn content(&self, essence: &str) -> Option<&Content> {
        let fitting =
            self.contents.iter().filter_map(|content| Some((fit(&content.media_type, essence)?, content)));
        fitting.max_by_key(|(fit, _)| *fit).map(|(_, content)| content)
    }

    /// The media types that are taken, as `Accept` lists them; empty where it is not said which.
    pub fn media_types(&self) -> String {
        self.contents.iter().map(|content| content.media_type.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Whether it is said which content is taken.
    pub fn names_content(&self) -> bool {
        !self.contents.is_empty()
    }

    /// Whether bodies may have to be read.
    pub fn judges_bodies(&self) -> bool {
        self.contents.iter().any(Content::is_judged)
    }

    /// Whether a request without a body lacks one. `sends_content`: whether its method is one that sends content.
    pub fn wants_body(&self, sends_content: bool) -> bool {
        match self.body {
            Body::AsTheMethod => sends_content && self.judges_bodies(),
            Body::Required => true,
            Body::Optional => false,
        }
    }

    /// What is wrong with the parameters of a request. `fields` gives the values of a header field.
    pub fn check_parameters(&self, path: &str, query: &str, fields: &Fields<'_>) -> Violations {
        self.parameters.check(path, query, fields)
    }
}
