mod distribution;
mod maglev;
mod reach;
mod simulation;
mod versions;

use std::time::Duration;

use super::*;

const POLICIES: [Policy; 5] =
    [Policy::PeakEwma, Policy::RoundRobin, Policy::LeastRequest, Policy::Maglev, Policy::Random];

/// Loads that a test sets.
struct Fixed {
    eligible: Vec<bool>,
    load: Vec<f64>,
    pending: Vec<u32>,
}

impl Fixed {
    /// All eligible, and alike.
    fn alike(count: usize) -> Self {
        Self { eligible: vec![true; count], load: vec![0.01; count], pending: vec![0; count] }
    }
}

impl Loads for Fixed {
    fn eligible(&self, index: usize) -> bool {
        self.eligible[index]
    }

    fn load(&self, index: usize) -> f64 {
        self.load[index]
    }

    fn pending(&self, index: usize) -> u32 {
        self.pending[index]
    }
}

fn settings(policy: Policy) -> Settings {
    Settings {
        policy,
        slow_start: Duration::ZERO,
        panic_threshold_percent: 0,
        version_weights: Vec::new(),
        apart: None,
    }
}

/// Healthy targets of one version and level, with these weights.
fn targets(weights: &[u32], since: Instant) -> Vec<Target> {
    let target = |(weight, key): (&u32, u64)| Target {
        key,
        weight: *weight,
        priority: 0,
        version: 0,
        id: 0,
        apart: false,
        healthy: true,
        since,
    };
    weights.iter().zip(1000..).map(target).collect()
}

/// How often each target is picked, with a hash that is different each time.
fn count(balancer: &Balancer, loads: &Fixed, picks: usize, request: Request, now: Instant) -> Vec<usize> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut counts = vec![0; loads.eligible.len()];
    for hash in 0..picks as u64 {
        let request = Request { hash: Some(hash), ..request };
        if let Some(index) = balancer.pick(loads, &request, &mut random, now) {
            counts[index] += 1;
        }
    }
    counts
}

/// The counts in whole percents of `picks`.
fn percents(counts: &[usize], picks: usize) -> Vec<usize> {
    counts.iter().map(|count| (count * 100 + picks / 2) / picks).collect()
}

/// The same within a percent.
#[track_caller]
fn assert_near(percents: &[usize], expected: &[usize]) {
    let near = percents.len() == expected.len()
        && percents.iter().zip(expected).all(|(is, should)| is.abs_diff(*should) <= usize::from(*should > 0));
    assert!(near, "{percents:?} instead of {expected:?}");
}
