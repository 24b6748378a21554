//! What the trail needs of its file: the one seam to the disk.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

pub(super) trait Disk: Send {
    /// Makes the file end with these bytes, which begin at `offset`, and waits until the disk has them.
    fn end_with(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
}

impl Disk for File {
    fn end_with(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)?;
        let end = offset + bytes.len() as u64;
        if self.metadata()?.len() > end {
            self.set_len(end)?;
        }
        self.sync_data()
    }
}
