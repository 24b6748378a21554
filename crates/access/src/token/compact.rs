//! The compact serialisation (RFC 7515 section 7.1): three parts, base64url without padding, and a header of which little is
//! looked at.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::TokenRefusal::{self, Refused};
use super::{Algorithm, MAX_TOKEN_BYTES, json};

/// A token in its parts. Nothing of it is known to be true.
pub(super) struct Compact<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<String>,
    pub(super) payload: Zeroizing<Vec<u8>>,
    /// What the signature is over: header and payload as they came.
    pub(super) signed: &'a [u8],
    pub(super) signature: Zeroizing<Vec<u8>>,
}

impl<'a> Compact<'a> {
    pub(super) fn read(token: &'a [u8]) -> Result<Self, TokenRefusal> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refused("it is longer than 8 KiB"));
        }
        let mut parts = token.split(|byte| *byte == b'.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Refused("it has not three parts"));
        };
        let signed = &token[..header.len() + 1 + payload.len()];
        let (algorithm, key_id) = read_header(&decode(header)?)?;
        Ok(Self { algorithm, key_id, payload: decode(payload)?, signed, signature: decode(signature)? })
    }
}

/// There is one way to write any bytes: without padding, and without bits behind the last byte. The parts are the token, so they are
/// wiped like it.
fn decode(part: &[u8]) -> Result<Zeroizing<Vec<u8>>, TokenRefusal> {
    // Room for all of it at once: what grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(base64::decoded_len_estimate(part.len())));
    let decoded = BASE64_URL_SAFE_NO_PAD.decode_vec(part, &mut bytes);
    decoded.map(|()| bytes).map_err(|_| Refused("a part of it is not base64url"))
}

/// What a token may call itself (RFC 7519 section 5.1, RFC 9068 section 4).
const TYPES: [&str; 3] = ["JWT", "at+jwt", "application/at+jwt"];

/// What must be understood (`crit`) is not, nor is a payload that is signed otherwise than it is sent (`b64`, RFC 7797).
fn read_header(bytes: &[u8]) -> Result<(Algorithm, Option<String>), TokenRefusal> {
    let header = json::read(bytes).ok_or(Refused("its header is not read in one way only"))?;
    if header.contains_key("crit") || header.contains_key("b64") {
        return Err(Refused("its header asks for what is not understood"));
    }
    let algorithm = json::text(&header, "alg").and_then(Algorithm::named);
    let algorithm = algorithm.ok_or(Refused("its algorithm is none that is taken"))?;
    let is_jwt = |kind: &str| TYPES.iter().any(|known| kind.eq_ignore_ascii_case(known));
    if header.contains_key("typ") && !json::text(&header, "typ").is_some_and(is_jwt) {
        return Err(Refused("its type is not that of a token for this"));
    }
    let key_id = json::text(&header, "kid").map(str::to_owned);
    if header.contains_key("kid") && key_id.is_none() {
        return Err(Refused("the id of its key is not text"));
    }
    Ok((algorithm, key_id))
}
