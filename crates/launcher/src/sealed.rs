//! A file in memory that nobody can change any more: sealed against writing, growing, shrinking and unsealing.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Stdio;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};
use rustix::io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};

use crate::MeasureError;

const SEALS: SealFlags =
    SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);
/// The kernel calls the file `/memfd:serviceos/NAME`. That folder does not exist, so a program that looks for its libraries
/// beside itself finds none, instead of those that lie in `/`.
const NAME_PREFIX: &[u8] = b"serviceos/";
/// The kernel takes 249 bytes (memfd_create(2)).
const MAX_NAME_BYTES: usize = 200;
/// Standard input, output and error are exchanged between fork and exec; a copy must not be one of them.
const FIRST_FREE_DESCRIPTOR: i32 = 3;
/// How often sealing is tried while the kernel itself still uses pages of the file, as it does for a moment when it moves
/// pages about for want of memory. Each time it waits about a tenth of a second for them by itself (`memfd_wait_for_pins`).
const SEAL_ATTEMPTS: usize = 50;
const BUSY: &str = "the kernel goes on using its pages, as it does where memory is short; try again";

/// A sealed copy of a file.
#[derive(Debug)]
pub(crate) struct SealedCopy {
    file: File,
}

/// A descriptor that a child inherits, and how the child names the file.
#[derive(Debug)]
pub(crate) struct Inherited {
    descriptor: OwnedFd,
}

/// An empty file in memory, to be filled and then sealed. `original` is the file that it is to be a copy of.
pub(crate) fn create(original: &Path) -> Result<File, MeasureError> {
    let file = open(original.file_name().unwrap_or_default()).map_err(|errno| refusal(errno, original))?;
    Ok(File::from(file))
}

fn open(name: &OsStr) -> Result<OwnedFd, Errno> {
    let name = [NAME_PREFIX, &name.as_bytes()[..name.len().min(MAX_NAME_BYTES)]].concat();
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = match memfd_create(name.as_slice(), flags | MemfdFlags::EXEC) {
        // A kernel before 6.3 does not know the flag, and lets every such file be executed.
        Err(Errno::INVAL) => memfd_create(name.as_slice(), flags)?,
        other => other?,
    };
    if file.as_raw_fd() < FIRST_FREE_DESCRIPTOR {
        return fcntl_dupfd_cloexec(&file, FIRST_FREE_DESCRIPTOR);
    }
    Ok(file)
}

fn refusal(errno: Errno, original: &Path) -> MeasureError {
    match errno {
        Errno::ACCESS => MeasureError::MemfdRefused,
        errno => MeasureError::Copy { path: original.to_owned(), source: errno.into() },
    }
}

impl SealedCopy {
    /// Seals the file.
    pub(crate) fn seal(file: File) -> io::Result<Self> {
        Self::seal_or(file, || {})
    }

    /// Seals the file, and calls `busy` each time its pages are in use.
    fn seal_or(file: File, mut busy: impl FnMut()) -> io::Result<Self> {
        let mut left = SEAL_ATTEMPTS;
        loop {
            match fcntl_add_seals(&file, SEALS) {
                Err(Errno::BUSY) if left > 1 => left -= 1,
                Err(Errno::BUSY) => return Err(io::Error::new(io::ErrorKind::ResourceBusy, BUSY)),
                other => break other?,
            }
            busy();
        }
        if !fcntl_get_seals(&file)?.contains(SEALS) {
            return Err(io::Error::other("the kernel does not seal it"));
        }
        Ok(Self { file })
    }

    /// A copy that another process has sealed. Nobody can change it, whoever may hold it too.
    pub(crate) fn received(descriptor: OwnedFd) -> io::Result<Self> {
        if !fcntl_get_seals(&descriptor)?.contains(SEALS) {
            return Err(io::Error::other("what is to be executed is not sealed"));
        }
        Ok(Self { file: File::from(descriptor) })
    }

