//! What holds whatever happens.
//!
//! 1. No replica has two processes at once, none is without a driver, and after a stop none is left (`processes`, `world`).
//! 2. Every change of a state is one that the machine allows, an event says the same, and no event is missing.
//! 3. A rolling rollout or a restart that nothing disturbs never leaves fewer selectable, and never makes more, than it may.
//! 4. A replica of the stable version does not go while a canary or a preview is judged, or is given up; and a canary of which too
//!    few calls are known does not go on by itself.
//! 5. No call begins on a process that was told to end, and none is cut before the drain timeout (`gateway`, `processes`).
//! 6. Once nothing goes wrong any more there are as many as are wanted, of one version, and all of them serve.
//! 7. A replica that ends again and again is started ever less often (`processes`).
//! 8. A good version is not given up where nothing has gone wrong and nobody has meddled, and in the end one is rolled out (`operator`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use service_lifecycle::rollout::{Failure, Plan, Stage, Strategy};
use service_lifecycle::{Event, RolloutStatus, Rollouts, transition};
use service_registry::{LifecycleState, Service, Subject, What};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::up::Asked;
use crate::world::{Faults, Quality, World, service};

/// By then what was left over from before is in order again.
const CALM: Duration = Duration::from_secs(1_200);

/// A rollout that nothing has disturbed yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    trouble: u64,
    fewest: usize,
    most: usize,
}

pub(crate) struct Checks {
    world: Arc<World>,
    status: watch::Receiver<Rollouts>,
    states: BTreeMap<u32, LifecycleState>,
    /// The number of the last event.
    last: u64,
    known: Option<RolloutStatus>,
    /// When the new version was taking the place of the old one for the last time.
    filled: Option<Instant>,
    /// The version of the rollout that is on its way.
    leads_to: Option<service_registry::Version>,
    /// How often the operator had scaled when the rollout began.
    scaled: u64,
    /// When the rollout began that is on its way, and what the operator had done and what had gone wrong by then.
    begun: Option<(Timestamp, u64, u64)>,
    /// Calls of the new version, and what the operator had done, when the stage began.
    calls: u64,
    acted: u64,
}

impl World {
    /// A rolling rollout begins; where all is well, it is to stay so.
    pub(crate) fn open_window(&self, plan: &Plan) {
        let snapshot = self.snapshot();
        let known = snapshot.service(&service()).unwrap();
        let replicas = plan.replicas as usize;
        let is_well = known.replicas.len() == replicas && known.selectable().count() == replicas;
        let mut books = self.books();
        let fewest = replicas.saturating_sub(plan.max_unavailable as usize);
        let most = replicas + plan.max_surge as usize;
        books.window = is_well.then_some(Window { trouble: books.trouble, fewest, most });
    }
}

impl Checks {
    pub(crate) fn new(world: &Arc<World>, asked: &Arc<Asked>) -> Self {
        let books = world.books();
        let (calls, acted) = (books.target_calls, books.acted);
        drop(books);
        Self {
            world: Arc::clone(world),
            status: asked.status.clone(),
            states: BTreeMap::new(),
            last: 0,
            known: None,
            filled: None,
            leads_to: None,
            scaled: 0,
            begun: None,
            calls,
            acted,
        }
    }

    /// Looks at everything that is published.
    pub(crate) async fn run(mut self) {
        let mut snapshots = self.world.registry().subscribe();
        let mut events = self.world.registry().events().last();
        let mut is_told = true;
        loop {
            self.check_events();
            let snapshot = snapshots.borrow_and_update().clone();
            let known = snapshot.service(&service()).unwrap();
            self.check_states(known);
            self.check_window(known);
            self.check_stage();
            let is_open = tokio::select! {
                biased;
                changed = events.changed() => changed.is_ok(),
                changed = snapshots.changed() => changed.is_ok(),
                // Nobody tells of rollouts any more once everything stops, and there is more to see.
                changed = self.status.changed(), if is_told => {
                    is_told = changed.is_ok();
                    true
                }
            };
            if !is_open {
                return;
            }
        }
    }

