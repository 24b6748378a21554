//! The access log: workers fill buffers, one thread writes the file and gives the emptied buffers back, so that logging
//! allocates nothing once each worker has the buffers that it needs.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use thiserror::Error;

use crate::{Counter, GatewayShard};

/// Buffers on their way to the file, of all workers together.
const QUEUED_BUFFERS: usize = 64;
/// A worker hands its buffer over when it is this long, or when its timer says so.
const BUFFER_BYTES: usize = 64 << 10;
/// Room for the line that makes a buffer full. A longer line lets the buffer grow once, for good.
const LAST_LINE_BYTES: usize = 16 << 10;
/// Emptied buffers that a worker keeps beside the one that it fills; a burst's others are freed.
const SPARE_BUFFERS: usize = 4;

/// The access log cannot be opened.
#[derive(Debug, Error)]
#[error("the access log {path} cannot be opened: {reason}")]
pub struct AccessLogError {
    path: PathBuf,
    reason: std::io::Error,
}

/// The writer's thread.
#[derive(Debug)]
pub struct AccessLog {
    thread: JoinHandle<()>,
}

/// What a worker writes to. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AccessLogHandle(SyncSender<FullBuffer>);

/// Lines on their way to the file, where the buffer goes when it is empty again, and where lines are counted that could not
/// be written.
#[derive(Debug)]
struct FullBuffer {
    lines: Vec<u8>,
    home: SyncSender<Vec<u8>>,
    unwritten: Arc<Counter>,
}

/// The lines of one worker that were not handed over yet.
#[derive(Debug)]
pub struct LineBuffer {
    lines: Vec<u8>,
    /// How much of it is whole lines.
    whole: usize,
    count: u64,
    writer: AccessLogHandle,
    home: SyncSender<Vec<u8>>,
    emptied: Receiver<Vec<u8>>,
    shard: Arc<GatewayShard>,
}

impl AccessLog {
    /// Opens the file for appending, making its folder, and starts the writer.
    pub fn open(path: &Path) -> Result<(Self, AccessLogHandle), AccessLogError> {
        let failed = |reason| AccessLogError { path: path.to_owned(), reason };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(failed)?;
        let torn = file.metadata().is_ok_and(|metadata| metadata.is_file()) && ends_in_half_a_line(path);
        let writer = Writer { file, torn, failing: false };
        let (sender, receiver) = sync_channel(QUEUED_BUFFERS);
        let thread = std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || writer.run(&receiver))
            .map_err(failed)?;
        Ok((Self { thread }, AccessLogHandle(sender)))
    }

    /// Waits until everything is written. Every handle and buffer must be gone.
    pub fn finish(self) {
        if self.thread.join().is_err() {
            tracing::error!("the access log's writer panicked");
        }
    }
}

/// Whether the last writer ended in the middle of a line. A file that cannot be read is taken to be whole.
fn ends_in_half_a_line(path: &Path) -> bool {
    let mut last = [b'\n'];
    let read = File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)
    });
    read.is_ok() && last != [b'\n']
}

/// What the writer's thread does with full buffers.
struct Writer<W> {
    file: W,
    /// The file ends in half a line, which the next line must not be glued to.
    torn: bool,
    failing: bool,
}

impl<W: Write> Writer<W> {
    fn run(mut self, receiver: &Receiver<FullBuffer>) {
        while let Ok(full) = receiver.recv() {
            self.take(full);
        }
    }

    fn take(&mut self, full: FullBuffer) {
        let (written, ended) = self.write(&full.lines);
        if let Err(error) = ended {
            let lost = full.lines[written..].iter().filter(|byte| **byte == b'\n').count();
            full.unwritten.add(lost as u64);
            self.torn |= full.lines[..written].last().is_some_and(|last| *last != b'\n');
            if !self.failing {
                tracing::error!(%error, "the access log cannot be written; lines are lost until it can");
            }
            self.failing = true;
        } else if std::mem::take(&mut self.failing) {
            tracing::warn!("the access log is written again");
        }
        full.give_back();
    }

