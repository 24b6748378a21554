//! The data directory: made where it is missing, and locked while `up` runs.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::Mode;

/// What a start writes at the most, in bytes, beside what the store has room for already.
const ROOM: usize = 1 << 20;

/// A locked data directory.
pub(crate) struct DataDir {
    root: PathBuf,
    run: PathBuf,
    /// The lock lives as long as this file is open, in whichever process, so it ends with the last of them however that ends.
    lock: File,
}

impl DataDir {
    /// Opens the directory, or makes it with access for its owner alone.
    ///
    /// Everything that this process and its children make from now on is for its owner alone.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        rustix::process::umask(Mode::RWXG | Mode::RWXO);
        let run = root.join("run");
        for folder in [root, &run] {
            make(folder).with_context(|| format!("failed to use the data directory {}", root.display()))?;
        }
        let path = run.join("lock");
        let lock = lock(&path, root)?;
        Ok(Self { root: root.to_owned(), run, lock })
    }

    /// The same with the lock of the process whose place this one takes.
    ///
    /// # Errors
    /// It is the lock of another directory.
    pub(crate) fn of_lock(root: &Path, mut lock: File) -> Result<Self> {
        rustix::process::umask(Mode::RWXG | Mode::RWXO);
        let run = root.join("run");
        let (given, there) = (lock.metadata()?, std::fs::metadata(run.join("lock"))?);
        if (given.dev(), given.ino()) != (there.dev(), there.ino()) {
            bail!("the lock that was handed over is not that of the data directory {}", root.display());
        }
        write_pid(&mut lock, root)?;
        Ok(Self { root: root.to_owned(), run, lock })
    }

    /// What keeps others from it.
    pub(crate) fn lock(&self) -> &File {
        &self.lock
    }

    /// The directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The same where it is there and nobody has it; for whoever looks after what an `up` has left.
    pub(crate) fn lock_if_it_is_there(root: &Path) -> Option<Self> {
        let run = root.join("run");
        let path = run.join("lock");
        let lock = path.is_file().then(|| lock(&path, root).ok())??;
        Some(Self { root: root.to_owned(), run, lock })
    }

    /// Sockets, tokens, output.
    pub(crate) fn run(&self) -> &Path {
        &self.run
    }

    /// The store's file. It is made before the master key is, so a key without a store is one whose store was lost: to begin
    /// anew beside it would exchange every key and secret without a word.
    pub(crate) fn store(&self) -> Result<PathBuf> {
        let (store, key) = (self.root.join("store.redb"), self.master_key());
        if key.exists() && !store.exists() {
            bail!(
                "{} is there, but {} is not: restore the store from a backup, or move the key away to begin anew with other \
                 keys and secrets",
                key.display(),
                store.display()
            );
        }
        Ok(store)
    }

    /// What this machine keeps of a store in etcd, for a start without it.
    pub(crate) fn mirror(&self) -> PathBuf {
        self.root.join("etcd-mirror.redb")
    }

    /// Where the development quoter keeps its root.
    pub(crate) fn development(&self) -> PathBuf {
        self.root.join("development")
    }

    /// By what this directory is known again in a store that several machines share.
    pub(crate) fn node_id(&self) -> PathBuf {
        self.root.join("node.id")
    }

    /// The file of the audit trail.
    pub(crate) fn audit(&self) -> PathBuf {
        self.root.join("audit.jsonl")
    }

    /// The master key's file.
    pub(crate) fn master_key(&self) -> PathBuf {
        self.root.join("master.key")
    }
}

fn make(folder: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(|| {
        format!("{} cannot be made; name a folder that can be with --data-dir", folder.display())
    })?;
    std::fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    let metadata =
        std::fs::metadata(folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    // Whoever may rename what is in it could exchange the keys and the admin socket.
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        bail!("{} belongs to another user; choose another folder with --data-dir", folder.display());
    }
    if metadata.mode() & 0o022 != 0 {
        bail!("others may write to {}; run `chmod go-w` on it", folder.display());
    }
    Ok(())
}

fn lock(path: &Path, root: &Path) -> Result<File> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .with_context(|| {
            format!("failed to use the data directory {}: {}", root.display(), path.display())
        })?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _only_for_the_message = file.read_to_string(&mut pid);
            bail!(
                "another serviceos (pid {}) runs on the data directory {}; stop it with `serviceos down`, or choose another \
                 with --data-dir",
                pid.trim(),
                root.display()
            );
        }
        Err(TryLockError::Error(error)) => {
            return Err(error)
                .with_context(|| format!("failed to lock the data directory {}", root.display()));
        }
    }
    write_pid(&mut file, root)?;
    Ok(file)
}

/// Whether everything that a start writes finds room. It is asked before another process is asked for its place, which would have
/// to take that back.
///
/// # Errors
/// The disk is full, or cannot be written to.
pub(super) fn has_room(root: &Path) -> Result<()> {
    let path = root.join("run/.room");
    let written = std::fs::write(&path, vec![1; ROOM]);
    let _never_made = std::fs::remove_file(&path).is_err();
    written.with_context(|| {
        format!("{ROOM} bytes cannot be written to the data directory {}: nothing was begun", root.display())
    })
}

fn write_pid(lock: &mut File, root: &Path) -> Result<()> {
    // What is written over needs no more room on a disk that is full.
    let pid = std::process::id().to_string();
    let written = lock
        .rewind()
        .and_then(|()| lock.write_all(pid.as_bytes()))
        .and_then(|()| lock.set_len(pid.len() as u64));
    written.with_context(|| format!("failed to write to the data directory {}", root.display()))
}
