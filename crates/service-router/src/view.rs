//! One service as one worker sees it: its endpoints, its policy, its limits.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use observability::ServiceShard;
use service_registry::{Answered, Instance, Replica, Service, Side, Split, Tally};
use tokio::time::Instant;
use types::ServiceName;

use crate::SuspicionKind;
use crate::balance::{self, Balancer, Loads, Request, Target};
use crate::budget::RetryBudget;
use crate::circuit::Circuit;
use crate::endpoint::{Endpoint, Pending};
use crate::peak_ewma::{FIRST_ESTIMATE, median};
use crate::policy::RouterPolicy;
use crate::suspicion::Suspicions;
use crate::worker::ServicePlan;

/// A service on one worker.
pub struct ServiceView {
    pub(crate) name: ServiceName,
    /// A copy of this worker's own, so that calls do not count their references where other workers do.
    pub(crate) policy: RefCell<Rc<RouterPolicy>>,
    /// What it is a copy of.
    given: RefCell<Arc<RouterPolicy>>,
    pub(crate) circuit: RefCell<Arc<Circuit>>,
    pub(crate) shard: Arc<ServiceShard>,
    pub(crate) budget: RetryBudget,
    /// This view's own, so that calls do not count their references where other workers do.
    suspicions: Suspicions,
    endpoints: RefCell<Endpoints>,
    service: RefCell<Option<Arc<Service>>>,
}

/// The endpoints of a snapshot, and how one of them is chosen. Both have the same order.
#[derive(Default)]
struct Endpoints {
    list: Vec<Rc<Endpoint>>,
    balancer: Option<Balancer>,
    /// Labels and what versions are known by, all that there ever were: a call keeps the number of the version that it asks for over all its tries.
    versions: Vec<String>,
    /// Where this worker counts, while one version takes the place of another.
    tallies: Option<Tallies>,
}

/// What one worker counts of both sides of a split.
struct Tallies {
    /// Whose they are.
    answered: Arc<Answered>,
    target: Arc<Tally>,
    stable: Arc<Tally>,
}

impl Tallies {
    /// Those of a split: the ones that there are, where they are its own.
    fn of(split: &Split, known: Option<Self>) -> Self {
        known.filter(|known| Arc::ptr_eq(&known.answered, &split.answered)).unwrap_or_else(|| Self {
            target: split.answered.begin(Side::Target),
            stable: split.answered.begin(Side::Stable),
            answered: Arc::clone(&split.answered),
        })
    }

    fn side(&self, side: Side) -> &Arc<Tally> {
        match side {
            Side::Target => &self.target,
            Side::Stable => &self.stable,
        }
    }
}

/// Endpoints that a call leaves out.
#[derive(Default)]
pub(crate) struct Excluded {
    /// Failed for this call: never again.
    pub(crate) tried: Vec<u64>,
    /// A connection to them failed that says nothing of them, or they declined: rather another, else once more.
    pub(crate) rather_not: Vec<u64>,
}

/// What a pick looks at.
struct Candidates<'a> {
    endpoints: &'a [Rc<Endpoint>],
    excluded: &'a Excluded,
    avoid: bool,
    now: Instant,
}

impl Loads for Candidates<'_> {
    fn eligible(&self, index: usize) -> bool {
        let endpoint = &self.endpoints[index];
        let incarnation = endpoint.instance.incarnation;
        endpoint.trusted()
            && !self.excluded.tried.contains(&incarnation)
            && !(self.avoid && self.excluded.rather_not.contains(&incarnation))
    }

    fn load(&self, index: usize) -> f64 {
        self.endpoints[index].load(self.now)
    }

    fn pending(&self, index: usize) -> u32 {
        self.endpoints[index].pending()
    }
}

