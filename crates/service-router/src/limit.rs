//! How long a try may take.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::body::Progress;

/// The time limit of a try. It pauses while the request's body makes progress.
#[derive(Clone, Copy)]
pub(crate) struct Limit<'a> {
    /// When the time is over.
    pub(crate) deadline: Instant,
    /// How long it lasts anew after the body has moved.
    pub(crate) timeout: Duration,
    /// The body, where it is streamed.
    pub(crate) progress: Option<&'a Progress>,
}

impl Limit<'_> {
    /// Waits for `work`; `None` when the time is over.
    pub(crate) async fn run<F: Future>(self, mut timer: Pin<&mut Sleep>, work: F) -> Option<F::Output> {
        let mut work = std::pin::pin!(work);
        timer.as_mut().reset(self.deadline);
        poll_fn(|context| {
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(Some(done));
            }
            while timer.as_mut().poll(context).is_ready() {
                let extended = self.progress.map(|progress| progress.last() + self.timeout);
                match extended.filter(|extended| *extended > Instant::now()) {
                    Some(extended) => timer.as_mut().reset(extended),
                    None => return Poll::Ready(None),
                }
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::time::{sleep, sleep_until};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_is_waited_for_until_the_deadline_and_the_timer_can_be_used_again() {
        let began = Instant::now();
        let mut timer = Box::pin(sleep_until(began));
        let limit = |seconds| Limit {
            deadline: Instant::now() + Duration::from_secs(seconds),
            timeout: Duration::from_secs(seconds),
            progress: None,
        };
        assert_eq!(limit(5).run(timer.as_mut(), ready(1)).await, Some(1));
        assert_eq!(limit(5).run(timer.as_mut(), pending::<()>()).await, None);
        assert_eq!(began.elapsed(), Duration::from_secs(5));
        assert!(limit(5).run(timer.as_mut(), sleep(Duration::from_secs(4))).await.is_some());
        assert!(limit(2).run(timer.as_mut(), sleep(Duration::from_secs(4))).await.is_none());
        assert_eq!(began.elapsed(), Duration::from_secs(11));
    }
}
