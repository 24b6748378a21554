//! What the events of the watcher mean for the files that somebody looks for. Others wait for what is noted that must not wait
//! for a disk, so nothing is asked of one here but for the kind of what has just come, and that before anything is noted.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind};
use notify::{Event, EventKind};

/// What is looked for, and what is known of it.
#[derive(Debug, Default)]
pub(super) struct Noted {
    /// The files, and the links on the way to them. Others in their folders may change as they like.
    places: BTreeSet<PathBuf>,
    /// The folders themselves: one that goes is watched no more.
    folders: BTreeSet<PathBuf>,
    /// Those that somebody has begun to write in place and has not closed.
    open: BTreeSet<PathBuf>,
}

/// An event, with what the disk has to say about it.
#[derive(Debug)]
pub(super) struct Heard {
    event: Event,
    /// Whether a file has come that somebody has just begun to write.
    begins: bool,
}

impl Heard {
    /// May wait for the disk.
    pub(super) fn of(event: Event) -> Self {
        let begins =
            event.kind == EventKind::Create(CreateKind::File) && event.paths.iter().any(|path| is_new(path));
        Self { event, begins }
    }
}

impl Noted {
    /// From now on these are looked for, and no others.
    pub(super) fn look_for(&mut self, places: BTreeSet<PathBuf>, folders: BTreeSet<PathBuf>) {
        self.open.retain(|path| places.contains(path));
        (self.places, self.folders) = (places, folders);
    }

    /// Whether an event concerns what is looked for.
    pub(super) fn hear(&mut self, Heard { event, begins }: &Heard) -> bool {
        let closed = event.kind == EventKind::Access(AccessKind::Close(AccessMode::Write));
        if event.kind.is_access() && !closed {
            return false;
        }
        for path in event.paths.iter().filter(|path| self.places.contains(*path)) {
            match event.kind {
                EventKind::Modify(ModifyKind::Data(_)) => {
                    self.open.insert(path.clone());
                }
                EventKind::Create(_) if *begins => {
                    self.open.insert(path.clone());
                }
                EventKind::Access(_) | EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => {
                    self.open.remove(path);
                }
                _ => {}
            }
        }
        // Without a path it says that events were lost.
        event.paths.is_empty()
            || event.paths.iter().any(|path| self.places.contains(path) || self.folders.contains(path))
    }

    /// Whether somebody is still writing one of the files in place.
    pub(super) fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Whoever writes has had long enough.
    pub(super) fn give_up_waiting(&mut self) {
        self.open.clear();
    }
}

/// Whether what has come is made to be written: a link, and a file with another name, are whole already.
fn is_new(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.is_file() && found.nlink() == 1)
}
