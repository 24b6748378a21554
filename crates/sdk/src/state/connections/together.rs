//! Writes that wait go together, in one transaction: it costs one exchange with the mesh API, whatever their number.
//!
//! Each is done whole or not at all all the same, and none is refused for another's sake. Only what creates rows goes with others:
//! of these a conflict says whose rows are in the way.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use mesh_protocol::{
    MAX_STATE_BYTES, MAX_STATE_KEY_BYTES, MAX_STATE_KEYS, MAX_STATE_VALUE_BYTES, StatePresent, StateWrite,
    StateWriteRequest,
};
use tokio::sync::oneshot;

use super::{Answered, Fault, StateError};

/// Writes that wait; one more is told to try again.
const MAX_WAITING: usize = 1_024;

type Answer = Result<Answered, Fault>;

/// What waits to be written.
#[derive(Default)]
pub(super) struct Waiting(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    /// The oldest first.
    jobs: VecDeque<Job>,
    /// How many write.
    writers: usize,
}

struct Job {
    request: StateWriteRequest,
    answer: oneshot::Sender<Answer>,
}

/// Writes that go together.
pub(super) struct Batch(Vec<Job>);

/// Who is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Somebody who writes.
    Writer,
    Nobody,
}

/// Somebody who writes until nothing waits any more. However it ends, somebody else can begin.
pub(super) struct Writer<'a> {
    waiting: &'a Waiting,
    is_done: bool,
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.waiting.queue().writers -= 1;
        }
    }
}

impl Job {
    /// Whether it may go with others: it creates rows, and is within all limits by itself.
    fn is_sociable(&self) -> bool {
        let is_within = |write: &StateWrite| {
            matches!(write, StateWrite::Create { key, value }
                if (1..=MAX_STATE_KEY_BYTES).contains(&key.0.len()) && value.0.len() <= MAX_STATE_VALUE_BYTES)
        };
        !self.request.writes.is_empty() && self.request.writes.iter().all(is_within)
    }

    fn bytes(&self) -> usize {
        let of = |write: &StateWrite| write.key().0.len() + write.value().map_or(0, |value| value.0.len());
        self.request.writes.iter().map(of).sum()
    }

    fn told(self, answer: Answer) {
        let _nobody_waits = self.answer.send(answer);
    }
}

impl Waiting {
    /// Puts a write behind the others. Gives where its answer comes, and whether somebody has to [begin](Self::begin), of whom there
    /// are at most so many.
    pub(super) fn push(
        &self,
        request: StateWriteRequest,
        most: usize,
    ) -> Result<(oneshot::Receiver<Answer>, Wanted), Fault> {
        let mut queue = self.queue();
        if queue.jobs.len() >= MAX_WAITING {
            queue.jobs.retain(|job| !job.answer.is_closed());
        }
        if queue.jobs.len() >= MAX_WAITING {
            let reason = format!("{MAX_WAITING} writes wait already");
            return Err(Fault::Error(StateError::Unavailable(reason)));
        }
        let (answer, answered) = oneshot::channel();
        queue.jobs.push_back(Job { request, answer });
        let wanted = if queue.writers < most { Wanted::Writer } else { Wanted::Nobody };
        queue.writers += usize::from(wanted == Wanted::Writer);
        Ok((answered, wanted))
    }

    /// Whoever was wanted begins.
    pub(super) fn begin(&self) -> Writer<'_> {
        Writer { waiting: self, is_done: false }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer<'_> {
    /// Takes what is at the front and goes together; nothing, once nothing waits.
    pub(super) fn next(&mut self) -> Option<Batch> {
        let mut queue = self.waiting.queue();
        let batch = take(&mut queue.jobs);
        self.is_done = batch.is_empty();
        queue.writers -= usize::from(self.is_done);
        (!self.is_done).then_some(Batch(batch))
    }
}

impl Batch {
    /// Writes it.
    pub(super) async fn write<F: Future<Output = Answer>>(self, write: impl Fn(StateWriteRequest) -> F) {
        let Self(mut jobs) = self;
        while jobs.len() > 1 {
            let writes = jobs.iter().flat_map(|job| job.request.writes.clone()).collect();
            let present = match write(StateWriteRequest { writes }).await {
                Ok(Answered::Done(revision)) => {
                    return jobs.into_iter().for_each(|job| job.told(Ok(Answered::Done(revision))));
                }
                Ok(Answered::Conflict(present)) => present,
                Err(fault @ (Fault::Lost(_) | Fault::Error(StateError::Unavailable(_)))) => {
                    return jobs.into_iter().for_each(|job| job.told(Err(fault.clone())));
                }
                // There may be room for one of them.
                Err(Fault::Error(_)) => break,
            };
            let before = jobs.len();
            jobs = without_those_in_conflict(jobs, &present);
            if jobs.len() == before {
                // What was in the way is gone. Somebody who writes alone has an answer in any case.
                break;
            }
        }
        for job in jobs {
            let answer = write(job.request.clone()).await;
            job.told(answer);
        }
    }
}

