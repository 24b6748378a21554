//! What the gateway answers itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use access::{Caller, Left};
use control::{HealthReport, StoreView};
use edge_gateway::{Asks, OwnPage, PageAnswer, PageRequest};
use http::StatusCode;
use serde_json::{Value, json};
use service_registry::Registry;
use types::Mode;

/// The gateway's own pages: `/health`, `/health/detailed`, and `/v1/quota`.
pub(super) fn own_pages(
    mode: Mode,
    registry: &Registry,
    draining: &Arc<AtomicBool>,
    store: &StoreView,
) -> Vec<OwnPage> {
    let health = |path: &'static str, scopes, body: fn(&HealthReport) -> Value| {
        let (registry, draining, store) = (registry.clone(), Arc::clone(draining), store.clone());
        let answer = move |_: PageRequest<'_>| {
            let report =
                HealthReport::new(registry.snapshot(), draining.load(Ordering::Relaxed), store.state());
            let status =
                StatusCode::from_u16(report.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            page(status, &body(&report))
        };
        OwnPage { path, scopes, asks: Asks::Nothing, answer: Arc::new(answer) }
    };
    // In production it says more than everybody should know.
    let detailed = match mode {
        Mode::Development => None,
        Mode::Production => Some(["admin".to_owned()].into()),
    };
    let quota = |request: PageRequest<'_>| {
        let quota = request.caller.map(|caller| quota(caller, request.left));
        page(StatusCode::OK, &quota.unwrap_or_default())
    };
    vec![
        health("/health", None, HealthReport::brief),
        health("/health/detailed", detailed, HealthReport::detailed),
        OwnPage {
            path: "/v1/quota",
            scopes: Some([].into()),
            asks: Asks::WhatIsLeft,
            answer: Arc::new(quota),
        },
    ]
}

fn page(status: StatusCode, body: &Value) -> PageAnswer {
    PageAnswer { status, content_type: "application/json", body: body.to_string().into_bytes() }
}

/// Where a caller stands. To ask uses nothing of it.
fn quota(caller: &Caller, left: Left) -> Value {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let bucket = caller.allowance().and_then(|allowance| allowance.bucket());
    let rate = bucket.zip(left.rate).map(|(bucket, left)| {
        let limit = bucket.limit();
        json!({
            "limit": limit.rate().count,
            "windowSeconds": limit.rate().per.as_secs(),
            "burst": limit.burst(),
            "remaining": left.remaining,
            "resetSeconds": left.reset.as_millis().div_ceil(1000),
        })
    });
    let daily = caller.allowance().and_then(|allowance| allowance.daily());
    let daily = daily.zip(left.daily).map(|(daily, left)| {
        json!({
            "limit": daily.quota(),
            "used": daily.quota() - left.remaining,
            "remaining": left.remaining,
            "resetSeconds": left.reset.as_secs(),
        })
    });
    json!({
        "subject": text(caller.subject()),
        "tenant": text(caller.tenant()),
        "scopes": caller.scopes(),
        "tier": caller.tier(),
        "rate": rate,
        "daily": daily,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use access::{Allowance, Moment, Tiers, admit};
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_caller_is_told_where_it_stands() {
        let allowance = Arc::new(Allowance::new("key:key_1", "free", &Tiers::built_in()));
        let now = Moment { steady_ns: 5_000_000_000, unix: 20_000 * 86_400 + 86_000 };
        let left = admit(Some(&allowance), None, now).unwrap();
        let caller = Caller::new("key_1", "acme", vec!["randomness".into()]);
        let limited = caller.clone().allowed(allowance);
        expect![[r#"{"subject":"key_1","tenant":"acme","scopes":["randomness"],"tier":"free","rate":{"limit":60,"windowSeconds":60,"burst":10,"remaining":9,"resetSeconds":1},"daily":{"limit":1000,"used":1,"remaining":999,"resetSeconds":400}}"#]].assert_eq(&quota(&limited, left).to_string());
        expect![[r#"{"subject":"key_1","tenant":"acme","scopes":["randomness"],"tier":"unlimited","rate":null,"daily":null}"#]].assert_eq(&quota(&caller, Left::default()).to_string());
    }
}
