//! A join between its beginning and its decision.

use super::Authority;

/// Gives the ticket back where a join is given up before anything is decided, as when its connection ends: whoever comes again
/// has no other.
pub(super) struct Undecided<'a> {
    authority: &'a Authority,
    tickets: Vec<([u8; 32], u64)>,
}

impl<'a> Undecided<'a> {
    /// A join that has used these tickets, each with its expiry.
    pub(super) fn of(authority: &'a Authority, tickets: &[([u8; 32], u64)]) -> Self {
        Self { authority, tickets: tickets.to_vec() }
    }

    /// From here on they are used up.
    pub(super) fn decided(mut self) {
        self.tickets.clear();
    }
}

impl Drop for Undecided<'_> {
    fn drop(&mut self) {
        let mut state = self.authority.state();
        self.tickets.iter().for_each(|(ticket, expiry)| state.used.give_back(ticket, *expiry));
    }
}
