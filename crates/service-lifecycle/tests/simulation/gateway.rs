//! The workers of a gateway: they call by the snapshot that they have confirmed, which may be an old one.

use std::sync::Arc;
use std::time::Duration;

use service_registry::{Instance, Side, Snapshot, Split, Tally, WorkerSubscription};
use tokio::time::{Instant, sleep, sleep_until};

use crate::dice::Dice;
use crate::world::{Quality, World, service};

/// A worker is late by so much at most, and a drain waits longer than that for it.
const LATE_MS: u64 = 3_000;

struct Worker {
    world: Arc<World>,
    dice: Dice,
    subscription: WorkerSubscription,
    used: Arc<Snapshot>,
    /// Whether it uses no newer snapshot any more.
    is_hung: bool,
    /// Of the split whose calls it counts.
    tallies: Option<Tallies>,
}

struct Tallies {
    split: Split,
    target: Arc<Tally>,
    stable: Arc<Tally>,
}

pub(crate) fn begin(world: &Arc<World>, up: u32) {
    for number in 0..world.dice("gateway").between(1..4) {
        let dice = world.dice(&format!("worker {number} of {up}"));
        let subscription = world.registry().subscribe_worker();
        let used = subscription.snapshots.borrow().clone();
        subscription.confirm(used.epoch);
        let worker =
            Worker { world: Arc::clone(world), dice, subscription, used, is_hung: false, tallies: None };
        world.spawn_beside(worker.run());
    }
}

impl Worker {
    async fn run(mut self) {
        let (mut next_call, mut takes_at) = (Instant::now(), None);
        loop {
            let is_waiting = takes_at.is_none() && !self.is_hung;
            tokio::select! {
                biased;
                changed = self.subscription.snapshots.changed(), if is_waiting => {
                    if changed.is_err() { return; }
                    // What is published at one moment is one piece of news to it. Until then it calls by what it has.
                    takes_at = Some(Instant::now() + self.lateness());
                }
                () = sleep_until(takes_at.unwrap_or(next_call)), if takes_at.is_some() => {
                    takes_at = None;
                    self.take_newest();
                }
                () = sleep_until(next_call) => {
                    self.call();
                    next_call = Instant::now() + self.dice.millis(50..3_000);
                }
            }
        }
    }

    fn lateness(&self) -> Duration {
        let is_late = self.dice.chance(0.05);
        self.dice.millis(if is_late { 1..LATE_MS } else { 1..20 })
    }

    fn take_newest(&mut self) {
        let world = &self.world;
        if world.strikes(&self.dice, world.faults.hung_workers, 0.001) {
            world.note("a worker hangs".to_owned());
            self.is_hung = true;
            return;
        }
        self.used = self.subscription.snapshots.borrow_and_update().clone();
        let split = self.used.service(&service()).unwrap().split.clone();
        let is_same = match (&self.tallies, &split) {
            (Some(known), Some(split)) => Arc::ptr_eq(&known.split.answered, &split.answered),
            (None, None) => true,
            _ => false,
        };
        match (&mut self.tallies, split) {
            (Some(known), Some(split)) if is_same => known.split = split,
            (tallies, split) => {
                *tallies = split.map(|split| Tallies {
                    target: split.answered.begin(Side::Target),
                    stable: split.answered.begin(Side::Stable),
                    split,
                });
            }
        }
        self.subscription.confirm(self.used.epoch);
    }

    fn select(&self) -> Option<Arc<Instance>> {
        let all: Vec<_> = self.used.service(&service())?.selectable().cloned().collect();
        let chosen: Vec<_> = match &self.tallies {
            None => all.clone(),
            Some(Tallies { split, .. }) => {
                let is_target = self.dice.between(0..100) < u64::from(split.percent);
                let side = if is_target { Side::Target } else { Side::Stable };
                all.iter().filter(|instance| split.side(&instance.version) == side).cloned().collect()
            }
        };
        let from = if chosen.is_empty() { &all } else { &chosen };
        let place = from.len().checked_sub(1)? as u64;
        Some(Arc::clone(&from[self.dice.between(0..place + 1) as usize]))
    }

    fn call(&self) {
        let Some(instance) = self.select() else { return };
        self.check_is_open(&instance);
        instance.in_flight.begin();
        let (world, dice) = (Arc::clone(&self.world), &self.dice);
        let takes = if dice.chance(0.03) { dice.millis(5_000..60_000) } else { dice.millis(1..800) };
        let fails = world.quality(&instance.version) == Quality::AnswersErrors && dice.chance(0.5);
        let counted = self.tallies.as_ref().map(|tallies| match tallies.split.side(&instance.version) {
            Side::Target => (Side::Target, Arc::clone(&tallies.target)),
            Side::Stable => (Side::Stable, Arc::clone(&tallies.stable)),
        });
        self.world.spawn_beside(async move {
            sleep(takes).await;
            instance.in_flight.end();
            let Some((side, tally)) = counted else { return };
            tally.add_call();
            tally.add_latency(Duration::from_millis(20));
            if fails {
                tally.add_failure();
            }
            if side == Side::Target {
                world.books().target_calls += 1;
            }
        });
    }

    /// A worker that has confirmed a drain in time begins no call there any more.
    fn check_is_open(&self, instance: &Instance) {
        let books = self.world.books();
        let Some(told) = books.told.get(&instance.address).copied() else { return };
        let excused =
            self.is_hung || books.at_once || books.jumped.is_some_and(|at| at.elapsed().as_secs() < 120);
        // It may die while it is told, and be told while it starts: who has not seen it Ready does not call it.
        drop(books);
        if !excused && told.elapsed() > Duration::ZERO {
            self.world.find("5: no call after the drain", &instance.replica.to_string());
        }
    }
}
