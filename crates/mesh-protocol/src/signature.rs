//! The signatures of the mesh: ECDSA P-256 with SHA-256, raw r ‖ s.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

/// The bytes of a P-256 SubjectPublicKeyInfo, and of the point at its end.
const SPKI_BYTES: usize = 91;
const POINT_BYTES: usize = 65;

/// Whether a signature is that of a key, given as DER SubjectPublicKeyInfo, over a message.
pub fn is_signed_by(spki: &[u8], message: &[u8], signature: &[u8]) -> bool {
    if spki.len() != SPKI_BYTES {
        return false;
    }
    let point = &spki[SPKI_BYTES - POINT_BYTES..];
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature).is_ok()
}
