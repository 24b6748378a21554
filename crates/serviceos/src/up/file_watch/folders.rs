//! The folders in which a change of the files would show, and the watcher that is kept on them. All of it asks the disk, so it is
//! for a thread that may wait.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use super::noted::Noted;

/// Links that are followed on the way to one file.
const MAX_LINKS: usize = 16;

/// Keeps the watcher where the files are.
pub(crate) struct Folders {
    watcher: Option<RecommendedWatcher>,
    noted: Arc<Mutex<Noted>>,
    /// What each folder was when it was watched; `None` where that failed.
    watched: BTreeMap<PathBuf, Option<Identity>>,
}

/// Whether something that nothing was noticed of until now is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Followed {
    AsBefore,
    New,
}

/// Device and number of a folder: another one in its place has another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity(u64, u64);

impl Identity {
    fn of(folder: &Path) -> Option<Self> {
        folder.metadata().ok().map(|found| Self(found.dev(), found.ino()))
    }
}

impl Folders {
    pub(super) fn new(watcher: Option<RecommendedWatcher>, noted: Arc<Mutex<Noted>>) -> Self {
        Self { watcher, noted, watched: BTreeMap::new() }
    }

    /// Watches these files, and no others any more. Folders that are watched already are watched once more: the watcher drops
    /// one by itself when something has become of it, or of another that was in its place. `at` is told which file is asked for
    /// next.
    pub(crate) fn follow(&mut self, files: &[PathBuf], at: impl Fn(&Path)) -> Followed {
        let Some(watcher) = &mut self.watcher else { return Followed::AsBefore };
        let mut places = BTreeSet::new();
        for file in files {
            at(file);
            add_places(file, &mut places, &mut MAX_LINKS.clone());
        }
        let folders: BTreeSet<PathBuf> =
            places.iter().filter_map(|place| place.parent().map(Path::to_owned)).collect();
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).look_for(places, folders.clone());
        self.watched.retain(|folder, _| {
            let wanted = folders.contains(folder);
            if !wanted {
                let _gone_already = watcher.unwatch(folder).is_err();
            }
            wanted
        });
        let mut followed = Followed::AsBefore;
        for folder in folders {
            at(&folder);
            let (found, before) = (Identity::of(&folder), self.watched.get(&folder).copied());
            if before.flatten().is_some_and(|before| found != Some(before)) {
                // The watcher would stay with the one before, wherever that is now.
                let _gone_already = watcher.unwatch(&folder).is_err();
            }
            let watched = watcher.watch(&folder, RecursiveMode::NonRecursive);
            if let Err(error) = &watched
                && before != Some(None)
            {
                tracing::warn!(%error, folder = %folder.display(), "a folder cannot be watched for changes");
            }
            let now = watched.ok().and(found);
            if now.is_some() && before != Some(now) {
                followed = Followed::New;
            }
            self.watched.insert(folder, now);
        }
        followed
    }

    #[cfg(test)]
    pub(super) fn watches(&self, folder: &Path) -> bool {
        self.watched.get(folder).is_some_and(Option::is_some)
    }
}

/// The places where a file, and every link on the way to it, would be seen to change.
fn add_places(file: &Path, places: &mut BTreeSet<PathBuf>, links: &mut usize) {
    places.extend(place(file));
    for part in file.ancestors() {
        let Ok(target) = std::fs::read_link(part) else { continue };
        let Some(folder) = part.parent().filter(|_| *links > 0) else { continue };
        *links -= 1;
        places.extend(place(part));
        let rest = file.strip_prefix(part).unwrap_or(Path::new(""));
        let target = folder.join(target);
        let onward = if rest.as_os_str().is_empty() { target } else { target.join(rest) };
        add_places(&onward, places, links);
    }
}

/// A name in a folder, in the folder's one spelling: two of them would be one to the watcher, which tells of the last. Where
/// the folder is missing, it is itself what will be seen to come.
fn place(file: &Path) -> Option<PathBuf> {
    file.ancestors().find_map(|part| {
        let folder = part.parent()?.canonicalize().ok()?;
        Some(folder.join(part.file_name()?))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use expect_test::{Expect, expect};

    use super::*;

    /// The places of a file of a folder which holds `conf/file`, the link `link` to `conf`, `chain` to `link/file`, `lost` to
    /// what is not there, and `round`, which leads to itself.
    fn check(file: &str, expected: Expect) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("conf")).unwrap();
        std::fs::write(root.join("conf/file"), "").unwrap();
        for (target, link) in
            [("conf", "link"), ("link/file", "chain"), ("none/file", "lost"), ("round", "round")]
        {
            symlink(target, root.join(link)).unwrap();
        }
        let mut places = BTreeSet::new();
        add_places(&root.join(file), &mut places, &mut MAX_LINKS.clone());
        let beneath = |place: &PathBuf| place.strip_prefix(&root).unwrap().display().to_string();
        expected.assert_eq(&places.iter().map(beneath).collect::<Vec<_>>().join(" "));
    }

    #[test]
    fn a_file_is_looked_for_in_the_one_spelling_of_its_folder() {
        check("conf/file", expect!["conf/file"]);
        check("link/../conf/./file", expect!["conf/file link"]);
    }

    #[test]
    fn every_link_on_the_way_is_looked_for() {
        check("link/file", expect!["conf/file link"]);
        check("chain", expect!["chain conf/file link"]);
        check("round", expect!["round"]);
    }

    #[test]
    fn what_is_missing_is_looked_for_where_it_would_come() {
        check("none/deep/file", expect!["none"]);
        check("lost", expect!["lost none"]);
    }
}