    fn check_events(&mut self) {
        for event in self.world.registry().events().after(self.last) {
            let cause = event.cause.as_deref().unwrap_or("-");
            self.world.note(format!("{:?} {:?} ({cause}; {})", event.subject, event.what, event.actor));
            if event.number != self.last + 1 {
                self.world.find("2: no event is missing", &event.number.to_string());
            }
            self.last = event.number;
            match (&event.subject, &event.what) {
                (Subject::Replica(id), What::State { from, to }) => {
                    self.take_transition(id.ordinal, *from, *to);
                    if *to == LifecycleState::Draining {
                        self.check_leaving(id.ordinal, cause);
                    }
                }
                (_, What::Rollout(told)) => self.follow_rollout(told),
                _ => {}
            }
        }
    }

    /// What the service runs, by what is told of its rollouts; a restart leads to no other version.
    fn follow_rollout(&mut self, told: &str) {
        // One that was on its way when `up` died goes on, as is told with both versions too.
        let versions = told.split_once(" to ").filter(|(from, _)| self.world.qualities.contains_key(*from));
        if let Some((_, to)) = versions {
            let to = to.split_once(' ').map_or(to, |(to, _)| to);
            self.leads_to = Some(to.into());
        } else if told == "done" {
            let done = self.leads_to.take();
            let mut books = self.world.books();
            books.stable = done.or(books.stable.take());
        } else if told.starts_with("reverted") {
            self.leads_to = None;
        }
    }

    fn take_transition(&mut self, ordinal: u32, from: LifecycleState, to: LifecycleState) {
        let world = &self.world;
        let before = self.states.insert(ordinal, to).unwrap_or(LifecycleState::Stopped);
        let events = [Event::Launch, Event::Ready, Event::Failed, Event::Drain, Event::Done, Event::Lost];
        // That somebody who has stopped already is drained is told too.
        let is_told = (from, to) == (LifecycleState::Stopped, LifecycleState::Stopped);
        let is_allowed = is_told || events.into_iter().any(|event| transition(from, event) == Ok(to));
        if before != from || !is_allowed {
            world
                .find("2: transitions", &format!("vrf/{ordinal} was {before}, and went from {from} to {to}"));
        }
        let mut books = world.books();
        match to {
            LifecycleState::Starting => {}
            LifecycleState::Ready => {
                books.ready.insert(ordinal, Instant::now());
            }
            LifecycleState::Draining => {
                let timeout = world.policy().drain_timeout;
                books.draining.insert(ordinal, (Instant::now(), timeout));
            }
            LifecycleState::Stopped => {
                books.draining.remove(&ordinal);
            }
        }
    }

    fn check_states(&mut self, known: &Service) {
        self.states.retain(|ordinal, _| known.replicas.iter().any(|replica| replica.id.ordinal == *ordinal));
        for replica in &known.replicas {
            let told = self.states.get(&replica.id.ordinal).copied().unwrap_or(LifecycleState::Stopped);
            if told != replica.state {
                let what = format!("{} is {}, and the events say {told}", replica.id, replica.state);
                self.world.find("2: events say the same", &what);
            }
        }
    }

    fn check_window(&self, known: &Service) {
        let books = self.world.books();
        let Some(Window { trouble, fewest, most }) = books.window else { return };
        if trouble != books.trouble || books.stopping {
            return;
        }
        drop(books);
        let (serve, all) = (known.selectable().count(), known.replicas.len());
        if serve < fewest {
            self.world.find("3: no fewer than may be", &format!("{serve} of {fewest} are selectable"));
        }
        if all > most {
            self.world.find("3: no more than may be", &format!("{all} instead of {most}"));
        }
    }

    /// A replica that goes because of a rollout is none of the stable version, unless its place is taken.
    fn check_leaving(&self, ordinal: u32, cause: &str) {
        let status = self.status.borrow().on_its_way.clone();
        let Some(RolloutStatus { from, to, stage, .. }) = status else { return };
        let books = self.world.books();
        let is_judged = !matches!(stage, Stage::Filling | Stage::Over(_));
        let is_stable = books.running.get(&ordinal) == Some(&from);
        // Of a restart, and of what comes after one in its midst, the version alone does not tell which ones are new.
        let is_known = from != to && !books.has_restarted && books.scaled == self.scaled;
        drop(books);
        // Who was told to go a moment ago goes, though the rollout has been given up since.
        let fills = |status: &RolloutStatus| status.stage == Stage::Filling;
        let was_taken = self.known.as_ref().is_some_and(fills) || self.filled == Some(Instant::now());
        if is_judged && is_stable && is_known && !was_taken && cause.starts_with("rollout of") {
            self.world.find("4: the stable version stays", &format!("vrf/{ordinal} leaves in {stage:?}"));
        }
    }

