//! Copies and hashes files, and does neither again while a file is what it was.

mod allowance;
mod cache;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use rustix::fs::{Mode, OFlags};

use crate::MeasureError;
use crate::sealed::{self, SealedCopy};

pub(crate) use allowance::Allowance;
use allowance::MAX_EXECUTABLE_BYTES;
use cache::{Cache, Entry, State};

const PIECE_BYTES: usize = 1 << 20;

/// What is known of the files that were read.
pub(crate) struct Files {
    cache: Cache,
}

/// A file that was copied into memory, and SHA-256 of the copy.
pub(crate) struct Copied {
    pub(crate) digest: [u8; 32],
    pub(crate) copy: Arc<SealedCopy>,
}

/// Opens a file to read it. A device or a pipe of that name is not waited for.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

impl Files {
    pub(crate) fn new() -> Self {
        Self { cache: Cache::new() }
    }

    /// One that takes a file for settled from the first moment on.
    #[cfg(test)]
    pub(crate) fn trusting() -> Self {
        Self { cache: Cache::trusting() }
    }

    /// Copies an executable or a script, which was opened at `path`, into memory.
    pub(crate) fn copy(&mut self, path: &Path, file: &File) -> Result<Copied, MeasureError> {
        let before = State::of(path, file)?;
        if let Some(Entry { digest, copy: Some(copy) }) = self.cache.get(path, &before) {
            return Ok(Copied { digest: *digest, copy: copy.clone() });
        }
        let failed = |source| MeasureError::Copy { path: path.to_owned(), source };
        let memory = sealed::create(path)?;
        io::copy(&mut file.take(MAX_EXECUTABLE_BYTES + 1), &mut &memory).map_err(failed)?;
        let copy = SealedCopy::seal(memory).map_err(failed)?;
        // Only now: until it was sealed, another process of this user could have written to it.
        let digest = read(path, copy.content().map_err(failed)?, &mut Allowance::executable())?;
        let copy = Arc::new(copy);
        let entry = Entry { digest, copy: Some(copy.clone()) };
        self.cache.keep(path, &before, &State::of(path, file)?, entry)?;
        Ok(Copied { digest, copy })
    }

    /// SHA-256 of a file that is loaded or read by name, counted against `allowance`.
    pub(crate) fn digest(
        &mut self,
        path: &Path,
        file: &File,
        allowance: &mut Allowance,
    ) -> Result<[u8; 32], MeasureError> {
        allowance.take_file()?;
        let before = State::of(path, file)?;
        if let Some(entry) = self.cache.get(path, &before) {
            allowance.take_bytes(path, before.bytes())?;
            return Ok(entry.digest);
        }
        let digest = read(path, file, allowance)?;
        self.cache.keep(path, &before, &State::of(path, file)?, Entry { digest, copy: None })?;
        Ok(digest)
    }
}

/// SHA-256 of the whole file, which is not kept.
pub(crate) fn digest(path: &Path, file: &File) -> Result<[u8; 32], MeasureError> {
    read(path, file, &mut Allowance::executable())
}

/// SHA-256 of everything that is in the file.
fn read(path: &Path, mut file: &File, allowance: &mut Allowance) -> Result<[u8; 32], MeasureError> {
    let mut context = Context::new(&SHA256);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let length = match file.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(MeasureError::Unreadable { path: path.to_owned(), source }),
        };
        allowance.take_bytes(path, length as u64)?;
        context.update(&piece[..length]);
    }
    Ok(context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

#[cfg(test)]
mod tests;
