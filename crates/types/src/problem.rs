//! The error document of every HTTP answer (RFC 9457).

use serde::{Deserialize, Serialize};

/// An `application/problem+json` document.
///
/// `code` is the stable word that a program branches on; `detail` is for people and says what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// Where the code is explained: `urn:serviceos:error:<code>`, since a self-hosted system has no page of its own on the web.
    #[serde(rename = "type")]
    pub kind: String,
    /// What the code means, the same for every occurrence.
    pub title: String,
    /// The HTTP status, repeated for whoever reads only the body.
    pub status: u16,
    /// What happened this time.
    pub detail: String,
    /// The stable code, such as `ROUTE_NOT_FOUND`.
    pub code: String,
    /// The id of the request, as in `x-request-id`; absent where no gateway gave one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub request_id: Option<String>,
}

impl Problem {
    /// The media type of the document.
    pub const MEDIA_TYPE: &'static str = "application/problem+json";

    /// A document without a request id; whoever answers adds it.
    pub fn new(status: u16, code: &str, title: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:serviceos:error:{code}"),
            title: title.to_owned(),
            status,
            detail: detail.into(),
            code: code.to_owned(),
            request_id: None,
        }
    }
}
