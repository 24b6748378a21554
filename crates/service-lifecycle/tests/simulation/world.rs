//! One world: what is in it, and its four ages — it begins, everything goes wrong, everything is calm again, it ends.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use service_lifecycle::rollout::{Plan, Strategy};
use service_lifecycle::{Fleet, FleetHandle, Policy, ReplicasOf, Rollouts, Terms, Wanted};
use service_registry::{Registry, Service, Snapshot, Version};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use types::ServiceName;

use crate::dice::Dice;
use crate::operator::Operator;
use crate::processes::{Books, Processes};
use crate::{authority, checks, gateway};

/// How a version turns out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quality {
    Good,
    /// Its processes end by themselves now and then.
    Flaky,
    /// Its calls fail.
    AnswersErrors,
    /// Its processes end before they listen.
    Crashes,
    /// Its processes never listen.
    Hangs,
    /// It is not let into the mesh.
    Refused,
    /// It cannot be launched.
    Missing,
    /// It never passes a check.
    Unwell,
}

impl Quality {
    /// Whether it can come to serve.
    pub(crate) fn serves(self) -> bool {
        matches!(self, Self::Good | Self::Flaky | Self::AnswersErrors)
    }
}

/// What may go wrong in this world.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    pub(crate) crashes: bool,
    pub(crate) hangs: bool,
    pub(crate) refusals: bool,
    pub(crate) stubborn: bool,
    pub(crate) partitions: bool,
    pub(crate) expiry: bool,
    pub(crate) hung_workers: bool,
    pub(crate) jumps: bool,
}

pub(crate) struct World {
    pub(crate) registry: Registry,
    pub(crate) faults: Faults,
    pub(crate) policy: Policy,
    pub(crate) qualities: BTreeMap<String, Quality>,
    pub(crate) books: Mutex<Books>,
    /// Whether nothing goes wrong any more.
    calm: AtomicBool,
    seed: u64,
    log: Mutex<Vec<String>>,
    findings: Mutex<Vec<String>>,
    began: Instant,
}

/// The fleet of the world, as those who ask it have it.
pub(crate) struct Asked {
    pub(crate) fleet: FleetHandle,
    pub(crate) status: watch::Receiver<Rollouts>,
}

pub(crate) fn service() -> ServiceName {
    "vrf".parse().unwrap()
}