impl ServiceView {
    /// The view of the worker of this number.
    pub(crate) fn new(service: &ServicePlan, worker: usize, suspicions: Suspicions) -> Self {
        Self {
            suspicions,
            name: service.name.clone(),
            policy: RefCell::new(Rc::new(RouterPolicy::clone(&service.policy))),
            given: RefCell::new(Arc::clone(&service.policy)),
            circuit: RefCell::new(Arc::clone(&service.circuit)),
            shard: Arc::clone(service.series.shard(worker)),
            budget: RetryBudget::new(service.series.workers(), Instant::now()),
            endpoints: RefCell::default(),
            service: RefCell::default(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &ServiceName {
        &self.name
    }

    /// Takes another policy; connections and estimates stay.
    pub(crate) fn set_policy(&self, policy: &Arc<RouterPolicy>, circuit: &Arc<Circuit>) {
        *self.circuit.borrow_mut() = Arc::clone(circuit);
        if Arc::ptr_eq(&self.given.borrow(), policy) {
            return;
        }
        *self.policy.borrow_mut() = Rc::new(RouterPolicy::clone(policy));
        *self.given.borrow_mut() = Arc::clone(policy);
        let service = self.service.borrow_mut().take();
        if let Some(service) = service {
            self.follow(&service, Instant::now());
        }
    }

    /// From the next selection on, only what this snapshot says may serve. Endpoints that stay keep their connections and
    /// estimates.
    pub(crate) fn follow(&self, service: &Arc<Service>, now: Instant) {
        if self.service.borrow().as_ref().is_some_and(|known| Arc::ptr_eq(known, service)) {
            return;
        }
        let policy = Rc::clone(&self.policy.borrow());
        let mut endpoints = self.endpoints.borrow_mut();
        let mut versions = std::mem::take(&mut endpoints.versions);
        let (split, tallies) = (service.split.as_ref(), endpoints.tallies.take());
        let tallies = split.map(|split| Tallies::of(split, tallies));
        // A new endpoint begins where the others are, so that it is neither flooded nor starved; and so does one that was not
        // healthy, of which nothing was measured for a while.
        let healthy = endpoints.list.iter().filter(|endpoint| endpoint.healthy.get());
        let estimates = healthy.map(|endpoint| endpoint.latency.latency(now));
        let estimate = median(estimates).map_or(FIRST_ESTIMATE, Duration::from_secs_f64);
        let known: HashMap<u64, &Rc<Endpoint>> =
            endpoints.list.iter().map(|endpoint| (endpoint.instance.incarnation, endpoint)).collect();
        let (mut list, mut targets) = (Vec::new(), Vec::new());
        let mut number_of = |version: &str| {
            let known = versions.iter().position(|known| known == version);
            let number = known.unwrap_or_else(|| {
                versions.push(version.to_owned());
                versions.len() - 1
            });
            u32::try_from(number).unwrap_or(u32::MAX)
        };
        let settings = policy.balancing.settings(&mut number_of);
        for replica in &service.replicas {
            let healthy = replica.selectable().is_ok();
            // How many are not healthy decides how much the next priority takes, and whether there is panic.
            let counts = healthy || replica.lacks_health_alone();
            let Some(instance) = replica.instance.as_ref().filter(|_| counts) else { continue };
            let answered = replica.health.answered;
            let endpoint = match known.get(&instance.incarnation) {
                Some(endpoint) => {
                    endpoint.answered.set(answered);
                    if !endpoint.healthy.replace(healthy) && healthy {
                        endpoint.latency.begin_anew(estimate, now);
                    }
                    Rc::clone(endpoint)
                }
                None => Rc::new(Endpoint::new(Arc::clone(instance), estimate, healthy, answered, now)),
            };
            let side = split.map(|split| split.side(&instance.version));
            endpoint.tally_with(tallies.as_ref().zip(side).map(|(tallies, side)| tallies.side(side)));
            targets.push(Target {
                key: stable_hash(instance.identity.as_bytes()),
                weight: replica.weight,
                priority: replica.priority,
                version: number_of(instance.version.label()),
                id: number_of(instance.version.id()),
                apart: side == Some(Side::Target),
                healthy,
                since: instance.served_first.get().copied().unwrap_or(now),
            });
            list.push(endpoint);
        }
        let settings = balance::Settings { apart: split.map(|split| split.percent), ..settings };
        let balancer = Balancer::new(&settings, &targets, endpoints.balancer.as_ref());
        *endpoints = Endpoints { list, balancer: Some(balancer), versions, tallies };
        drop(endpoints);
        *self.service.borrow_mut() = Some(Arc::clone(service));
    }

    /// An endpoint for a call, chosen by the service's policy among those that may serve.
    pub(crate) fn select(
        &self,
        request: &Request,
        excluded: &Excluded,
        random: &mut fastrand::Rng,
        now: Instant,
    ) -> Option<Rc<Endpoint>> {
        let endpoints = self.endpoints.borrow();
        let balancer = endpoints.balancer.as_ref()?;
        let mut pick = |avoid| {
            let candidates = Candidates { endpoints: &endpoints.list, excluded, avoid, now };
            balancer.pick(&candidates, request, random, now)
        };
        let found = pick(true).or_else(|| if excluded.rather_not.is_empty() { None } else { pick(false) });
        found.map(|index| Rc::clone(&endpoints.list[index]))
    }

    /// Whether [`Self::select`] would find one. Nobody's turn goes by.
    pub(crate) fn has_candidate(&self, request: &Request, excluded: &Excluded, now: Instant) -> bool {
        let endpoints = self.endpoints.borrow();
        let candidates = Candidates { endpoints: &endpoints.list, excluded, avoid: false, now };
        endpoints.balancer.as_ref().is_some_and(|balancer| balancer.reaches(&candidates, request))
    }

    /// The number of a version that a call asks for, by its label or by what it is known by; one that nobody has is none that could be selected.
    pub fn version(&self, version: &[u8]) -> u32 {
        let endpoints = self.endpoints.borrow();
        let place = endpoints.versions.iter().position(|known| known.as_bytes() == version);
        place.and_then(|place| u32::try_from(place).ok()).unwrap_or(u32::MAX)
    }

    /// What a call usually costs: the latency of the middle endpoint without penalties, times its calls and one more. Those that
    /// are not healthy count only where no other is.
    pub(crate) fn usual_load(&self, now: Instant) -> f64 {
        let endpoints = self.endpoints.borrow();
        let load =
            |endpoint: &Rc<Endpoint>| endpoint.latency.latency(now) * f64::from(endpoint.pending() + 1);
        let healthy = endpoints.list.iter().filter(|endpoint| endpoint.healthy.get());
        let usual = median(healthy.map(load)).or_else(|| median(endpoints.list.iter().map(load)));
        usual.unwrap_or_default()
    }

    /// Counts a failed call against the replica, and tells the health owner when there were too many in a row.
    pub(crate) fn count_failure(&self, pending: &Pending, now: Instant) {
        let endpoint = pending.endpoint();
        endpoint.latency.fail(self.usual_load(now), now);
        let (in_a_row, limit) = (pending.failed(), self.policy.borrow().failures_in_a_row);
        // A probe decides whatever the limit is.
        let probed = in_a_row == u32::MAX;
        let enough = probed || (limit > 0 && in_a_row >= limit);
        let heard = enough && self.suspicions.report(endpoint, SuspicionKind::Failing);
        if probed && !heard {
            endpoint.instance.outcomes.probe_again();
        }
    }

    /// Closes connections that nobody used since the call before the last, and every idle one when one is waited for.
    pub(crate) fn prune(&self) {
        if self.circuit.borrow().is_awaited() {
            while self.close_idle() {}
        }
        self.endpoints.borrow().list.iter().for_each(|endpoint| endpoint.prune());
    }

    /// Closes an idle connection, where this worker has one; whether it had.
    pub(crate) fn close_idle(&self) -> bool {
        self.endpoints.borrow().list.iter().any(|endpoint| endpoint.close_idle())
    }

    /// Its endpoints in the order of the snapshot.
    #[cfg(test)]
    pub(crate) fn endpoints(&self) -> Vec<Rc<Endpoint>> {
        self.endpoints.borrow().list.clone()
    }

    /// Why nothing can be selected, in the words of the facts.
    pub(crate) fn why_none(&self) -> String {
        let service = self.service.borrow();
        let Some(service) = service.as_ref() else { return format!("{} is not known yet", self.name) };
        if service.replicas.is_empty() {
            return match service.desired {
                0 => format!("{} has no replicas: it is scaled to 0", service.name),
                desired => format!("{} has no replicas, and is to have {desired}", service.name),
            };
        }
        let endpoints = self.endpoints.borrow();
        let trusted = |instance: &Instance| {
            let same = |endpoint: &&Rc<Endpoint>| endpoint.instance.incarnation == instance.incarnation;
            endpoints.list.iter().find(same).is_none_or(|endpoint| endpoint.trusted())
        };
        let split = service.split.as_ref().filter(|split| split.percent == 0);
        let has_no_part =
            |instance: &Instance| split.is_some_and(|split| split.side(&instance.version) == Side::Target);
        let fact = |replica: &Replica| match replica.selectable() {
            Ok(instance) if trusted(instance) && has_no_part(instance) => {
                format!("{} was tried, or is of a version that only those get who name it", replica.id)
            }
            Ok(instance) if trusted(instance) => {
                format!("{} was tried, or is not of the version that was asked for", replica.id)
            }
            Ok(_) => format!("{} is being checked after a failed call", replica.id),
            Err(fact) => format!("{} is {fact}", replica.id),
        };
        service.replicas.iter().map(fact).collect::<Vec<_>>().join(", ")
    }
}

/// FNV-1a: the same everywhere and always, and short.
pub fn stable_hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
