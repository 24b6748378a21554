//! Public keys as issuers publish them: a JWK Set (RFC 7517).
//!
//! What is not understood, or is out of range, is left out (section 5), and so is whatever is no public key of a signature: a
//! secret that everybody can read is none.

use std::sync::Arc;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256,
    RsaPublicKeyComponents,
};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;
use thiserror::Error;

use super::json::{self, Object};
use super::{Algorithm, VerifyingKey};

/// The largest set of keys, in bytes.
pub const MAX_JWKS_BYTES: usize = 256 << 10;
/// The most keys of a set.
const MAX_JWKS_KEYS: usize = 100;

/// The length of a coordinate on P-256, and of a key of Ed25519, in bytes.
const COORDINATE: usize = 32;
/// The lengths of an RSA modulus, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=8_192;
/// The longest public exponent of RSA, in bytes.
const MAX_EXPONENT: usize = 4;
/// The longest id of a key, in bytes.
const MAX_ID_BYTES: usize = 256;

/// Why a set of keys is not read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JwksError {
    /// It has more than [`MAX_JWKS_BYTES`].
    #[error("it is larger than 256 KiB")]
    TooLarge,
    /// It has more than 100.
    #[error("it has more than 100 keys")]
    TooMany,
    /// It is not JSON, or JSON that can be read in two ways.
    #[error("it is not a set of keys: {0}")]
    Malformed(&'static str),
}

/// The keys of a set that are good for something here.
#[derive(Default)]
pub struct Jwks {
    /// The keys, in the order of the set.
    pub keys: Vec<Arc<VerifyingKey>>,
    /// How many others the set has.
    pub left_out: usize,
}

impl Jwks {
    /// Reads a set.
    ///
    /// # Errors
    /// It is no set, or too large.
    pub fn read(bytes: &[u8]) -> Result<Self, JwksError> {
        if bytes.len() > MAX_JWKS_BYTES {
            return Err(JwksError::TooLarge);
        }
        let set =
            json::read(bytes).ok_or(JwksError::Malformed("it is no JSON that is read in one way only"))?;
        let Some(Value::Array(written)) = set.get("keys") else {
            return Err(JwksError::Malformed("it has no list `keys`"));
        };
        if written.len() > MAX_JWKS_KEYS {
            return Err(JwksError::TooMany);
        }
        let keys: Vec<_> =
            written.iter().filter_map(|key| read_key(key.as_object()?)).map(Arc::new).collect();
        Ok(Self { left_out: written.len() - keys.len(), keys })
    }
}

fn read_key(jwk: &Object) -> Option<VerifyingKey> {
    if !is_for_verifying(jwk) || is_private(jwk) {
        return None;
    }
    let id = match jwk.get("kid") {
        None => None,
        Some(Value::String(id)) if id.len() <= MAX_ID_BYTES => Some(id.clone()),
        Some(_) => return None,
    };
    let keys = match (json::text(jwk, "kty")?, json::text(jwk, "crv")) {
        ("EC", Some("P-256")) => vec![(Algorithm::Es256, p256(jwk)?)],
        ("OKP", Some("Ed25519")) => vec![(Algorithm::EdDsa, ed25519(jwk)?)],
        ("RSA", _) => rsa(jwk)?,
        _ => return None,
    };
    let keys: Vec<_> = match jwk.get("alg") {
        None => keys,
        Some(Value::String(name)) => {
            let wanted = Algorithm::named(name)?;
            keys.into_iter().filter(|(algorithm, _)| *algorithm == wanted).collect()
        }
        Some(_) => return None,
    };
    (!keys.is_empty()).then(|| VerifyingKey::public(id, keys))
}

/// What `use` and `key_ops` say, where they are there (RFC 7517 sections 4.2 and 4.3).
fn is_for_verifying(jwk: &Object) -> bool {
    let used = !jwk.contains_key("use") || json::text(jwk, "use") == Some("sig");
    let operations = match jwk.get("key_ops") {
        None => true,
        Some(Value::Array(names)) => names.iter().any(|name| name == "verify"),
        Some(_) => false,
    };
    used && operations
}

/// A private key that is published is nobody's any more.
fn is_private(jwk: &Object) -> bool {
    ["d", "p", "q", "dp", "dq", "qi", "oth", "k"].iter().any(|member| jwk.contains_key(*member))
}

fn bytes(jwk: &Object, member: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(json::text(jwk, member)?).ok()
}

fn coordinate(jwk: &Object, member: &str) -> Option<Vec<u8>> {
    bytes(jwk, member).filter(|bytes| bytes.len() == COORDINATE)
}

fn p256(jwk: &Object) -> Option<ParsedPublicKey> {
    /// What an uncompressed point begins with (SEC 1 section 2.3.3).
    const UNCOMPRESSED: u8 = 4;
    let point = [vec![UNCOMPRESSED], coordinate(jwk, "x")?, coordinate(jwk, "y")?].concat();
    ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).ok()
}

fn ed25519(jwk: &Object) -> Option<ParsedPublicKey> {
    ParsedPublicKey::new(&ED25519, coordinate(jwk, "x")?).ok()
}

fn rsa(jwk: &Object) -> Option<Vec<(Algorithm, ParsedPublicKey)>> {
    let (n, e) = (bytes(jwk, "n")?, bytes(jwk, "e")?);
    let bits = n.len() * 8 - usize::try_from(n.first()?.leading_zeros()).ok()?;
    let is_plain = n[0] != 0 && *e.first()? != 0;
    // With an exponent of 1 everything is its own signature; an even one belongs to no key.
    let is_exponent = e.len() <= MAX_EXPONENT && *e.last()? & 1 == 1 && e != [1];
    if !is_plain || !RSA_BITS.contains(&bits) || !is_exponent {
        return None;
    }
    let key = RsaPublicKeyComponents { n, e };
    Some(vec![
        (Algorithm::Rs256, key.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).ok()?),
        (Algorithm::Ps256, key.to_parsed_public_key(&RSA_PSS_2048_8192_SHA256).ok()?),
    ])
}

#[cfg(test)]
mod tests;
