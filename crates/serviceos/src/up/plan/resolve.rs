//! Where endpoints are that the configuration knows by name.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use configuration::EndpointSettings;
use service_registry::{Change, Registry, Replica};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use types::ReplicaId;

use super::endpoints::put;

/// How often a name is looked up again.
const LOOK_UP: Duration = Duration::from_secs(30);
/// How long a look-up may take.
const ANSWER: Duration = Duration::from_secs(10);
/// Look-ups at once; each takes a thread.
const AT_ONCE: usize = 16;

/// An endpoint whose address has to be looked up.
#[derive(Debug, Clone)]
pub(crate) struct Unresolved {
    pub(super) replica: ReplicaId,
    pub(super) endpoint: EndpointSettings,
}

/// The look-up of the endpoints that are known by name. Ends when this is dropped.
#[derive(Default)]
pub(crate) struct Resolving(JoinSet<()>);

impl Resolving {
    /// Looks up these from now on, and no others: what was begun before writes nothing any more.
    pub(crate) fn begin(&mut self, unresolved: Vec<Unresolved>, registry: &Registry) {
        self.end();
        let places = Arc::new(Semaphore::new(AT_ONCE));
        for endpoint in unresolved {
            self.0.spawn(keep_looking_up(endpoint, registry.clone(), Arc::clone(&places)));
        }
    }

    /// Looks up nothing any more.
    pub(crate) fn end(&mut self) {
        // The tasks run on this thread, so none of them is in the middle of anything.
        self.0 = JoinSet::new();
    }
}

async fn keep_looking_up(unresolved: Unresolved, registry: Registry, places: Arc<Semaphore>) {
    let Unresolved { replica, endpoint } = unresolved;
    let mut ticks = ticks();
    loop {
        ticks.tick().await;
        let Ok(_place) = places.acquire().await else { return };
        let found = timeout(ANSWER, tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port))).await;
        let found: Vec<SocketAddr> = match found {
            Ok(Ok(addresses)) => addresses.collect(),
            Ok(Err(_)) | Err(_) => Vec::new(),
        };
        registry.update(&replica, |known| found_at(known, &endpoint, &found, &registry));
    }
}

/// When to look up. One that came late, because others did not end, moves the next: nothing is made up for.
fn ticks() -> Interval {
    let mut ticks = interval(LOOK_UP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// What a look-up changes. An address that is still among those that the name has is kept, however they are ordered; what
/// cannot be looked up any more stays where it was.
fn found_at(
    known: &mut Replica,
    endpoint: &EndpointSettings,
    found: &[SocketAddr],
    registry: &Registry,
) -> Change {
    let present = known.instance.as_ref().map(|instance| instance.address);
    match (present, found.first()) {
        (Some(present), _) if found.contains(&present) => Change::None,
        (_, Some(address)) => {
            put(known, endpoint, *address, registry);
            Change::Made
        }
        (Some(_), None) => Change::None,
        (None, None) => {
            let reason = Some(format!("{} cannot be looked up", endpoint.host));
            if known.reason == reason {
                return Change::None;
            }
            known.reason = reason;
            Change::Made
        }
    }
}

#[cfg(test)]
mod tests {
    use configuration::Scheme;
    use jiff::Timestamp;
    use service_registry::Verdict;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn look_ups_that_could_not_be_made_are_not_made_up_for() {
        let mut ticks = ticks();
        ticks.tick().await;
        tokio::time::advance(LOOK_UP * 10).await;
        ticks.tick().await;
        let began = tokio::time::Instant::now();
        ticks.tick().await;
        assert_eq!(began.elapsed(), LOOK_UP);
    }

    #[test]
    fn an_address_that_the_name_still_has_is_kept() {
        let registry = Registry::default();
        let endpoint = EndpointSettings {
            scheme: Scheme::Http,
            host: "a.example".to_owned(),
            port: 80,
            version: "1.0.0".into(),
            weight: 1,
            priority: 0,
            zone: None,
            metadata: Default::default(),
        };
        let mut known = Replica::stopped("a/0".parse().unwrap(), Timestamp::UNIX_EPOCH);
        let addresses = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"].map(|text| text.parse().unwrap());
        let [one, two, three] = addresses;
        let mut look = |found: &[SocketAddr]| {
            let change = found_at(&mut known, &endpoint, found, &registry);
            known.health.verdict = Verdict::Healthy;
            (change, known.instance.as_ref().map(|instance| instance.address), known.reason.clone())
        };
        let unknown = Some("a.example cannot be looked up".to_owned());
        assert_eq!(look(&[]), (Change::Made, None, unknown.clone()));
        assert_eq!(look(&[]), (Change::None, None, unknown));
        assert_eq!(look(&[one, two]), (Change::Made, Some(one), None));
        assert_eq!(look(&[two, one]), (Change::None, Some(one), None));
        assert_eq!(look(&[]), (Change::None, Some(one), None));
        assert_eq!(look(&[two, three]), (Change::Made, Some(two), None));
    }
}
