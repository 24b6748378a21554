//! How far this worker's drain is, for its connections and requests: on one thread, so that a request passes no shared lock to look.
//! Who listens has a place for its waker, and places are used again, so that a request allocates none.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// How far it is; it only goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    #[default]
    Serving,
    /// No connection is accepted any more; requests go on to their end.
    Draining,
    /// The drain's time is over: whoever has no answer yet gets none of a replica any more.
    Over,
}

/// Said to every connection and every request of the worker.
#[derive(Clone, Default)]
pub(crate) struct DrainSignal(Rc<State>);

#[derive(Default)]
struct State {
    stage: Cell<Stage>,
    idle: Cell<Duration>,
    places: RefCell<Places>,
}

#[derive(Default)]
struct Places {
    wakers: Vec<Option<Waker>>,
    free: Vec<usize>,
}

/// One task that listens; its place is free again when this is dropped.
pub(crate) struct Listening {
    signal: DrainSignal,
    place: Option<usize>,
    /// The stage in which its waker was noted: who is told of another one is noted no more.
    noted: Option<Stage>,
}

impl DrainSignal {
    /// Says that it is so far.
    pub(crate) fn say(&self, stage: Stage) {
        self.0.stage.set(stage);
        // Taken out first, since whoever is woken may end at once and give its place back.
        let woken: Vec<Waker> =
            self.0.places.borrow_mut().wakers.iter_mut().filter_map(Option::take).collect();
        woken.into_iter().for_each(Waker::wake);
    }

    /// Says how long connections that idle are kept while it drains; to be said before.
    pub(crate) fn keep_idle(&self, idle: Duration) {
        self.0.idle.set(idle);
    }

    /// Whether it is so far.
    pub(crate) fn has_reached(&self, stage: Stage) -> bool {
        self.0.stage.get() >= stage
    }

    /// For one task that has to hear of it.
    pub(crate) fn listen(&self) -> Listening {
        Listening { signal: self.clone(), place: None, noted: None }
    }
}

impl Listening {
    /// Whether it is so far.
    pub(crate) fn has_reached(&self, stage: Stage) -> bool {
        self.signal.has_reached(stage)
    }

    /// The same; if not, the task is woken when it goes on. Polled by one task alone, so that its waker is noted once in each stage.
    pub(crate) fn poll_reached(&mut self, context: &Context<'_>, stage: Stage) -> bool {
        if self.has_reached(stage) {
            return true;
        }
        let now = self.signal.0.stage.get();
        if self.noted != Some(now) {
            let mut places = self.signal.0.places.borrow_mut();
            let place = *self.place.get_or_insert_with(|| places.take());
            places.wakers[place] = Some(context.waker().clone());
            self.noted = Some(now);
        }
        false
    }

    /// How long connections that idle are kept while it drains.
    pub(crate) fn idle(&self) -> Duration {
        self.signal.0.idle.get()
    }

    /// Returns once it is so far.
    pub(crate) async fn reached(&mut self, stage: Stage) {
        poll_fn(|context| if self.poll_reached(context, stage) { Poll::Ready(()) } else { Poll::Pending })
            .await;
    }
}

impl Places {
    fn take(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.wakers.push(None);
            self.wakers.len() - 1
        })
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let Some(place) = self.place else { return };
        let waker = {
            let mut places = self.signal.0.places.borrow_mut();
            places.free.push(place);
            places.wakers[place].take()
        };
        // Outside, since it may be the last of a task that listens itself.
        drop(waker);
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::{LocalSet, yield_now};

    use super::*;

    #[tokio::test]
    async fn each_stage_is_heard_by_those_who_wait_and_those_who_come_later() {
        let local = LocalSet::new();
        local
            .run_until(async {
                let signal = DrainSignal::default();
                let wait = |stage| {
                    let mut listening = signal.listen();
                    tokio::task::spawn_local(async move { listening.reached(stage).await })
                };
                let (waiting, gone, patient) =
                    (wait(Stage::Draining), wait(Stage::Draining), wait(Stage::Over));
                yield_now().await;
                gone.abort();
                assert!(gone.await.is_err());
                let places = || {
                    let places = signal.0.places.borrow();
                    (places.wakers.iter().flatten().count(), places.wakers.len())
                };
                assert_eq!(places(), (2, 3), "one that waits no more is forgotten");
                let another = wait(Stage::Over);
                yield_now().await;
                assert_eq!(places(), (3, 3), "and its place is used again");
                signal.say(Stage::Draining);
                waiting.await.unwrap();
                signal.listen().reached(Stage::Draining).await;
                yield_now().await;
                assert!(!patient.is_finished() && !signal.has_reached(Stage::Over));
                assert_eq!(places(), (2, 3), "they wait for more than that");
                signal.say(Stage::Over);
                patient.await.unwrap();
                another.await.unwrap();
            })
            .await;
    }
}
