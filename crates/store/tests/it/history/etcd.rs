//! Histories of the store in etcd: three members, each client with a store of its own that begins with another one, while members
//! are killed, stopped, parted from each other and from their clients, all the time but for short pauses.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use fastrand::Rng;
use store::Store;
use testkit::Etcd;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::clients::{LIMIT, Log, Tally, client, end, follow, must_be_linearizable};
use super::{History, count};
use crate::etcd::settings;

const HISTORIES: usize = 240;
/// Histories at the same time: most wait for somebody who is away.
const LANES: usize = 24;
const CLIENTS: usize = 4;
/// What each client asks.
const STEPS: usize = 10;
/// How long a client thinks at most before it asks.
const LONGEST_THOUGHT_MS: u32 = 40;
/// How long a fault lasts: less and more than an election takes.
const FAULT_MS: std::ops::RangeInclusive<u64> = 300..=3_500;
const PAUSE: Duration = Duration::from_millis(300);
/// A leader is missed sooner than by etcd's own times, so that more of them are chosen.
const TIMES: [&str; 2] = ["--heartbeat-interval=50", "--election-timeout=500"];

/// What happens to a member, most often to the leader.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// It dies.
    Killed,
    /// It stands still.
    Stopped,
    /// Nothing passes between it and the other members, and nobody says so.
    Isolated,
    /// It has no connections to the other members.
    PartedFromAll,
    /// It has none to one of them.
    PartedFromOne,
    /// It takes no connections from clients.
    CutFromClients,
    /// It hears nothing from clients.
    Deaf,
    /// It hears and does, and nobody is ever told.
    Mute,
}

const FAULTS: [Fault; 8] = [
    Fault::Killed,
    Fault::Stopped,
    Fault::Isolated,
    Fault::PartedFromAll,
    Fault::PartedFromOne,
    Fault::CutFromClients,
    Fault::Deaf,
    Fault::Mute,
];

impl Fault {
    fn begin(self, etcd: &mut Etcd, member: usize) {
        let (next, last) = ((member + 1) % 3, (member + 2) % 3);
        match self {
            Self::Killed => etcd.kill(member),
            Self::Stopped => etcd.pause(member),
            Self::Isolated => etcd.isolate(member),
            Self::PartedFromAll => {
                etcd.part(member, next);
                etcd.part(member, last);
            }
            Self::PartedFromOne => etcd.part(member, next),
            Self::CutFromClients => etcd.cut(member),
            Self::Deaf => etcd.stall(member),
            Self::Mute => etcd.hold_answers(member),
        }
    }

    fn end(self, etcd: &mut Etcd, member: usize) {
        match self {
            Self::Killed => etcd.restart(member),
            Self::Stopped => etcd.resume(member),
            Self::Isolated | Self::PartedFromAll | Self::PartedFromOne => etcd.reunite(),
            Self::CutFromClients | Self::Deaf => etcd.heal(member),
            Self::Mute => {
                etcd.cut(member);
                etcd.heal(member);
            }
        }
    }
}

/// How many faults have begun and ended: while one lasts it is odd.
type Faults = AtomicU64;

/// What [`Faults`] is at least once each fault has come and gone.
const EVERY_FAULT: u64 = 2 * FAULTS.len() as u64;

/// One fault after the other, until nobody is left who would tell it to stop.
fn disturb(etcd: &mut Etcd, faults: &Faults, over: &Receiver<()>) -> [usize; FAULTS.len()] {
    let mut rng = Rng::with_seed(1);
    let mut times = [0; FAULTS.len()];
    let is_over = |after| over.recv_timeout(after) == Err(RecvTimeoutError::Disconnected);
    loop {
        let mut order: Vec<_> = (0..FAULTS.len()).collect();
        rng.shuffle(&mut order);
        for fault in order {
            let member = if rng.u8(..3) == 0 { rng.usize(..3) } else { etcd.leader() };
            FAULTS[fault].begin(etcd, member);
            times[fault] += 1;
            faults.fetch_add(1, Ordering::SeqCst);
            let over_in_it = is_over(Duration::from_millis(rng.u64(FAULT_MS)));
            FAULTS[fault].end(etcd, member);
            faults.fetch_add(1, Ordering::SeqCst);
            if over_in_it || is_over(PAUSE) {
                return times;
            }
        }
    }
}

