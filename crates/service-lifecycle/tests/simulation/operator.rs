//! The operator: scales, restarts, drains, rolls and steers whenever it may hurt, and in the end puts right what was left so.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use service_lifecycle::rollout::{Gate, Outcome, Plan, Promotion, Step, Strategy};
use service_lifecycle::{Steer, Terms};
use service_registry::{Actor, Version};
use tokio::time::{Instant, advance, sleep, timeout};
use types::ReplicaId;

use crate::checks::least_calls;
use crate::dice::Dice;
use crate::up::Asked;
use crate::world::{Quality, World, policy, service};

/// How long a rollout is waited for, before it is ended by hand.
const PATIENCE: Duration = Duration::from_secs(3_600);

pub(crate) struct Operator {
    world: Arc<World>,
    asked: Arc<Asked>,
    terms: Terms,
    drained: BTreeSet<u32>,
    dice: Dice,
}

impl Operator {
    pub(crate) fn new(world: &Arc<World>, asked: &Arc<Asked>, terms: Terms) -> Self {
        Self {
            world: Arc::clone(world),
            asked: Arc::clone(asked),
            terms,
            drained: BTreeSet::new(),
            dice: world.dice("operator"),
        }
    }

    /// What the configuration says.
    pub(crate) fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Another `up` is asked from now on, which knows nothing of who was drained.
    pub(crate) fn goes_on_with(&mut self, asked: &Arc<Asked>) {
        self.asked = Arc::clone(asked);
        self.drained.clear();
    }

    /// What is to run once there is another `up`; the file may have changed meanwhile.
    pub(crate) fn after_a_death(&mut self, wanted: Version) -> Version {
        if self.dice.chance(0.7) {
            return wanted;
        }
        let wanted = self.dice.between(1..7).to_string();
        self.terms.plan = self.plan();
        self.world.books().min_requests = least_calls(&self.terms.plan);
        self.note(format!("the file says {wanted}: {:?}", self.terms.plan));
        wanted.as_str().into()
    }

    /// How many replicas are wanted.
    pub(crate) fn wanted(&self) -> usize {
        self.terms.plan.replicas as usize
    }

    /// Does something at random, again and again.
    pub(crate) async fn act(&mut self) {
        for _ in 0..self.dice.between(3..16) {
            let longest = self.dice.pick(&[2_000, 30_000, 400_000]);
            sleep(self.dice.millis(1..longest)).await;
            if self.world.strikes(&self.dice, self.world.faults.jumps, 0.15) {
                self.world.note("the machine sleeps".to_owned());
                let asleep = self.dice.millis(1_000..900_000);
                advance(asleep).await;
                self.world.books().jumped = Some(Instant::now());
                self.world.books().trouble += 1;
                sleep(self.dice.millis(1..2_000)).await;
            }
            match self.dice.between(0..100) {
                0..10 => self.scale().await,
                10..15 => self.change_policy().await,
                15..25 => self.restart().await,
                25..35 => self.restart_one().await,
                35..42 => self.drain().await,
                42..75 => self.roll().await,
                _ => self.steer().await,
            }
        }
        sleep(self.dice.millis(0..60_000)).await;
    }

    /// Puts right what only a hand can.
    pub(crate) async fn rest(&mut self) {
        self.note("rests".to_owned());
        for ordinal in std::mem::take(&mut self.drained) {
            self.world.books().excused.insert(ordinal);
            let _gone_by_itself = self.asked.fleet.restart_one(id(ordinal), Actor::Operator).await.is_err();
        }
        let _none = self.asked.fleet.steer(Steer::Resume, Actor::Operator).await.is_err();
        let mut status = self.asked.status.clone();
        for _ in 0..3 {
            if timeout(PATIENCE, status.wait_for(|rollouts| rollouts.on_its_way.is_none())).await.is_ok() {
                return;
            }
            let steer = if self.dice.chance(0.5) { Steer::Promote } else { Steer::Undo };
            self.note(format!("by hand: {steer}"));
            let _over = self.asked.fleet.steer(steer, Actor::Operator).await.is_err();
        }
    }

    /// Rolls out something good, which nothing hinders any more.
    pub(crate) async fn bring_in_what_is_good(&mut self) {
        let before = self.asked.status.borrow().wanted.clone();
        let good =
            |(label, quality): &(&String, &Quality)| **quality == Quality::Good && **label != *before.label();
        let Some((label, _)) = self.world.qualities.iter().find(good) else { return };
        let version: Version = label.as_str().into();
        self.terms.plan = self.plan();
        self.note(format!("roll to what is good, {label}: {:?}", self.terms.plan));
        self.world.books().min_requests = least_calls(&self.terms.plan);
        let (terms, mut status) = (self.terms.clone(), self.asked.status.clone());
        self.asked.fleet.roll(version.clone(), terms, Actor::Operator).await.unwrap();
        // Each step and wait of it may be one for somebody.
        for _ in 0..6 {
            if timeout(PATIENCE, status.wait_for(|rollouts| rollouts.on_its_way.is_none())).await.is_ok() {
                break;
            }
            self.note("promotes what is good".to_owned());
            let _over = self.asked.fleet.steer(Steer::Promote, Actor::Operator).await.is_err();
        }
        let rollouts = status.borrow().clone();
        let is_done = rollouts.ended.back().is_some_and(|ended| ended.outcome == Outcome::Done);
        if rollouts.wanted != version || rollouts.on_its_way.is_some() || !is_done {
            let end = rollouts.ended.back().map(|ended| ended.outcome.clone());
            self.world.find("8: what is good is done", &format!("{:?}, {end:?}", rollouts.on_its_way));
        }
    }

