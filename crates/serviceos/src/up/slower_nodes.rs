//! Nodes of the mesh that are not done with a rollout yet that this one has ended: both versions are admitted until they are, since the
//! manifest is one for all of them.

use std::collections::BTreeSet;
use std::time::Duration;

use ::store::Store;
use service_registry::PRESENT;
use tokio::time::{Instant, timeout};
use types::{NodeName, ServiceName};

use super::kept_rollouts::{knows, runs_only};
use super::specs::Spec;

/// How soon it is looked at again.
const AGAIN: Duration = Duration::from_secs(2);
const AWAITED: &str = "other nodes have yet to end the rollout: both versions are admitted until then";
/// How long the store may take to say how far they are: whoever looks does nothing else meanwhile.
const LOOK: Duration = Duration::from_secs(1);
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

    /// Looks whether some are to be awaited until they too run nothing else than this, which is whenever the store does not say.
    pub(super) async fn are_awaited(&mut self, service: &ServiceName, runs: &Spec) -> bool {
        let Some((store, own)) = &self.shared else { return false };
        let slower = timeout(LOOK, slower(store, own, service, runs)).await;
        let slower = slower.unwrap_or_else(|_late| vec!["the store does not answer".into()]);
        if slower.is_empty() {
            self.forget(service);
            return false;
        }
        if !self.awaited.contains(service) {
            let nodes = slower.join(", ");
            tracing::info!(%service, nodes, "other nodes have yet to end the rollout: both versions are admitted until then");
        }
        self.look_again(service);
        true
    }

    /// It is looked at again how far things are, after a moment.
    pub(super) fn look_again(&mut self, service: &ServiceName) {
        self.awaited.insert(service.clone());
        self.again = Some(Instant::now() + AGAIN);
    }

    /// Whether others run this too, are about to, or say it still: then it is not for this one alone to take back. So it is where the
    /// store does not say.
    pub(super) async fn know(&self, service: &ServiceName, given_up: &Spec) -> bool {
        let Some((store, own)) = &self.shared else { return false };
        let known = async {
            for node in others(store, own).await? {
                if knows(store, &node, service, given_up).await? {
                    return Ok(true);
                }
            }
            Ok::<_, String>(false)
        };
        timeout(LOOK, known).await.map_or(true, |known| known != Ok(false))
    }
}

/// The nodes that are not as far, or why that is not known.
async fn slower(store: &Store, own: &NodeName, service: &ServiceName, runs: &Spec) -> Vec<String> {
    let nodes = match others(store, own).await {
        Ok(nodes) => nodes,
        Err(error) => return vec![error],
    };
    let mut slower = Vec::new();
    for node in nodes {
        if runs_only(store, &node, service, runs).await != Ok(true) {
            slower.push(node.to_string());
        }
    }
    slower
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
