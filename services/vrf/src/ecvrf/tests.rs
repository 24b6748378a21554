//! The examples of the RFC, the proofs that must not hold, and another implementation as the oracle.

use proptest::prelude::*;
use serde::Deserialize;
use vrf_rfc9381::ec::edwards25519::tai::{EdVrfEdwards25519TaiPublicKey, EdVrfEdwards25519TaiSecretKey};
use vrf_rfc9381::{Proof as _, Prover, Verifier};

use super::*;
use crate::hex;

/// q = 2^252 + 27742317777372353535851937790883648493, little-endian.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

#[derive(Deserialize)]
struct Vectors {
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    example: u32,
    suite: String,
    suite_string: String,
    sk: String,
    x: String,
    pk: String,
    alpha: String,
    #[serde(default)]
    tai_ctr: u8,
    h: String,
    k: String,
    u: String,
    v: String,
    pi: String,
    beta: String,
}

/// The examples of Appendix B.3.
fn vectors() -> Vec<Vector> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors/rfc9381.json");
    let Ok(text) = std::fs::read(path) else {
        assert!(std::env::var_os("CI").is_none(), "the RFC's test vectors are missing: {path}");
        eprintln!("skipped: {path} is missing");
        return Vec::new();
    };
    let Vectors { mut vectors } = serde_json::from_slice(&text).unwrap();
    vectors.retain(|vector| vector.suite == SUITE);
    assert_eq!(vectors.len(), 3);
    vectors
}

