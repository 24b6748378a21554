//! How calls to an instance end, as all workers see it together: what outlier ejection is decided by.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// Nothing is in question.
const TRUSTED: u8 = 0;
/// It was ejected before: one call may go there, and decides.
const ON_PROBATION: u8 = 1;
/// That call is on its way.
const PROBED: u8 = 2;

/// The calls of one instance. A call that succeeds where nothing was wrong writes nothing.
#[derive(Debug, Default)]
pub struct Outcomes {
    failures_in_a_row: AtomicU32,
    trust: AtomicU8,
}

impl Outcomes {
    /// Whether a call may go there: not while another one decides about it.
    pub fn takes_calls(&self) -> bool {
        self.trust.load(Ordering::Relaxed) != PROBED
    }

    /// Takes the one call of a probation, where there is one; whether this call may go there.
    pub fn claim(&self) -> Claim {
        match self.trust.compare_exchange(ON_PROBATION, PROBED, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => Claim::Probe,
            Err(TRUSTED) => Claim::Call,
            Err(_) => Claim::Refused,
        }
    }

    /// A call succeeded.
    pub fn succeeded(&self) {
        if self.failures_in_a_row.load(Ordering::Relaxed) != 0 {
            self.failures_in_a_row.store(0, Ordering::Relaxed);
        }
        self.trust();
    }

    /// A call is being answered: it keeps others from being made no longer, although it may still fail.
    pub fn trust(&self) {
        if self.trust.load(Ordering::Relaxed) != TRUSTED {
            self.trust.store(TRUSTED, Ordering::Relaxed);
        }
    }

    /// A call failed; how many did so in a row.
    pub fn failed(&self) -> u32 {
        self.failures_in_a_row.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// A probe ended without having shown anything: another one may decide.
    pub fn probe_again(&self) {
        let _decided_already =
            self.trust.compare_exchange(PROBED, ON_PROBATION, Ordering::Relaxed, Ordering::Relaxed).is_err();
    }

    /// Begins anew after an ejection.
    pub fn begin_probation(&self) {
        self.failures_in_a_row.store(0, Ordering::Relaxed);
        self.trust.store(ON_PROBATION, Ordering::Relaxed);
    }
}

/// What a worker may do with an instance that it has chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Call it.
    Call,
    /// Call it; the outcome decides whether others may.
    Probe,
    /// Choose another one.
    Refused,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_ends_a_row_of_failures() {
        let outcomes = Outcomes::default();
        assert_eq!((outcomes.failed(), outcomes.failed()), (1, 2));
        outcomes.succeeded();
        assert_eq!(outcomes.failed(), 1);
    }

    #[test]
    fn one_call_decides_after_an_ejection() {
        let outcomes = Outcomes::default();
        assert_eq!(outcomes.claim(), Claim::Call);
        outcomes.begin_probation();
        assert!(outcomes.takes_calls());
        assert_eq!((outcomes.claim(), outcomes.claim()), (Claim::Probe, Claim::Refused));
        assert!(!outcomes.takes_calls());
        outcomes.probe_again();
        assert_eq!(outcomes.claim(), Claim::Probe);
        outcomes.succeeded();
        assert_eq!(outcomes.claim(), Claim::Call);
    }
}
