//! What is kept of a key, and what somebody who wants one has to say.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::public_key::{PublicKey, PublicKeyInfo};
use crate::{AccessError, UNLIMITED};

const MAX_SCOPES: usize = 32;
const MAX_WORD_BYTES: usize = 64;

/// What is kept of a key: everything but the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyRecord {
    /// Its id, `key_` and a ULID.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// Whom it acts for.
    pub tenant: String,
    /// How much it may ask for: the name of a tier. A record without one was written before there were tiers.
    #[serde(default = "unlimited")]
    pub tier: String,
    /// The public key that its requests are signed with; one without has a secret.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub public_key: Option<PublicKeyInfo>,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is refused.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_at: Option<Timestamp>,
    /// When it was given another secret or public key last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rotated_at: Option<Timestamp>,
    /// From when on the secret or public key that it had before is refused.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub previous_ends_at: Option<Timestamp>,
    /// When it was revoked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub revoked_at: Option<Timestamp>,
}

fn unlimited() -> String {
    UNLIMITED.to_owned()
}

impl KeyRecord {
    /// Whether it will never be good again.
    pub(super) fn has_ended(&self, now: Timestamp) -> bool {
        self.revoked_at.is_some() || self.expires_at.is_some_and(|expiry| expiry <= now)
    }
}

/// What somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewKey {
    /// What people will call it, 1 to 64 bytes.
    pub name: String,
    /// What it may do: words of lower-case letters, digits and `:._-`.
    pub scopes: Vec<String>,
    /// Whom it acts for; `default` when left out.
    #[serde(default)]
    pub tenant: Option<String>,
    /// How much it may ask for, the name of a tier; `unlimited` when left out in development, `free` in production.
    #[serde(default)]
    pub tier: Option<String>,
    /// From when on it is refused; never when left out.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
    /// The public key, as PEM, that its requests are signed with. A key that has one has no secret.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub public_key: Option<String>,
}

/// What somebody wants who rotates a key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewRotation {
    /// For how long the old secret is good too, such as `24h`, which it is when left out; at most 7 days.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub overlap: Option<String>,
    /// The new public key, as PEM, of a key that has one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub public_key: Option<String>,
}

/// For how long the old secret is good too, where nobody says otherwise.
pub const DEFAULT_OVERLAP: Duration = Duration::from_secs(24 * 3600);
/// The most that somebody can say.
pub const MAX_OVERLAP: Duration = Duration::from_secs(7 * 24 * 3600);

impl NewRotation {
    pub(super) fn overlap(&self) -> Result<Duration, AccessError> {
        let Some(text) = &self.overlap else { return Ok(DEFAULT_OVERLAP) };
        let overlap = types::duration::parse(text).filter(|overlap| *overlap <= MAX_OVERLAP);
        let wanted = || "overlap: expected a duration of 0s to 7d, such as 24h".to_owned();
        overlap.ok_or_else(|| AccessError::Invalid(wanted()))
    }
}

/// What a caller of the key has to have.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Credential {
    /// The secret of this keyed hash.
    Secret([u8; 32]),
    /// The private key of this public one.
    Public(Arc<PublicKey>),
}

/// A record with what finds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Row", into = "Row")]
pub(super) struct StoredKey {
    pub(super) credential: Credential,
    /// What was good before the last rotation, and is until the record says that it is no more.
    pub(super) previous: Option<Credential>,
    /// How often it was rotated: of two states of a key the one with more rotations is the later.
    pub(super) rotations: u64,
    pub(super) record: KeyRecord,
}

impl StoredKey {
    /// The same key with another credential; the one that it has is good until the overlap is over, and what was good before
    /// that is good no more.
    pub(super) fn rotated(&self, credential: Credential, overlap: Duration, now: Timestamp) -> Self {
        let mut record = self.record.clone();
        if let Credential::Public(key) = &credential {
            record.public_key = Some(key.info());
        }
        record.rotated_at = Some(now);
        record.previous_ends_at = Some(now + overlap);
        let previous = (!overlap.is_zero()).then(|| self.credential.clone());
        Self { credential, previous, rotations: self.rotations + 1, record }
    }
}

/// The same as it is in the store. Before keys could be rotated there was a hash, and nothing else beside the record.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    hash: Option<[u8; 32]>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    public_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    previous_hash: Option<[u8; 32]>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    previous_public_key: Option<String>,
    #[serde(skip_serializing_if = "is_zero", default)]
    rotations: u64,
    record: KeyRecord,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl TryFrom<Row> for StoredKey {
    type Error = &'static str;

    fn try_from(row: Row) -> Result<Self, Self::Error> {
        let credential = read_credential(row.hash, row.public_key)?.ok_or("nothing finds it")?;
        let previous = read_credential(row.previous_hash, row.previous_public_key)?;
        Ok(Self { credential, previous, rotations: row.rotations, record: row.record })
    }
}

fn read_credential(
    hash: Option<[u8; 32]>,
    public_key: Option<String>,
) -> Result<Option<Credential>, &'static str> {
    match (hash, public_key) {
        (Some(_), Some(_)) => Err("a secret and a public key"),
        (Some(hash), None) => Ok(Some(Credential::Secret(hash))),
        (None, Some(text)) => {
            let key = PublicKey::decode(&text).ok_or("a public key that is none")?;
            Ok(Some(Credential::Public(Arc::new(key))))
        }
        (None, None) => Ok(None),
    }
}

impl From<StoredKey> for Row {
    fn from(stored: StoredKey) -> Self {
        let parts = |credential: Option<Credential>| match credential {
            Some(Credential::Secret(hash)) => (Some(hash), None),
            Some(Credential::Public(key)) => (None, Some(key.encoded())),
            None => (None, None),
        };
        let (hash, public_key) = parts(Some(stored.credential));
        let (previous_hash, previous_public_key) = parts(stored.previous);
        let (rotations, record) = (stored.rotations, stored.record);
        Self { hash, public_key, previous_hash, previous_public_key, rotations, record }
    }
}

pub(super) fn check(new: &NewKey, now: Timestamp) -> Result<(), AccessError> {
    let invalid = |text: &str| Err(AccessError::Invalid(text.to_owned()));
    let word = |text: &str, others: &[u8]| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || others.contains(&byte);
        !text.is_empty() && text.len() <= MAX_WORD_BYTES && text.bytes().all(allowed)
    };
    if new.name.is_empty() || new.name.len() > MAX_WORD_BYTES || new.name.chars().any(char::is_control) {
        return invalid("a key has a name of 1 to 64 bytes without control characters");
    }
    if new.scopes.is_empty() || new.scopes.len() > MAX_SCOPES {
        return invalid("a key has 1 to 32 scopes");
    }
    let lower = |scope: &String| !scope.bytes().any(|byte| byte.is_ascii_uppercase());
    if !new.scopes.iter().all(|scope| word(scope, b":._-") && lower(scope)) {
        return invalid("a scope is a word of lower-case letters, digits and :._- of at most 64 bytes");
    }
    if !new.tenant.as_deref().is_none_or(|tenant| word(tenant, b"._-")) {
        return invalid("a tenant is a word of letters, digits and ._- of at most 64 bytes");
    }
    if new.expires_at.is_some_and(|expiry| expiry <= now) {
        return invalid("a key expires in the future");
    }
    Ok(())
}