impl World {
    fn new(seed: u64, replicas: u32) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let service = Service {
            name: service(),
            version: "1".into(),
            split: None,
            required: true,
            desired: replicas as usize,
            replicas: Vec::new(),
        };
        let policy = Policy {
            start_timeout: Duration::from_secs(random.u64(20..=60)),
            drain_timeout: Duration::from_secs(random.u64(8..=30)),
            grace: Duration::from_secs(random.u64(2..=10)),
            restart_min: Duration::from_millis(100),
            restart_max: Duration::from_secs(30),
            restart_reset: Duration::from_secs(60),
        };
        Self {
            registry: Registry::new(vec![service]),
            faults: faults(&mut random),
            policy,
            qualities: qualities(&mut random),
            books: Mutex::default(),
            calm: AtomicBool::new(false),
            seed,
            log: Mutex::default(),
            findings: Mutex::default(),
            began: Instant::now(),
        }
    }

    /// Its whole life; gives what has happened, and what should not have.
    pub(crate) async fn run(seed: u64) -> (Vec<String>, Vec<String>) {
        let replicas = 1 + (seed % 4) as u32;
        let world = Arc::new(Self::new(seed, replicas));
        world.note(format!("{:?} {:?} {:?}", world.faults, world.qualities, world.policy));
        let day = Duration::from_secs(24 * 3600);
        if timeout(day, world.clone().live(replicas)).await.is_err() {
            world.find("it ends", "a day was not enough");
        }
        let findings = std::mem::take(&mut *world.findings.lock().unwrap());
        (std::mem::take(&mut *world.log.lock().unwrap()), findings)
    }

    async fn live(self: Arc<Self>, replicas: u32) {
        let plan = Plan {
            replicas,
            max_surge: 1,
            max_unavailable: 0,
            min_ready: Duration::from_secs(2),
            progress_deadline: Duration::from_secs(300),
            strategy: Strategy::Rolling,
        };
        let terms = Terms { policy: self.policy.clone(), plan };
        let launcher = Arc::new(Processes::new(&self));
        let of = ReplicasOf { service: service(), node: None, labels: None, version: "1".into() };
        let (stop, stopping) = watch::channel(Wanted::Running);
        let (fleet, end) = FleetHandle::new("1".into(), watch::Sender::new(0));
        let seed = fastrand::Rng::with_seed(self.seed);
        let run = Fleet::new(of, launcher, terms.clone(), self.registry.clone(), seed);
        let status = fleet.watch_rollouts();
        let asked = Arc::new(Asked { fleet, status });
        tokio::spawn(checks::Checks::new(&self, &asked).run());
        tokio::spawn(authority::check_health(Arc::clone(&self)));
        tokio::spawn(authority::revoke(Arc::clone(&self)));
        gateway::begin(&self);
        let fleet = tokio::spawn(run.run(stopping, end));
        let mut operator = Operator::new(&self, &asked, terms);
        operator.act().await;
        if self.dice("calm").chance(0.7) {
            self.note("calm".into());
            self.calm.store(true, Ordering::Relaxed);
            operator.rest().await;
            checks::converged(&self, &asked, operator.wanted()).await;
        }
        self.end(&stop, fleet).await;
    }

    /// Everything is told to go, at once perhaps.
    async fn end(&self, stop: &watch::Sender<Wanted>, fleet: JoinHandle<()>) {
        let policy = &self.policy;
        self.note("stop".into());
        self.books.lock().unwrap().stopping = true;
        stop.send_replace(Wanted::Gone);
        let dice = self.dice("stop");
        if dice.chance(0.3) {
            sleep(dice.millis(0..20_000)).await;
            self.note("stop at once".into());
            self.books.lock().unwrap().at_once = true;
            stop.send_replace(Wanted::GoneAtOnce);
        }
        // A launch that is on its way, the drain, the grace, and the end of a process that was killed.
        let bound = policy.drain_timeout + policy.grace + Duration::from_secs(10);
        match timeout(bound, fleet).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.find("1: the stop ends", &error.to_string()),
            Err(_) => self.find("1: the stop ends", &format!("not within {bound:?}")),
        }
        let books = self.books.lock().unwrap();
        if !books.running.is_empty() {
            drop(books);
            self.find("1: no process is left", "there is one after the stop");
        }
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    /// Dice that only whoever has this name throws.
    pub(crate) fn dice(&self, name: &str) -> Dice {
        Dice::new(self.seed, name)
    }

    /// Whether something that goes wrong in this world goes wrong now.
    pub(crate) fn strikes(&self, dice: &Dice, fault: bool, chance: f64) -> bool {
        dice.chance(chance) && fault && !self.is_calm()
    }

    pub(crate) fn quality(&self, version: &Version) -> Quality {
        self.qualities[version.label()]
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.registry.snapshot()
    }

    pub(crate) fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap()
    }

    pub(crate) fn note(&self, what: String) {
        self.log.lock().unwrap().push(format!("{:>10.3} {what}", self.began.elapsed().as_secs_f64()));
    }

    /// What should not be has happened.
    pub(crate) fn find(&self, check: &str, what: &str) {
        self.note(format!("!!! {check}: {what}"));
        let at = self.began.elapsed().as_secs_f64();
        self.findings.lock().unwrap().push(format!("at {at:.3}, {check}: {what}"));
    }
}

fn faults(random: &mut fastrand::Rng) -> Faults {
    if random.f64() < 0.3 {
        return Faults::default();
    }
    let mut may = || random.f64() < 0.4;
    Faults {
        crashes: may(),
        hangs: may(),
        refusals: may(),
        stubborn: may(),
        partitions: may(),
        expiry: may(),
        hung_workers: may(),
        jumps: may(),
    }
}

fn qualities(random: &mut fastrand::Rng) -> BTreeMap<String, Quality> {
    use Quality::{AnswersErrors, Crashes, Flaky, Good, Hangs, Missing, Refused, Unwell};
    let all = [Good, Good, Good, Good, Flaky, AnswersErrors, Crashes, Hangs, Refused, Missing, Unwell];
    let mut qualities: BTreeMap<_, _> =
        (2..=6).map(|version: u32| (version.to_string(), all[random.usize(0..all.len())])).collect();
    qualities.insert("1".to_owned(), if random.f64() < 0.8 { Good } else { Flaky });
    qualities
}
