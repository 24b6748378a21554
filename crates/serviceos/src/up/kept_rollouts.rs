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

use self::row::Row;
use super::specs::Spec;

/// Whether a node runs nothing else of a service than this, and is about to run nothing else; also where it runs none of it.
///
/// # Errors
/// The store does not say.
pub(super) async fn runs_only(
    store: &Store,
    node: &NodeName,
    service: &ServiceName,
    spec: &Spec,
) -> Result<bool, String> {
    let row = row_of(store, node, service).await?;
    Ok(row.is_none_or(|row| row.rollout.is_none() && row.stable.is(spec)))
}

/// Whether a node runs this, is about to, or says it still and has given it up.
///
/// # Errors
/// The store does not say.
pub(super) async fn knows(
    store: &Store,
    node: &NodeName,
    service: &ServiceName,
    spec: &Spec,
) -> Result<bool, String> {
    let row = row_of(store, node, service).await?;
    Ok(row.is_some_and(|row| row.versions().any(|kept| kept.is(spec)) || row.gave_up(spec)))
}

async fn row_of(store: &Store, node: &NodeName, service: &ServiceName) -> Result<Option<Row>, String> {
    let key = format!("{}{service}", row::prefix(node));
    let found = store.get(key).await.map_err(|error| error.to_string())?;
    found.map(|found| Row::decode(&found.value)).transpose().map_err(|error| error.to_string())
}
