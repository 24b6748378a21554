//! Attestation: what the authority says of each replica, the records of its appraisals, and what is revoked.

use std::sync::Arc;
use std::time::Duration;

use appraisal::Code;
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Extension, Path, Query, State};
use axum::response::Json;
use axum::routing::{get, post};
use mesh_protocol::{RevokedType, SpiffeId, from_hex, to_hex};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use service_registry::{Attested, Confirmed, Snapshot};
use tokio::time::timeout;
use trust::{Standing, Standings};
use types::ReplicaId;

use super::{Actor, AdminState};
use crate::attestation::AttestationReport;
use crate::problem::AdminProblem;

/// How long a revocation may take until no gateway worker selects whom it is about.
const IN_FORCE: Duration = Duration::from_secs(5);
/// The longest measurement, in bytes: SHA-384 of TDX, SEV-SNP and Nitro.
const MEASUREMENTS: [usize; 2] = [32, 48];

/// The request of `POST /v1/revocations`, and the query of `DELETE /v1/revocations`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevocationRequest {
    /// What is revoked.
    #[serde(rename = "type")]
    pub about: RevokedType,
    /// Which one; an instance by its SPIFFE ID, or as `vrf/2`.
    pub value: String,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevocationAnswer {
    /// What it is about.
    #[serde(rename = "type")]
    pub about: RevokedType,
    /// Which one, as it stands in the list.
    pub value: String,
    /// The epoch of the list.
    pub epoch: u64,
    /// Whether the list is another now.
    pub changed: bool,
    /// The replicas that had an identity and are refused from now on.
    pub replicas: Vec<String>,
    /// Whether every gateway worker has confirmed that it selects none of them.
    pub in_force: bool,
}

pub(super) fn routes() -> Router<AdminState> {
    Router::new()
        .route("/v1/attestation", get(show))
        .route("/v1/attestation/{service}/{ordinal}/records", get(records))
        .route("/v1/revocations", post(revoke).delete(restore))
}

async fn show(State(state): State<AdminState>) -> Json<AttestationReport> {
    Json(AttestationReport::new(&state.authority, &state.registry.snapshot()))
}

async fn records(
    State(state): State<AdminState>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Json<Vec<Value>>, AdminProblem> {
    let Ok(Path((service, ordinal))) = path else {
        return Err(AdminProblem::replica_unknown("of a name that is not UTF-8"));
    };
    let text = format!("{service}/{ordinal}");
    let id: Option<ReplicaId> = text.parse().ok();
    let known = id.filter(|id| state.registry.snapshot().replica(id).is_some());
    let id = known.ok_or_else(|| AdminProblem::replica_unknown(&text))?;
    Ok(Json(state.authority.records(&id.service, &id.instance()).await?))
}

async fn revoke(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<RevocationAnswer>, AdminProblem> {
    let request: RevocationRequest =
        serde_json::from_slice(&body?).map_err(|error| AdminProblem::invalid(error.to_string()))?;
    let (about, value) = (request.about, state.value(&request)?);
    let before = (state.is_revoked(about, &value), Arc::clone(&state.authority.standings().borrow()));
    let epoch = state.authority.revoke(about, &value, actor.0).await?;
    let refused = refused_since(&before.1, &state.authority.standings().borrow());
    let in_force = state.without(&refused).await;
    tracing::info!(value, epoch, "a revocation was made");
    let replicas = refused.iter().map(ToString::to_string).collect();
    Ok(Json(RevocationAnswer { about, value, epoch, changed: !before.0, replicas, in_force }))
}

async fn restore(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
    query: Result<Query<RevocationRequest>, QueryRejection>,
) -> Result<Json<RevocationAnswer>, AdminProblem> {
    let Query(request) = query.map_err(|rejection| AdminProblem::invalid(rejection.body_text()))?;
    let (about, value) = (request.about, state.value(&request)?);
    if !state.is_revoked(about, &value) {
        return Err(AdminProblem::not_revoked(&value));
    }
    let epoch = state.authority.restore(about, &value, actor.0).await?;
    tracing::info!(value, epoch, "a revocation was taken back");
    let (changed, replicas, in_force) = (true, Vec::new(), true);
    Ok(Json(RevocationAnswer { about, value, epoch, changed, replicas, in_force }))
}

impl AdminState {
    fn is_revoked(&self, about: RevokedType, value: &str) -> bool {
        let list = self.authority.revocations();
        list.borrow().revocations.entries.iter().any(|entry| entry.about == about && entry.value == value)
    }

    /// The one way in which a value stands in the list.
    fn value(&self, request: &RevocationRequest) -> Result<String, AdminProblem> {
        let trust_domain = &self.authority.domain().trust_domain;
        let given = request.value.as_str();
        let (value, expected) = match request.about {
            RevokedType::Instance => (
                instance(given, trust_domain),
                "a replica such as vrf/2, or an identity of this trust domain",
            ),
            RevokedType::Leaf => (hex(given, |bytes| bytes == 32), "the SHA-256 of a certificate, 64 digits"),
            RevokedType::Measurement => {
                (hex(given, |bytes| MEASUREMENTS.contains(&bytes)), "a measurement, 64 or 96 digits")
            }
            RevokedType::Platform => (hex(given, |bytes| bytes > 0), "a hardware id, hexadecimal"),
            RevokedType::Advisory => (advisory(given), "an advisory such as INTEL-SA-00837"),
        };
        value.ok_or_else(|| AdminProblem::invalid(format!("value: expected {expected}")))
    }

    /// Whether every worker selects without these replicas, which it does in a moment.
    async fn without(&self, refused: &[ReplicaId]) -> bool {
        let is_refused = |snapshot: &Snapshot, id: &ReplicaId| {
            snapshot.replica(id).is_none_or(|replica| replica.attestation.value == Attested::Refused)
        };
        let all_refused = |snapshot: &Arc<Snapshot>| refused.iter().all(|id| is_refused(snapshot, id));
        let mut snapshots = self.registry.subscribe();
        let in_force = async {
            let epoch = match snapshots.wait_for(all_refused).await {
                Ok(snapshot) => snapshot.epoch,
                Err(_) => return false,
            };
            self.registry.confirmed(epoch, IN_FORCE).await == Confirmed::ByAll
        };
        timeout(IN_FORCE, in_force).await.unwrap_or(false)
    }
}

/// The replicas that had an identity before, and are revoked now.
fn refused_since(before: &Standings, now: &Standings) -> Vec<ReplicaId> {
    let had_one = |key| matches!(before.get(key), Some(Standing::Valid(_) | Standing::Expired(_)));
    let revoked = now.iter().filter(|(key, standing)| {
        matches!(standing, Standing::Refused { fault, .. } if fault.code == Code::Revoked) && had_one(*key)
    });
    revoked
        .filter_map(|((service, instance), _)| ReplicaId::of_instance(service.clone(), instance).ok())
        .collect()
}

fn instance(given: &str, trust_domain: &str) -> Option<String> {
    if let Ok(id) = given.parse::<ReplicaId>() {
        return Some(SpiffeId::of_replica(trust_domain, &id.service, &id.instance()).to_string());
    }
    let id: SpiffeId = given.parse().ok()?;
    (id.trust_domain == *trust_domain).then(|| id.to_string())
}

fn hex(given: &str, length: impl FnOnce(usize) -> bool) -> Option<String> {
    from_hex(given).filter(|bytes| length(bytes.len())).map(|bytes| to_hex(&bytes))
}

fn advisory(given: &str) -> Option<String> {
    let is_one = !given.is_empty() && given.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    is_one.then(|| given.to_ascii_uppercase())
}

#[cfg(test)]
mod tests;
