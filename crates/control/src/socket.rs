//! The admin socket `run/admin.sock`, and others beside it. A socket's path may have at most 107 bytes, and data directories are
//! often deeper, so both ends go through the open folder.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};
use tokio::net::{UnixListener, UnixStream};

const NAME: &str = "admin.sock";

/// Binds the socket in a folder that this process owns; one left by an earlier run is replaced.
///
/// # Errors
/// The machine's.
pub fn bind_socket(folder: &Path) -> io::Result<UnixListener> {
    bind_socket_named(folder, NAME)
}

/// The same for another socket than the admin API's.
///
/// # Errors
/// The machine's.
pub fn bind_socket_named(folder: &Path, name: &str) -> io::Result<UnixListener> {
    let (_held, short) = through(folder, name)?;
    let real = folder.join(name);
    match std::fs::remove_file(&real) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&short)?;
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Connects to the socket in a folder.
pub(crate) async fn connect(folder: &Path) -> io::Result<UnixStream> {
    connect_socket_named(folder, NAME).await
}

/// The same to another socket than the admin API's.
///
/// # Errors
/// The machine's.
pub async fn connect_socket_named(folder: &Path, name: &str) -> io::Result<UnixStream> {
    let (_held, short) = through(folder, name)?;
    UnixStream::connect(&short).await
}

/// A short path to the socket, good while the descriptor is held.
fn through(folder: &Path, name: &str) -> io::Result<(OwnedFd, PathBuf)> {
    let held = open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let short = PathBuf::from(format!("/proc/self/fd/{}/{name}", held.as_raw_fd()));
    Ok((held, short))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_in_a_deep_folder_can_be_bound_twice_and_reached() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("deep/".repeat(40));
        std::fs::create_dir_all(&folder).unwrap();
        drop(bind_socket(&folder).unwrap());
        let listener = bind_socket(&folder).unwrap();
        let mode = std::fs::metadata(folder.join(NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let (_stream, accepted) = tokio::join!(connect(&folder), listener.accept());
        accepted.unwrap();
    }
}
