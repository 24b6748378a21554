//! ECVRF-EDWARDS25519-SHA512-TAI of RFC 9381 (suite 0x03): proofs, their verification and their hash.
//!
//! Section numbers are those of the RFC. What depends on a secret runs in constant time and is wiped; what is public
//! (the point H, every part of a verification) need not. No HTTP, no ranges and no key storage here.

use std::fmt;

use curve25519_dalek::edwards::CompressedEdwardsY;
use curve25519_dalek::scalar::clamp_integer;
use curve25519_dalek::traits::{IsIdentity, VartimeMultiscalarMul};
use curve25519_dalek::{EdwardsPoint, Scalar};
use sha2::{Digest, Sha512};
use thiserror::Error;
use zeroize::{ZeroizeOnDrop, Zeroizing};

/// The name of the suite (section 5.5).
pub const SUITE: &str = "ECVRF-EDWARDS25519-SHA512-TAI";
/// A secret key: a seed as in RFC 8032, in bytes.
pub const SECRET_KEY_BYTES: usize = 32;
/// An encoded point, a public key among them, in bytes (`ptLen`).
pub const POINT_BYTES: usize = 32;
/// A proof, in bytes: Gamma (32), c (16), s (32).
pub const PROOF_BYTES: usize = POINT_BYTES + CHALLENGE_BYTES + SCALAR_BYTES;
/// The output of the function, in bytes (`hLen`).
pub const BETA_BYTES: usize = 64;

/// `cLen` of the suite.
const CHALLENGE_BYTES: usize = 16;
/// `qLen` of the suite.
const SCALAR_BYTES: usize = 32;
/// `suite_string` of the suite (section 5.5).
const SUITE_STRING: u8 = 0x03;
/// The domain separators of the suite's three hashes; each also ends in `BACK`.
const ENCODE_TO_CURVE: u8 = 0x01;
const CHALLENGE: u8 = 0x02;
const PROOF_TO_HASH: u8 = 0x03;
const BACK: u8 = 0x00;

type PointBytes = [u8; POINT_BYTES];

/// What a key says about one input: the pseudorandom output, and the proof that it is the only one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Output {
    /// `pi_string`.
    pub proof: [u8; PROOF_BYTES],
    /// `beta_string`.
    pub beta: [u8; BETA_BYTES],
}

/// Why a public key or a proof is INVALID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Invalid {
    /// The public key has another length.
    #[error("a public key has {POINT_BYTES} bytes, not {0}")]
    KeyLength(usize),
    /// The public key is no canonical encoding of a point.
    #[error("the public key is not the canonical encoding of a point")]
    KeyEncoding,
    /// The public key lies in the small subgroup, so that it has the same output for every input (section 5.4.5).
    #[error("the public key has a small order")]
    KeySmallOrder,
    /// The proof has another length.
    #[error("a proof has {PROOF_BYTES} bytes, not {0}")]
    ProofLength(usize),
    /// Gamma is no canonical encoding of a point.
    #[error("the first part of the proof, Gamma, is not the canonical encoding of a point")]
    Gamma,
    /// s is not below the group's order (section 5.4.4, step 8); else s + q would be a second proof of the same.
    #[error("the last part of the proof, s, is not below the order of the group")]
    Scalar,
    /// The proof is well formed, but not one of this input by this key.
    #[error("the proof does not belong to this alpha and this public key")]
    Challenge,
}

/// A key that proves. It keeps what every proof needs: x, Y and the nonce prefix. Wiped when dropped, never printed.
#[derive(ZeroizeOnDrop)]
pub struct SecretKey {
    x: Scalar,
    nonce_prefix: [u8; 32],
    #[zeroize(skip)]
    public: PublicKey,
}

/// A key that verifies, validated as section 5.4.5 says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey {
    bytes: PointBytes,
    /// −Y: a verification needs only that.
    negated: EdwardsPoint,
}

impl SecretKey {
    /// Expands a seed as section 5.5 says (RFC 8032, section 5.1.5): x from the first half of its hash, the prefix of
    /// nonces from the second.
    pub fn from_seed(seed: &[u8; SECRET_KEY_BYTES]) -> Self {
        let hash = hash(Sha512::new().chain_update(seed));
        let (mut low, mut nonce_prefix) = (Zeroizing::new([0; 32]), Zeroizing::new([0; 32]));
        low.copy_from_slice(&hash[..32]);
        nonce_prefix.copy_from_slice(&hash[32..]);
        // Reduced, since s = k + c·x is computed modulo q and every point that x multiplies has the order q.
        let x = Scalar::from_bytes_mod_order(*Zeroizing::new(clamp_integer(*low)));
        let y = EdwardsPoint::mul_base(&x);
        let public = PublicKey { bytes: y.compress().to_bytes(), negated: -y };
        Self { x, nonce_prefix: *nonce_prefix, public }
    }

