//! How much each service has in its namespace: counted by reading everything from time to time, and in between by what is
//! written. It is a brake and no account: what is written while it is counted may count twice, and on a store that several
//! machines share, each learns what the others have written with its next count.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::{AddAssign, SubAssign};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mesh_protocol::StateUsage;
use store::{Store, StoreError};
use tokio::time::{Instant, sleep};
use types::ServiceName;

use super::ROOT;

/// How often it is counted anew.
const COUNTED_AGAIN: Duration = Duration::from_secs(3600);
/// How long it waits for a store that is away.
const TRIED_AGAIN: Duration = Duration::from_secs(30);
/// How often the log says that a service is full.
const SAID_AGAIN: Duration = Duration::from_secs(60);
/// Rows that are read at once.
const PAGE_ROWS: usize = 256;

/// How much a service may have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Rows.
    pub(super) rows: u64,
    /// Bytes of keys and values.
    pub(super) bytes: u64,
}

/// Rows and their bytes, or how many more or fewer there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Size {
    rows: i64,
    bytes: i64,
}

impl Size {
    /// One row.
    pub(super) fn of_row(key: usize, value: usize) -> Self {
        Self { rows: 1, bytes: i64::try_from(key + value).unwrap_or(i64::MAX) }
    }
}

impl AddAssign for Size {
    fn add_assign(&mut self, other: Self) {
        (self.rows, self.bytes) = (self.rows + other.rows, self.bytes + other.bytes);
    }
}

impl SubAssign for Size {
    fn sub_assign(&mut self, other: Self) {
        (self.rows, self.bytes) = (self.rows - other.rows, self.bytes - other.bytes);
    }
}

type Sizes = BTreeMap<ServiceName, Size>;

/// What all services have.
pub(super) struct Usages {
    limits: Limits,
    known: Sizes,
    /// What was written since a count has begun that is not done.
    since: Option<Sizes>,
    /// When the log has said last of a service that it is full.
    said: BTreeMap<ServiceName, Instant>,
}

impl Usages {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, known: Sizes::new(), since: None, said: BTreeMap::new() }
    }

    /// Whether a service may have so much more. What takes nothing is always allowed.
    pub(super) fn have_room(&self, service: &ServiceName, grows: Size) -> bool {
        let mut then = self.known.get(service).copied().unwrap_or_default();
        then += grows;
        let is_over = |value: i64, limit: u64| u64::try_from(value).is_ok_and(|value| value > limit);
        !(grows.rows > 0 && is_over(then.rows, self.limits.rows)
            || grows.bytes > 0 && is_over(then.bytes, self.limits.bytes))
    }

    /// A service has so much more from now on.
    pub(super) fn grow(&mut self, service: &ServiceName, grows: Size) {
        for sizes in [Some(&mut self.known), self.since.as_mut()].into_iter().flatten() {
            *sizes.entry(service.clone()).or_default() += grows;
        }
    }

    /// Says in the log that a service is full, unless it has said so a moment ago.
    pub(super) fn say_full(&mut self, service: &ServiceName) {
        if self.said.get(service).is_none_or(|said| said.elapsed() >= SAID_AGAIN) {
            self.said.insert(service.clone(), Instant::now());
            let (StateUsage { rows, bytes, .. }, service) = (self.of(service), service.as_str());
            tracing::warn!(service, rows, bytes, "a service has as much shared state as it may have");
        }
    }

    pub(super) fn of(&self, service: &ServiceName) -> StateUsage {
        let size = self.known.get(service).copied().unwrap_or_default();
        StateUsage {
            rows: u64::try_from(size.rows).unwrap_or_default(),
            bytes: u64::try_from(size.bytes).unwrap_or_default(),
            max_rows: self.limits.rows,
            max_bytes: self.limits.bytes,
        }
    }

    fn begin(&mut self) {
        self.since = Some(Sizes::new());
    }

    fn end(&mut self, counted: Sizes) {
        self.known = counted;
        for (service, size) in self.since.take().unwrap_or_default() {
            *self.known.entry(service).or_default() += size;
        }
    }
}

/// Counts at once, and from time to time.
pub(super) async fn keep_count(store: &Store, usages: &Mutex<Usages>) -> Infallible {
    let usages = || usages.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        usages().begin();
        match count(store).await {
            Ok(counted) => {
                usages().end(counted);
                sleep(COUNTED_AGAIN).await;
            }
            Err(error) => {
                tracing::debug!(%error, "the shared state of services cannot be counted now");
                sleep(TRIED_AGAIN).await;
            }
        }
    }
}

async fn count(store: &Store) -> Result<Sizes, StoreError> {
    let (mut counted, mut after) = (Sizes::new(), Vec::new());
    loop {
        let page = store.page(ROOT, after, PAGE_ROWS).await?.rows;
        let Some(last) = page.last() else { return Ok(counted) };
        after = last.key.clone();
        for row in page {
            // What is of no service was written by nobody that this serves.
            let Some((service, key)) = split(&row.key) else { continue };
            *counted.entry(service).or_default() += Size::of_row(key.len(), row.value.len());
        }
    }
}

/// The service of a key of the store, and the key as the service knows it.
fn split(key: &[u8]) -> Option<(ServiceName, &[u8])> {
    let rest = key.strip_prefix(ROOT.as_bytes())?;
    let place = rest.iter().position(|byte| *byte == b'/')?;
    Some((std::str::from_utf8(&rest[..place]).ok()?.parse().ok()?, &rest[place + 1..]))
}

#[cfg(test)]
mod tests {
    use store::Transaction;

    use super::*;

    fn name(text: &str) -> ServiceName {
        text.parse().unwrap()
    }

    #[test]
    fn a_full_service_may_replace_and_remove_and_takes_no_room_from_others() {
        let mut usages = Usages::new(Limits { rows: 2, bytes: 100 });
        let row = Size::of_row(1, 9);
        for _ in 0..2 {
            assert!(usages.have_room(&name("vrf"), row));
            usages.grow(&name("vrf"), row);
        }
        assert!(!usages.have_room(&name("vrf"), row));
        assert!(usages.have_room(&name("oracle"), row));
        assert!(usages.have_room(&name("vrf"), Size { rows: 0, bytes: 80 }));
        assert!(!usages.have_room(&name("vrf"), Size { rows: 0, bytes: 81 }));
        let mut less = Size::default();
        less -= row;
        assert!(usages.have_room(&name("vrf"), less));
        usages.grow(&name("vrf"), less);
        assert!(usages.have_room(&name("vrf"), row));
    }

    #[tokio::test]
    async fn a_count_finds_what_is_there_and_what_is_written_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store.redb")).unwrap();
        for begin in 0..3 {
            let rows = (0..100).map(|row| format!("state/vrf/{begin}-{row:02}"));
            let write = rows.fold(Transaction::new(), |write, key| write.put(key, "12345"));
            store.commit(write.put(format!("state/oracle/{begin}"), "")).await.unwrap();
        }
        store
            .commit(Transaction::new().put("state0", "not of this").put("state/", "nor this"))
            .await
            .unwrap();
        let mut usages = Usages::new(Limits { rows: 1000, bytes: 1000 });
        usages.begin();
        let counted = count(&store).await.unwrap();
        usages.grow(&name("vrf"), Size::of_row(2, 3));
        usages.end(counted);
        let has = |service| {
            let usage = usages.of(&name(service));
            (usage.rows, usage.bytes)
        };
        assert_eq!((has("vrf"), has("oracle"), has("infer")), ((301, 2705), (3, 3), (0, 0)));
    }
}
