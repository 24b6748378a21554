//! What each service runs, and the rollout that is on its way, in the store, so that both survive this process.
//!
//! ```text
//! nodes/NODE/rollouts/SERVICE     the version that runs, and while there is one its rollout: the target, the stage, the pace;
//!                                 and how the last ones have ended
//! ```
//!
//! A row is written when what it says changes, by a task of its own: nobody waits for it. The next `up` reads it before anything is
//! begun, takes the replicas over that run either version, each as what it runs, and goes on with the rollout.

mod beginning;
mod course;
mod row;
mod writing;

pub(super) use beginning::{Kept, Leaving, Resumed};

use ::store::Store;
use types::{NodeName, ServiceName};

/// Whether a rollout of the service is on its way at a node.
///
/// # Errors
/// The store does not say.
pub(super) async fn is_on_its_way(
    store: &Store,
    node: &NodeName,
    service: &ServiceName,
) -> Result<bool, String> {
    let key = format!("{}{service}", row::prefix(node));
    let found = store.get(key).await.map_err(|error| error.to_string())?;
    let row = found.map(|found| row::Row::decode(&found.value)).transpose();
    Ok(row.map_err(|error| error.to_string())?.is_some_and(|row| row.rollout.is_some()))
}
