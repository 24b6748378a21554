//! Tokens of issuers: remembered on the connection and by the worker, and only once verified.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use access::{Caller, Identity, KeysOfIssuers, Moment, TokenRefusal, TokenTable, Users};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::{Credential, presented};
use crate::FlowError;
use crate::exchange::Exchange;
use crate::followed::Followed;
use crate::rate_limit::{failed_at_cost, may_fail, moment};

/// Tokens that a worker remembers, of all its connections; of those the half that was used least lately makes room.
const REMEMBERED_TOKENS: usize = 4_096;
/// How long a request waits for a key that its token names and nobody knows yet.
const KEY_WAIT: Duration = Duration::from_secs(3);

/// What a worker needs to judge tokens.
pub(crate) struct Tokens {
    keys: KeysOfIssuers,
    table: Followed<TokenTable>,
    users: Arc<Users>,
    seen: RefCell<Seen>,
}

/// A token that was verified, by which keys, and what it is good for.
#[derive(Clone)]
struct Good {
    caller: Arc<Caller>,
    until: Timestamp,
    /// The numbers of the table and of the tiers. What was verified under others is verified anew.
    state: (u64, u64),
}

/// The token that one connection presented last. Wiped when dropped.
pub(crate) struct RememberedToken {
    token: Zeroizing<Box<[u8]>>,
    good: Good,
}

impl Tokens {
    pub(crate) fn new(keys: KeysOfIssuers, users: Arc<Users>) -> Self {
        let table = Followed::new(keys.tables.clone());
        Self { keys, table, users, seen: RefCell::default() }
    }

    /// The users of issuers and certificates.
    pub(super) fn users(&self) -> &Users {
        &self.users
    }

    fn state(&self) -> (u64, u64) {
        (self.table.current().number(), self.users.generation())
    }

    fn caller_of(&self, identity: Identity, now: Moment) -> Caller {
        let Identity { issuer, subject, tenant, tier, scopes } = identity;
        let allowance = self.users.allowance(&issuer, &subject, &tier, now);
        Caller::new(subject, tenant, scopes).allowed(allowance)
    }
}

/// The caller whom the request's token was made for, which nobody here has seen before.
pub(super) async fn caller(exchange: &mut Exchange) -> Result<Arc<Caller>, FlowError> {
    // Where too many were shown that only their keys could refuse, no other one is verified, but one that was good: it is looked at
    // anew only since something else has changed.
    let hash = hash(token(exchange));
    if !exchange.worker.tokens.seen.borrow().has(&hash) {
        may_fail(exchange)?;
    }
    let judged = match verify(exchange) {
        Err(TokenRefusal::UnknownKey(issuer) | TokenRefusal::KeysAwaited(issuer)) => {
            Box::pin(until_known(exchange, issuer)).await;
            verify(exchange)
        }
        judged => judged,
    };
    judged.map_err(|refusal| {
        exchange.worker.tokens.seen.borrow_mut().forget(&hash);
        let why = format!("of the token: {refusal}");
        match refusal {
            TokenRefusal::KeysAwaited(_) => return FlowError::AuthUnavailable(why),
            TokenRefusal::Costly(_) | TokenRefusal::UnknownKey(_) => failed_at_cost(exchange),
            TokenRefusal::Refused(_) => {}
        }
        FlowError::AuthInvalid(why.into())
    })
}

/// The token of a request, which has one.
fn token(exchange: &Exchange) -> &[u8] {
    match presented(&exchange.head) {
        Ok(Some(Credential::Token(token))) => token,
        _ => b"",
    }
}

