//! Answers that stand still.

use std::task::{Context, Poll};
use std::time::Duration;

use service_router::{Answer, Timer};
use tokio::time::Instant;

/// When an exchange in which nothing moves is given up.
pub(crate) struct IdleDeadline {
    at: Instant,
    timeout: Duration,
}

impl IdleDeadline {
    /// The deadline of an exchange that moved `since`.
    pub(crate) fn new(since: Instant, timeout: Duration) -> Self {
        Self { at: since + timeout, timeout }
    }

    /// Part of the answer moved just now.
    pub(crate) fn extend(&mut self) {
        self.at = Instant::now() + self.timeout;
    }

    /// Ready once nothing moved for the timeout, in either direction: the request may still be on its way, and moves by
    /// itself.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>, timer: &mut Timer, answer: &Answer) -> Poll<()> {
        while timer.poll_reached(context, self.at) {
            match answer.request_moved().map(|moved| moved + self.timeout) {
                Some(later) if later > self.at => self.at = later,
                _ => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }
}
