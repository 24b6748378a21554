//! The processes of a world, and the books that are kept of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use service_lifecycle::{Cause, Exit, Launch, LaunchError, Left, Listening, Process, Signal};
use service_registry::{Appraised, Attestation, Change, Channel, LifecycleState, Refusal, Version};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use types::ReplicaId;

use crate::checks::Window;
use crate::dice::Dice;
use crate::world::{Quality, World};

/// What is known of all processes.
#[derive(Default)]
pub(crate) struct Books {
    /// Those that run, by the ordinal of their replica.
    pub(crate) running: BTreeMap<u32, Version>,
    /// Those that were told to end, by their address.
    pub(crate) told: BTreeMap<SocketAddr, Instant>,
    /// Since when replicas drain, and for how long they may; and since when they are Ready.
    pub(crate) draining: BTreeMap<u32, (Instant, Duration)>,
    pub(crate) ready: BTreeMap<u32, Instant>,
    /// How often a replica has ended by itself in a row, when it did so the last time, and how long it waits then at the least.
    pub(crate) streaks: BTreeMap<u32, (u32, Instant, Duration)>,
    /// Those that the operator has told to begin anew, which have not done so yet.
    pub(crate) excused: BTreeSet<u32>,
    /// How often something has gone wrong that takes a replica from those that serve.
    pub(crate) trouble: u64,
    /// How often the operator has done something, and has scaled among it.
    pub(crate) acted: u64,
    pub(crate) scaled: u64,
    /// Whether what is on its way is a restart, or came in the midst of one.
    pub(crate) has_restarted: bool,
    /// So many calls the plan in force wants to know.
    pub(crate) min_requests: u64,
    /// What the last rollout that was done has led to.
    pub(crate) stable: Option<Version>,
    pub(crate) window: Option<Window>,
    pub(crate) jumped: Option<Instant>,
    pub(crate) stopping: bool,
    /// How often `up` has died, and whether it does so now.
    pub(crate) ups: u64,
    pub(crate) is_dying: bool,
    pub(crate) at_once: bool,
    /// Calls of the version that has a part, all of them.
    pub(crate) target_calls: u64,
    /// How often each replica was launched.
    launches: BTreeMap<u32, u16>,
}

pub(crate) struct Processes(Arc<World>);

pub(crate) struct Faked {
    world: Arc<World>,
    replica: ReplicaId,
    address: SocketAddr,
    version: Version,
    listens_after: Option<Duration>,
    stubborn: bool,
    /// Whether it has said that it listens.
    listens: bool,
    dice: Arc<Dice>,
    ended: watch::Sender<Option<Exit>>,
}

fn exit(code: i32) -> Exit {
    Exit::Ended { code: Some(code), signal: None, last_lines: Vec::new() }
}

impl Books {
    /// An address that no process had before.
    fn next_address(&mut self, ordinal: u32) -> SocketAddr {
        let launches = self.launches.entry(ordinal).or_default();
        *launches += 1;
        ([127, 0, 1, u8::try_from(ordinal).unwrap()], *launches).into()
    }
}

impl Books {
    /// What the next `up` does not know of the one before, but for what it has left.
    pub(crate) fn forget_the_up(&mut self, left: &[(u32, Version)]) {
        self.running.retain(|ordinal, _| left.iter().any(|(known, _)| known == ordinal));
        (self.streaks, self.excused, self.window) = Default::default();
        (self.draining, self.ready) = Default::default();
        self.has_restarted = false;
        self.ups += 1;
        self.trouble += 1;
        self.acted += 1;
    }
}

impl Processes {
    pub(crate) fn new(world: &Arc<World>) -> Self {
        Self(Arc::clone(world))
    }

    /// A replica that ends again and again is launched ever less often.
    fn check_wait(&self, ordinal: u32) {
        let world = &self.0;
        if world.books().excused.remove(&ordinal) {
            world.books().streaks.remove(&ordinal);
        }
        let Some((ended, at, least)) = world.books().streaks.get(&ordinal).copied() else { return };
        if at.elapsed() + Duration::from_millis(1) < least {
            let waited = at.elapsed();
            world.find(
                "7: restarts wait",
                &format!("vrf/{ordinal} after {waited:?}, not {least:?}, end {ended}"),
            );
        }
    }
}

impl Launch for Processes {
    type Process = Faked;

    fn forget(&self, replica: &ReplicaId) {
        self.0.note(format!("{replica} is forgotten"));
        self.0.books().streaks.remove(&replica.ordinal);
        self.0.books().excused.remove(&replica.ordinal);
        if self.0.books().running.contains_key(&replica.ordinal) {
            self.0.find("1: no process without a driver", &format!("{replica} runs and is forgotten"));
        }
    }

