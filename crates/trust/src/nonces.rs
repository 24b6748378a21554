//! Nonces and launch tickets: numbers that only this authority can have made, and that are good once. Giving one away costs no
//! memory; only those that were used are remembered, until they would have expired anyway.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use appraisal::{Code, Fault};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{hmac, rand};
use mesh_protocol::sha256;
use types::wire::Message;

use crate::TrustError;

/// How long a nonce or a ticket is good, in milliseconds.
pub(crate) const LIFE_MS: u64 = 120_000;
/// How many used ones are remembered at the same time: more joins than a machine can appraise while they live.
const MAX_USED: usize = 1 << 16;
/// How many of these one instance may have made. It bounds how many of its joins wait, too: each has used up a nonce.
const MAX_USED_OF_ONE: usize = 128;
const TAG_BYTES: usize = 16;
const TICKET_BYTES: usize = 40;

/// What a nonce is bound to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NonceContext<'a> {
    /// What only the two ends of the TLS connection know.
    pub(crate) channel: &'a [u8; 32],
    pub(crate) replica_nonce: &'a [u8; 32],
    pub(crate) service: &'a str,
    pub(crate) instance: &'a str,
}

/// Makes and checks nonces and tickets.
pub(crate) struct Minter(hmac::Key);

impl Minter {
    /// With this key, which never leaves the authority.
    pub(crate) fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// nonce = u64 expiryMs ‖ 8 random ‖ HMAC-SHA256(k, "serviceos/nonce/v1\0" ‖ first16 ‖ lp(channel) ‖ lp(replica's nonce) ‖
    /// lp(service) ‖ lp(instance))[..16].
    pub(crate) fn nonce(&self, now_ms: u64, context: NonceContext<'_>) -> Result<[u8; 32], TrustError> {
        let mut nonce = [0; 32];
        nonce[..8].copy_from_slice(&(now_ms + LIFE_MS).to_be_bytes());
        rand::fill(&mut nonce[8..16]).map_err(|_| TrustError::Randomness)?;
        let tag = self.nonce_tag(&nonce[..16], context);
        nonce[16..].copy_from_slice(&tag);
        Ok(nonce)
    }

    /// Whether a nonce was made for this, and is not too old.
    pub(crate) fn check_nonce(
        &self,
        nonce: &[u8; 32],
        now_ms: u64,
        context: NonceContext<'_>,
    ) -> Result<(), Fault> {
        if expiry(nonce) < now_ms {
            return Err(Fault::new(Code::NonceExpired, "the nonce is older than 120 seconds"));
        }
        let tag = self.nonce_tag(&nonce[..16], context);
        verify_slices_are_equal(&tag, &nonce[16..]).map_err(|_| {
            let detail = "the nonce was not given to this instance on this TLS connection";
            Fault::new(Code::NonceChannelMismatch, detail)
        })
    }

    fn nonce_tag(&self, head: &[u8], context: NonceContext<'_>) -> [u8; TAG_BYTES] {
        let message = Message::tagged(b"serviceos/nonce/v1\0")
            .raw(head)
            .lp(context.channel)
            .lp(context.replica_nonce)
            .lp(context.service)
            .lp(context.instance);
        self.tag(&message.finish())
    }

    /// ticket = u64 expiryMs ‖ 16 random ‖ HMAC-SHA256(k, "serviceos/ticket/v1\0" ‖ first24 ‖ lp(service) ‖ lp(instance))[..16].
    pub(crate) fn ticket(&self, now_ms: u64, service: &str, instance: &str) -> Result<Vec<u8>, TrustError> {
        let mut ticket = vec![0; TICKET_BYTES];
        ticket[..8].copy_from_slice(&(now_ms + LIFE_MS).to_be_bytes());
        rand::fill(&mut ticket[8..24]).map_err(|_| TrustError::Randomness)?;
        let tag = self.ticket_tag(&ticket[..24], service, instance);
        ticket[24..].copy_from_slice(&tag);
        Ok(ticket)
    }

    /// Whether a ticket was made for this instance, however old it is.
    pub(crate) fn check_ticket(&self, ticket: &[u8], service: &str, instance: &str) -> Result<(), Fault> {
        let invalid = |detail: &str| Fault::new(Code::TicketInvalid, detail);
        if ticket.len() != TICKET_BYTES {
            return Err(invalid("there is no launch ticket"));
        }
        let tag = self.ticket_tag(&ticket[..24], service, instance);
        verify_slices_are_equal(&tag, &ticket[24..])
            .map_err(|_| invalid("the launch ticket is not one for this instance"))
    }

    fn ticket_tag(&self, head: &[u8], service: &str, instance: &str) -> [u8; TAG_BYTES] {
        self.tag(&Message::tagged(b"serviceos/ticket/v1\0").raw(head).lp(service).lp(instance).finish())
    }

