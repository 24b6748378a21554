//! Who calls, as a gateway says it to a replica: a JSON Web Token (RFC 7519) that the gateway signs with the key of its
//! certificate (ES256, RFC 7518 section 3.4). That a gateway connects says nothing of any user; this does.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::{is_signed_by, sha256};

/// How long a token is good, in seconds.
pub const CALLER_TOKEN_SECONDS: u64 = 30;
/// The longest token that is read, in bytes.
const MAX_TOKEN_BYTES: usize = 8 << 10;

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallerClaims {
    /// The gateway, by its SPIFFE ID.
    pub iss: String,
    /// The caller: the id of the API key.
    pub sub: String,
    /// Whom the caller acts for.
    pub tenant: String,
    /// The scopes of the caller, separated by spaces.
    pub scope: String,
    /// The service that it is for, and no other.
    pub aud: String,
    /// The id of the request.
    pub jti: String,
    /// When it was made, Unix seconds.
    pub iat: u64,
    /// Until when it is good.
    pub exp: u64,
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    typ: String,
    /// SHA-256 of the gateway's key, unpadded base64url.
    kid: String,
}

impl CallerClaims {
    /// The part of a token before its signature, for the key that will sign it, given as DER SubjectPublicKeyInfo.
    pub fn to_be_signed(&self, spki: &[u8]) -> String {
        let kid = BASE64_URL_SAFE_NO_PAD.encode(sha256(spki));
        let header = Header { alg: "ES256".into(), typ: "JWT".into(), kid };
        format!("{}.{}", part(&header), part(self))
    }

    /// What a token says, if this key signed it for this service and it is good at this time.
    pub fn verify(token: &str, spki: &[u8], audience: &str, now: u64) -> Option<Self> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: Header = read(header)?;
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
        if header.alg != "ES256" || !is_signed_by(spki, signed.as_bytes(), &signature) {
            return None;
        }
        let claims: Self = read(claims)?;
        (claims.aud == audience && now <= claims.exp).then_some(claims)
    }
}

/// A token of what was signed and the signature, r ‖ s.
pub fn caller_token(signed: &str, signature: &[u8]) -> String {
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

fn part(value: &impl Serialize) -> String {
    let json = serde_json::to_vec(value).expect("a token has no map with keys that JSON cannot write");
    BASE64_URL_SAFE_NO_PAD.encode(json)
}

fn read<T: for<'de> Deserialize<'de>>(part: &str) -> Option<T> {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}
