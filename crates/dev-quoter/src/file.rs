//! Files that only their owner can read.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::DevQuoterError;

/// The largest file that is read, in bytes.
const MAX_FILE_BYTES: usize = 16 << 10;

/// Reads a file whole; `None` when there is none. Files that others may read are refused.
pub(crate) fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, DevQuoterError> {
    let failed = |error: io::Error| unusable(path, error.to_string());
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mode = file.metadata().map_err(failed)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(unusable(path, format!("its mode is {mode:o}, so others can read it; chmod 600 it")));
    }
    // With room for all of it: a buffer that grows leaves copies of the keys behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FILE_BYTES + 2));
    let limit = u64::try_from(MAX_FILE_BYTES + 1).expect("16 KiB is a u64");
    file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(unusable(
            path,
            format!("it has more than {MAX_FILE_BYTES} bytes and is none of the quoter's"),
        ));
    }
    Ok(Some(bytes))
}

/// Writes a file. It is on disk when this returns.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), DevQuoterError> {
    write_beside(path, bytes).map_err(|error| unusable(path, error.to_string()))
}

/// Makes a folder that is its owner's alone, with those above it.
pub(crate) fn make_folder(folder: &Path) -> Result<(), DevQuoterError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| unusable(folder, error.to_string()))
}

pub(crate) fn unusable(path: &Path, reason: impl Into<String>) -> DevQuoterError {
    DevQuoterError::File { path: path.to_owned(), reason: reason.into() }
}

/// Written beside and renamed, so that a full disk or a crash never leaves half a file under the real name.
fn write_beside(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let _left_by_a_crash = std::fs::remove_file(&beside);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    // The folder of a bare file name is this one.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}
