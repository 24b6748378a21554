//! Notices that the configuration file, or a file that it names, is another one: written in place, renamed over, or reached
//! through a link that points elsewhere now. What has changed is for others to find out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

/// How long nothing more must happen before a change counts as done.
const QUIET: Duration = Duration::from_millis(50);
/// How long a change may go on before it is looked at all the same.
const PATIENCE: Duration = Duration::from_secs(2);
/// Links that are followed from one path.
const MAX_LINKS: usize = 16;

/// Watches the folders in which a change of the files would show.
pub(crate) struct FileWatch {
    watcher: Option<RecommendedWatcher>,
    /// The files, and the links on the way to them. Others in their folders may change as they like.
    places: Arc<Mutex<BTreeSet<PathBuf>>>,
    folders: BTreeSet<PathBuf>,
    events: mpsc::Receiver<()>,
    /// Whether something may have changed that nobody has looked at.
    due: bool,
}

impl FileWatch {
    /// Watches nothing yet; a first look is due, since what happened before was not noticed. Where the machine offers no
    /// watching, changes are not noticed, and that is said.
    pub(crate) fn new() -> Self {
        let (noticed, events) = mpsc::channel(1);
        let places = Arc::<Mutex<BTreeSet<PathBuf>>>::default();
        let known = Arc::clone(&places);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let known = known.lock().unwrap_or_else(PoisonError::into_inner);
            let concerns = |event: &notify::Event| {
                !event.kind.is_access()
                    && (event.paths.is_empty() || event.paths.iter().any(|path| known.contains(path)))
            };
            if event.is_ok_and(|event| concerns(&event)) {
                // A full queue means that a look is due already.
                let _due_already = noticed.try_send(()).is_err();
            }
        });
        let watcher = watcher
            .inspect_err(|error| {
                tracing::warn!(%error, "changes of the configuration file are not noticed: it cannot be watched");
            })
            .ok();
        Self { watcher, places, folders: BTreeSet::new(), events, due: true }
    }

    /// Watches these files, and no others any more.
    pub(crate) fn follow(&mut self, files: &[PathBuf]) {
        let Some(watcher) = &mut self.watcher else { return };
        let mut places = BTreeSet::new();
        for file in files {
            let mut links = MAX_LINKS;
            add_places(file, &mut places, &mut links);
        }
        let folder = |place: &PathBuf| place.parent().map(Path::to_owned);
        let wanted: BTreeSet<PathBuf> = places.iter().filter_map(folder).collect();
        *self.places.lock().unwrap_or_else(PoisonError::into_inner) = places;
        for gone in self.folders.difference(&wanted) {
            let _gone_already = watcher.unwatch(gone).is_err();
        }
        for new in wanted.difference(&self.folders) {
            if let Err(error) = watcher.watch(new, RecursiveMode::NonRecursive) {
                tracing::warn!(%error, folder = %new.display(), "a folder cannot be watched for changes");
            }
        }
        self.folders = wanted;
    }

    /// Returns when something has changed and is quiet again.
    pub(crate) async fn changed(&mut self) {
        if !self.due && self.events.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
        // Whoever gives this up finds it due the next time.
        self.due = true;
        let quiet = async {
            while let Ok(Some(())) = timeout(QUIET, self.events.recv()).await {
                sleep(QUIET / 10).await;
            }
        };
        let _quiet_or_out_of_patience = timeout(PATIENCE, quiet).await;
        self.due = false;
    }
}

/// A file, and every link on the way to it.
fn add_places(file: &Path, places: &mut BTreeSet<PathBuf>, links: &mut usize) {
    places.insert(file.to_owned());
    for part in file.ancestors() {
        let Ok(target) = std::fs::read_link(part) else { continue };
        let Some(folder) = part.parent().filter(|_| *links > 0) else { continue };
        *links -= 1;
        places.insert(part.to_owned());
        let rest = file.strip_prefix(part).unwrap_or(Path::new(""));
        let target = folder.join(target);
        let onward = if rest.as_os_str().is_empty() { target } else { target.join(rest) };
        add_places(&onward, places, links);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Waits for a change, at most a minute.
    async fn noticed(watch: &mut FileWatch) {
        timeout(Duration::from_secs(60), watch.changed()).await.expect("the change is noticed");
    }

    #[tokio::test]
    async fn a_file_is_followed_through_links_and_renames() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for version in ["one", "two"] {
            std::fs::create_dir(root.join(version)).unwrap();
            std::fs::write(root.join(version).join("file"), version).unwrap();
        }
        // As a mounted ConfigMap has it: the file is a link through a folder that is a link.
        symlink("one", root.join("data")).unwrap();
        symlink("data/file", root.join("file")).unwrap();
        let mut watch = FileWatch::new();
        watch.follow(&[root.join("file")]);
        noticed(&mut watch).await;
        assert!(watch.folders.contains(&root) && watch.folders.contains(&root.join("one")));

        symlink("two", root.join("new")).unwrap();
        std::fs::rename(root.join("new"), root.join("data")).unwrap();
        noticed(&mut watch).await;
        watch.follow(&[root.join("file")]);
        assert!(watch.folders.contains(&root.join("two")) && !watch.folders.contains(&root.join("one")));

        std::fs::write(root.join("two/file"), "three").unwrap();
        noticed(&mut watch).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_is_given_up_is_due_again() {
        let (noticed, events) = mpsc::channel(1);
        let mut watch =
            FileWatch { watcher: None, places: Arc::default(), folders: BTreeSet::new(), events, due: false };
        assert!(timeout(PATIENCE, watch.changed()).await.is_err(), "nothing has changed");
        noticed.send(()).await.unwrap();
        assert!(timeout(QUIET / 2, watch.changed()).await.is_err(), "it is not quiet yet");
        timeout(PATIENCE, watch.changed()).await.expect("it is looked at the next time");
        assert!(timeout(PATIENCE, watch.changed()).await.is_err());
    }
}