/// The caller of a token that was verified before, and is still good.
pub(super) fn remembered(exchange: &Exchange, token: &[u8]) -> Option<Arc<Caller>> {
    let tokens = &exchange.worker.tokens;
    let (state, now) = (tokens.state(), exchange.now());
    let holds = |good: &Good| good.state == state && now < good.until;
    let mut last = exchange.client.remembered_token.borrow_mut();
    if let Some(known) = last.as_deref()
        && verify_slices_are_equal(&known.token, token).is_ok()
    {
        return holds(&known.good).then(|| Arc::clone(&known.good.caller));
    }
    let good = tokens.seen.borrow_mut().get(&hash(token)).filter(|good| holds(good))?;
    let caller = Arc::clone(&good.caller);
    *last = Some(Box::new(RememberedToken { token: Zeroizing::new(token.into()), good }));
    Some(caller)
}

/// Judges the token by the table in force, and remembers it if it is good.
fn verify(exchange: &Exchange) -> Result<Arc<Caller>, TokenRefusal> {
    let (tokens, token) = (&exchange.worker.tokens, token(exchange));
    let (state, now) = (tokens.state(), exchange.now());
    let verified = tokens.table.current().verify(token, now)?;
    let caller = Arc::new(tokens.caller_of(verified.identity, moment(exchange)));
    let good = Good { caller: Arc::clone(&caller), until: verified.until, state };
    tokens.seen.borrow_mut().put(hash(token), good.clone());
    *exchange.client.remembered_token.borrow_mut() =
        Some(Box::new(RememberedToken { token: Zeroizing::new(token.into()), good }));
    Ok(caller)
}

/// Has the owner of the keys look for the one that is not known, and waits until it has, or for so long.
async fn until_known(exchange: &Exchange, issuer: Arc<str>) {
    let tokens = &exchange.worker.tokens;
    let number = tokens.table.current().number();
    if let Some(answer) = tokens.keys.ask(issuer, number) {
        let _known_or_not = timeout(KEY_WAIT, answer).await.is_ok();
    }
}

/// What a worker knows a token by, so that it keeps none.
fn hash(token: &[u8]) -> [u8; 32] {
    digest(&SHA256, token).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Tokens by their hash, in two halves: when the younger one is full it takes the place of the older one.
#[derive(Default)]
struct Seen {
    young: HashMap<[u8; 32], Good>,
    old: HashMap<[u8; 32], Good>,
}

impl Seen {
    fn has(&self, hash: &[u8; 32]) -> bool {
        self.young.contains_key(hash) || self.old.contains_key(hash)
    }

    fn forget(&mut self, hash: &[u8; 32]) {
        self.young.remove(hash);
        self.old.remove(hash);
    }

    fn get(&mut self, hash: &[u8; 32]) -> Option<Good> {
        if let Some(good) = self.young.get(hash) {
            return Some(good.clone());
        }
        let good = self.old.remove(hash)?;
        self.put(*hash, good.clone());
        Some(good)
    }

    fn put(&mut self, hash: [u8; 32], good: Good) {
        if self.young.len() >= REMEMBERED_TOKENS / 2 && !self.young.contains_key(&hash) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(hash, good);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(number: u64) -> Good {
        let caller = Arc::new(Caller::new(number.to_string(), "default", Vec::new()));
        Good { caller, until: Timestamp::MAX, state: (number, 0) }
    }

    #[test]
    fn a_worker_remembers_so_many_tokens_and_those_that_come_again_longest() {
        let hash = |number: usize| hash(&number.to_be_bytes());
        let mut seen = Seen::default();
        for number in 0..10 * REMEMBERED_TOKENS {
            seen.put(hash(number), good(0));
            assert!(seen.get(&hash(0)).is_some(), "{number}");
            assert!(seen.young.len() + seen.old.len() <= REMEMBERED_TOKENS);
        }
        assert!(seen.get(&hash(1)).is_none());
        seen.put(hash(0), good(7));
        assert_eq!(seen.get(&hash(0)).unwrap().state.0, 7, "the newest word counts");
        seen.forget(&hash(0));
        assert!(!seen.has(&hash(0)) && seen.has(&hash(10 * REMEMBERED_TOKENS - 1)));
    }
}
