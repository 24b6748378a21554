//! The word that this worker drains, for its connections: on one thread, so that a request passes no shared lock to look
//! whether it was said.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Said once, heard by every connection of the worker.
#[derive(Clone, Default)]
pub(crate) struct DrainSignal(Rc<State>);

#[derive(Default)]
struct State {
    said: Cell<bool>,
    next: Cell<u64>,
    waiting: RefCell<BTreeMap<u64, Waker>>,
}

/// The place of one that waits; taken off when it waits no more.
struct Place {
    signal: DrainSignal,
    number: u64,
}

impl DrainSignal {
    /// Says it.
    pub(crate) fn say(&self) {
        self.0.said.set(true);
        // Taken out first, since whoever is woken may end at once and take its place off.
        let waiting = self.0.waiting.take();
        waiting.into_values().for_each(Waker::wake);
    }

    /// Whether it was said.
    pub(crate) fn was_said(&self) -> bool {
        self.0.said.get()
    }

    /// Returns once it is said. Awaited by one task from beginning to end, so that its waker is noted only once.
    pub(crate) async fn said(self) {
        let number = self.0.next.get();
        self.0.next.set(number + 1);
        let place = Place { signal: self, number };
        let mut noted = false;
        poll_fn(|context| {
            let state = &place.signal.0;
            if state.said.get() {
                return Poll::Ready(());
            }
            if !noted {
                state.waiting.borrow_mut().insert(place.number, context.waker().clone());
                noted = true;
            }
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.signal.0.waiting.borrow_mut().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::{LocalSet, yield_now};

    use super::*;

    #[tokio::test]
    async fn it_is_heard_by_those_who_wait_and_those_who_come_later() {
        let local = LocalSet::new();
        local
            .run_until(async {
                let signal = DrainSignal::default();
                let waiting = tokio::task::spawn_local(signal.clone().said());
                let gone = tokio::task::spawn_local(signal.clone().said());
                yield_now().await;
                gone.abort();
                assert!(gone.await.is_err());
                assert_eq!(signal.0.waiting.borrow().len(), 1, "one that waits no more is forgotten");
                signal.say();
                waiting.await.unwrap();
                signal.said().await;
            })
            .await;
    }
}
