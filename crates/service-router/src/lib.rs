//! Selects a replica, executes the call on it, fails over to another, and owns health.
//!
//! [`WorkerRouter`] is one gateway worker's view: its own connections, estimates and suspicions, shared with nobody.
//! [`HealthOwner`] is process-wide: one verdict for each replica, published to all. Neither knows HTTP statuses for clients.

mod answer;
mod balance;
mod budget;
mod call;
mod circuit;
mod connect;
mod endpoint;
mod execute;
mod grpc;
mod health;
mod http1_call;
mod http1_connection;
mod http2_connection;
mod mesh_socket;
mod opening;
mod peak_ewma;
mod policy;
mod request_body;
mod suspicion;
mod timer;
mod tries;
mod upload;
mod view;
mod wire;
mod worker;

pub use answer::{Answer, TunnelGuard};
pub use balance::Wanted;
pub use call::{CallError, CallHead, CallOptions, Failure, Replay};
pub use circuit::{Circuit, CircuitLimits};
pub use connect::{TlsClient, Unproven, proves_itself};
pub use health::{CheckChannel, CheckPolicies, CheckPolicy, Checks, HealthOwner, Probe};
pub use mesh_socket::MeshSocket;
pub use policy::{Balancing, BalancingPolicy, RetryOn, RouterPolicy, UpstreamProtocol};
pub use request_body::{BodyError, RequestBody};
pub use service_registry::Instance;
pub use suspicion::{Suspicion, SuspicionKind};
pub use timer::Timer;
pub use view::{ServiceView, stable_hash};
pub use wire::{Stream, Wire};
pub use worker::{PRUNE_INTERVAL, RouterPlan, ServicePlan, ServicePlans, WorkerRouter};
