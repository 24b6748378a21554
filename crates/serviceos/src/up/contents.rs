//! What the files of the configuration hold, as far as it was looked at: each before it is read, so that whatever takes its
//! place later is seen to be something else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The content of each file; `None` where there is none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Contents(BTreeMap<PathBuf, Option<Vec<u8>>>);

impl Contents {
    /// These files and no others: those that are new are looked at now, the others stay as they were seen.
    pub(crate) fn follow(&mut self, paths: &[PathBuf]) {
        self.0.retain(|path, _| paths.contains(path));
        for path in paths {
            self.0.entry(path.clone()).or_insert_with(|| read(path));
        }
    }

    /// Looks at all of them again; whether one holds something else now.
    pub(crate) fn look(&mut self) -> bool {
        let mut changed = false;
        for (path, seen) in &mut self.0 {
            let found = read(path);
            changed |= found != *seen;
            *seen = found;
        }
        changed
    }
}

fn read(path: &Path) -> Option<Vec<u8>> {
    std::fs::read(path).ok()
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
        write("a", "1");
        contents.follow(&[path("a")]);
        write("a", "2");
        contents.follow(&[path("a"), path("b")]);
        assert!(contents.look() && !contents.look());
        write("b", "1");
        assert!(contents.look(), "there was none");
        contents.follow(&[path("a")]);
        write("b", "2");
        assert!(!contents.look(), "nobody asks for it any more");
        std::fs::remove_file(path("a")).unwrap();
        assert!(contents.look());
    }
}
