//! Prints how many proofs a core makes in a second, here and with the crate `vrf-rfc9381`, and the ratio of the two.
//! Run it with `cargo run --release -p vrf --example proofs`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use vrf::ecvrf::{PROOF_BYTES, SecretKey};
use vrf_rfc9381::ec::edwards25519::tai::EdVrfEdwards25519TaiSecretKey;
use vrf_rfc9381::{Ciphersuite, Proof, Prover};

const ROUNDS: usize = 25;
const ROUND: Duration = Duration::from_millis(100);
const SEED: [u8; 32] = [7; 32];

fn main() {
    let ours = SecretKey::from_seed(&SEED);
    let theirs = EdVrfEdwards25519TaiSecretKey::from_slice(&SEED).expect("a seed has 32 bytes");
    let prove = |alpha: &[u8]| theirs.prove(alpha).expect("every input has a proof");
    // Alternating, so that a busy machine slows all alike; medians, so that a few bad rounds are harmless.
    let rounds: Vec<[f64; 3]> = (0..ROUNDS)
        .map(|_| {
            [
                per_second(|alpha| ours.prove(alpha)),
                per_second(|alpha| prove(alpha).encode_to_pi()),
                per_second(|alpha| {
                    let proof = prove(alpha);
                    (proof.encode_to_pi(), proof.proof_to_hash(Ciphersuite::ECVRF_EDWARDS25519_SHA512_TAI))
                }),
            ]
        })
        .collect();
    let [ours, proofs, outputs] = [0, 1, 2].map(|row| median(&rounds, |round| round[row]));
    let [to_proofs, to_outputs] = [1, 2].map(|row| median(&rounds, |round| round[0] / round[row]));
    println!("ours, proof and output:          {ours:.0}/s");
    println!("vrf-rfc9381, proof and output:   {outputs:.0}/s, ratio {to_outputs:.2}");
    println!("vrf-rfc9381, proof alone:        {proofs:.0}/s, ratio {to_proofs:.2}");
    println!("ours, verification:              {:.0}/s", verifications());
}

fn median(rounds: &[[f64; 3]], figure: impl Fn(&[f64; 3]) -> f64) -> f64 {
    let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn verifications() -> f64 {
    let key = SecretKey::from_seed(&SEED);
    let proofs: Vec<([u8; 4], [u8; PROOF_BYTES])> =
        (0..64_u32).map(u32::to_be_bytes).map(|alpha| (alpha, key.prove(&alpha).proof)).collect();
    let mut next = proofs.iter().cycle();
    per_second(|_| {
        let (alpha, proof) = next.next().expect("a cycle does not end");
        key.public().verify(alpha, proof)
    })
}

/// Calls with a different input each time, since the time of hashing to the curve depends on it.
fn per_second<T>(mut call: impl FnMut(&[u8]) -> T) -> f64 {
    let start = Instant::now();
    let mut calls = 0_u32;
    while start.elapsed() < ROUND {
        for _ in 0..64 {
            black_box(call(black_box(&calls.to_be_bytes())));
            calls += 1;
        }
    }
    f64::from(calls) / start.elapsed().as_secs_f64()
}
