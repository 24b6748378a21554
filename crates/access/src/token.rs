//! JSON Web Tokens (RFC 7519, RFC 8725): whether a token is good, and whose it is.
//!
//! Pure: keys, token and time in, a caller or a refusal out. What a token says of itself chooses nothing but the issuer, by
//! the exact text of `iss`, and a key, by the exact text of `kid`: the algorithm belongs to the key, and a key, a
//! certificate or a URL in a header is never looked at.

mod claims;
mod compact;
mod json;
mod jwk;
mod key;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use thiserror::Error;

use compact::Compact;

pub use jwk::{Jwks, MAX_JWKS_BYTES};
pub use key::{Algorithm, MIN_SECRET_BYTES, VerifyingKey};

/// The longest token that is read, in bytes.
pub const MAX_TOKEN_BYTES: usize = 8 << 10;
/// How far the clocks of an issuer and of this machine may lie apart, in milliseconds.
const SKEW_MS: i64 = 60_000;
/// So many keys are tried for a token that does not say which of them it is signed with.
const MAX_KEYS_TRIED: usize = 8;

/// Tables published so far in this process.
static TABLES: AtomicU64 = AtomicU64::new(0);

/// Why a token is not accepted. The text is for the operator alone.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TokenRefusal {
    /// Whatever comes, it is not good, which was seen without a public key.
    #[error("{0}")]
    Refused(&'static str),
    /// Public keys were tried on it, and none of them has signed it.
    #[error("{0}")]
    Costly(&'static str),
    /// The issuer has no such key, as far as is known here.
    #[error("the token is signed with a key of {0} that is not known")]
    UnknownKey(Arc<str>),
    /// It is neither good nor bad as far as is known here: the keys of its issuer could never be fetched.
    #[error("the keys of {0} could not be fetched yet")]
    KeysAwaited(Arc<str>),
}

use TokenRefusal::Refused;

/// What is asked of the tokens of an issuer, and what they are good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerRules {
    /// What `iss` says, exactly.
    pub issuer: Arc<str>,
    /// What `aud` says, or one of its items.
    pub audience: String,
    /// What its tokens may be signed with.
    pub algorithms: BTreeSet<Algorithm>,
    /// Where the roles stand: the name of a claim, or the names on the way to it with dots between. The words of `scope`
    /// without one.
    pub role_claim: Option<String>,
    /// What each role may do. One that is not here may do nothing.
    pub scopes: BTreeMap<String, Vec<String>>,
    /// Whom its callers act for.
    pub tenant: Tenant,
    /// How much each of its callers may ask for, the name of a tier.
    pub tier: Arc<str>,
}

/// Whom a caller acts for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tenant {
    /// This one.
    Fixed(String),
    /// The one that a claim names.
    Claim {
        /// Where it stands, as [`IssuerRules::role_claim`] does.
        path: String,
        /// The tenants of other issuers, which it cannot name: a subject of theirs may be somebody else.
        others: BTreeSet<String>,
    },
}

/// Whom a token was made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Who says so.
    pub issuer: Arc<str>,
    /// The claim `sub`.
    pub subject: String,
    /// Whom the caller acts for.
    pub tenant: String,
    /// How much it may ask for, the name of a tier.
    pub tier: Arc<str>,
    /// What it may do.
    pub scopes: Vec<String>,
}

/// A token that is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Whom it was made for.
    pub identity: Identity,
    /// Until when it is good, the skew of clocks included.
    pub until: Timestamp,
}

/// The issuers and their keys, as the workers see them. Never changed: another one takes its place, and what was verified by
/// this one is verified anew by that.
pub struct TokenTable {
    number: u64,
    issuers: HashMap<Arc<str>, Issuer>,
}

/// An issuer of a table.
pub(crate) struct Issuer {
    /// What its tokens are good for.
    pub(crate) rules: Arc<IssuerRules>,
    /// The keys that are known.
    pub(crate) keys: Vec<Arc<VerifyingKey>>,
    /// Whether these are all.
    pub(crate) known: Known,
}

