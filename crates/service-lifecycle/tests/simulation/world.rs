//! One world: what is in it, and its ages — it begins, everything goes wrong, `up` dies perhaps and the next one goes on, everything is
//! calm again, it ends.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use service_lifecycle::rollout::{Plan, Strategy};
use service_lifecycle::{Found, Policy, Terms, Wanted};
use service_registry::{Registry, Snapshot, Version};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use types::ServiceName;

use crate::checks;
use crate::dice::Dice;
use crate::operator::Operator;
use crate::processes::{Books, Faked};
use crate::up::Up;

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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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
    /// That of the `up` that runs.
    registry: Mutex<Registry>,
    pub(crate) faults: Faults,
    policy: Mutex<Policy>,
    pub(crate) qualities: BTreeMap<String, Quality>,
    books: Mutex<Books>,
    /// What an `up` that has died has left.
    pub(crate) left: Mutex<BTreeMap<u32, Faked>>,
    /// What goes on in the `up` that runs, beside its fleet, and what goes on whether one runs or not.
    beside: Mutex<JoinSet<()>>,
    outside: Mutex<JoinSet<()>>,
    /// Whether nothing goes wrong any more.
    calm: AtomicBool,
    seed: u64,
    log: Mutex<Vec<String>>,
    findings: Mutex<Vec<String>>,
    began: Instant,
}

pub(crate) fn service() -> ServiceName {
    "vrf".parse().unwrap()
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let policy = policy(&Dice::new(seed, "policy"));
        Self {
            registry: Mutex::default(),
            faults: faults(&mut random),
            policy: Mutex::new(policy),
            qualities: qualities(&mut random),
            books: Mutex::default(),
            left: Mutex::default(),
            beside: Mutex::default(),
            outside: Mutex::default(),
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
        let world = Arc::new(Self::new(seed));
        world.note(format!("{:?} {:?} {:?}", world.faults, world.qualities, world.policy()));
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
        let terms = Terms { policy: self.policy(), plan };
        let mut up = Up::begin(&self, 0, &terms, "1".into(), Found::default());
        let mut operator = Operator::new(&self, &up.asked, terms);
        operator.act().await;
        for number in 1..=self.dice("deaths").pick(&[0, 0, 1, 2]) {
            let (stable, found) = up.dies(&self, &mut operator).await;
            up = Up::begin(&self, number, operator.terms(), stable, found);
            operator.goes_on_with(&up.asked);
            operator.act().await;
        }
        if self.dice("calm").chance(0.7) {
            self.note("calm".into());
            self.calm.store(true, Ordering::Relaxed);
            operator.rest().await;
            checks::converged(&self, &up.asked, operator.wanted()).await;
            operator.bring_in_what_is_good().await;
            checks::converged(&self, &up.asked, operator.wanted()).await;
        }
        self.end(up).await;
    }

    /// Everything is told to go, at once perhaps.
    async fn end(&self, up: Up) {
        let Up { stop, fleet, .. } = up;
        self.note("stop".into());
        self.books().stopping = true;
        stop.send_replace(Wanted::Gone);
        let dice = self.dice("stop");
        if dice.chance(0.3) {
            sleep(dice.millis(0..20_000)).await;
            self.note("stop at once".into());
            self.books().at_once = true;
            stop.send_replace(Wanted::GoneAtOnce);
        }
        // A launch that is on its way, the drain, the grace, and the end of a process that was killed.
        let bound = LONGEST_STOP + Duration::from_secs(10);
        match timeout(bound, fleet).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.find("1: the stop ends", &error.to_string()),
            Err(_) => self.find("1: the stop ends", &format!("not within {bound:?}")),
        }
        if !self.books().running.is_empty() {
            self.find("1: no process is left", "there is one after the stop");
        }
        // So that what happened last is looked at too.
        sleep(Duration::from_millis(1)).await;
        self.end_beside().await;
        self.join(&self.outside).await;
    }

    /// Ends what goes on in an `up`.
    pub(crate) async fn end_beside(&self) {
        self.join(&self.beside).await;
    }

    async fn join(&self, tasks: &Mutex<JoinSet<()>>) {
        let mut tasks = std::mem::take(&mut *tasks.lock().unwrap());
        tasks.abort_all();
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended
                && error.is_panic()
            {
                self.find("0: nobody panics", &error.to_string());
            }
        }
    }

    /// Goes on as long as the `up` that runs.
    pub(crate) fn spawn_beside(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.beside.lock().unwrap().spawn(task);
    }

    /// Goes on to its end.
    pub(crate) fn spawn_outside(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.outside.lock().unwrap().spawn(task);
    }

    pub(crate) fn registry(&self) -> Registry {
        self.registry.lock().unwrap().clone()
    }

    /// What another `up` knows is nothing of the one before.
    pub(crate) fn begin_with(&self, registry: Registry) {
        *self.registry.lock().unwrap() = registry;
    }

    /// What the configuration says of a replica's life.
    pub(crate) fn policy(&self) -> Policy {
        self.policy.lock().unwrap().clone()
    }

    pub(crate) fn set_policy(&self, policy: Policy) {
        *self.policy.lock().unwrap() = policy;
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
        self.registry().snapshot()
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

/// The longest drain and grace of all policies.
const LONGEST_STOP: Duration = Duration::from_secs(40);

pub(crate) fn policy(dice: &Dice) -> Policy {
    Policy {
        start_timeout: Duration::from_secs(dice.between(20..61)),
        drain_timeout: Duration::from_secs(dice.between(8..31)),
        grace: Duration::from_secs(dice.between(2..11)),
        restart_min: dice.millis(50..400),
        restart_max: Duration::from_secs(dice.between(10..31)),
        restart_reset: Duration::from_secs(60),
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
