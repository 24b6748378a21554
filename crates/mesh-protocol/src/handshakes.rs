//! Handshakes in progress. There is a limit to them, and the oldest makes room for whoever comes next: somebody who connects and
//! says nothing keeps nobody out.

use std::collections::VecDeque;
use std::future::Future;

use tokio::task::{AbortHandle, JoinSet};

/// Handshakes, each of which may end in a connection.
pub struct Handshakes<C> {
    begun: JoinSet<Option<C>>,
    oldest_first: VecDeque<AbortHandle>,
    most: usize,
}

impl<C: Send + 'static> Handshakes<C> {
    /// At most so many at the same time.
    pub fn new(most: usize) -> Self {
        Self { begun: JoinSet::new(), oldest_first: VecDeque::new(), most }
    }

    /// Begins one. Where there are as many as there may be, the oldest is given up.
    pub fn begin(&mut self, handshake: impl Future<Output = Option<C>> + Send + 'static) {
        self.oldest_first.retain(|handshake| !handshake.is_finished());
        if self.oldest_first.len() >= self.most
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            oldest.abort();
        }
        self.oldest_first.push_back(self.begun.spawn(handshake));
    }

    /// The next connection. It may be dropped without losing one.
    pub async fn next(&mut self) -> C {
        loop {
            match self.begun.join_next().await {
                Some(Ok(Some(connection))) => return connection,
                // It failed, or was given up.
                Some(Ok(None) | Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_oldest_makes_room_and_the_others_come_through() {
        let mut handshakes = Handshakes::new(2);
        let mut ends = Vec::new();
        for number in 0..4 {
            let (end, ended) = oneshot::channel();
            ends.push(end);
            handshakes.begin(async move { ended.await.ok().map(|()| number) });
        }
        tokio::task::yield_now().await;
        let given_up: Vec<_> = ends.iter().map(oneshot::Sender::is_closed).collect();
        assert_eq!(given_up, [true, true, false, false]);
        ends.pop().unwrap().send(()).unwrap();
        assert_eq!(handshakes.next().await, 3);
        // One that has ended takes no room.
        handshakes.begin(async { Some(4) });
        assert_eq!(handshakes.next().await, 4);
        ends.pop().unwrap().send(()).unwrap();
        assert_eq!(handshakes.next().await, 2);
        assert!(timeout(Duration::from_secs(1), handshakes.next()).await.is_err());
    }
}
