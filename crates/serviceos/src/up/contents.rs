//! What files hold, as far as it was looked at: each before it is read by whoever uses it, so that whatever takes its place later
//! is seen to be something else. Some of them are private keys, so nothing is kept of them but a digest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// How much of a file is in memory at once.
const BUFFER_BYTES: usize = 16 << 10;

/// What is remembered of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    length: u64,
    digest: [u8; 32],
}

impl Mark {
    /// The mark of these bytes.
    ///
    /// # Errors
    /// They cannot be read to their end.
    pub(super) fn of(mut bytes: impl Read) -> io::Result<Self> {
        let mut buffer = Zeroizing::new(vec![0; BUFFER_BYTES]);
        let (mut hash, mut length) = (Sha256::new(), 0);
        loop {
            match bytes.read(&mut buffer) {
                Ok(0) => return Ok(Self { length, digest: hash.finalize().into() }),
                Ok(read) => {
                    hash.update(&buffer[..read]);
                    length += u64::try_from(read).unwrap_or(u64::MAX);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// How a file looks from outside: what is put into its place, or written into it, looks otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    file: (u64, u64),
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// `None` where there is nothing that can be asked.
    pub(super) fn of(path: &Path) -> Option<Self> {
        path.metadata().ok().map(|found| Self {
            file: (found.dev(), found.ino()),
            length: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

/// What there is under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Bytes(Mark),
    /// A pipe, a device or a folder. Reading a pipe would take what it holds from whoever uses it.
    NoFile,
    Nothing(io::ErrorKind),
}

/// Files, and what each of them holds.
#[derive(Debug, Default)]
pub(super) struct Contents(BTreeMap<PathBuf, Holds>);

impl Contents {
    /// These files and no others: those that are new are looked at now, the others stay as they were seen. `at` is told which
    /// file is asked for next.
    pub(super) fn follow(&mut self, paths: &[PathBuf], at: impl Fn(&Path)) {
        self.0.retain(|path, _| paths.contains(path));
        for path in paths {
            self.0.entry(path.clone()).or_insert_with(|| look(path, &at));
        }
    }

    /// Looks at all of them again; those that hold something else now.
    pub(super) fn look(&mut self, at: impl Fn(&Path)) -> BTreeSet<PathBuf> {
        let mut changed = BTreeSet::new();
        for (path, seen) in &mut self.0 {
            let found = look(path, &at);
            if found != *seen {
                *seen = found;
                changed.insert(path.clone());
            }
        }
        changed
    }
}

fn look(path: &Path, at: &impl Fn(&Path)) -> Holds {
    at(path);
    let found = path.metadata().and_then(|found| {
        if !found.is_file() {
            return Ok(Holds::NoFile);
        }
        File::open(path).and_then(Mark::of).map(Holds::Bytes)
    });
    found.unwrap_or_else(|error| Holds::Nothing(error.kind()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_compared_with_what_it_held_when_it_was_followed_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let write = |name: &str, text: &str| std::fs::write(path(name), text).unwrap();
        let mut contents = Contents::default();
        let look = |contents: &mut Contents| contents.look(|_| {}).into_iter().collect::<Vec<_>>();
        write("a", "1");
        contents.follow(&[path("a")], |_| {});
        write("a", "2");
        contents.follow(&[path("a"), path("b")], |_| {});
        assert_eq!(look(&mut contents), [path("a")]);
        assert!(look(&mut contents).is_empty());
        write("b", "1");
        assert_eq!(look(&mut contents), [path("b")], "there was none");
        contents.follow(&[path("a")], |_| {});
        write("b", "2");
        assert!(look(&mut contents).is_empty(), "nobody asks for it any more");
        std::fs::remove_file(path("a")).unwrap();
        assert_eq!(look(&mut contents), [path("a")]);
        std::fs::create_dir(path("a")).unwrap();
        assert_eq!(look(&mut contents), [path("a")]);
        assert!(look(&mut contents).is_empty());
    }

    #[test]
    fn nothing_of_a_key_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "SECRET".repeat(BUFFER_BYTES)).unwrap();
        let mut contents = Contents::default();
        contents.follow(std::slice::from_ref(&path), |_| {});
        let kept = format!("{contents:?}");
        assert!(!kept.contains("SECRET") && !kept.contains(&format!("{:?}", b"SECRET")), "{kept}");
        let Some(Holds::Bytes(mark)) = contents.0.get(&path) else { panic!("it holds bytes") };
        assert_eq!(mark.length, 6 * 16384);
        std::fs::write(&path, "SECRET".repeat(BUFFER_BYTES - 1) + "secret").unwrap();
        assert_eq!(contents.look(|_| {}).len(), 1, "as many other bytes are others");
    }
}
