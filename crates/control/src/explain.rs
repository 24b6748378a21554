//! What becomes of a request, and why, as others see it: a stable contract.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A request to be explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainRequest {
    /// Its method.
    pub method: String,
    /// Its path, and perhaps a query.
    pub path: String,
    /// Its host; the gateway's own address where it is left out.
    pub host: Option<String>,
    /// Its other header fields.
    pub fields: Vec<(String, String)>,
}

/// Whoever knows the plan that is in force.
pub type Explainer = Arc<dyn Fn(&ExplainRequest) -> Explanation + Send + Sync>;

/// The document of `GET /v1/explain`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The method that was asked about.
    pub method: String,
    /// The path.
    pub path: String,
    /// The host.
    pub host: String,
    /// What the gateway answers by itself; none where a replica is called, or a page of the gateway's own is shown.
    pub answer: Option<ExplainedAnswer>,
    /// The page of the gateway's own.
    pub page: Option<String>,
    /// The route that is taken.
    pub route: Option<ExplainedRoute>,
    /// What is wanted of whoever calls.
    pub authentication: Option<ExplainedAuthentication>,
    /// How often somebody may call.
    pub rate_limits: Vec<ExplainedLimit>,
    /// What the body may be.
    pub body: Option<ExplainedBody>,
    /// How long it may take.
    pub timeouts: Option<ExplainedTimeouts>,
    /// What another try may hide.
    pub retries: Option<ExplainedRetries>,
    /// How a replica is chosen.
    pub balancing: Option<ExplainedBalancing>,
    /// How calls are divided between versions.
    pub versions: Option<ExplainedVersions>,
    /// Who may answer, and who may not and why.
    pub replicas: Vec<ExplainedReplica>,
    /// Why other routes are not taken, those that are missed by least first; at most 20.
    pub others: Vec<OtherRoute>,
    /// How many routes more there are.
    pub more: usize,
    /// The routes whose paths are nearest, where none is taken.
    pub nearest: Vec<String>,
}

/// An answer of the gateway's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedAnswer {
    /// The status.
    pub status: u16,
    /// The code.
    pub code: String,
    /// Why.
    pub detail: String,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedRoute {
    /// Its path, as the configuration has it.
    pub path: String,
    /// The host that it is for; any where there is none.
    pub host: Option<String>,
    /// The methods that it takes; any where there is none.
    pub methods: Vec<String>,
    /// The fields that it wants, as `name: value`.
    pub headers: Vec<String>,
    /// The service that it leads to.
    pub service: String,
    /// What is taken off the path before the replica sees it.
    pub strip_prefix: Option<String>,
}

/// What is wanted of whoever calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedAuthentication {
    /// Whether a credential is needed.
    pub required: bool,
    /// Every scope that it needs.
    pub scopes: Vec<String>,
    /// What is taken as one: `token`, `apiKey`, `certificate`, `signature`.
    pub takes: Vec<String>,
}

/// How often somebody may call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedLimit {
    /// Who is counted together: `address`, `caller` or `route`.
    pub of: String,
    /// How often, such as `60/min`; none where the caller's tier says it.
    pub limit: Option<String>,
    /// How many at once.
    pub burst: Option<u32>,
}

/// What a body may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedBody {
    /// How large.
    pub max_bytes: u64,
    /// Of which types; any where there is none.
    pub types: Vec<ExplainedType>,
}

/// A type of content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedType {
    /// The media type.
    pub media_type: String,
    /// Whether it is held against a schema.
    pub schema: bool,
}

/// How long it may take, in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedTimeouts {
    /// Until the head of the answer, all tries together: what the route allows, or less where the request says so.
    pub request_ms: u64,
    /// A try while another is still allowed.
    pub per_try_ms: u64,
}

/// What another try may hide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedRetries {
    /// How many tries more.
    pub attempts: u32,
    /// What: `connect`, `reset`, or a status.
    pub on: Vec<String>,
    /// How many calls at once, in percent of those in flight.
    pub budget_percent: u32,
}

/// How a replica is chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedBalancing {
    /// `peak-ewma`, `round-robin`, `least-request`, `maglev` or `random`.
    pub policy: String,
    /// What is hashed, where the policy goes by a hash.
    pub hash_on: Option<String>,
    /// How long a new replica's share grows, in milliseconds.
    pub slow_start_ms: u64,
    /// The share of healthy replicas, in percent, below which health is ignored; 0 for never.
    pub panic_threshold_percent: u8,
}

/// How calls are divided between versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedVersions {
    /// The field by which a caller asks for one.
    pub header: Option<String>,
    /// The one that this request asks for.
    pub asked: Option<String>,
    /// The parts that the configuration gives them, as `version: weight`.
    pub weights: Vec<String>,
    /// What a rollout on its way divides: the version that comes, and its part in percent.
    pub rollout: Option<ExplainedSplit>,
    /// What keeps a caller with one of them.
    pub sticky: Option<String>,
}

/// The part of a version that comes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedSplit {
    /// What the version is known by.
    pub to: String,
    /// Its part of the calls, in percent.
    pub percent: u8,
}

/// Who may answer, or may not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedReplica {
    /// Its id.
    pub id: String,
    /// What its version is known by, while it listens.
    pub version: Option<String>,
    /// Whether requests may reach it.
    pub selectable: bool,
    /// Whether this request may: it is selectable, and of the version that is asked for.
    pub eligible: bool,
    /// Why not.
    pub reason: Option<String>,
}

/// A route that is not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherRoute {
    /// In words.
    pub route: String,
    /// The service that it leads to.
    pub service: String,
    /// Why it is not taken: `path`, `host`, `method`, `header`, or `behind`, where another comes first.
    pub why: String,
    /// The same in words.
    pub said: String,
}
