//! Worlds of drivers and rollouts, each made of one seed: processes that crash, hang, leave, are refused and do not listen to
//! SIGTERM, a health owner that loses sight of them, an authority that refuses them, gateway workers that are late or hung, a clock that
//! jumps, an `up` that dies, and an operator who does the wrong thing at the worst moment. Whatever happens, what is checked in `checks` holds.
//!
//! ```text
//! cargo test -p service-lifecycle --test simulation                             # 200 seeds
//! SIMULATED_SEEDS=10000 cargo test -p service-lifecycle --test simulation       # more of them
//! SIMULATED_SEED=17 cargo test -p service-lifecycle --test simulation           # this one again
//! ```
//!
//! Time is tokio's, paused, and all dice are made of the seed. What happens at the same moment happens in any order, so that a world
//! in which much does, after a jump of the clock, may have to be tried some times to be the same one. A failure says its seed, and
//! what has happened before.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

mod authority;
mod checks;
mod dice;
mod gateway;
mod operator;
mod processes;
mod up;
mod world;

use std::env;

use world::World;

/// Seeds where nothing else is said.
const SEEDS: u64 = 200;
/// Seeds that are tried twice.
const TWICE: u64 = 20;
/// Of a world that fails, so many of the last things that have happened before are shown.
const SHOWN: usize = 150;

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|value| value.parse().expect("a number of seeds, or one seed"))
}

/// Everything that has happened in the world of a seed, and what should not have.
fn simulate(seed: u64) -> (Vec<String>, Vec<String>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(World::run(seed))
}

#[test]
fn whatever_happens_replicas_live_as_they_are_wanted_to() {
    let seeds = match number("SIMULATED_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIMULATED_SEEDS").unwrap_or(SEEDS),
    };
    let mut failed = Vec::new();
    for seed in seeds {
        let (log, findings) = simulate(seed);
        if findings.is_empty() {
            continue;
        }
        if failed.is_empty() {
            let end = log.iter().position(|line| line.contains("!!!")).map_or(log.len(), |place| place + 1);
            println!("{}", log[0]);
            log[end.saturating_sub(SHOWN)..end].iter().for_each(|line| println!("{line}"));
        }
        println!("SIMULATED_SEED={seed}: {}", findings.join("\n    "));
        failed.push(seed);
    }
    assert!(failed.is_empty(), "{} worlds fail: SIMULATED_SEED={failed:?}", failed.len());
}

/// Tokio does not say which of those that wait for the same thing is woken first. Where the clock jumps everything falls due at
/// once, and of an attestation that has ceased the fleet may hear before the driver does.
fn has_an_order(log: &[String]) -> bool {
    log[0].contains("jumps: false") && log[0].contains("expiry: false")
}

#[test]
fn a_seed_leads_to_the_same_world_again() {
    let mut differ = Vec::new();
    for seed in 0..number("SIMULATED_TWICE").unwrap_or(TWICE) {
        let (mut first, mut second) = (simulate(seed).0, simulate(seed).0);
        if !has_an_order(&first) {
            continue;
        }
        // What happens at the same moment happens in any order.
        first.sort();
        second.sort();
        if let Some((first, second)) = first.iter().zip(&second).find(|(first, second)| first != second) {
            println!("SIMULATED_SEED={seed}:\n{first}\n{second}");
            differ.push(seed);
        }
    }
    assert!(differ.is_empty(), "other worlds of the same seeds: {differ:?}");
}
