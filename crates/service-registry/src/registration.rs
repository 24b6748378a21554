//! Replicas that nobody here starts: whether there is one, and by which lease.

use std::sync::Arc;

use types::Description;

/// What a replica has registered itself with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The lease that keeps it registered.
    pub lease: String,
    /// Larger than that of every registration of this replica before.
    pub fencing_token: u64,
    /// What it says of itself.
    pub description: Description,
}

/// Why a replica is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// It is started here, or the configuration names it.
    Given,
    /// It is awaited, and nobody has registered, or not for a long while.
    Vacant,
    /// It has registered itself; the lease may be over, which its state says.
    Registered(Arc<Registration>),
}

impl Presence {
    /// The registration, where there is one.
    pub fn registration(&self) -> Option<&Arc<Registration>> {
        match self {
            Self::Registered(registration) => Some(registration),
            Self::Given | Self::Vacant => None,
        }
    }
}