    /// The descriptor, to be handed to another process.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The path under which this process, and a child of it until it executes something else, finds the copy.
    pub(crate) fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.file.as_raw_fd())
    }

    /// The copy as the standard input of a child, which finds it as `/proc/self/fd/0`.
    pub(crate) fn stdin(&self) -> io::Result<Stdio> {
        Ok(Stdio::from(self.file.try_clone()?))
    }

    /// A descriptor of the copy that every child inherits for as long as it is kept.
    pub(crate) fn inherited(&self) -> io::Result<Inherited> {
        let descriptor = fcntl_dupfd_cloexec(&self.file, FIRST_FREE_DESCRIPTOR)?;
        fcntl_setfd(&descriptor, FdFlags::empty())?;
        Ok(Inherited { descriptor })
    }

    /// The copy, to be read from its beginning.
    pub(crate) fn content(&self) -> io::Result<&File> {
        (&self.file).rewind()?;
        Ok(&self.file)
    }

    /// At most the first `length` bytes.
    pub(crate) fn head(&self, length: usize) -> io::Result<Vec<u8>> {
        let mut head = vec![0; length];
        let mut read = 0;
        while read < length {
            match self.file.read_at(&mut head[read..], read as u64)? {
                0 => break,
                more => read += more,
            }
        }
        head.truncate(read);
        Ok(head)
    }

    /// Fills `buffer` from `offset` on.
    pub(crate) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }
}

impl Inherited {
    /// The path under which a child finds the file.
    pub(crate) fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.descriptor.as_raw_fd())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write;

    use rustix::io::fcntl_getfd;
    use rustix::pipe::{SpliceFlags, splice};

    use super::*;

    fn sealed(content: &[u8]) -> SealedCopy {
        let mut file = create(Path::new("/srv/infer")).unwrap();
        file.write_all(content).unwrap();
        SealedCopy::seal(file).unwrap()
    }

    #[test]
    fn a_sealed_copy_cannot_be_changed_by_any_way_to_it() {
        let copy = sealed(b"measured");
        let again = OpenOptions::new().write(true).open(copy.path()).unwrap();
        for file in [&copy.file, &again] {
            for refused in [
                file.write_at(b"x", 0).map(drop),
                file.write_at(b"x", 8).map(drop),
                file.set_len(4),
                file.set_len(12),
                fcntl_add_seals(file, SealFlags::FUTURE_WRITE).map_err(Into::into),
            ] {
                assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
            }
        }
        assert_eq!(copy.head(100).unwrap(), b"measured");
    }

    #[test]
    fn a_page_that_is_in_use_for_a_moment_is_waited_for() {
        let mut file = create(Path::new("/srv/infer")).unwrap();
        file.write_all(b"measured").unwrap();
        // A pipe holds the very pages that are spliced into it.
        let pipe = rustix::pipe::pipe().unwrap();
        let spliced = splice(&file, Some(&mut 0), &pipe.1, None, 8, SpliceFlags::empty());
        assert_eq!(spliced.unwrap(), 8);
        let mut refused = 0;
        let mut pipe = Some(pipe);
        let copy = SealedCopy::seal_or(file, || {
            refused += 1;
            drop(pipe.take());
        });
        assert_eq!(copy.unwrap().head(100).unwrap(), b"measured");
        assert_eq!(refused, 1, "the pipe had to hold the page");
    }

    #[test]
    fn only_a_descriptor_that_is_meant_for_children_reaches_them() {
        let copy = sealed(b"measured");
        assert_eq!(fcntl_getfd(&copy.file).unwrap(), FdFlags::CLOEXEC);
        let inherited = copy.inherited().unwrap();
        assert_eq!(fcntl_getfd(&inherited.descriptor).unwrap(), FdFlags::empty());
        assert_eq!(std::fs::read(inherited.path()).unwrap(), b"measured");
    }

    #[test]
    fn the_folder_of_a_copy_does_not_exist() {
        let link = std::fs::read_link(sealed(b"").path()).unwrap();
        assert_eq!(link, Path::new("/memfd:serviceos/infer (deleted)"));
        assert!(!link.parent().unwrap().exists());
    }

    #[test]
    fn a_long_name_is_cut() {
        assert!(create(Path::new(&"n".repeat(255))).is_ok());
    }

    #[test]
    fn a_kernel_that_executes_nothing_from_memory_is_told_apart() {
        assert!(matches!(refusal(Errno::ACCESS, Path::new("infer")), MeasureError::MemfdRefused));
        assert!(matches!(refusal(Errno::MFILE, Path::new("infer")), MeasureError::Copy { .. }));
    }
}