    async fn left(
        &self,
        replica: &ReplicaId,
        _at_once: impl Future<Output = ()> + Send,
    ) -> Option<Left<Faked>> {
        let process = self.0.left.lock().unwrap().remove(&replica.ordinal)?;
        let is_there = process.ended.borrow().is_none();
        is_there.then_some(Left { process, restarts: 0 })
    }

    async fn launch(&self, replica: &ReplicaId, version: &Version) -> Result<Faked, LaunchError> {
        let world = &self.0;
        let ordinal = replica.ordinal;
        self.check_wait(ordinal);
        if world.books().running.insert(ordinal, version.clone()).is_some() {
            world.find("1: one process at a time", &replica.to_string());
        }
        world.note(format!("{replica} launched as {version:?}"));
        let address = world.books().next_address(ordinal);
        let dice = Arc::new(world.dice(&format!("process {address}")));
        sleep(dice.millis(0..500)).await;
        let quality = world.quality(version);
        if quality == Quality::Missing || world.strikes(&dice, world.faults.refusals, 0.05) {
            world.ended_by_itself(ordinal);
            return Err(LaunchError("no such program".into()));
        }
        let hangs = quality == Quality::Hangs || world.strikes(&dice, world.faults.hangs, 0.1);
        let slow = dice.chance(0.2);
        let starts = if slow { dice.millis(1_000..19_000) } else { dice.millis(5..1_000) };
        let process = Faked {
            world: Arc::clone(world),
            replica: replica.clone(),
            address,
            version: version.clone(),
            listens_after: (!hangs).then_some(starts),
            stubborn: world.strikes(&dice, world.faults.stubborn, 0.4),
            listens: false,
            ended: watch::Sender::new(None),
            dice,
        };
        process.doom(quality);
        Ok(process)
    }
}

impl World {
    fn ended_by_itself(&self, ordinal: u32) {
        let mut books = self.books();
        books.running.remove(&ordinal);
        // Whoever has served for long enough begins anew.
        let served = books.ready.remove(&ordinal).map(|since| since.elapsed());
        let policy = self.policy();
        let is_new = served.is_some_and(|served| served + Duration::from_secs(1) >= policy.restart_reset);
        let before = books.streaks.get(&ordinal).filter(|_| !is_new).map_or(0, |(ended, ..)| *ended);
        let (min, max) = (policy.restart_min, policy.restart_max);
        let step = 2_u32.checked_pow(before).and_then(|times| min.checked_mul(times));
        let least = step.map_or(max, |step| step.min(max)) / 2;
        books.streaks.insert(ordinal, (before + 1, Instant::now(), least));
    }

    /// What was left, and what each runs.
    pub(crate) fn left(&self) -> BTreeMap<u32, Version> {
        let left = self.left.lock().unwrap();
        left.iter().map(|(ordinal, process)| (*ordinal, process.version.clone())).collect()
    }

    /// Ends a process that nobody takes over.
    pub(crate) fn end_left(&self, ordinal: u32) {
        let process = self.left.lock().unwrap().remove(&ordinal);
        process.iter().for_each(|process| end(self, &process.replica, &process.ended, exit(0)));
    }
}

/// Ends the process that this is the other end of, unless it has ended.
fn end(world: &World, replica: &ReplicaId, ended: &watch::Sender<Option<Exit>>, how: Exit) {
    if ended.borrow().is_some() {
        return;
    }
    world.note(format!("{replica}'s process ends: {how}"));
    world.ended_by_itself(replica.ordinal);
    ended.send_replace(Some(how));
}

impl Faked {
    /// It ends by itself some day.
    fn doom(&self, quality: Quality) {
        let (world, replica, ended) = (Arc::clone(&self.world), self.replica.clone(), self.ended.clone());
        let dice = &self.dice;
        let is_flaky = quality == Quality::Flaky;
        let crashes = quality == Quality::Crashes;
        if !(crashes || is_flaky || world.faults.crashes) {
            return;
        }
        let after = match (crashes, is_flaky) {
            (true, _) => dice.millis(0..3_000),
            (_, true) => dice.millis(1_000..400_000),
            _ => dice.millis(100..2_000_000),
        };
        let after = if crashes { after.min(self.listens_after.unwrap_or(after)) } else { after };
        let code = if dice.chance(0.3) { 0 } else { 3 };
        self.world.spawn_outside(async move {
            sleep(after).await;
            if crashes || !world.is_calm() {
                if ended.borrow().is_none() && !crashes {
                    world.books().trouble += 1;
                }
                end(&world, &replica, &ended, exit(code));
            }
        });
    }

    /// The join, as the authority judges it.
    fn join(&self) -> Result<(), LaunchError> {
        let world = &self.world;
        let is_refused = world.quality(&self.version) == Quality::Refused
            || world.strikes(&self.dice, world.faults.refusals, 0.1);
        let now = Timestamp::UNIX_EPOCH;
        world.registry().update(&self.replica, |replica| {
            replica.attestation = if is_refused {
                let refusal =
                    Refusal { code: "RELEASE_NOT_ALLOWED".into(), detail: self.address.to_string() };
                replica.attestation.refused(refusal, now)
            } else {
                Attestation::pending(now).valid(appraised(self.address), now)
            };
            Change::Made
        });
        if is_refused { Err(LaunchError("RELEASE_NOT_ALLOWED".into())) } else { Ok(()) }
    }