/// What is known of the keys of an issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// All that it has had when it was asked last.
    All,
    /// There may be others, as it could not be asked yet.
    NotAll,
}

impl TokenTable {
    /// A table of these issuers, each with all of its keys. Of two that have the same name the last one counts.
    pub fn new(issuers: impl IntoIterator<Item = (Arc<IssuerRules>, Vec<Arc<VerifyingKey>>)>) -> Self {
        Self::of(issuers.into_iter().map(|(rules, keys)| Issuer { rules, keys, known: Known::All }))
    }

    /// The same of issuers whose keys need not be known.
    pub(crate) fn of(issuers: impl IntoIterator<Item = Issuer>) -> Self {
        let by_name = issuers.into_iter().map(|issuer| (Arc::clone(&issuer.rules.issuer), issuer));
        Self { number: TABLES.fetch_add(1, Ordering::Relaxed), issuers: by_name.collect() }
    }

    /// Larger for every later table of this process.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether no token can be good.
    pub fn is_empty(&self) -> bool {
        self.issuers.is_empty()
    }

    /// Whom a token was made for, if it is good now. What it says is judged before its signature, so that one which is no good
    /// whoever has signed it costs nothing.
    ///
    /// # Errors
    /// Why it is not.
    pub fn verify(&self, token: &[u8], now: Timestamp) -> Result<Verified, TokenRefusal> {
        let compact = Compact::read(token)?;
        let claims =
            json::read(&compact.payload).ok_or(Refused("its claims are not read in one way only"))?;
        let Some(name) = json::text(&claims, "iss") else { return Err(Refused("it names no issuer")) };
        let Some(Issuer { rules, keys, known }) = self.issuers.get(name) else {
            return Err(Refused("its issuer is not one of the file"));
        };
        if !rules.algorithms.contains(&compact.algorithm) {
            return Err(Refused("its issuer may not sign with its algorithm"));
        }
        let judged = claims::judge(&claims, rules, now)?;
        verify_signature(&compact, keys).map_err(|unverified| match unverified {
            Unverified::NoKey if *known == Known::NotAll => {
                TokenRefusal::KeysAwaited(Arc::clone(&rules.issuer))
            }
            Unverified::NoKey => TokenRefusal::UnknownKey(Arc::clone(&rules.issuer)),
            Unverified::OtherKey => Refused("its key is not one of its algorithm"),
            Unverified::Unsigned if compact.algorithm == Algorithm::Hs256 => Refused(NOT_SIGNED),
            Unverified::Unsigned => TokenRefusal::Costly(NOT_SIGNED),
        })?;
        Ok(judged)
    }
}

const NOT_SIGNED: &str = "its signature is not right";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unverified {
    NoKey,
    /// The key that it names is for another algorithm.
    OtherKey,
    /// None of the keys has signed it.
    Unsigned,
}

/// A key without an id may be the one that any token means.
fn verify_signature(compact: &Compact<'_>, keys: &[Arc<VerifyingKey>]) -> Result<(), Unverified> {
    let named = |key: &&Arc<VerifyingKey>| match (&compact.key_id, key.id()) {
        (Some(wanted), Some(id)) => wanted == id,
        (None, _) | (_, None) => true,
    };
    let mut fitting = keys.iter().filter(named).filter(|key| key.fits(compact.algorithm)).peekable();
    if fitting.peek().is_none() {
        let is_another =
            compact.key_id.as_deref().is_some_and(|id| keys.iter().any(|key| key.id() == Some(id)));
        return Err(if is_another { Unverified::OtherKey } else { Unverified::NoKey });
    }
    let verifies =
        |key: &Arc<VerifyingKey>| key.verify(compact.algorithm, compact.signed, &compact.signature);
    if fitting.take(MAX_KEYS_TRIED).any(verifies) { Ok(()) } else { Err(Unverified::Unsigned) }
}

#[cfg(test)]
mod tests;
