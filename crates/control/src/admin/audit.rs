//! The audit trail: what its file is verified with, and how far it goes.

use axum::Router;
use axum::extract::State;
use axum::response::Json;
use axum::routing::get;
use mesh_protocol::{Bytes, to_hex};
use serde::{Deserialize, Serialize};

use super::AdminState;
use crate::problem::AdminProblem;

/// What the file of the audit trail is verified with, and how far it goes at least.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditInfo {
    /// T_0, which the first record follows, in hex.
    pub genesis: String,
    /// The key that heads are signed with, as DER SubjectPublicKeyInfo in base64url.
    pub root_spki: Bytes,
    /// The last record.
    pub last: AuditPlace,
    /// The last record that a signed head covers.
    pub signed: AuditPlace,
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditPlace {
    /// Its number, from 1; 0 before the first.
    pub seq: u64,
    /// Its hash, in hex; T_0 before the first.
    pub hash: String,
}

pub(super) fn routes() -> Router<AdminState> {
    Router::new().route("/v1/audit", get(show))
}

async fn show(State(state): State<AdminState>) -> Result<Json<AuditInfo>, AdminProblem> {
    let known = state.authority.audit_state().await?;
    let place = |head: trust::audit::AuditHead| AuditPlace { seq: head.seq, hash: to_hex(&head.hash) };
    Ok(Json(AuditInfo {
        genesis: to_hex(&known.genesis),
        root_spki: Bytes(state.authority.root_spki().to_vec()),
        last: place(known.last),
        signed: place(known.signed),
    }))
}
