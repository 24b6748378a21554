//! A cluster on a virtual clock: workers that do not know of each other, each with a balancer and estimates of its own, and
//! replicas that serve a few calls at once and let the others wait.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use expect_test::expect;

use super::*;
use crate::peak_ewma::{FIRST_ESTIMATE, PeakEwma, median};

const WORKERS: usize = 4;
/// Calls over the whole run, from the first one on.
const CALLS: usize = 16_000;
/// Between two calls of one worker, on average: together half of what five good replicas can serve.
const BETWEEN: Duration = Duration::from_millis(4);
/// Calls that a replica of weight 1 serves at once.
const AT_ONCE: u32 = 4;
/// Different hashes.
const CALLERS: u64 = 1_000;

#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Serves,
    Fails,
    /// One call of so many fails, by no fault of the replica's.
    FailsOnce(u32),
}

#[derive(Clone, Copy)]
struct Kind {
    mean: Duration,
    manner: Manner,
    weight: u32,
}

const GOOD: Kind = Kind { mean: Duration::from_millis(10), manner: Manner::Serves, weight: 1 };
const SLOW: Kind = Kind { mean: Duration::from_millis(100), ..GOOD };
const FAILING: Kind = Kind { mean: Duration::from_millis(1), manner: Manner::Fails, ..GOOD };

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Call {
    worker: usize,
    began: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives { worker: usize },
    Ends { replica: usize, call: Call },
}

struct Replica {
    kind: Kind,
    serving: u32,
    waiting: VecDeque<Call>,
}

struct Worker {
    balancer: Balancer,
    latency: Vec<PeakEwma>,
    pending: Vec<u32>,
}

struct View<'a> {
    worker: &'a Worker,
    now: Instant,
}

impl Loads for View<'_> {
    fn eligible(&self, _index: usize) -> bool {
        true
    }

    fn load(&self, index: usize) -> f64 {
        self.worker.latency[index].estimate(self.now) * f64::from(self.pending(index) + 1)
    }

    fn pending(&self, index: usize) -> u32 {
        self.worker.pending[index]
    }
}

struct Cluster {
    now: Instant,
    random: fastrand::Rng,
    events: BinaryHeap<Reverse<(Instant, usize, Event)>>,
    scheduled: usize,
    replicas: Vec<Replica>,
    workers: Vec<Worker>,
    between: Duration,
    calls: Vec<usize>,
    took: Vec<Duration>,
}

impl Cluster {
    fn new(policy: Policy, kinds: &[Kind], between: Duration) -> Self {
        let now = Instant::now();
        let weights: Vec<u32> = kinds.iter().map(|kind| kind.weight).collect();
        let worker = |_| Worker {
            balancer: Balancer::new(&settings(policy), &targets(&weights, now), None),
            latency: kinds.iter().map(|_| PeakEwma::new(FIRST_ESTIMATE, now)).collect(),
            pending: vec![0; kinds.len()],
        };
        let replica = |kind: &Kind| Replica { kind: *kind, serving: 0, waiting: VecDeque::new() };
        Self {
            now,
            random: fastrand::Rng::with_seed(11),
            events: BinaryHeap::new(),
            scheduled: 0,
            replicas: kinds.iter().map(replica).collect(),
            workers: (0..WORKERS).map(worker).collect(),
            between,
            calls: vec![0; kinds.len()],
            took: Vec::new(),
        }
    }

    fn run(mut self) -> Self {
        (0..WORKERS).for_each(|worker| self.schedule(self.between, Event::Arrives { worker }));
        while let Some(Reverse((at, _, event))) = self.events.pop() {
            self.now = at;
            match event {
                Event::Arrives { worker } if self.calls.iter().sum::<usize>() < CALLS => self.arrive(worker),
                Event::Arrives { .. } => {}
                Event::Ends { replica, call } => self.end(replica, call),
            }
        }
        self
    }

    /// After an exponentially distributed time with this mean.
    fn schedule(&mut self, mean: Duration, event: Event) {
        let after = mean.mul_f64(-(1.0 - self.random.f64()).ln());
        self.scheduled += 1;
        self.events.push(Reverse((self.now + after, self.scheduled, event)));
    }

    fn arrive(&mut self, index: usize) {
        let worker = &self.workers[index];
        let request = Request { hash: Some(self.random.u64(0..CALLERS)), ..Request::default() };
        let view = View { worker, now: self.now };
        let picked = worker.balancer.pick(&view, &request, &mut self.random, self.now).unwrap();
        self.workers[index].pending[picked] += 1;
        self.calls[picked] += 1;
        self.replicas[picked].waiting.push_back(Call { worker: index, began: self.now });
        self.serve(picked);
        self.schedule(self.between, Event::Arrives { worker: index });
    }

    fn serve(&mut self, index: usize) {
        let replica = &mut self.replicas[index];
        if replica.serving == AT_ONCE * replica.kind.weight {
            return;
        }
        if let Some(call) = replica.waiting.pop_front() {
            replica.serving += 1;
            let mean = replica.kind.mean;
            self.schedule(mean, Event::Ends { replica: index, call });
        }
    }