    /// The key that verifies.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// `ECVRF_prove` (section 5.1) and `ECVRF_proof_to_hash` (section 5.2) in one, since they share an inversion.
    pub fn prove(&self, alpha: &[u8]) -> Output {
        let h = encode_to_curve(&self.public.bytes, alpha).point;
        let h_string = h.compress().to_bytes();
        let gamma = h * self.x;
        let k = self.nonce(&h_string);
        let commitments = (EdwardsPoint::mul_base(&k), h * *k);
        let [gamma, u, v, cleared] = compress([gamma, commitments.0, commitments.1, gamma.mul_by_cofactor()]);
        let c = challenge(&self.public.bytes, &h_string, &gamma, &u, &v);
        let s = *k + scalar(c) * self.x;

        let mut proof = [0; PROOF_BYTES];
        proof[..POINT_BYTES].copy_from_slice(&gamma);
        proof[POINT_BYTES..POINT_BYTES + CHALLENGE_BYTES].copy_from_slice(&c);
        proof[POINT_BYTES + CHALLENGE_BYTES..].copy_from_slice(s.as_bytes());
        Output { proof, beta: beta(&cleared) }
    }

    /// `ECVRF_nonce_generation` after RFC 8032 (section 5.4.2.2).
    fn nonce(&self, h_string: &PointBytes) -> Zeroizing<Scalar> {
        let k_string = hash(Sha512::new().chain_update(self.nonce_prefix).chain_update(h_string));
        Zeroizing::new(Scalar::from_bytes_mod_order_wide(&k_string))
    }
}

impl PublicKey {
    /// Decodes and validates a key (`ECVRF_validate_key`, section 5.4.5).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Invalid> {
        let bytes: PointBytes = bytes.try_into().map_err(|_| Invalid::KeyLength(bytes.len()))?;
        let y = string_to_point(&bytes).ok_or(Invalid::KeyEncoding)?;
        if y.is_small_order() {
            return Err(Invalid::KeySmallOrder);
        }
        Ok(Self { bytes, negated: -y })
    }

    /// `PK_string`.
    pub fn as_bytes(&self) -> &[u8; POINT_BYTES] {
        &self.bytes
    }

    /// `ECVRF_verify` (section 5.3): the output `beta_string` of a VALID proof.
    pub fn verify(&self, alpha: &[u8], proof: &[u8]) -> Result<[u8; BETA_BYTES], Invalid> {
        let proof = Proof::decode(proof)?;
        let h = encode_to_curve(&self.bytes, alpha).point;
        let (u, v) = self.commitments(&h, &proof);
        let [h, u, v, cleared] = compress([h, u, v, proof.gamma.mul_by_cofactor()]);
        if challenge(&self.bytes, &h, &proof.gamma_string, &u, &v) != proof.c {
            return Err(Invalid::Challenge);
        }
        Ok(beta(&cleared))
    }

    /// U = s·B − c·Y and V = s·H − c·Gamma (section 5.3, steps 8 and 9).
    fn commitments(&self, h: &EdwardsPoint, proof: &Proof) -> (EdwardsPoint, EdwardsPoint) {
        let c = scalar(proof.c);
        let u = EdwardsPoint::vartime_double_scalar_mul_basepoint(&c, &self.negated, &proof.s);
        // −Gamma and not −c: c has 128 bits, its negative has twice as many to work off.
        let v = EdwardsPoint::vartime_multiscalar_mul([&proof.s, &c], [*h, -proof.gamma]);
        (u, v)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PublicKey({:02x?})", self.bytes)
    }
}

/// `ECVRF_proof_to_hash` (section 5.2). It does not verify: the output of an unverified proof means nothing.
pub fn proof_to_hash(proof: &[u8]) -> Result<[u8; BETA_BYTES], Invalid> {
    let proof = Proof::decode(proof)?;
    Ok(beta(&proof.gamma.mul_by_cofactor().compress().to_bytes()))
}

/// A proof whose parts are well formed.
struct Proof {
    gamma: EdwardsPoint,
    gamma_string: PointBytes,
    c: [u8; CHALLENGE_BYTES],
    s: Scalar,
}

