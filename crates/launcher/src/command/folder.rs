//! What a command is given as files, in a folder of its replica, on memory that is never written to a disk.
//!
//! Where this process may, that is memory of its own (ramfs, which has no swap), mounted in a mount name space of its own: only
//! the command sees it, and it ends with the two of them however they end. Elsewhere it is a folder of the shared memory of the
//! machine, which is as good as long as the machine has no swap.
//!
//! Every run has a folder of its own, since the launcher of an earlier one may be ending still. Its name is made of the data
//! directory, the replica and chance, and its launcher holds a lock on it, so that what a killed one has left can be told from
//! what is used, and is removed when the same replica starts again.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use mesh_protocol::{sha256, to_hex};
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use rustix::process::geteuid;
use rustix::thread::UnshareFlags;
use sdk::SecretSet;
use thiserror::Error;
use types::ReplicaId;
use types::wire::Message;
use zeroize::Zeroizing;

/// Memory that every process of the machine may use, and the disk space that it may be written to.
const SHARED_MEMORY: &str = "/dev/shm";
const SWAPS: &str = "/proc/swaps";
/// The type of a file system that lies in memory (statfs(2)).
const TMPFS: u64 = 0x0102_1994;
/// The longest path that fits into a socket's address (unix(7): 108 bytes with the trailing NUL).
const MAX_SOCKET_PATH_BYTES: usize = 107;
/// Of what tells a data directory and a replica from others.
const NAME_DIGITS: usize = 32;
/// What tells a run from others, before it is written in hexadecimal digits.
const RUN_BYTES: usize = 8;
/// How many names are tried. One is lost only to somebody who makes or removes it in the same moment.
const MAX_NAMES: usize = 8;

const SECRETS: &str = "secrets";
const CONFIG: &str = "config.json";
/// What a file is called while it is written: beside the secrets' folder, whose every name is a secret's.
const NEW: &str = ".new";
const MESH_SOCKET: &str = "mesh.sock";
const LISTENING_SOCKET: &str = "http.sock";

/// The folder of a replica, removed when this is dropped.
pub(super) struct Folder {
    made: Made,
    memory: Memory,
}

/// A folder that this process has made, and that no other process removes while this is kept.
struct Made {
    path: PathBuf,
    /// Its lock is this process's, and ends with it.
    locked: File,
}

/// What the folder lies on.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Memory {
    /// Memory of its own, never swapped.
    Own,
    /// The machine's, with why it could be written to a disk.
    Shared(Result<(), String>),
}

/// Why there is no folder.
#[derive(Debug, Error)]
pub(super) enum FolderError {
    #[error("the folder {} of the replica cannot be used: {reason}", path.display())]
    Unusable { path: PathBuf, reason: String },
    #[error(
        "secrets are handed to a command on memory that is never written to a disk, and there is none: {0}; run serviceos with \
         the right to mount (CAP_SYS_ADMIN), or turn the swap off (swapoff -a)"
    )]
    Swapped(String),
    #[error(
        "a secret cannot be a file of the name {0:?}: name it with letters, digits, hyphens and underscores"
    )]
    Name(String),
    #[error("{}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// Where folders may be, and what is known of the machine.
struct Places<'a> {
    shared: &'a Path,
    swaps: &'a Path,
}

impl Folder {
    /// An empty folder for a replica of the data directory that `run` belongs to. What an earlier run left is removed.
    pub(super) fn create(run: &Path, replica: &ReplicaId) -> Result<Self, FolderError> {
        let places = Places { shared: Path::new(SHARED_MEMORY), swaps: Path::new(SWAPS) };
        // Wherever this run's is to be.
        sweep(places.shared, &name(run, replica));
        match Self::of_its_own(run, replica, &places) {
            Ok(folder) => folder.furnished(),
            Err(reason) => Self::shared(run, replica, &places, &reason)?.furnished(),
        }
    }

    /// On memory that only this process and what it starts from now on see.
    fn of_its_own(run: &Path, replica: &ReplicaId, places: &Places<'_>) -> Result<Self, String> {
        own_mounts().map_err(|error| format!("this process may not mount memory ({error})"))?;
        let stem = beside_stem(replica);
        sweep(run, &stem);
        let length = run.join(&stem).as_os_str().len() + 2 * RUN_BYTES;
        let fits = length < MAX_SOCKET_PATH_BYTES - MESH_SOCKET.len();
        let made = if fits { make(run, &stem) } else { make(places.shared, &name(run, replica)) };
        let made = made.map_err(|error| error.to_string())?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        match mount("serviceos", &made.path, "ramfs", flags, c"mode=0700") {
            Ok(()) => Ok(Self { made, memory: Memory::Own }),
            Err(errno) => {
                made.remove();
                Err(format!("memory cannot be mounted ({errno})"))
            }
        }
    }

