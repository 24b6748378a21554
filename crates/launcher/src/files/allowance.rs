//! How much may be read to measure one program.

use std::path::Path;

use crate::MeasureError;

/// An executable or a script is kept in memory.
pub(super) const MAX_EXECUTABLE_BYTES: u64 = 1 << 30;
const MAX_ARGUMENT_FILES: usize = 64;
const MAX_ARGUMENT_BYTES: u64 = 1 << 30;
/// Those that are linked; what is loaded later is not seen. Big programs link some hundreds.
const MAX_LIBRARIES: usize = 1024;
/// Libraries for machine learning have gigabytes each.
const MAX_LIBRARY_BYTES: u64 = 8 << 30;

/// How many files of a kind may still be read, and how many bytes in all.
pub(crate) struct Allowance {
    what: &'static str,
    max_files: usize,
    max_bytes: u64,
    files: usize,
    bytes: u64,
}

impl Allowance {
    pub(crate) fn executable() -> Self {
        Self::new("an executable", 1, MAX_EXECUTABLE_BYTES)
    }

    pub(crate) fn arguments() -> Self {
        Self::new("files that arguments name", MAX_ARGUMENT_FILES, MAX_ARGUMENT_BYTES)
    }

    pub(crate) fn libraries() -> Self {
        Self::new("shared libraries", MAX_LIBRARIES, MAX_LIBRARY_BYTES)
    }

    fn new(what: &'static str, max_files: usize, max_bytes: u64) -> Self {
        Self { what, max_files, max_bytes, files: max_files, bytes: max_bytes }
    }

    pub(super) fn take_file(&mut self) -> Result<(), MeasureError> {
        let over = MeasureError::TooMany { what: self.what, limit: self.max_files };
        self.files = self.files.checked_sub(1).ok_or(over)?;
        Ok(())
    }

    pub(super) fn take_bytes(&mut self, path: &Path, bytes: u64) -> Result<(), MeasureError> {
        let left = self.bytes.checked_sub(bytes);
        self.bytes = left.ok_or_else(|| MeasureError::TooLarge {
            path: path.to_owned(),
            what: self.what,
            limit: self.max_bytes,
        })?;
        Ok(())
    }
}