/// One history.
async fn history(stores: &[Store], number: usize) -> History {
    let mut rng = Rng::with_seed(u64::try_from(number).unwrap());
    let log = Log::begin(format!("{number}/"), &stores[0]).await;
    let watching = tokio::spawn(follow(Arc::clone(&log), stores[CLIENTS].clone()));
    let mut clients = JoinSet::new();
    for (number, store) in stores[..CLIENTS].iter().enumerate() {
        let think = |random: u32| sleep(Duration::from_millis((random % LONGEST_THOUGHT_MS).into()));
        clients.spawn(client(Arc::clone(&log), number, store.clone(), rng.fork(), STEPS, think));
    }
    while let Some(done) = clients.join_next().await {
        done.unwrap();
    }
    end(&log, &stores[0]).await;
    watching.await.unwrap();
    log.history()
}

/// What the lanes share.
struct Shared {
    faults: Faults,
    next: AtomicUsize,
    histories: usize,
    /// Histories in which there was a fault.
    disturbed: AtomicUsize,
}

/// One history after the other, until there are enough and each fault was there.
fn lane(shared: &Shared, settings: Vec<store::EtcdSettings>) -> Tally {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stores: Vec<_> = settings.into_iter().map(|settings| Store::etcd(settings).unwrap()).collect();
        let mut tally = Tally::default();
        loop {
            let number = shared.next.fetch_add(1, Ordering::SeqCst);
            let before = shared.faults.load(Ordering::SeqCst);
            if number >= shared.histories && before >= EVERY_FAULT {
                return tally;
            }
            let made = timeout(LIMIT, history(&stores, number)).await;
            let made = made.expect("a history ends within the limit");
            let is_disturbed = before % 2 == 1 || shared.faults.load(Ordering::SeqCst) != before;
            shared.disturbed.fetch_add(usize::from(is_disturbed), Ordering::SeqCst);
            must_be_linearizable(&made);
            tally.add(&made);
        }
    })
}

#[test]
fn what_clients_of_the_store_in_etcd_are_told_is_linearizable() {
    let Some(mut etcd) = Etcd::start_with(3, |_folder| TIMES.map(str::to_owned).into()) else { return };
    let began = Instant::now();
    let shared = Shared {
        faults: Faults::new(0),
        next: AtomicUsize::new(0),
        histories: count(HISTORIES),
        disturbed: AtomicUsize::new(0),
    };
    let mut stores = Vec::new();
    for store in 0..LANES * (CLIENTS + 1) {
        let mut settings = settings(&etcd, "/history/");
        settings.end_points.rotate_left(store % 3);
        settings.random = Rng::with_seed(u64::try_from(store).unwrap());
        stores.push(settings);
    }
    let (tally, times) = std::thread::scope(|scope| {
        let (under_way, over) = channel::<()>();
        let disturbing = scope.spawn(|| {
            let over = over;
            disturb(&mut etcd, &shared.faults, &over)
        });
        let mut lanes = Vec::new();
        for _ in 0..LANES {
            let stores = stores.split_off(stores.len() - CLIENTS - 1);
            let shared = &shared;
            lanes.push(scope.spawn(move || lane(shared, stores)));
        }
        let tallies: Vec<_> = lanes.into_iter().map(ScopedJoinHandle::join).collect();
        drop(under_way);
        let times = disturbing.join().unwrap();
        let mut tally = Tally::default();
        tallies.into_iter().for_each(|of_lane| tally.add_all(&of_lane.unwrap()));
        (tally, times)
    });
    let disturbed = shared.disturbed.into_inner();
    println!("{tally:?}, {disturbed} with faults, in {:?}", began.elapsed());
    FAULTS.iter().zip(times).for_each(|(fault, times)| println!("{fault:?}: {times} times"));
    assert!(tally.histories >= shared.histories);
    assert!(disturbed * 2 > tally.histories, "too few faults: {disturbed}");
    assert!(tally.conflicts > 0 && tally.open > 0 && tally.open_and_done > 0, "{tally:?}");
}