    fn shared(
        run: &Path,
        replica: &ReplicaId,
        places: &Places<'_>,
        reason: &str,
    ) -> Result<Self, FolderError> {
        let made = make(places.shared, &name(run, replica))?;
        let never_written = is_memory(places.shared)
            .and_then(|()| has_no_swap(places.swaps))
            .map_err(|machine| format!("{reason}, and {machine}"));
        Ok(Self { made, memory: Memory::Shared(never_written) })
    }

    fn furnished(self) -> Result<Self, FolderError> {
        let secrets = self.secrets();
        let made = DirBuilder::new().mode(0o700).create(&secrets);
        made.map_err(|source| FolderError::Write { path: secrets, source })?;
        Ok(self)
    }

    /// The folder of the secrets.
    pub(super) fn secrets(&self) -> PathBuf {
        self.made.path.join(SECRETS)
    }

    /// The configuration.
    pub(super) fn config(&self) -> PathBuf {
        self.made.path.join(CONFIG)
    }

    /// Where the command reaches other services.
    pub(super) fn mesh_socket(&self) -> PathBuf {
        self.made.path.join(MESH_SOCKET)
    }

    /// Where the command listens, unless on a port.
    pub(super) fn listening_socket(&self) -> PathBuf {
        self.made.path.join(LISTENING_SOCKET)
    }

    /// Writes the secrets and the configuration.
    pub(super) fn write(&self, secrets: &SecretSet, config: &serde_json::Value) -> Result<(), FolderError> {
        self.write_secrets(secrets)?;
        self.write_config(config)
    }

    /// Writes the configuration, in the place of the one before where there is one.
    pub(super) fn write_config(&self, config: &serde_json::Value) -> Result<(), FolderError> {
        let config = serde_json::to_vec(config).expect("what was read as JSON can be written as JSON");
        self.write_file(&self.config(), &config)
    }

    /// Writes each secret into a file of its name, which holds the newest epoch's value, with older ones beside it, the newest
    /// last. Files that hold their value already stay as they are; those of secrets that are gone go.
    pub(super) fn write_secrets(&self, secrets: &SecretSet) -> Result<(), FolderError> {
        if let (Memory::Shared(Err(reason)), false) = (&self.memory, secrets.is_empty()) {
            return Err(FolderError::Swapped(reason.clone()));
        }
        let mut files = BTreeSet::new();
        for (name, secret) in secrets {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
            if name.is_empty() || !name.bytes().all(is_plain) {
                return Err(FolderError::Name(name.clone()));
            }
            let current = secret.current().epoch;
            for epoch in &secret.epochs {
                let is_current = epoch.epoch == current;
                let file = if is_current { name.clone() } else { format!("{name}.{}", epoch.epoch) };
                let path = self.secrets().join(&file);
                if !holds(&path, &epoch.value) {
                    self.write_file(&path, &epoch.value)?;
                }
                files.insert(file);
            }
        }
        remove_others(&self.secrets(), &files)
    }

    /// Writes a file that its owner may read, whole or not at all.
    fn write_file(&self, path: &Path, content: &[u8]) -> Result<(), FolderError> {
        let new = self.made.path.join(NEW);
        // One that was begun and not finished keeps nobody from another try.
        let _there_was_one = std::fs::remove_file(&new).is_ok();
        let written = fill(&new, content).and_then(|()| std::fs::rename(&new, path));
        written.map_err(|source| {
            let _nothing_is_left = std::fs::remove_file(&new).is_ok();
            FolderError::Write { path: path.to_owned(), source }
        })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.memory == Memory::Own {
            // What is still open in there keeps its memory until it is closed.
            let _gone_with_this_process = unmount(&self.made.path, UnmountFlags::DETACH).is_err();
        }
        self.made.remove();
    }
}

impl Made {
    /// One of a new name that begins with the stem.
    fn new(parent: &Path, stem: &str) -> io::Result<Self> {
        let mut chance = [0; RUN_BYTES];
        aws_lc_rs::rand::fill(&mut chance).map_err(|_| io::Error::other("the system gives no randomness"))?;
        let path = parent.join(format!("{stem}{}", to_hex(&chance)));
        DirBuilder::new().mode(0o700).create(&path)?;
        let locked = lock(&path)?;
        let made = Self { path, locked };
        // Before it was locked, whoever sweeps may have taken it for a leftover.
        if made.is_there() { Ok(made) } else { Err(ErrorKind::WouldBlock.into()) }
    }

    /// Whether what has its name is still what was made.
    fn is_there(&self) -> bool {
        let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        let (made, found) =
            (self.locked.metadata().map(identity), self.path.symlink_metadata().map(identity));
        matches!((made, found), (Ok(made), Ok(found)) if made == found)
    }

