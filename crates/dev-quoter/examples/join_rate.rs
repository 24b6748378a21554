//! How long a join takes, and how many there are in a second: `cargo run --release -p dev-quoter --example join_rate`.
//!
//! Everything but the network is in it: the replica's keys, the quotes of both sides, the appraisal, the certificate, the
//! secrets, the audit trail and the store, on the disk of the temporary folder.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on should panic where it stands")]

#[path = "../tests/join/applicant.rs"]
#[expect(dead_code, reason = "the tests change more than this does")]
mod applicant;
#[path = "../tests/join/mesh.rs"]
#[expect(dead_code, reason = "the tests look at more than this does")]
mod mesh;

use std::sync::Arc;
use std::time::{Duration, Instant};

use appraisal::{Checks, Policy, Release, Roots};
use tokio::task::JoinSet;

use crate::mesh::{Mesh, NOW, W};

const ROUNDS: u32 = 200;
const APPLICANTS: u32 = 8;
const JOINS_OF_EACH: u32 = 50;
/// The replicas that join one after the other; no replica may use more than 128 nonces and tickets within two minutes.
const ALONE: u32 = 8;

// One thread, as in the authority's process; what takes long has threads of its own.
#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mesh = Arc::new(Mesh::with(|setup| setup.vrf.replicas = APPLICANTS + ALONE).await);
    report("one appraisal", (0..ROUNDS).map(|_| appraisal(&mesh)).collect());
    let mut joins = Vec::new();
    for round in 0..ROUNDS {
        joins.push(join(&mesh, APPLICANTS + round % ALONE).await);
    }
    report("challenge to identity, alone", joins);
    let begun = Instant::now();
    let mut crowd = JoinSet::new();
    for ordinal in 0..APPLICANTS {
        let mesh = Arc::clone(&mesh);
        crowd.spawn(async move {
            let mut joins = Vec::new();
            for _ in 0..JOINS_OF_EACH {
                joins.push(join(&mesh, ordinal).await);
            }
            joins
        });
    }
    let joins: Vec<_> = crowd.join_all().await.concat();
    let rate = f64::from(APPLICANTS * JOINS_OF_EACH) / begun.elapsed().as_secs_f64();
    report(&format!("challenge to identity, {APPLICANTS} at a time"), joins);
    println!("{rate:.1} joins a second with {APPLICANTS} applicants");
}

/// One appraisal by itself.
fn appraisal(mesh: &Mesh) -> Duration {
    let (evidence, root) = {
        let mut quoter = mesh.quoter.lock().unwrap();
        (quoter.evidence([9; 64], W, NOW).unwrap(), quoter.root().to_vec())
    };
    let (policy, roots) = (Policy::of_releases(vec![Release::simulated("1", W)]), Roots::Development(root));
    let begun = Instant::now();
    appraisal::appraise(&evidence, &[9; 64], &policy, &roots, NOW, &mut Checks::default()).unwrap();
    begun.elapsed()
}

/// From the ticket to the certificate.
async fn join(mesh: &Mesh, ordinal: u32) -> Duration {
    let begun = Instant::now();
    mesh.applicant(&ordinal.to_string()).joined().await;
    // The records that are kept of a replica are found by their time.
    mesh.clock.forward(Duration::from_millis(1));
    begun.elapsed()
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let shown = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1000.0);
    let (median, late) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    let (median, late) = (shown(median), shown(late));
    println!("{what}: median {median}, 99th percentile {late}, {} times", times.len());
}
