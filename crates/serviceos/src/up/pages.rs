//! What the gateway answers itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use control::{HealthReport, StoreView};
use edge_gateway::{OwnPage, PageAnswer};
use http::StatusCode;
use service_registry::Registry;

/// The gateway's own `/health` and `/health/detailed`.
pub(super) fn health_pages(
    registry: &Registry,
    draining: &Arc<AtomicBool>,
    store: &StoreView,
) -> Vec<OwnPage> {
    let page = |path: &'static str, body: fn(&HealthReport) -> serde_json::Value| {
        let (registry, draining, store) = (registry.clone(), Arc::clone(draining), store.clone());
        let answer = move || {
            let report =
                HealthReport::new(registry.snapshot(), draining.load(Ordering::Relaxed), store.state());
            let status =
                StatusCode::from_u16(report.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            PageAnswer {
                status,
                content_type: "application/json",
                body: body(&report).to_string().into_bytes(),
            }
        };
        OwnPage { path, answer: Arc::new(answer) }
    };
    vec![page("/health", HealthReport::brief), page("/health/detailed", HealthReport::detailed)]
}