    /// Writes as far as it goes: how many bytes of the lines, and why no more.
    fn write(&mut self, lines: &[u8]) -> (usize, std::io::Result<()>) {
        if self.torn
            && let Err(error) = self.file.write_all(b"\n")
        {
            return (0, Err(error));
        }
        self.torn = false;
        let mut written = 0;
        while written < lines.len() {
            match self.file.write(&lines[written..]) {
                Ok(0) => return (written, Err(ErrorKind::WriteZero.into())),
                Ok(more) => written += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return (written, Err(error)),
            }
        }
        (written, Ok(()))
    }
}

impl FullBuffer {
    /// A worker that has enough of them, or is gone, does not take it.
    fn give_back(self) {
        let Self { mut lines, home, unwritten: _ } = self;
        lines.clear();
        drop(home.try_send(lines));
    }
}

impl LineBuffer {
    /// An empty buffer of a worker.
    pub fn new(writer: AccessLogHandle, shard: Arc<GatewayShard>) -> Self {
        let (home, emptied) = sync_channel(SPARE_BUFFERS);
        Self { lines: empty_buffer(), whole: 0, count: 0, writer, home, emptied, shard }
    }

    /// Adds a line; `write` appends it without the line end. Should that panic, nothing of the line is kept.
    pub fn line(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.lines.truncate(self.whole);
        write(&mut self.lines);
        self.lines.push(b'\n');
        self.whole = self.lines.len();
        self.count += 1;
        if self.lines.len() >= BUFFER_BYTES {
            self.flush();
        }
    }

    /// Hands the lines over. When the writer cannot keep up they are dropped and counted: requests never wait for a disk.
    pub fn flush(&mut self) {
        self.lines.truncate(std::mem::take(&mut self.whole));
        if self.lines.is_empty() {
            return;
        }
        let full = FullBuffer {
            lines: std::mem::take(&mut self.lines),
            home: self.home.clone(),
            unwritten: Arc::clone(&self.shard.log_lines_unwritten),
        };
        match self.writer.0.try_send(full) {
            Ok(()) => self.lines = self.emptied.try_recv().unwrap_or_else(|_none_yet| empty_buffer()),
            Err(TrySendError::Full(kept) | TrySendError::Disconnected(kept)) => {
                self.shard.log_lines_dropped.add(self.count);
                self.lines = kept.lines;
                self.lines.clear();
            }
        }
        self.count = 0;
    }
}

fn empty_buffer() -> Vec<u8> {
    Vec::with_capacity(BUFFER_BYTES + LAST_LINE_BYTES)
}

impl Drop for LineBuffer {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Metrics;

