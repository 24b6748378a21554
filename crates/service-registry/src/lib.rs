//! Which replicas there are and which of them may serve.
//!
//! Each fact of a replica has one writer: its driver writes the lifecycle, the trust authority the attestation, the health
//! owner the health. Everyone else reads a published [`Snapshot`], and the gateway's workers confirm which one they use, so
//! that a drain can wait for them instead of sleeping. What the facts come to is decided by [`Replica::selectable`] alone.

mod attestation;
mod calls;
mod changes;
mod configurations;
mod events;
mod facts;
mod in_flight;
mod labels;
mod mesh_peer;
mod outcomes;
mod registration;
mod registry;
mod shared;
mod snapshot;
mod split;
mod version;

pub use attestation::{Appraised, Attestation, Attested, Refusal};
pub use calls::{CallCount, CallCounts, Calls};
pub use changes::Changes;
pub use configurations::{Configuration, Configurations, ReplicaConfiguration, Taken};
pub use events::{Actor, Event, Events, MAX_EVENTS, Subject, What};
pub use facts::{CrashLoop, Gate, Health, LastExit, LifecycleState, Verdict};
pub use in_flight::InFlight;
pub use labels::Labels;
pub use mesh_peer::{MeshConnection, MeshPeer, PeerEnded};
pub use outcomes::{Claim, Outcomes};
pub use registration::{Presence, Registration};
pub use registry::{Change, Confirmed, Registry, WorkerSubscription};
pub use shared::{ClaimError, Node, NodeFacts, PRESENT, Seal};
pub use snapshot::{Channel, Instance, LastCheck, NotSelectable, Replica, Service, Snapshot};
pub use split::{Answered, Sample, Side, Split, Tally};
pub use version::{SpecDigest, Version};
