//! Launch tickets for replicas that somebody else starts.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Extension, State};
use axum::response::Json;
use axum::routing::post;
use mesh_protocol::LaunchTicket;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use trust::TrustError;
use types::ServiceName;

use super::{Actor, AdminState};
use crate::problem::AdminProblem;

/// The request of `POST /v1/tickets`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TicketRequest {
    /// The service.
    pub service: String,
    /// Which of its replicas; the first that is free where this is left out.
    pub ordinal: Option<u32>,
}

/// Why there is no ticket.
#[derive(Debug, Error)]
pub enum TicketRefused {
    /// No service has that name, or it has no such replica.
    #[error("there is no replica {0}; `serviceos status` shows those that there are")]
    Unknown(String),
    /// Nobody else starts it.
    #[error(
        "the replicas of {0} are started by serviceos itself; those of a service that says nothing but `attestation.releases` are \
         started by `serviceos exec`"
    )]
    Supervised(ServiceName),
    /// All of them run.
    #[error("{0} runs already; stop it where it was started")]
    Taken(String),
    /// The authority gives none.
    #[error(transparent)]
    Authority(#[from] TrustError),
}

/// Gives tickets, to whoever the audit trail is told.
pub type TicketOffice = Arc<
    dyn Fn(
            ServiceName,
            Option<u32>,
            &'static str,
        ) -> Pin<Box<dyn Future<Output = Result<LaunchTicket, TicketRefused>> + Send>>
        + Send
        + Sync,
>;

pub(super) fn routes() -> Router<AdminState> {
    Router::new().route("/v1/tickets", post(ticket))
}

async fn ticket(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<LaunchTicket>, AdminProblem> {
    let request: TicketRequest =
        serde_json::from_slice(&body?).map_err(|error| AdminProblem::invalid(error.to_string()))?;
    let service: ServiceName =
        request.service.parse().map_err(|_| AdminProblem::replica_unknown(&request.service))?;
    let ticket = (state.tickets)(service, request.ordinal, actor.0).await?;
    tracing::info!(replica = %ticket.assignment.replica, "a launch ticket was given");
    Ok(Json(ticket))
}
