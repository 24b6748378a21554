//! What was read of files, for as long as they are what they were.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::MeasureError;
use crate::sealed::SealedCopy;

/// A file that was changed more recently is read every time: what is written to it within the same tick of the file
/// system's clock, which is 2 seconds on the coarsest of them, would not show.
const SETTLED: Duration = Duration::from_secs(2);
/// Beyond this it begins anew. A program with a scripting language and all its libraries has some dozens.
const MAX_FILES: usize = 4096;

/// By path, so that what was known of a file is forgotten as soon as another one is in its place.
pub(super) struct Cache {
    files: BTreeMap<PathBuf, (Identity, Entry)>,
    settled: Duration,
}

/// What was read of a file.
pub(super) struct Entry {
    pub(super) digest: [u8; 32],
    pub(super) copy: Option<Arc<SealedCopy>>,
}

/// What an open file was at a moment.
pub(super) struct State {
    seen: SystemTime,
    metadata: Metadata,
}

/// What differs between any two files, and between a file and the same file changed.
#[derive(PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    /// Unlike the time of modification, this one cannot be set. Seconds and nanoseconds.
    changed: (i64, i64),
    bytes: u64,
}

impl Cache {
    pub(super) fn new() -> Self {
        Self { files: BTreeMap::new(), settled: SETTLED }
    }

    #[cfg(test)]
    pub(super) fn trusting() -> Self {
        Self { files: BTreeMap::new(), settled: Duration::ZERO }
    }

    pub(super) fn get(&self, path: &Path, state: &State) -> Option<&Entry> {
        let (identity, entry) = self.files.get(path)?;
        (*identity == state.identity()).then_some(entry)
    }

    /// Keeps what was read between the two states, unless the file might change without showing it.
    pub(super) fn keep(
        &mut self,
        path: &Path,
        before: &State,
        after: &State,
        entry: Entry,
    ) -> Result<(), MeasureError> {
        self.files.remove(path);
        if before.content() != after.content() {
            return Err(MeasureError::Changed { path: path.to_owned() });
        }
        // The two can still differ: a file that loses its name to another one counts as changed, and its content is whole.
        if before.identity() == after.identity() && before.is_settled(self.settled) {
            if self.files.len() >= MAX_FILES {
                self.files.clear();
            }
            self.files.insert(path.to_owned(), (before.identity(), entry));
        }
        Ok(())
    }
}

impl State {
    pub(super) fn of(path: &Path, file: &File) -> Result<Self, MeasureError> {
        let seen = SystemTime::now();
        let metadata = file.metadata();
        let metadata =
            metadata.map_err(|source| MeasureError::Unreadable { path: path.to_owned(), source })?;
        Ok(Self { seen, metadata })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.metadata.size()
    }

    fn identity(&self) -> Identity {
        let Self { metadata, .. } = self;
        Identity {
            device: metadata.dev(),
            inode: metadata.ino(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            bytes: metadata.size(),
        }
    }

    /// What differs when somebody wrote to the file, as programs that write do.
    fn content(&self) -> (i64, i64, u64) {
        (self.metadata.mtime(), self.metadata.mtime_nsec(), self.metadata.size())
    }

    /// Whether the file's last change is so long ago that another one shows.
    fn is_settled(&self, settled: Duration) -> bool {
        let Ok(now) = self.seen.duration_since(SystemTime::UNIX_EPOCH) else { return false };
        let (Ok(seconds), Ok(nanoseconds)) =
            (u64::try_from(self.metadata.ctime()), u32::try_from(self.metadata.ctime_nsec()))
        else {
            return false;
        };
        // A change in the future means that the clock was set back, and tells nothing.
        now.checked_sub(Duration::new(seconds, nanoseconds)).is_some_and(|age| age >= settled)
    }
}
