//! What a development platform pretends to be. Verifiers are tested with evidence that must be refused, and most of it
//! cannot be had from healthy hardware.
//!
//! A quote under another root needs nothing of this: it is one of another [`crate::Quoter`].

use std::time::Duration;

use crate::FMSPC;

/// How long collateral is good for.
const COLLATERAL_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
/// Collateral begins early, so that a clock that is set back a little does not put it into the future.
const COLLATERAL_EARLY: Duration = Duration::from_secs(3600);

/// The date of every TCB level, 2025-01-01T00:00:00Z as Unix seconds; grace periods count from it.
pub const TCB_DATE: u64 = 1_735_689_600;

/// What development collateral is from, unless another is wanted. Its levels never change.
const EVALUATION: u32 = 1;

/// The knobs. The default is a platform that is up to date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// The process would run in a debug enclave, which keeps no secret.
    pub debug: bool,
    /// How the platform stands to the TCB levels of the TCB information.
    pub tcb: PlatformTcb,
    /// The advisories of the level that the platform matches.
    pub advisories: Vec<String>,
    /// The platform's certificate is on the revocation list.
    pub revoked: bool,
    /// The platform that the TCB information is about.
    pub tcb_info_fmspc: [u8; 6],
    /// The number of the evaluation that the collateral is from.
    pub evaluation: u32,
    /// The dates of the collateral; `None` for 30 days that are renewed in time.
    pub validity: Option<Validity>,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            debug: false,
            tcb: PlatformTcb::UpToDate,
            advisories: Vec::new(),
            revoked: false,
            tcb_info_fmspc: FMSPC,
            evaluation: EVALUATION,
            validity: None,
        }
    }
}

/// How a platform stands to the TCB levels: what the level that it matches says, or that it matches none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlatformTcb {
    /// Nothing is known against it.
    UpToDate,
    /// Software has to be hardened.
    SwHardeningNeeded,
    /// The platform has to be configured otherwise.
    ConfigurationNeeded,
    /// There are newer levels.
    OutOfDate,
    /// Its keys are known to have leaked.
    Revoked,
    /// Every level asks for more than the platform has.
    BelowEveryLevel,
}

impl PlatformTcb {
    /// The word of the matched level.
    pub(crate) fn status(self) -> Option<&'static str> {
        match self {
            Self::UpToDate => Some("UpToDate"),
            Self::SwHardeningNeeded => Some("SWHardeningNeeded"),
            Self::ConfigurationNeeded => Some("ConfigurationNeeded"),
            Self::OutOfDate => Some("OutOfDate"),
            Self::Revoked => Some("Revoked"),
            Self::BelowEveryLevel => None,
        }
    }
}

/// From when until when collateral is good, in Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// From when.
    pub issued: u64,
    /// Until when.
    pub next_update: u64,
}

impl Validity {
    /// That of collateral which is made now.
    pub(crate) fn beginning(now: u64) -> Self {
        let issued = now.saturating_sub(COLLATERAL_EARLY.as_secs());
        Self { issued, next_update: issued + COLLATERAL_LIFETIME.as_secs() }
    }

    /// Whether it has begun and more than half of it is left.
    pub(crate) fn is_fresh(self, now: u64) -> bool {
        let half = (self.next_update - self.issued) / 2;
        self.issued <= now && now.saturating_add(half) < self.next_update
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collateral_is_fresh_from_its_making_until_half_of_it_is_over() {
        let now = 1_800_000_000;
        let validity = Validity::beginning(now);
        let day = 24 * 3600;
        assert!(validity.is_fresh(now));
        assert!(validity.is_fresh(now + 14 * day));
        assert!(!validity.is_fresh(now + 15 * day));
        assert!(!validity.is_fresh(now - day), "the clock was set back");
    }
}