    fn remove(&self) {
        if !self.is_there() {
            return;
        }
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a folder of a replica cannot be removed");
        }
    }
}

/// Keeps what this process mounts from now on to itself and what it starts. What others mount is still seen.
fn own_mounts() -> rustix::io::Result<()> {
    #[expect(
        deprecated,
        reason = "its successor is unsafe code because of tables of descriptors, which are shared as before"
    )]
    rustix::thread::unshare(UnshareFlags::NEWNS)?;
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
}

/// How the names of this replica's folders begin, for a place that other data directories use too; short enough for the path of
/// a socket.
fn name(run: &Path, replica: &ReplicaId) -> String {
    let message = Message::tagged(b"serviceos/folder/v1\0")
        .lp(run.as_os_str().as_encoded_bytes())
        .lp(replica.to_string())
        .finish();
    format!("serviceos-{}-", &to_hex(&sha256(&message))[..NAME_DIGITS])
}

/// The same for the data directory's own folder.
fn beside_stem(replica: &ReplicaId) -> String {
    format!("{}.files-", replica.file_stem())
}

/// Makes a folder of a name that nobody can foresee, so that nobody else can keep it from being made.
fn make(parent: &Path, stem: &str) -> Result<Made, FolderError> {
    let mut made = Made::new(parent, stem);
    for _ in 1..MAX_NAMES {
        match &made {
            Err(error)
                if [ErrorKind::AlreadyExists, ErrorKind::WouldBlock, ErrorKind::NotFound]
                    .contains(&error.kind()) =>
            {
                made = Made::new(parent, stem);
            }
            _ => break,
        }
    }
    made.map_err(|error| FolderError::Unusable {
        path: parent.join(format!("{stem}…")),
        reason: error.to_string(),
    })
}

/// Removes what launchers that are gone have left. What cannot be removed keeps nothing from starting.
fn sweep(parent: &Path, stem: &str) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let is_one = entry.file_name().to_str().is_some_and(|name| name.starts_with(stem));
        // Others may make files of such names, and this user's alone are what they are called.
        let is_own = entry.path().symlink_metadata().is_ok_and(|found| {
            found.is_dir() && found.uid() == geteuid().as_raw() && found.mode() & 0o077 == 0
        });
        if is_one
            && is_own
            && let Ok(locked) = lock(&entry.path())
        {
            Made { path: entry.path(), locked }.remove();
        }
    }
}

/// Locks a folder until the file is closed, which no process that this one starts inherits.
fn lock(folder: &Path) -> io::Result<File> {
    let flags = (OFlags::DIRECTORY | OFlags::NOFOLLOW).bits();
    let flags = i32::try_from(flags).map_err(io::Error::other)?;
    let folder = OpenOptions::new().read(true).custom_flags(flags).open(folder)?;
    flock(&folder, FlockOperation::NonBlockingLockExclusive)?;
    Ok(folder)
}

fn is_memory(folder: &Path) -> Result<(), String> {
    let found = rustix::fs::statfs(folder).map_err(|errno| format!("{}: {errno}", folder.display()))?;
    let is_tmpfs = u64::try_from(found.f_type).is_ok_and(|kind| kind == TMPFS);
    if is_tmpfs { Ok(()) } else { Err(format!("{} is not memory", folder.display())) }
}

/// Whether the machine writes no memory to a disk.
fn has_no_swap(swaps: &Path) -> Result<(), String> {
    match std::fs::read_to_string(swaps) {
        Ok(text) if text.lines().skip(1).all(|line| line.trim().is_empty()) => Ok(()),
        Ok(_) => Err(format!("this machine has swap ({})", swaps.display())),
        // A kernel without the file has none.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(format!("{} cannot be read: {error}", swaps.display())),
    }
}

fn holds(path: &Path, value: &[u8]) -> bool {
    std::fs::read(path).is_ok_and(|found| *Zeroizing::new(found) == value)
}

/// Removes every file of a folder that is not one of these.
fn remove_others(folder: &Path, files: &BTreeSet<String>) -> Result<(), FolderError> {
    let failed = |path: &Path, source| FolderError::Write { path: path.to_owned(), source };
    for entry in std::fs::read_dir(folder).map_err(|source| failed(folder, source))? {
        let entry = entry.map_err(|source| failed(folder, source))?;
        if !entry.file_name().to_str().is_some_and(|name| files.contains(name)) {
            std::fs::remove_file(entry.path()).map_err(|source| failed(&entry.path(), source))?;
        }
    }
    Ok(())
}

/// Makes a file that its owner may read.
fn fill(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.set_permissions(Permissions::from_mode(0o400))
}

#[cfg(test)]
mod tests;