impl Proof {
    /// `ECVRF_decode_proof` (section 5.4.4).
    fn decode(proof: &[u8]) -> Result<Self, Invalid> {
        let proof: &[u8; PROOF_BYTES] = proof.try_into().map_err(|_| Invalid::ProofLength(proof.len()))?;
        let (mut gamma_string, mut c, mut s) = ([0; POINT_BYTES], [0; CHALLENGE_BYTES], [0; SCALAR_BYTES]);
        gamma_string.copy_from_slice(&proof[..POINT_BYTES]);
        c.copy_from_slice(&proof[POINT_BYTES..POINT_BYTES + CHALLENGE_BYTES]);
        s.copy_from_slice(&proof[POINT_BYTES + CHALLENGE_BYTES..]);
        let gamma = string_to_point(&gamma_string).ok_or(Invalid::Gamma)?;
        let s = Scalar::from_canonical_bytes(s).into_option().ok_or(Invalid::Scalar)?;
        Ok(Self { gamma, gamma_string, c, s })
    }
}

/// A point of the prime-order group that an input was hashed to.
struct HashedPoint {
    point: EdwardsPoint,
    /// The counter that succeeded; only the test vectors ask for it.
    #[cfg_attr(not(test), expect(dead_code, reason = "only the test vectors ask for it"))]
    counter: u8,
}

/// `ECVRF_encode_to_curve_try_and_increment` (section 5.4.1.1); the salt is the public key. Its time depends on the
/// input, which is public here: it is part of every answer.
fn encode_to_curve(salt: &PointBytes, alpha: &[u8]) -> HashedPoint {
    let prefix =
        Sha512::new().chain_update([SUITE_STRING, ENCODE_TO_CURVE]).chain_update(salt).chain_update(alpha);
    (0..=u8::MAX)
        .find_map(|counter| {
            let hash = prefix.clone().chain_update([counter, BACK]).finalize();
            let candidate = hash.first_chunk().expect("SHA-512 has 64 bytes");
            let point = string_to_point(candidate)?.mul_by_cofactor();
            (!point.is_identity()).then_some(HashedPoint { point, counter })
        })
        .expect(
            "about every second hash is a point, so that 256 in a row are none with a chance of about 2^-256",
        )
}

/// `ECVRF_challenge_generation` (section 5.4.3).
fn challenge(
    y: &PointBytes,
    h: &PointBytes,
    gamma: &PointBytes,
    u: &PointBytes,
    v: &PointBytes,
) -> [u8; CHALLENGE_BYTES] {
    let mut hasher = Sha512::new().chain_update([SUITE_STRING, CHALLENGE]);
    for point in [y, h, gamma, u, v] {
        hasher.update(point);
    }
    let hash = hasher.chain_update([BACK]).finalize();
    *hash.first_chunk().expect("SHA-512 has 64 bytes")
}

/// The last step of `ECVRF_proof_to_hash`: the hash of the encoded cofactor·Gamma.
fn beta(cleared_gamma: &PointBytes) -> [u8; BETA_BYTES] {
    let prefix = Sha512::new().chain_update([SUITE_STRING, PROOF_TO_HASH]);
    prefix.chain_update(cleared_gamma).chain_update([BACK]).finalize().into()
}

/// The hash of something secret, wiped when dropped.
fn hash(hasher: Sha512) -> Zeroizing<[u8; 64]> {
    let mut hash = Zeroizing::new([0; 64]);
    hasher.finalize_into((&mut *hash).into());
    hash
}

/// A challenge as a scalar, little-endian (section 5.5).
fn scalar(challenge: [u8; CHALLENGE_BYTES]) -> Scalar {
    Scalar::from(u128::from_le_bytes(challenge))
}

/// Encodes points with one field inversion for all of them.
fn compress<const N: usize>(points: [EdwardsPoint; N]) -> [PointBytes; N] {
    EdwardsPoint::compress_batch(&points).map(|point| point.to_bytes())
}

/// `string_to_point` (section 5.5, which is RFC 8032, section 5.1.3). The curve crate also takes y ≥ p, and a sign for
/// x = 0; the RFC takes neither, so that every point has one encoding.
fn string_to_point(bytes: &PointBytes) -> Option<EdwardsPoint> {
    is_canonical(bytes).then(|| CompressedEdwardsY(*bytes).decompress())?
}

fn is_canonical(bytes: &PointBytes) -> bool {
    /// p − 1 = 2^255 − 20, little-endian.
    const MINUS_ONE: PointBytes = {
        let mut bytes = [0xff; POINT_BYTES];
        bytes[0] = 0xec;
        bytes[31] = 0x7f;
        bytes
    };
    const ONE: PointBytes = {
        let mut bytes = [0; POINT_BYTES];
        bytes[0] = 1;
        bytes
    };
    let negative = bytes[31] & 0x80 != 0;
    let mut y = *bytes;
    y[31] &= 0x7f;
    let reduced = y.iter().rev().le(MINUS_ONE.iter().rev());
    // x = 0 exactly where y = ±1, and zero has no sign.
    reduced && !(negative && (y == ONE || y == MINUS_ONE))
}

#[cfg(test)]
mod tests;