fn bytes(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

fn key(vector: &Vector) -> SecretKey {
    SecretKey::from_seed(&bytes(&vector.sk).try_into().unwrap())
}

#[test]
fn the_examples_of_the_rfc_come_out_step_by_step() {
    for vector in vectors() {
        let (key, alpha) = (key(&vector), bytes(&vector.alpha));
        let x = Scalar::from_bytes_mod_order(bytes(&vector.x).try_into().unwrap());
        assert_eq!(
            (vector.suite_string, key.x),
            (hex::encode([SUITE_STRING]), x),
            "example {}",
            vector.example
        );
        assert_eq!(hex::encode(key.public().as_bytes()), vector.pk);

        let hashed = encode_to_curve(&key.public.bytes, &alpha);
        let h = hashed.point.compress().to_bytes();
        assert_eq!((hex::encode(h), hashed.counter), (vector.h, vector.tai_ctr));

        let k = key.nonce(&h);
        assert_eq!(hex::encode(k.as_bytes()), vector.k);
        let (u, v) = (EdwardsPoint::mul_base(&k), hashed.point * *k);
        assert_eq!(compress([u, v]).map(hex::encode), [vector.u.clone(), vector.v.clone()]);

        let output = key.prove(&alpha);
        assert_eq!((hex::encode(output.proof), hex::encode(output.beta)), (vector.pi, vector.beta));

        let proof = Proof::decode(&output.proof).unwrap();
        let (u, v) = key.public().commitments(&hashed.point, &proof);
        assert_eq!(compress([u, v]).map(hex::encode), [vector.u, vector.v]);
    }
}

#[test]
fn the_proofs_of_the_rfc_verify_and_hash_to_their_outputs() {
    for vector in vectors() {
        let (alpha, proof) = (bytes(&vector.alpha), bytes(&vector.pi));
        let public = PublicKey::from_bytes(&bytes(&vector.pk)).unwrap();
        assert_eq!(public.verify(&alpha, &proof).map(hex::encode), Ok(vector.beta.clone()));
        assert_eq!(proof_to_hash(&proof).map(hex::encode), Ok(vector.beta));
    }
}

#[test]
fn a_proof_with_any_bit_flipped_is_invalid() {
    for vector in vectors() {
        let (alpha, proof) = (bytes(&vector.alpha), bytes(&vector.pi));
        let public = *key(&vector).public();
        for bit in 0..PROOF_BYTES * 8 {
            let mut flipped = proof.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(public.verify(&alpha, &flipped).is_err(), "example {}, bit {bit}", vector.example);
        }
    }
}

#[test]
fn another_alpha_key_or_length_is_invalid() {
    let key = SecretKey::from_seed(&[1; 32]);
    let proof = key.prove(b"alpha").proof;
    let other = SecretKey::from_seed(&[2; 32]);
    assert_eq!(key.public().verify(b"alphb", &proof), Err(Invalid::Challenge));
    assert_eq!(key.public().verify(b"", &proof), Err(Invalid::Challenge));
    assert_eq!(other.public().verify(b"alpha", &proof), Err(Invalid::Challenge));
    for length in [0, 79, 81] {
        let mut wrong = proof.to_vec();
        wrong.resize(length, 0);
        assert_eq!(key.public().verify(b"alpha", &wrong), Err(Invalid::ProofLength(length)));
        assert_eq!(proof_to_hash(&wrong), Err(Invalid::ProofLength(length)));
    }
    assert_eq!(PublicKey::from_bytes(&[1; 31]), Err(Invalid::KeyLength(31)));
    assert_eq!(PublicKey::from_bytes(&[1; 33]), Err(Invalid::KeyLength(33)));
}

#[test]
fn a_proof_whose_s_is_not_reduced_is_invalid() {
    for seed in 0..8 {
        let key = SecretKey::from_seed(&[seed; 32]);
        let mut proof = key.prove(b"alpha").proof;
        let mut carry = 0;
        for (byte, order) in proof[48..].iter_mut().zip(ORDER) {
            let sum = u16::from(*byte) + u16::from(order) + carry;
            [*byte, _] = sum.to_le_bytes();
            carry = sum >> 8;
        }
        assert_eq!(key.public().verify(b"alpha", &proof), Err(Invalid::Scalar));
        assert_eq!(proof_to_hash(&proof), Err(Invalid::Scalar));
    }
}

#[test]
fn keys_of_a_small_order_are_invalid() {
    for point in curve25519_dalek::constants::EIGHT_TORSION {
        assert_eq!(PublicKey::from_bytes(point.compress().as_bytes()), Err(Invalid::KeySmallOrder));
    }
}

#[test]
fn an_encoding_that_is_not_canonical_is_no_point() {
    let minus_one = {
        let mut bytes = ORDER.map(|_| 0xff);
        (bytes[0], bytes[31]) = (0xec, 0x7f);
        bytes
    };
    let signed = |mut bytes: PointBytes| {
        bytes[31] |= 0x80;
        bytes
    };
    let mut one = [0; 32];
    one[0] = 1;
    assert!(string_to_point(&one).is_some() && string_to_point(&minus_one).is_some());
    assert_eq!(string_to_point(&signed(one)), None, "x = 0 has no sign");
    assert_eq!(string_to_point(&signed(minus_one)), None, "x = 0 has no sign");
    for low in 0xed..=0xff {
        let mut beyond = minus_one;
        beyond[0] = low;
        assert_eq!(string_to_point(&beyond), None, "y >= p");
        assert_eq!(string_to_point(&signed(beyond)), None, "y >= p");
        let mut proof = SecretKey::from_seed(&[1; 32]).prove(b"").proof;
        proof[..32].copy_from_slice(&beyond);
        assert_eq!(proof_to_hash(&proof), Err(Invalid::Gamma));
        assert_eq!(PublicKey::from_bytes(&beyond), Err(Invalid::KeyEncoding));
    }
}

#[test]
fn a_gamma_moved_by_a_small_point_is_invalid_although_its_hash_is_the_same() {
    let key = SecretKey::from_seed(&[3; 32]);
    let output = key.prove(b"alpha");
    let gamma = string_to_point(output.proof.first_chunk().unwrap()).unwrap();
    for torsion in &curve25519_dalek::constants::EIGHT_TORSION[1..] {
        let mut moved = output.proof;
        moved[..32].copy_from_slice((gamma + torsion).compress().as_bytes());
        assert_eq!(proof_to_hash(&moved), Ok(output.beta));
        assert_eq!(key.public().verify(b"alpha", &moved), Err(Invalid::Challenge));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_other_implementation_agrees_on_proofs(seed: [u8; 32], alpha: Vec<u8>) {
        let (key, theirs) = (SecretKey::from_seed(&seed), EdVrfEdwards25519TaiSecretKey::from_slice(&seed).unwrap());
        let (output, proof) = (key.prove(&alpha), theirs.prove(&alpha).unwrap());
        prop_assert_eq!(output.proof.to_vec(), proof.encode_to_pi());
        prop_assert_eq!(key.public().verify(&alpha, &output.proof), Ok(output.beta));
        let beta = theirs.verifier().verify(&alpha, proof).unwrap();
        prop_assert_eq!(beta.as_slice(), &output.beta);
    }

    #[test]
    fn the_other_implementation_agrees_on_spoilt_proofs(
        seed: [u8; 32], alpha: Vec<u8>, place in 0..PROOF_BYTES, flip in 1_u8..,
    ) {
        let key = SecretKey::from_seed(&seed);
        let mut proof = key.prove(&alpha).proof;
        proof[place] ^= flip;
        let theirs = EdVrfEdwards25519TaiPublicKey::from_slice(key.public().as_bytes()).unwrap();
        let accepted = <_>::decode_pi(&proof).and_then(|proof| theirs.verify(&alpha, proof));
        prop_assert!(accepted.is_err());
        prop_assert!(key.public().verify(&alpha, &proof).is_err());
    }

    #[test]
    fn the_other_implementation_agrees_on_points(bytes: [u8; 32]) {
        let theirs = EdVrfEdwards25519TaiPublicKey::from_slice(&bytes);
        prop_assert_eq!(PublicKey::from_bytes(&bytes).is_ok(), theirs.is_ok());
    }
}