    /// No call is cut before the time for it is over.
    fn check_calls(&self) {
        let snapshot = self.world.snapshot();
        let Some(replica) = snapshot.replica(&self.replica) else { return };
        let in_flight = replica.instance.as_ref().map_or(0, |instance| instance.in_flight.count());
        let books = self.world.books();
        let draining = books.draining.get(&self.replica.ordinal).copied();
        let (since, timeout) = draining.unwrap_or((Instant::now(), self.world.policy().drain_timeout));
        let drained = since.elapsed();
        let is_cut = replica.state == LifecycleState::Draining && in_flight > 0 && !books.at_once;
        drop(books);
        if is_cut && drained < timeout {
            let what = format!("{} with {in_flight} calls after {drained:?}", self.replica);
            self.world.find("5: calls are not cut", &what);
        }
    }
}

fn appraised(address: SocketAddr) -> Arc<Appraised> {
    Arc::new(Appraised {
        kind: "simulated".into(),
        release: "1".into(),
        measurement: "09".repeat(32),
        tcb: "UpToDate".into(),
        advisories: Vec::new(),
        record: address.to_string(),
        leaf_sha256: "0a".repeat(32),
        spiffe_id: "spiffe://test.dev.invalid/service/vrf/0".into(),
        appraised_at: Timestamp::UNIX_EPOCH,
        expires: Timestamp::UNIX_EPOCH,
    })
}

impl Process for Faked {
    fn pid(&self) -> Option<u32> {
        Some(u32::from(self.address.port()))
    }

    fn leaves(&self) -> impl Future<Output = ()> + Send + 'static {
        let world = Arc::clone(&self.world);
        let after = world.strikes(&self.dice, world.faults.crashes, 0.1);
        let after = after.then(|| self.dice.millis(1_000..400_000));
        async move {
            let Some(after) = after else { return std::future::pending().await };
            sleep(after).await;
            if world.is_calm() {
                return std::future::pending().await;
            }
            world.books().trouble += 1;
        }
    }

    async fn listening(&mut self) -> Result<Listening, LaunchError> {
        let Some(after) = self.listens_after else { return std::future::pending().await };
        let mut ended = self.ended.subscribe();
        tokio::select! {
            biased;
            _ = ended.wait_for(Option::is_some) => return Err(LaunchError("it closed its descriptor".into())),
            () = sleep(after) => {}
        }
        self.join()?;
        self.listens = true;
        Ok(Listening { address: self.address, channel: Channel::Plain, registration: None })
    }

    async fn exited(&mut self) -> Exit {
        self.ended.subscribe().wait_for(Option::is_some).await.unwrap().clone().unwrap()
    }

    fn signal(&self, signal: Signal, cause: &Cause) {
        self.world.note(format!("{} {signal:?}: {}", self.replica, cause.reason()));
        let is_first = self.world.books().told.insert(self.address, Instant::now()).is_none();
        if is_first {
            self.check_calls();
        }
        let after = match signal {
            Signal::Kill => self.dice.millis(0..50),
            Signal::Terminate if self.stubborn || self.listens_after.is_none() => return,
            Signal::Terminate => self.dice.millis(0..1_500),
        };
        let (world, replica, ended) = (Arc::clone(&self.world), self.replica.clone(), self.ended.clone());
        self.world.spawn_outside(async move {
            sleep(after).await;
            end(&world, &replica, &ended, exit(0));
        });
    }
}

impl Faked {
    /// The same process, for whoever finds it.
    fn abandoned(&self) -> Self {
        Self {
            world: Arc::clone(&self.world),
            replica: self.replica.clone(),
            address: self.address,
            version: self.version.clone(),
            listens_after: Some(self.dice.millis(1..100)),
            stubborn: self.stubborn,
            listens: false,
            dice: Arc::clone(&self.dice),
            ended: self.ended.clone(),
        }
    }
}

impl Drop for Faked {
    fn drop(&mut self) {
        if self.ended.borrow().is_some() || std::thread::panicking() {
            return;
        }
        let (is_dying, is_told) = {
            let books = self.world.books();
            (books.is_dying, books.told.contains_key(&self.address))
        };
        if is_dying && self.listens && !is_told {
            let abandoned = self.abandoned();
            self.world.left.lock().unwrap().insert(self.replica.ordinal, abandoned);
        } else if is_dying {
            // What has not reported ends with whoever started it; what is about to end is not seen any more.
            end(&self.world, &self.replica, &self.ended, exit(1));
        } else {
            self.world.find("1: no process without a driver", &format!("{} was dropped", self.replica));
        }
    }
}