    #[test]
    fn lines_are_in_the_file_when_finish_returns_and_are_appended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/access.jsonl");
        for round in 0..2 {
            let (log, handle) = AccessLog::open(&path).unwrap();
            let mut buffer = LineBuffer::new(handle, Metrics::new(1).gateway(0));
            buffer.line(|out| out.extend_from_slice(format!("line {round}").as_bytes()));
            drop(buffer);
            log.finish();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "line 0\nline 1\n");
    }

    #[test]
    fn lines_that_nobody_takes_are_counted() {
        let (sender, receiver) = sync_channel(1);
        let shard = Metrics::new(1).gateway(0);
        let mut buffer = LineBuffer::new(AccessLogHandle(sender), Arc::clone(&shard));
        for _ in 0..3 {
            buffer.line(|out| out.push(b'x'));
            buffer.flush();
        }
        assert_eq!(shard.log_lines_dropped.value(), 2);
        drop(receiver);
    }

    #[test]
    fn two_buffers_in_turn_carry_all_lines_and_a_full_one_is_never_grown() {
        let (sender, receiver) = sync_channel(1);
        let mut buffer = LineBuffer::new(AccessLogHandle(sender), Metrics::new(1).gateway(0));
        let mut used = std::collections::BTreeSet::new();
        for _ in 0..10 {
            let full = loop {
                buffer.line(|out| out.extend_from_slice(&[b'x'; 300]));
                if let Ok(full) = receiver.try_recv() {
                    break full;
                }
            };
            assert!(full.lines.len() >= BUFFER_BYTES);
            used.insert((full.lines.as_ptr() as usize, full.lines.capacity()));
            full.give_back();
        }
        assert_eq!(used.len(), 2);
        assert!(used.iter().all(|(_, capacity)| *capacity == empty_buffer().capacity()), "{used:?}");
    }

    #[test]
    fn a_buffer_that_nobody_takes_is_filled_again() {
        let (sender, _receiver) = sync_channel(0);
        let mut buffer = LineBuffer::new(AccessLogHandle(sender), Metrics::new(1).gateway(0));
        let place = buffer.lines.as_ptr();
        for _ in 0..3 {
            buffer.line(|out| out.push(b'x'));
            buffer.flush();
            assert!(buffer.lines.is_empty());
            assert_eq!(buffer.lines.as_ptr(), place);
        }
    }

    #[test]
    fn a_line_that_is_not_finished_is_no_line() {
        let (sender, receiver) = sync_channel(1);
        let mut buffer = LineBuffer::new(AccessLogHandle(sender), Metrics::new(1).gateway(0));
        let half = |buffer: &mut LineBuffer| {
            let panicking = std::panic::AssertUnwindSafe(|| {
                buffer.line(|out| {
                    out.extend_from_slice(b"half");
                    panic!("as it is meant to");
                });
            });
            std::panic::catch_unwind(panicking).unwrap_err();
        };
        buffer.line(|out| out.push(b'a'));
        half(&mut buffer);
        buffer.line(|out| out.push(b'b'));
        half(&mut buffer);
        buffer.flush();
        assert_eq!(receiver.recv().unwrap().lines, b"a\nb\n");
    }

    /// A disk with so much room left.
    struct Disk {
        content: Vec<u8>,
        room: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let taken = bytes.len().min(self.room);
            if taken == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            self.content.extend_from_slice(&bytes[..taken]);
            self.room -= taken;
            Ok(taken)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_a_full_disk_does_not_take_are_counted_and_none_is_glued_to_half_a_line() {
        let shard = Metrics::new(1).gateway(0);
        let disk = Disk { content: Vec::new(), room: 9 };
        let mut writer = Writer { file: disk, torn: false, failing: false };
        let take = |writer: &mut Writer<Disk>, lines: &[u8]| {
            let (home, unwritten) = (sync_channel(1).0, Arc::clone(&shard.log_lines_unwritten));
            writer.take(FullBuffer { lines: lines.to_vec(), home, unwritten });
            (shard.log_lines_unwritten.value(), writer.failing)
        };
        assert_eq!(take(&mut writer, b"one\n"), (0, false));
        assert_eq!(take(&mut writer, b"two\nthree\nfour\n"), (2, true), "in the middle of the third");
        assert_eq!(take(&mut writer, b"five\n"), (3, true), "not even the end of the half line");
        writer.file.room = 100;
        assert_eq!(take(&mut writer, b"six\n"), (3, false));
        assert_eq!(take(&mut writer, b"seven\n"), (3, false));
        assert_eq!(String::from_utf8(writer.file.content).unwrap(), "one\ntwo\nt\nsix\nseven\n");
    }

    #[test]
    fn half_a_line_that_an_earlier_writer_left_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.jsonl");
        std::fs::write(&path, "whole\nha").unwrap();
        let (log, handle) = AccessLog::open(&path).unwrap();
        let mut buffer = LineBuffer::new(handle, Metrics::new(1).gateway(0));
        buffer.line(|out| out.extend_from_slice(b"next"));
        drop(buffer);
        log.finish();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "whole\nha\nnext\n");
    }
}
