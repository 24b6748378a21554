//! Nodes of the mesh that are not done with a rollout yet that this one has ended: both versions are admitted until they are, since the
//! manifest is one for all of them.

use std::collections::BTreeSet;
use std::time::Duration;

use ::store::Store;
use service_registry::PRESENT;
use tokio::time::Instant;
use types::{NodeName, ServiceName};

use super::kept_rollouts::is_on_its_way;

/// How soon it is looked at again.
const AGAIN: Duration = Duration::from_secs(2);
const AWAITED: &str = "other nodes have yet to end the rollout: both versions are admitted until then";
/// What each node that lives holds below its name.
const ALIVE: &str = "/alive";

/// The services of which that is so.
pub(super) struct SlowerNodes {
    /// Where nodes say how far they are, and which one this is; none where it is alone.
    shared: Option<(Store, NodeName)>,
    awaited: BTreeSet<ServiceName>,
    /// When it is to be looked at again.
    pub(super) again: Option<Instant>,
}

impl SlowerNodes {
    /// Those that are awaited are of these services at first.
    pub(super) fn of(store: &Store, node: Option<NodeName>, awaited: BTreeSet<ServiceName>) -> Self {
        let shared = node.map(|node| (store.clone(), node));
        for service in &awaited {
            tracing::info!(%service, "{AWAITED}");
        }
        let again = (!awaited.is_empty()).then(|| Instant::now() + AGAIN);
        Self { shared, awaited, again }
    }

    /// Whether some were awaited the last time.
    pub(super) fn were_awaited(&self, service: &ServiceName) -> bool {
        self.awaited.contains(service)
    }

    /// A rollout of the service has begun here, or they are done.
    pub(super) fn forget(&mut self, service: &ServiceName) {
        self.awaited.remove(service);
        if self.awaited.is_empty() {
            self.again = None;
        }
    }

    /// Looks whether some are to be awaited. Where the store does not say so, they are.
    pub(super) async fn are_awaited(&mut self, service: &ServiceName) -> bool {
        let Some((store, own)) = &self.shared else { return false };
        let mut slower = Vec::new();
        match others(store, own).await {
            Ok(nodes) => {
                for node in nodes {
                    if is_on_its_way(store, &node, service).await != Ok(false) {
                        slower.push(node.to_string());
                    }
                }
            }
            Err(error) => slower.push(error),
        }
        if slower.is_empty() {
            self.forget(service);
            return false;
        }
        if self.awaited.insert(service.clone()) {
            let nodes = slower.join(", ");
            tracing::info!(%service, nodes, "{AWAITED}");
        }
        self.again = Some(Instant::now() + AGAIN);
        true
    }
}

/// The other nodes that live.
pub(super) async fn others(store: &Store, own: &NodeName) -> Result<Vec<NodeName>, String> {
    let rows = store.range(PRESENT).await.map_err(|error| error.to_string())?;
    let name = |key: &[u8]| {
        let name = str::from_utf8(key).ok()?.strip_prefix(PRESENT)?.strip_suffix(ALIVE)?;
        name.parse::<NodeName>().ok().filter(|name| name != own)
    };
    Ok(rows.rows.iter().filter_map(|row| name(&row.key)).collect())
}
