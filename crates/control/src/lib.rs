//! The admin API of a running ServiceOS: health, metrics, status, why, keys, attestation, secrets, audit, shutdown; on the admin port and on the data
//! directory's socket.
//!
//! Whoever can open the socket owns the data directory, and needs no token. On the port everything under `/v1` needs the
//! token that lies beside the socket; health and metrics need none while the port is a loopback one.

mod admin;
mod attestation;
mod auth;
mod client;
mod health;
mod metrics_page;
mod problem;
mod server;
mod socket;
mod status;
mod why;

pub use admin::{
    AdminState, AuditInfo, AuditPlace, ConfigStatus, CreatedKey, NewKeyRequest, ReplicaConfigStatus,
    RevocationAnswer, RevocationRequest, SealKeyAnswer, SealKeyRequest, SecretInfo, SecretRemoved,
    SecretRotated, SecretSet, SecretVersion, ServiceConfigStatus, TicketOffice, TicketRefused, TicketRequest,
};
pub use attestation::{
    AllowedPlatform, AllowedRelease, AllowedTcb, AttestationReport, AttestedPolicy, AttestedReplica,
    AttestedService, RevocationEntry, RevocationList, SgxRelease, SimulatedRelease, TransitionInForce,
};
pub use auth::AdminToken;
pub use client::{AdminClient, ClientError};
pub use health::{HealthReport, Overall};
pub use server::{Serving, serve_socket, serve_tcp};
pub use socket::bind_socket;
pub use status::{ReplicaStatus, ServiceStatus, Status};
pub use why::{Why, WhyAttested, WhyConfig, WhyEvidence, WhyHealthy, WhyNotGated, WhyReady, WhyRefused};