    async fn scale(&mut self) {
        let replicas = if self.dice.chance(0.05) { 0 } else { self.dice.between(1..6) };
        self.note(format!("scale to {replicas}"));
        self.terms.plan.replicas = replicas as u32;
        self.world.books().scaled += 1;
        self.asked.fleet.take(self.terms.clone(), Actor::Operator).await.unwrap();
    }

    async fn change_policy(&mut self) {
        self.terms.policy = policy(&self.dice);
        self.note(format!("another policy: {:?}", self.terms.policy));
        self.world.set_policy(self.terms.policy.clone());
        self.asked.fleet.take(self.terms.clone(), Actor::Operator).await.unwrap();
    }

    async fn restart(&self) {
        let is_first = self.asked.status.borrow().on_its_way.is_none();
        self.note("restart".to_owned());
        if is_first {
            self.world.open_window(&self.terms.plan);
        }
        self.world.books().has_restarted = true;
        let refused = self.asked.fleet.restart(Actor::Operator).await.is_err();
        if is_first && refused {
            self.world.find("a restart begins where nothing is on its way", "it was refused");
        }
    }

    async fn restart_one(&mut self) {
        let replica = self.any();
        self.note(format!("restart {replica}"));
        self.world.books().excused.insert(replica.ordinal);
        if self.asked.fleet.restart_one(replica.clone(), Actor::Operator).await.is_ok() {
            self.world.books().excused.insert(replica.ordinal);
            self.drained.remove(&replica.ordinal);
        }
    }

    async fn drain(&mut self) {
        let replica = self.any();
        self.note(format!("drain {replica}"));
        self.world.books().excused.insert(replica.ordinal);
        if self.asked.fleet.drain(replica.clone(), Actor::Operator).await.is_ok() {
            self.world.books().excused.insert(replica.ordinal);
            self.drained.insert(replica.ordinal);
        }
    }

    async fn roll(&mut self) {
        let version = self.dice.between(1..7).to_string();
        let before = self.asked.status.borrow().on_its_way.clone();
        self.terms.plan = self.plan();
        self.note(format!("roll to {version}: {:?}", self.terms.plan));
        if before.is_none() && self.terms.plan.strategy == Strategy::Rolling {
            self.world.open_window(&self.terms.plan);
        }
        self.world.books().min_requests = least_calls(&self.terms.plan);
        let version = version.as_str().into();
        self.asked.fleet.roll(version, self.terms.clone(), Actor::Operator).await.unwrap();
    }

    async fn steer(&self) {
        let all = [Steer::Pause, Steer::Resume, Steer::Promote, Steer::Promote, Steer::Undo];
        let steer = self.dice.pick(&all);
        self.note(steer.to_string());
        let _none = self.asked.fleet.steer(steer, Actor::Operator).await.is_err();
    }

    /// Whatever else the operator does may take replicas from those that serve.
    fn note(&self, what: String) {
        self.world.note(format!("operator: {what}"));
        let mut books = self.world.books();
        books.trouble += 1;
        books.acted += 1;
    }

    fn any(&self) -> ReplicaId {
        id(self.dice.between(0..6) as u32)
    }

    fn plan(&self) -> Plan {
        let dice = &self.dice;
        let max_surge = dice.between(0..3) as u32;
        let at_least = u64::from(max_surge == 0);
        Plan {
            replicas: self.terms.plan.replicas,
            max_surge,
            max_unavailable: dice.between(at_least..3) as u32,
            min_ready: dice.millis(0..5_000),
            progress_deadline: dice.millis(60_000..600_000),
            strategy: self.strategy(),
        }
    }

    fn strategy(&self) -> Strategy {
        let dice = &self.dice;
        let step = || Step {
            weight: dice.between(1..101) as u8,
            pause: dice.chance(0.85).then(|| dice.millis(1_000..120_000)),
        };
        match dice.between(0..10) {
            0..4 => Strategy::Rolling,
            4..8 => Strategy::Canary {
                steps: (0..dice.between(1..4)).map(|_| step()).collect(),
                gate: Gate { error_rate: 0.1, latency_ratio: 2.0, min_requests: few(dice) },
            },
            _ => Strategy::BlueGreen {
                promotion: match dice.chance(0.7) {
                    true => Promotion::After(dice.millis(0..60_000)),
                    false => Promotion::ByHand,
                },
                keep: dice.millis(0..120_000),
            },
        }
    }
}

/// Of how many calls a gate wants to know: of more, at times, than come while a step lasts.
fn few(dice: &Dice) -> u64 {
    let most = dice.pick(&[5, 30, 30, 400]);
    dice.between(1..most)
}

fn id(ordinal: u32) -> ReplicaId {
    ReplicaId::new(service(), ordinal)
}
