//! The admin API of a running ServiceOS: health, metrics, status, the catalogue, logs, why, configuration, keys, attestation,
//! secrets, audit, shutdown; on the admin port and on the data
//! directory's socket.
//!
//! Whoever can open the socket owns the data directory, and needs no token. On the port everything under `/v1` needs the
//! token that lies beside the socket; health and metrics need none while the port is a loopback one.

mod admin;
mod attestation;
mod auth;
mod catalogue;
mod client;
mod events;
mod explain;
mod health;
mod logs;
mod metrics_page;
mod problem;
mod rollout;
mod server;
mod socket;
mod status;
mod store_state;
mod why;

pub use admin::{
    AdminState, AuditInfo, AuditPlace, ConfigAnswer, ConfigChange, ConfigChanged, ConfigDesk, ConfigRefused,
    ConfigRevision, ConfigStatus, ConfigWanted, CreatedKey, NewKeyRequest, NewRotationRequest,
    ReplicaConfigStatus, RevocationAnswer, RevocationRequest, RollbackRequest, RotatedKey, ScaleRequest,
    SealKeyAnswer, SealKeyRequest, SecretInfo, SecretRemoved, SecretRotated, SecretSet, SecretVersion,
    ServiceConfigStatus, SharedConfigDesk, TicketOffice, TicketRefused, TicketRequest,
};
pub use attestation::{
    AllowedPlatform, AllowedRelease, AllowedTcb, AttestationReport, AttestedPolicy, AttestedReplica,
    AttestedService, RevocationEntry, RevocationList, SgxRelease, SimulatedRelease, TransitionInForce,
};
pub use auth::AdminToken;
pub use catalogue::{
    Catalogue, Described, Descriptions, InstanceChanges, InstanceEntry, InstanceEvent, Instances,
    ServiceEntry, ServiceKind, Services,
};
pub use client::{AdminClient, ClientError, EventStream, StreamEvent};
pub use events::{EventEntries, EventEntry, EventLog, ToldEvent};
pub use explain::{
    ExplainRequest, ExplainedAnswer, ExplainedAuthentication, ExplainedBalancing, ExplainedBody,
    ExplainedLimit, ExplainedReplica, ExplainedRetries, ExplainedRoute, ExplainedSplit, ExplainedTimeouts,
    ExplainedType, ExplainedVersions, Explainer, Explanation, OtherRoute,
};
pub use health::{HealthReport, Overall};
pub use logs::{LogEvent, LogLevel, LogLine, LogLines, Logs};
pub use rollout::{
    RolloutEnded, RolloutEntry, RolloutGate, RolloutHistory, RolloutSide, RolloutStarted, RolloutWait,
    ServiceRollout,
};
pub use server::{Serving, serve_socket, serve_tcp};
pub use socket::{bind_socket, bind_socket_named, connect_socket_named};
pub use status::{LimitsStatus, NodeStatus, ReplicaStatus, ServiceStatus, Status, why as why_not_selectable};
pub use store_state::{StoreState, StoreView};
pub use why::{Why, WhyAttested, WhyConfig, WhyEvidence, WhyHealthy, WhyNotGated, WhyReady, WhyRefused};
