//! One timer for everything that a connection waits for.
//!
//! A deadline that moves away costs nothing: the timer fires at the old one, sees that the time has not come, and sleeps on.
//! Almost every deadline moves away before it is reached, so almost no request touches the timer.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

/// The timer of one task. It must be polled by no other.
#[derive(Debug)]
pub struct Timer {
    sleep: Pin<Box<Sleep>>,
    /// Whether it was polled since it was last moved, and so wakes the task.
    armed: bool,
}

impl Timer {
    /// A timer of the calling task.
    pub fn new(now: Instant) -> Self {
        Self { sleep: Box::pin(sleep_until(now)), armed: false }
    }

    /// Makes it ready to be given to another task. It stays where it is in the runtime's wheel: to put one there wakes the
    /// event loop by a system call, and to move its task costs none.
    pub fn disarm(&mut self) {
        self.armed = false;
    }

    /// Whether a deadline is reached. If not, the task is woken when it may be.
    pub fn poll_reached(&mut self, context: &mut Context<'_>, deadline: Instant) -> bool {
        if self.sleep.deadline() > deadline {
            self.sleep.as_mut().reset(deadline);
        } else if self.armed && !self.sleep.is_elapsed() {
            return false;
        }
        self.armed = true;
        while self.sleep.as_mut().poll(context).is_ready() {
            if Instant::now() >= deadline {
                return true;
            }
            self.sleep.as_mut().reset(deadline);
        }
        false
    }

    /// Waits for `work` until the deadline; `None` when that is reached first.
    pub async fn limit<F: Future>(&mut self, deadline: Instant, work: F) -> Option<F::Output> {
        let mut work = std::pin::pin!(work);
        poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if self.poll_reached(context, deadline) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn deadlines_hold_whether_they_move_away_or_nearer() {
        let began = Instant::now();
        let mut timer = Timer::new(began);
        let after = |seconds| Instant::now() + Duration::from_secs(seconds);
        assert_eq!(timer.limit(after(5), ready(1)).await, Some(1));
        assert_eq!(timer.limit(after(5), pending::<()>()).await, None);
        assert_eq!(began.elapsed(), Duration::from_secs(5));
        assert!(timer.limit(after(5), sleep(Duration::from_secs(4))).await.is_some());
        assert!(timer.limit(after(300), sleep(Duration::from_secs(1))).await.is_some());
        assert!(timer.limit(after(2), sleep(Duration::from_secs(4))).await.is_none());
        assert_eq!(began.elapsed(), Duration::from_secs(12));
        timer.disarm();
        let other = tokio::spawn(async move {
            let deadline = Instant::now() + Duration::from_secs(2);
            timer.limit(deadline, pending::<()>()).await
        });
        assert!(other.await.unwrap().is_none(), "it wakes another task");
        assert_eq!(began.elapsed(), Duration::from_secs(14));
    }
}