    fn check_stage(&mut self) {
        let status = self.status.borrow_and_update().on_its_way.clone();
        let stage = |status: &Option<RolloutStatus>| status.as_ref().map(|status| status.stage.clone());
        let (before, now) = (stage(&self.known), stage(&status));
        let is_another = before != now;
        if [&before, &now].contains(&&Some(Stage::Filling)) {
            self.filled = Some(Instant::now());
        }
        let books = self.world.books();
        if before.is_none() && now.is_some() {
            // Of a rollout that was found it is not known whether too many were left.
            self.scaled = if self.begun.is_none() && books.ups > 0 { u64::MAX } else { books.scaled };
        }
        let (calls, least) = (books.target_calls - self.calls, books.min_requests);
        let is_by_itself = self.acted == books.acted;
        if is_another {
            (self.calls, self.acted) = (books.target_calls, books.acted);
        }
        drop(books);
        let goes_on = match (&before, &now) {
            (Some(Stage::Step(before)), Some(Stage::Step(now))) => now > before,
            (Some(Stage::Step(_)), Some(Stage::Filling)) => true,
            _ => false,
        };
        // Calls that end at the moment of the change may be counted on either side of it.
        if goes_on && is_by_itself && calls + 3 < least {
            self.world.find("4: too few calls say nothing", &format!("{calls} of {least} from {before:?}"));
        }
        if is_another {
            self.check_given_up(&status);
        }
        if status.is_none() {
            self.world.books().has_restarted = false;
        }
        self.known = status;
    }
}

impl Checks {
    fn check_given_up(&mut self, status: &Option<RolloutStatus>) {
        let Some(RolloutStatus { to, stage, since, .. }) = status else { return };
        let books = self.world.books();
        let (acted, trouble) = (books.acted, books.trouble);
        drop(books);
        let now = (*since, acted, trouble);
        if self.begun.is_none_or(|begun| begun.0 != *since) {
            self.begun = Some(now);
        }
        let is_undisturbed = self.begun == Some(now) && self.world.faults == Faults::default();
        if let Stage::Reverting(why) = stage
            && *why != Failure::Undone
            && is_undisturbed
            && self.world.quality(to) == Quality::Good
        {
            self.world.find("8: what is good is not given up", &format!("{to:?}: {why}"));
        }
    }
}

/// Waits until everything is as it is wanted.
pub(crate) async fn converged(world: &World, asked: &Asked, wanted: usize) {
    let stable = world.books().stable.clone().unwrap_or_else(|| "1".into());
    let is_broken = !world.quality(&stable).serves();
    let is_as_wanted = |known: &Service| {
        let is_of_it = known.selectable().all(|instance| instance.version == stable);
        known.replicas.len() == wanted && known.selectable().count() == wanted && is_of_it
    };
    // One that never comes to serve can be what runs only where nobody was wanted, and then it says so.
    let is_shown = |known: &Service| {
        let mut replicas = known.replicas.iter();
        replicas.all(|replica| replica.crash_loop.is_some() || replica.selectable().is_ok())
    };
    let mut snapshots = world.registry().subscribe();
    let reached = snapshots.wait_for(|snapshot| {
        let known = snapshot.service(&service()).unwrap();
        if is_broken { is_shown(known) } else { is_as_wanted(known) }
    });
    if timeout(CALM, reached).await.is_ok() {
        return;
    }
    let snapshot = world.snapshot();
    let known = snapshot.service(&service()).unwrap();
    let shown: Vec<_> = known
        .replicas
        .iter()
        .map(|replica| {
            let version = replica.instance.as_ref().map(|instance| instance.version.clone());
            (replica.id.ordinal, version, replica.state, replica.reason.clone(), replica.selectable().err())
        })
        .collect();
    let status = asked.status.borrow().on_its_way.clone();
    world.find("6: it converges", &format!("{wanted} of {stable:?} are wanted, {shown:?}; {status:?}"));
}

/// Of how many calls a plan wants to know.
pub(crate) fn least_calls(plan: &Plan) -> u64 {
    match &plan.strategy {
        Strategy::Canary { gate, .. } => gate.min_requests,
        Strategy::Rolling | Strategy::BlueGreen { .. } => 0,
    }
}