    fn end(&mut self, index: usize, call: Call) {
        let worker = &mut self.workers[call.worker];
        worker.pending[index] -= 1;
        let took = self.now - call.began;
        let fails = match self.replicas[index].kind.manner {
            Manner::Serves => false,
            Manner::Fails => true,
            Manner::FailsOnce(calls) => self.random.u32(0..calls) == 0,
        };
        if fails {
            let load =
                |(latency, pending): (&PeakEwma, &u32)| latency.latency(self.now) * f64::from(pending + 1);
            let usual = median(worker.latency.iter().zip(&worker.pending).map(load)).unwrap();
            worker.latency[index].fail(usual, self.now);
        } else {
            worker.latency[index].observe(took, self.now);
        }
        self.took.push(took);
        self.replicas[index].serving -= 1;
        self.serve(index);
    }

    fn percent(&self, replica: usize) -> f64 {
        self.calls[replica] as f64 * 100.0 / CALLS as f64
    }

    /// The time that this part of the calls did not exceed.
    fn quantile(&self, part: f64) -> Duration {
        let mut took = self.took.clone();
        took.sort_unstable();
        took[(took.len() as f64 * part) as usize]
    }
}

fn five_with(bad: Kind, policy: Policy) -> Cluster {
    Cluster::new(policy, &[GOOD, GOOD, GOOD, GOOD, bad], BETWEEN).run()
}

#[test]
fn a_bad_replica_of_five_gets_little_from_peak_ewma_and_this_from_the_others() {
    let mut table = String::from("policy        slow gets   p99 of all   failing gets\n");
    for policy in POLICIES {
        let (slow, failing) = (five_with(SLOW, policy), five_with(FAILING, policy));
        table += &format!(
            "{:<13} {:>7.1} % {:>9} ms {:>12.1} %\n",
            format!("{policy:?}"),
            slow.percent(4),
            slow.quantile(0.99).as_millis(),
            failing.percent(4),
        );
        if policy == Policy::PeakEwma {
            assert!(slow.percent(4) < 5.0 && failing.percent(4) < 5.0, "{table}");
        }
    }
    expect![[r#"
        policy        slow gets   p99 of all   failing gets
        PeakEwma          0.4 %        50 ms          0.0 %
        RoundRobin       20.0 %     61948 ms         20.0 %
        LeastRequest      4.1 %       265 ms         27.4 %
        Maglev            4.1 %       392 ms         20.1 %
        Random           20.3 %     63093 ms         19.4 %
    "#]]
    .assert_eq(&table);
}

#[test]
fn a_replica_that_fails_fast_is_left_alone_by_slow_services_and_at_low_rates_too() {
    let mut table = String::from("answers take   a worker calls every   failing gets\n");
    for (mean, between) in [(10, 4), (10, 100), (10, 1_000), (10, 10_000), (1_000, 400), (10_000, 4_000)] {
        let (mean, between) = (Duration::from_millis(mean), Duration::from_millis(between));
        let good = Kind { mean, ..GOOD };
        let cluster = Cluster::new(Policy::PeakEwma, &[good, good, good, good, FAILING], between).run();
        table += &format!(
            "{:>12} {:>22} {:>12.1} %\n",
            format!("{mean:?}"),
            format!("{between:?}"),
            cluster.percent(4)
        );
    }
    expect![[r#"
        answers take   a worker calls every   failing gets
                10ms                    4ms          0.0 %
                10ms                  100ms          0.3 %
                10ms                     1s          2.2 %
                10ms                    10s         10.2 %
                  1s                  400ms          2.2 %
                 10s                     4s         15.3 %
    "#]]
    .assert_eq(&table);
}

#[test]
fn replicas_of_unequal_size_get_what_they_can_serve() {
    let sized = |weight| Kind { weight, ..GOOD };
    let line = |policy: Policy| {
        let cluster = Cluster::new(policy, &[sized(1), sized(1), sized(2), sized(4)], BETWEEN).run();
        let parts: Vec<String> = (0..4).map(|replica| format!("{:.0}", cluster.percent(replica))).collect();
        format!(
            "{:<13} {}   p99 {} ms\n",
            format!("{policy:?}"),
            parts.join(" "),
            cluster.quantile(0.99).as_millis()
        )
    };
    expect![[r#"
        PeakEwma      17 16 23 44   p99 46 ms
        RoundRobin    13 12 25 50   p99 45 ms
        LeastRequest  16 16 25 43   p99 46 ms
        Maglev        12 12 23 53   p99 45 ms
        Random        13 13 25 50   p99 45 ms
    "#]]
    .assert_eq(&POLICIES.into_iter().map(line).collect::<String>());
}

#[test]
fn failures_that_all_replicas_share_do_not_unbalance_them() {
    let mut table = String::from("fails   shares           p99\n");
    for one_of in [u32::MAX, 1_000, 100, 10] {
        let replica = Kind { manner: Manner::FailsOnce(one_of), ..GOOD };
        let cluster = Cluster::new(Policy::PeakEwma, &[replica; 5], BETWEEN).run();
        let parts: Vec<String> = (0..5).map(|replica| format!("{:.0}", cluster.percent(replica))).collect();
        let percent = 100.0 / f64::from(one_of);
        table +=
            &format!("{percent:>4.1} %  {}   {} ms\n", parts.join(" "), cluster.quantile(0.99).as_millis());
    }
    expect![[r#"
        fails   shares           p99
         0.0 %  21 18 20 21 20   47 ms
         0.1 %  15 20 19 25 21   47 ms
         1.0 %  20 20 19 21 20   47 ms
        10.0 %  20 20 19 21 20   47 ms
    "#]]
    .assert_eq(&table);
}
