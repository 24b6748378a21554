//! One file that a replica appends to: read once, and freed behind the reader.
//!
//! What was read is punched out of the file, or where the filesystem cannot, the file is emptied: the replica appends, so for
//! it nothing moves. What lies there is then what was not read yet and a little more, however much the replica writes.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use rustix::fs::{FallocateFlags, fallocate};

use super::line::Written;
use super::rate::Bucket;
use super::splitter::{Mid, Split, Splitter};

/// What lies in the file, in bytes, before the part of it that was read is freed; in one that grows fast it is at once.
const FREED_BEYOND: u64 = 16 << 20;
/// What is left of that: the last words, which the reason of an end repeats.
const LEFT: u64 = 64 << 10;
/// A file that seems longer is emptied, since filesystems have a limit: of ext4 it is 16 TiB.
const LONGEST: u64 = 1 << 40;
/// What is read of a file in one look, in bytes; where there is more, the next look comes soon. Lines take time, in which a
/// file grows and others wait.
const AT_ONCE: u64 = 128 << 10;
/// What is read at once.
const PIECE: usize = 64 << 10;

/// A file, and how far it was read.
pub(super) struct Followed {
    file: File,
    read: u64,
    freed: u64,
    version: String,
    /// Where lines end that do not say so, and with which version the next begin.
    turns: VecDeque<(u64, Option<String>)>,
    splitter: Splitter,
    bucket: Bucket,
    can_punch: bool,
}

/// What was read at once.
#[derive(Default)]
pub(super) struct Read {
    pub(super) lines: Vec<Written>,
    /// Bytes that are in no line.
    pub(super) dropped: u64,
    /// Whether the next look should come soon.
    pub(super) is_fast: bool,
}

impl Followed {
    pub(super) fn open(path: &Path, from: u64, version: String) -> std::io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let (splitter, bucket) = (Splitter::default(), Bucket::full());
        Ok(Self {
            file,
            read: from,
            freed: 0,
            version,
            turns: VecDeque::new(),
            splitter,
            bucket,
            can_punch: true,
        })
    }

    /// Another run begins there.
    pub(super) fn begins(&mut self, at: u64, version: String) {
        self.turns.push_back((at, Some(version)));
    }

    /// A run has ended there.
    pub(super) fn ends(&mut self, at: u64) {
        self.turns.push_back((at, None));
    }

    /// How far it was read.
    pub(super) fn read_until_now(&self) -> u64 {
        self.read
    }

    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// Reads what has come, as much of it as may be passed on, and frees what was read.
    pub(super) fn read(&mut self, now: Instant) -> std::io::Result<Read> {
        let (mut read, length) = (Read::default(), self.file.metadata()?.len());
        if length < self.read {
            // Somebody has emptied it, and what comes next begins a line.
            read.dropped += self.splitter.skip(Mid::Line);
            self.splitter.end();
            self.emptied();
        }
        self.turn(&mut read);
        let may = self.bucket.fill(now);
        let there = length - self.read;
        let now_read = there.min(may).min(AT_ONCE);
        self.read_until(self.read + now_read, &mut read)?;
        self.bucket.take(now_read);
        if there > may {
            let mut last = [0];
            let is_whole = self.file.read_at(&mut last, length - 1)? == 1 && last == *b"\n";
            read.dropped += self.splitter.skip(if is_whole { Mid::None } else { Mid::Line });
            read.dropped += length - self.read;
            self.read = length;
        }
        read.is_fast = there > AT_ONCE;
        self.free(length, if read.is_fast { AT_ONCE } else { FREED_BEYOND })?;
        Ok(read)
    }

    /// The line that was begun is complete.
    pub(super) fn end_line(&mut self, read: &mut Read) {
        let line = self.splitter.end();
        read.lines.extend(line.map(|line| self.written(line)));
    }

    fn read_until(&mut self, until: u64, read: &mut Read) -> std::io::Result<()> {
        let mut piece = vec![0; PIECE.min(usize::try_from(until - self.read).unwrap_or(PIECE))];
        while self.read < until {
            // Not beyond where another run begins.
            let end = self.turns.front().map_or(until, |(at, _)| until.min(*at));
            let room = usize::try_from(end - self.read).unwrap_or(PIECE).min(PIECE);
            let length = self.file.read_at(&mut piece[..room], self.read)?;
            if length == 0 {
                break;
            }
            let mut lines = Vec::new();
            read.dropped += self.splitter.feed(&piece[..length], &mut lines);
            read.lines.extend(lines.into_iter().map(|line| self.written(line)));
            self.read += length as u64;
            self.turn(read);
        }
        Ok(())
    }

    /// From here on it is what another run has written.
    fn turn(&mut self, read: &mut Read) {
        while self.turns.front().is_some_and(|(at, _)| *at <= self.read) {
            let Some((at, version)) = self.turns.pop_front() else { return };
            // Where its beginning was skipped, so was that of the line that comes next.
            if at == self.read {
                self.end_line(read);
            }
            self.version = version.unwrap_or(std::mem::take(&mut self.version));
        }
    }

    fn written(&self, line: Split) -> Written {
        Written { line, version: self.version.clone() }
    }

    fn free(&mut self, length: u64, beyond: u64) -> std::io::Result<()> {
        let read = self.read.saturating_sub(LEFT);
        if length - self.freed <= beyond || read <= self.freed {
            return Ok(());
        }
        if self.can_punch && length < LONGEST {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            match fallocate(&self.file, flags, self.freed, read - self.freed) {
                Ok(()) => {
                    self.freed = read;
                    return Ok(());
                }
                Err(errno) => {
                    tracing::debug!(%errno, "the filesystem frees no parts of files, so outputs are emptied");
                    self.can_punch = false;
                }
            }
        }
        // What was written since the look is lost with the rest; there is no way to take only what was read.
        self.file.set_len(0)?;
        self.emptied();
        Ok(())
    }

    fn emptied(&mut self) {
        (self.read, self.freed) = (0, 0);
        // No place in it means anything any more.
        for (_, version) in self.turns.drain(..) {
            self.version = version.unwrap_or(std::mem::take(&mut self.version));
        }
    }
}

#[cfg(test)]
mod tests;