/// Those at the front that go together.
fn take(waiting: &mut VecDeque<Job>) -> Vec<Job> {
    let (mut taken, mut keys, mut bytes) = (Vec::new(), HashSet::new(), 0);
    while let Some(job) = waiting.pop_front() {
        if job.answer.is_closed() {
            continue;
        }
        bytes += job.bytes();
        let own = job.request.writes.iter().map(|write| write.key().0.clone());
        let (before, count) = (keys.len(), job.request.writes.len());
        keys.extend(own);
        let fits = keys.len() == before + count && keys.len() <= MAX_STATE_KEYS && bytes <= MAX_STATE_BYTES;
        let is_sociable = job.is_sociable();
        let goes_along = taken.is_empty() || is_sociable && fits;
        if !goes_along {
            waiting.push_front(job);
            break;
        }
        taken.push(job);
        if !is_sociable {
            break;
        }
    }
    taken
}

/// Tells those whose rows are there, and gives the others.
fn without_those_in_conflict(jobs: Vec<Job>, present: &[StatePresent]) -> Vec<Job> {
    let mut others = Vec::new();
    for job in jobs {
        let is_own = |row: &&StatePresent| job.request.writes.iter().any(|write| *write.key() == row.key);
        let own: Vec<_> = present.iter().filter(is_own).cloned().collect();
        if own.is_empty() {
            others.push(job);
        } else {
            job.told(Ok(Answered::Conflict(own)));
        }
    }
    others
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::ready;

    use mesh_protocol::Bytes;

    use super::*;

    fn create(key: &str, bytes: usize) -> StateWrite {
        StateWrite::Create { key: Bytes(key.into()), value: Bytes(vec![0; bytes]) }
    }

    fn delete(key: &str) -> StateWrite {
        StateWrite::Delete { key: Bytes(key.into()), revision: 1 }
    }

    fn present(key: &str) -> StatePresent {
        StatePresent { key: Bytes(key.into()), revision: 1, value: None }
    }

    /// Writes everything that waits with these answers, the last of which is given for ever; gives the keys of each request.
    async fn written(waiting: &Waiting, answers: &[fn() -> Answer]) -> Vec<String> {
        let requests = RefCell::new(Vec::new());
        let write = |request: StateWriteRequest| {
            let keys =
                request.writes.iter().map(|write| String::from_utf8_lossy(&write.key().0).into_owned());
            requests.borrow_mut().push(keys.collect::<Vec<_>>().join(" "));
            ready(answers[(requests.borrow().len() - 1).min(answers.len() - 1)]())
        };
        let mut writer = waiting.begin();
        while let Some(batch) = writer.next() {
            batch.write(write).await;
        }
        requests.into_inner()
    }

    fn pushed(waiting: &Waiting, writes: Vec<StateWrite>) -> oneshot::Receiver<Answer> {
        waiting.push(StateWriteRequest { writes }, 1).unwrap().0
    }

    #[tokio::test]
    async fn what_creates_other_rows_goes_together_as_far_as_it_fits_and_in_order() {
        let waiting = Waiting::default();
        let half = MAX_STATE_BYTES / 2;
        let long = "k".repeat(MAX_STATE_KEY_BYTES + 1);
        let values = |key: &str| (0..4).map(|part| create(&format!("{key}{part}"), half / 4)).collect();
        let told = [
            vec![create("a", 1), create("b", 1)],
            vec![create("c", 1)],
            vec![create("d", 1), create("a", 1)],
            vec![create("e", 1)],
            vec![delete("f")],
            vec![create("g", 1)],
            vec![create(&long, 1)],
            vec![create("", 1)],
            vec![],
            values("h"),
            values("i"),
            vec![create("j", 1)],
        ]
        .map(|writes| pushed(&waiting, writes));
        drop(pushed(&waiting, vec![create("nobody waits", 1)]));
        let requests = written(&waiting, &[|| Ok(Answered::Done(7))]).await;
        let expected = ["a b c", "d a e", "f", "g", long.as_str(), "", "", "h0 h1 h2 h3", "i0 i1 i2 i3 j"];
        assert_eq!(requests, expected);
        for told in told {
            assert_eq!(told.await.unwrap().unwrap(), Answered::Done(7));
        }
        let many: Vec<_> =
            (0..MAX_STATE_KEYS + 1).map(|key| pushed(&waiting, vec![create(&key.to_string(), 1)])).collect();
        assert_eq!(written(&waiting, &[|| Ok(Answered::Done(8))]).await.len(), 2);
        drop(many);
    }

    #[tokio::test]
    async fn a_conflict_is_told_to_those_whom_it_concerns_and_the_others_are_written() {
        let waiting = Waiting::default();
        let [a, b, c] =
            ["a", "b", "c"].map(|key| pushed(&waiting, vec![create(key, 1), create(&key.repeat(2), 1)]));
        let answers: [fn() -> Answer; 3] = [
            || Ok(Answered::Conflict(vec![present("b"), present("bb")])),
            || Ok(Answered::Conflict(vec![present("cc")])),
            || Ok(Answered::Done(7)),
        ];
        assert_eq!(written(&waiting, &answers).await, ["a aa b bb c cc", "a aa c cc", "a aa"]);
        assert_eq!(a.await.unwrap().unwrap(), Answered::Done(7));
        assert_eq!(b.await.unwrap().unwrap(), Answered::Conflict(vec![present("b"), present("bb")]));
        assert_eq!(c.await.unwrap().unwrap(), Answered::Conflict(vec![present("cc")]));

        let [a, b] = ["a", "b"].map(|key| pushed(&waiting, vec![create(key, 1)]));
        let gone: [fn() -> Answer; 2] = [|| Ok(Answered::Conflict(Vec::new())), || Ok(Answered::Done(8))];
        assert_eq!(written(&waiting, &gone).await, ["a b", "a", "b"]);
        for told in [a, b] {
            assert_eq!(told.await.unwrap().unwrap(), Answered::Done(8));
        }
    }

    #[tokio::test]
    async fn what_is_lost_is_so_for_all_of_them_and_each_is_refused_for_itself() {
        let waiting = Waiting::default();
        let pair = || ["a", "b"].map(|key| pushed(&waiting, vec![create(key, 1)]));
        let [a, b] = pair();
        assert_eq!(written(&waiting, &[|| Err(Fault::Lost("gone".into()))]).await, ["a b"]);
        for told in [a, b] {
            assert!(matches!(told.await.unwrap(), Err(Fault::Lost(_))));
        }
        let [a, b] = pair();
        let full = || Err(Fault::Error(StateError::Full("full".into())));
        assert_eq!(written(&waiting, &[full, || Ok(Answered::Done(7)), full]).await, ["a b", "a", "b"]);
        assert_eq!(a.await.unwrap().unwrap(), Answered::Done(7));
        assert!(matches!(b.await.unwrap(), Err(Fault::Error(StateError::Full(_)))));
    }

    #[tokio::test]
    async fn no_more_write_than_may_and_whoever_ends_is_replaced() {
        let waiting = Waiting::default();
        let push = || waiting.push(StateWriteRequest { writes: vec![create("a", 1)] }, 2).unwrap();
        let wanted = [push(), push(), push()].map(|(_told, wanted)| wanted);
        assert_eq!(wanted, [Wanted::Writer, Wanted::Writer, Wanted::Nobody]);
        let (mut one, two) = (waiting.begin(), waiting.begin());
        drop(two);
        let (_told, wanted) = push();
        assert_eq!(wanted, Wanted::Writer, "one has ended before it was done");
        assert!(one.next().is_some() && one.next().is_none());
        assert!(waiting.begin().next().is_none());
        assert_eq!(waiting.queue().writers, 0);
    }

    #[tokio::test]
    async fn more_than_may_wait_are_told_to_try_again_and_those_who_have_gone_make_room() {
        let waiting = Waiting::default();
        let push =
            |key: usize| waiting.push(StateWriteRequest { writes: vec![create(&key.to_string(), 1)] }, 1);
        let mut told: Vec<_> = (0..MAX_WAITING).map(|key| push(key).unwrap()).collect();
        assert!(matches!(push(MAX_WAITING), Err(Fault::Error(StateError::Unavailable(_)))));
        told.pop();
        assert!(push(MAX_WAITING).is_ok());
    }
}
