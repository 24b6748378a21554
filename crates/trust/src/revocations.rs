//! What is no longer trusted, as the authority keeps and applies the list.

use appraisal::{Appraised, Code, Fault};
use mesh_protocol::Bytes;
use mesh_protocol::{Revocations, Revoked, RevokedType, SignedRevocations, SpiffeId, to_hex};

use crate::{Signer, TrustError};

/// The most entries.
const MAX_ENTRIES: usize = 4096;
/// The longest value, in bytes.
const MAX_VALUE_BYTES: usize = 255;

/// The list with one more entry; `None` where it has it already.
pub(crate) fn with(
    list: &Revocations,
    about: RevokedType,
    value: &str,
    now: u64,
) -> Result<Option<Revocations>, TrustError> {
    if value.is_empty() || value.len() > MAX_VALUE_BYTES || list.entries.len() >= MAX_ENTRIES {
        return Err(TrustError::RevocationRefused(format!(
            "a value has 1 to {MAX_VALUE_BYTES} bytes, and a list at most {MAX_ENTRIES} entries"
        )));
    }
    if list.entries.iter().any(|entry| entry.about == about && entry.value == value) {
        return Ok(None);
    }
    let mut with = Revocations { epoch: list.epoch + 1, ..list.clone() };
    with.entries.push(Revoked { about, value: value.to_owned(), at: now });
    Ok(Some(with))
}

/// The list without an entry; `None` where it does not have it.
pub(crate) fn without(list: &Revocations, about: RevokedType, value: &str) -> Option<Revocations> {
    let mut without = Revocations { epoch: list.epoch + 1, ..list.clone() };
    without.entries.retain(|entry| entry.about != about || entry.value != value);
    (without.entries.len() < list.entries.len()).then_some(without)
}

/// Whether a replica with this evidence, and this certificate where it has one, is still trusted.
///
/// # Errors
/// The first entry that says otherwise.
pub(crate) fn allow(
    list: &Revocations,
    id: &SpiffeId,
    leaf: Option<[u8; 32]>,
    appraised: &Appraised,
) -> Result<(), Fault> {
    let (id, leaf) = (id.to_string(), leaf.map(|leaf| to_hex(&leaf)));
    let is_about = |entry: &&Revoked| match entry.about {
        RevokedType::Instance => entry.value == id,
        RevokedType::Leaf => leaf.as_ref() == Some(&entry.value),
        RevokedType::Measurement => entry.value == appraised.measurement,
        RevokedType::Platform => appraised.platform.contains(&entry.value),
        RevokedType::Advisory => appraised.advisories.iter().any(|id| id.eq_ignore_ascii_case(&entry.value)),
    };
    match list.entries.iter().find(is_about) {
        Some(entry) => {
            let about = format!("{:?}", entry.about).to_lowercase();
            Err(Fault::new(Code::Revoked, format!("the {about} {} is revoked", entry.value)))
        }
        None => Ok(()),
    }
}

pub(crate) fn sign(list: Revocations, signer: &Signer) -> Result<SignedRevocations, TrustError> {
    let message = list.message().map_err(|error| TrustError::Record(error.to_string()))?;
    let signature = Bytes(signer.sign(&message)?);
    Ok(SignedRevocations { revocations: list, signature })
}
