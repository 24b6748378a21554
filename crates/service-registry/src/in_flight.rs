//! Requests in flight at one instance, counted from selection, over all workers.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// A count that can be awaited to become zero. Whoever counts a request in counts it out again, however it ends.
#[derive(Debug, Default)]
pub struct InFlight {
    count: AtomicUsize,
    idle: Notify,
}

impl InFlight {
    /// Counts one more request.
    pub fn begin(&self) {
        self.count.fetch_add(1, Ordering::AcqRel);
    }

    /// One of the requests is over.
    pub fn end(&self) {
        if self.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.idle.notify_waiters();
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Returns once there is none. Meant for an instance that gets no new ones.
    pub async fn idle(&self) {
        loop {
            let woken = self.idle.notified();
            tokio::pin!(woken);
            // Listening begins before the look, so that the last request cannot end unnoticed between the two.
            woken.as_mut().enable();
            if self.count() == 0 {
                return;
            }
            woken.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn idle_returns_when_the_last_request_is_over() {
        let in_flight = Arc::new(InFlight::default());
        in_flight.idle().await;
        (0..2).for_each(|_| in_flight.begin());
        let waiting = tokio::spawn({
            let in_flight = Arc::clone(&in_flight);
            async move { in_flight.idle().await }
        });
        tokio::task::yield_now().await;
        in_flight.end();
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        in_flight.end();
        waiting.await.unwrap();
    }
}