    fn tag(&self, message: &[u8]) -> [u8; TAG_BYTES] {
        let tag = hmac::sign(&self.0, message);
        tag.as_ref()[..TAG_BYTES].try_into().expect("SHA-256 gives more than 16 bytes")
    }
}

/// Whether a ticket, which was checked, is not too old.
pub(crate) fn check_ticket_age(ticket: &[u8], now_ms: u64) -> Result<(), Fault> {
    if expiry(ticket) < now_ms {
        return Err(Fault::new(Code::TicketInvalid, "the launch ticket is older than 120 seconds"));
    }
    Ok(())
}

/// When a nonce or ticket ends, in Unix milliseconds.
pub(crate) fn expiry(number: &[u8]) -> u64 {
    number.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

/// The nonces and tickets that were used and have not expired.
#[derive(Debug, Default)]
pub(crate) struct Used {
    by_expiry: BTreeMap<u64, Vec<[u8; 32]>>,
    /// Each with who has used it; nobody is known of those that an earlier start has left.
    all: HashMap<[u8; 32], Option<Arc<str>>>,
    of_each: HashMap<Arc<str>, usize>,
    /// Those that have expired and may still be in the store.
    forgotten: Vec<[u8; 32]>,
}

impl Used {
    /// What is remembered of a nonce or ticket.
    pub(crate) fn mark(number: &[u8]) -> [u8; 32] {
        sha256(number)
    }

    /// Remembers a use until its expiry.
    ///
    /// # Errors
    /// It was used before (`replayed`), or too many are remembered, of this instance or of all.
    pub(crate) fn add(
        &mut self,
        (mark, expiry_ms): ([u8; 32], u64),
        whose: &str,
        now_ms: u64,
        replayed: Code,
    ) -> Result<(), Fault> {
        self.forget(now_ms);
        if self.all.contains_key(&mark) {
            return Err(Fault::new(replayed, "it was used before"));
        }
        let (whose, has) = match self.of_each.get_key_value(whose) {
            Some((whose, has)) => (Arc::clone(whose), *has),
            None => (Arc::from(whose), 0),
        };
        if self.all.len() >= MAX_USED || has >= MAX_USED_OF_ONE {
            return Err(Fault::new(Code::JoinQuota, "too many joins within two minutes; try again later"));
        }
        self.of_each.insert(Arc::clone(&whose), has + 1);
        self.all.insert(mark, Some(whose));
        self.by_expiry.entry(expiry_ms).or_default().push(mark);
        Ok(())
    }

    /// Remembers what an earlier start has left, which it had room for.
    pub(crate) fn remember(&mut self, (mark, expiry_ms): ([u8; 32], u64)) {
        if self.all.insert(mark, None).is_none() {
            self.by_expiry.entry(expiry_ms).or_default().push(mark);
        }
    }

    pub(crate) fn contains(&self, mark: &[u8; 32]) -> bool {
        self.all.contains_key(mark)
    }

    /// Takes a use back of which nothing came.
    pub(crate) fn give_back(&mut self, mark: &[u8; 32], expiry_ms: u64) {
        if self.remove(mark)
            && let Some(marks) = self.by_expiry.get_mut(&expiry_ms)
        {
            marks.retain(|other| other != mark);
        }
    }

    /// Those that have expired and are to be taken out of the store.
    pub(crate) fn take_forgotten(&mut self, now_ms: u64) -> Vec<[u8; 32]> {
        self.forget(now_ms);
        std::mem::take(&mut self.forgotten)
    }

    /// They are still in the store. Beyond the limit they stay there until the next start, which reads all of it.
    pub(crate) fn not_taken_out(&mut self, marks: &[[u8; 32]]) {
        let room = MAX_USED.saturating_sub(self.forgotten.len());
        self.forgotten.extend(marks.iter().take(room));
    }

    fn forget(&mut self, now_ms: u64) {
        while let Some(entry) = self.by_expiry.first_entry().filter(|entry| *entry.key() < now_ms) {
            let expired = entry.remove();
            for mark in &expired {
                self.remove(mark);
            }
            self.not_taken_out(&expired);
        }
    }

    fn remove(&mut self, mark: &[u8; 32]) -> bool {
        let Some(whose) = self.all.remove(mark) else { return false };
        if let Some(whose) = whose
            && let Some(has) = self.of_each.get_mut(&whose)
        {
            *has -= 1;
            if *has == 0 {
                self.of_each.remove(&whose);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTEXT: NonceContext<'_> =
        NonceContext { channel: &[1; 32], replica_nonce: &[2; 32], service: "vrf", instance: "0" };

    #[test]
    fn a_nonce_is_good_for_120_seconds_on_its_connection() {
        let minter = Minter::new(&[7; 32]);
        let nonce = minter.nonce(1_000, CONTEXT).unwrap();
        let check = |now, context| minter.check_nonce(&nonce, now, context).map_err(|fault| fault.code);
        assert_eq!(check(1_000, CONTEXT), Ok(()));
        assert_eq!(check(121_000, CONTEXT), Ok(()));
        assert_eq!(check(121_001, CONTEXT), Err(Code::NonceExpired));
        for other in [
            NonceContext { channel: &[9; 32], ..CONTEXT },
            NonceContext { replica_nonce: &[9; 32], ..CONTEXT },
            NonceContext { service: "vr", ..CONTEXT },
            NonceContext { instance: "1", ..CONTEXT },
        ] {
            assert_eq!(check(1_000, other), Err(Code::NonceChannelMismatch));
        }
        let other = Minter::new(&[8; 32]).check_nonce(&nonce, 1_000, CONTEXT);
        assert_eq!(other.unwrap_err().code, Code::NonceChannelMismatch);
    }

    #[test]
    fn a_ticket_is_good_for_120_seconds_for_its_instance() {
        let minter = Minter::new(&[7; 32]);
        let ticket = minter.ticket(1_000, "vrf", "0").unwrap();
        let check = |ticket: &[u8], now, service, instance| {
            let is_one = minter.check_ticket(ticket, service, instance);
            is_one.and_then(|()| check_ticket_age(ticket, now)).map_err(|fault| fault.code)
        };
        assert_eq!(check(&ticket, 121_000, "vrf", "0"), Ok(()));
        let invalid = Err(Code::TicketInvalid);
        assert_eq!(check(&ticket, 121_001, "vrf", "0"), invalid);
        assert_eq!(check(&ticket, 1_000, "vrf", "1"), invalid);
        assert_eq!(check(&ticket, 1_000, "oracle", "0"), invalid);
        assert_eq!(check(&[], 1_000, "vrf", "0"), invalid);
        for place in 0..ticket.len() {
            let mut flipped = ticket.clone();
            flipped[place] ^= 1;
            assert_eq!(check(&flipped, 1_000, "vrf", "0"), invalid, "byte {place}");
        }
    }

    /// What the use of a number by an instance comes to.
    fn used_by(used: &mut Used, mark: [u8; 32], whose: &str, now: u64) -> Result<(), Code> {
        used.add((mark, 1_000), whose, now, Code::NonceReplayed).map_err(|fault| fault.code)
    }

    #[test]
    fn a_used_number_is_remembered_until_it_would_have_expired() {
        let mut used = Used::default();
        assert_eq!(used_by(&mut used, [1; 32], "vrf/0", 0), Ok(()));
        assert_eq!(used_by(&mut used, [1; 32], "vrf/0", 1_000), Err(Code::NonceReplayed));
        assert_eq!(used.take_forgotten(1_000), [[0; 32]; 0]);
        assert_eq!(used.take_forgotten(1_001), [[1; 32]]);
        used.not_taken_out(&[[1; 32]]);
        assert_eq!(used.take_forgotten(1_001), [[1; 32]], "what failed is tried again");
        let again = used_by(&mut used, [1; 32], "vrf/0", 1_001);
        assert_eq!(again, Ok(()), "its expiry refuses it from then on");
    }

    #[test]
    fn a_number_that_is_given_back_is_good_again_and_no_other_is() {
        let mut used = Used::default();
        for mark in [[1; 32], [2; 32]] {
            used_by(&mut used, mark, "vrf/0", 0).unwrap();
        }
        used.give_back(&[1; 32], 1_000);
        used.give_back(&[3; 32], 1_000);
        assert!(!used.contains(&[1; 32]));
        assert_eq!(used_by(&mut used, [1; 32], "vrf/0", 0), Ok(()));
        assert!(used_by(&mut used, [2; 32], "vrf/0", 0).is_err());
    }

    #[test]
    fn one_instance_takes_no_room_from_others() {
        let mut used = Used::default();
        let mark = |number: usize| sha256(&number.to_be_bytes());
        for number in 0..MAX_USED_OF_ONE {
            used_by(&mut used, mark(number), "vrf/0", 0).unwrap();
        }
        assert_eq!(used_by(&mut used, mark(1_000), "vrf/0", 0), Err(Code::JoinQuota));
        assert!(Code::JoinQuota.is_retryable());
        assert_eq!(used_by(&mut used, mark(1_000), "vrf/1", 0), Ok(()));
        assert_eq!(used_by(&mut used, mark(0), "vrf/0", 0), Err(Code::NonceReplayed));
        used.give_back(&mark(0), 1_000);
        assert_eq!(used_by(&mut used, mark(1_001), "vrf/0", 0), Ok(()));
        assert_eq!(used_by(&mut used, mark(1_002), "vrf/0", 1_001), Ok(()), "all of them have expired");
    }
}
