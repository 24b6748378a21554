//! Leases: keys that go with whoever wrote them.

use std::fmt;

/// A lease. Keys written under it are removed, all in one revision, when it is not renewed in time or is given back.
///
/// It says who should be alive, not who may act: a holder that was paused may believe in a lease that has ended. Whoever guards a
/// resource compares the revision that created the holder's key (a fencing token, which only grows).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub(crate) i64);

impl LeaseId {
    /// The lease of a number that [`Self::number`] gave.
    pub fn of(number: i64) -> Self {
        Self(number)
    }

    /// Its number.
    pub fn number(self) -> i64 {
        self.0
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}
