//! The HTTP of the service. It reads what the feeds published and asks nobody.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::Timestamp;
use sdk::Problem;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::feed::{Published, Status};
use crate::service::{Running, Service};
use crate::settings::Rules;
use types::duration;

/// The routes of the service.
pub(crate) fn router(service: Arc<Service>) -> axum::Router {
    axum::Router::new()
        .route("/v1/feeds", get(feeds))
        .route("/v1/price/{pair}", get(price))
        .with_state(service)
}

#[derive(Serialize)]
struct FeedList {
    feeds: Vec<FeedRow>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FeedRow {
    pair: String,
    decimals: u32,
    status: &'static str,
    heartbeat: String,
    deviation_bps: u32,
    max_age: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PriceQuery {
    max_age: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PriceAnswer {
    pair: String,
    value: String,
    decimals: u32,
    timestamp: String,
    /// Since enough sources last said that the value holds; the value itself may be older, see `timestamp`.
    age_ms: u64,
    sources: usize,
    source_ids: Vec<String>,
    confidence: String,
    round: u64,
    status: &'static str,
}

/// Why there is no price.
#[derive(Debug, Error)]
enum Refusal {
    #[error("expected ?maxAge= with a duration such as 5s, and nothing else")]
    BadRequest,
    #[error("no feed has this pair; GET /v1/feeds lists them")]
    Unknown,
    #[error("enough sources last spoke {age} ms ago, which is more than maxAge")]
    Stale { age: u64 },
    #[error("too few sources have given a price since the start; {needed} are needed")]
    TooFewSources { needed: usize },
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, code, title) = match self {
            Self::BadRequest => (StatusCode::BAD_REQUEST, "FEED_BAD_REQUEST", "Malformed request"),
            Self::Unknown => (StatusCode::NOT_FOUND, "FEED_UNKNOWN", "Unknown feed"),
            Self::Stale { .. } => (StatusCode::SERVICE_UNAVAILABLE, "FEED_STALE", "The price is too old"),
            Self::TooFewSources { .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, "FEED_TOO_FEW_SOURCES", "No price yet")
            }
        };
        Problem::new(status, code, title, self.to_string()).into_response()
    }
}

async fn feeds(State(service): State<Arc<Service>>) -> Json<FeedList> {
    let now = service.clock.now();
    Json(FeedList { feeds: service.feeds().values().map(|feed| FeedRow::new(feed, now)).collect() })
}

async fn price(
    State(service): State<Arc<Service>>,
    Path(pair): Path<String>,
    query: Result<Query<PriceQuery>, QueryRejection>,
) -> Result<Json<PriceAnswer>, Refusal> {
    let Query(PriceQuery { max_age }) = query.map_err(|_| Refusal::BadRequest)?;
    let max_age = max_age.map(|text| duration::parse(&text).ok_or(Refusal::BadRequest)).transpose()?;
    let feeds = service.feeds();
    let Running { rules, published, .. } = feeds.get(&pair).ok_or(Refusal::Unknown)?.as_ref();
    let published = published.borrow().clone().ok_or(Refusal::TooFewSources { needed: rules.min_sources })?;
    let now = service.clock.now();
    let age = published.age(now);
    if max_age.is_some_and(|max_age| age > max_age) {
        return Err(Refusal::Stale { age: milliseconds(age) });
    }
    Ok(Json(PriceAnswer::new(rules, &published, now)))
}

impl FeedRow {
    fn new(Running { rules, published, .. }: &Running, now: Timestamp) -> Self {
        let status = published
            .borrow()
            .as_ref()
            .map_or(Status::Stale, |published| published.status(now, rules.max_age));
        Self {
            pair: rules.pair.clone(),
            decimals: rules.decimals,
            status: word(status),
            heartbeat: duration::text(rules.heartbeat),
            deviation_bps: rules.deviation_bps,
            max_age: duration::text(rules.max_age),
        }
    }
}

impl PriceAnswer {
    fn new(rules: &Rules, published: &Published, now: Timestamp) -> Self {
        let round = &published.round;
        Self {
            pair: rules.pair.clone(),
            value: round.price.text(rules.decimals),
            decimals: rules.decimals,
            timestamp: format!("{:.3}", round.timestamp),
            age_ms: milliseconds(published.age(now)),
            sources: round.source_ids.len(),
            source_ids: round.source_ids.clone(),
            confidence: round.confidence.text(rules.decimals),
            round: round.number,
            status: word(published.status(now, rules.max_age)),
        }
    }
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Live => "live",
        Status::Stale => "stale",
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
