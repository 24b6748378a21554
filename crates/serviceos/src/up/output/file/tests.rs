use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use super::super::rate::BYTES_PER_SECOND;
use super::*;

struct Output {
    writer: File,
    followed: Followed,
    now: Instant,
    _folder: tempfile::TempDir,
}

impl Output {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vrf-0.log");
        let writer = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        let followed = Followed::open(&path, 0, "1".into()).unwrap();
        Self { writer, followed, now: Instant::now(), _folder: folder }
    }

    fn write(&mut self, text: &str) {
        self.writer.write_all(text.as_bytes()).unwrap();
    }

    fn length(&self) -> u64 {
        self.writer.metadata().unwrap().len()
    }

    /// What it takes of the disk, in bytes.
    fn takes(&self) -> u64 {
        self.writer.metadata().unwrap().blocks() * 512
    }

    fn read(&mut self, after: Duration) -> Read {
        self.now += after;
        self.followed.read(self.now).unwrap()
    }

    fn told(&mut self) -> Vec<String> {
        let read = self.read(Duration::from_secs(1));
        assert_eq!(read.dropped, 0);
        told(&read)
    }
}

fn told(read: &Read) -> Vec<String> {
    let line =
        |written: &Written| format!("{} {}", written.version, String::from_utf8_lossy(&written.line.text));
    read.lines.iter().map(line).collect()
}

#[test]
fn what_is_appended_is_read_once() {
    let mut output = Output::new();
    output.write("a\nb\nc");
    assert_eq!(output.told(), ["1 a", "1 b"]);
    output.write("d\n");
    assert_eq!(output.told(), ["1 cd"]);
    assert_eq!(output.told(), [""; 0]);
}

#[test]
fn what_a_new_run_writes_is_of_its_version_and_begins_a_line() {
    let mut output = Output::new();
    output.write("a\nthe last wo");
    let length = output.length();
    output.followed.begins(length, "2".into());
    output.write("new\n");
    assert_eq!(output.told(), ["1 a", "1 the last wo", "2 new"]);
    let mut read = output.read(Duration::ZERO);
    output.write("unfinished");
    read.lines.extend(output.read(Duration::ZERO).lines);
    output.followed.end_line(&mut read);
    assert_eq!(told(&read), ["2 unfinished"]);
}

#[test]
fn what_is_written_too_fast_is_skipped_and_every_byte_of_it_counted() {
    let mut output = Output::new();
    let line = format!("{}\n", "x".repeat(99));
    let (mut passed, mut dropped) = (0, 0);
    for _ in 0..20 {
        output.write(&line.repeat(3 * usize::try_from(BYTES_PER_SECOND).unwrap() / 100));
        let read = output.read(Duration::ZERO);
        passed += read.lines.len() as u64 * 100;
        dropped += read.dropped;
        assert!(read.is_fast);
    }
    assert!((BYTES_PER_SECOND - 2000..=BYTES_PER_SECOND).contains(&passed), "{passed}");
    assert_eq!(passed + dropped, output.length());
    output.write("after it\n");
    let read = output.read(Duration::from_millis(100));
    assert_eq!((told(&read), read.is_fast), (vec!["1 after it".into()], false));
}

#[test]
fn what_is_written_in_a_rush_is_read_in_pieces_and_all_of_it() {
    let mut output = Output::new();
    output.write(&"x\n".repeat(usize::try_from(BYTES_PER_SECOND).unwrap() / 2));
    let (mut lines, mut looks) = (0, 0);
    loop {
        let read = output.read(Duration::ZERO);
        assert_eq!(read.dropped, 0);
        (lines, looks) = (lines + read.lines.len() as u64, looks + 1);
        if !read.is_fast {
            break;
        }
    }
    assert_eq!((lines, looks), (BYTES_PER_SECOND / 2, BYTES_PER_SECOND / AT_ONCE));
}

#[test]
fn a_line_whose_beginning_was_skipped_is_skipped_to_its_end_also_into_another_run() {
    let mut output = Output::new();
    output.write(&"x".repeat(2 * usize::try_from(BYTES_PER_SECOND).unwrap()));
    let begun = output.read(Duration::ZERO).dropped;
    let length = output.length();
    assert_eq!(begun, length);
    output.followed.begins(length + 5, "2".into());
    output.write("12345too ");
    output.followed.bucket.take(BYTES_PER_SECOND);
    let read = output.read(Duration::ZERO);
    assert_eq!((read.lines.len(), read.dropped), (0, 9));
    output.write("much\nseen\n");
    let read = output.read(Duration::from_secs(1));
    assert_eq!((told(&read), read.dropped), (vec!["2 seen".into()], 5));
}

#[test]
fn the_file_never_takes_much_of_the_disk() {
    let mut output = Output::new();
    let megabyte = format!("{}\n", "x".repeat(99)).repeat((1 << 20) / 100);
    let mut most = 0;
    for _ in 0..100 {
        output.write(&megabyte);
        output.write(&megabyte);
        output.read(Duration::from_millis(10));
        most = most.max(output.takes());
    }
    assert!(output.length() > 200_000_000, "nothing moves for whoever appends");
    assert!(most <= FREED_BEYOND + (4 << 20), "{most}");
    output.write("the last words\n");
    assert_eq!(output.told(), ["1 the last words"]);
}

#[test]
fn where_parts_cannot_be_freed_the_file_is_emptied() {
    let mut output = Output::new();
    output.followed.can_punch = false;
    output.write(&"x\n".repeat(FREED_BEYOND as usize / 2 + 1));
    output.read(Duration::ZERO);
    assert_eq!((output.length(), output.followed.read), (0, 0));
    output.write("goes on\n");
    assert_eq!(told(&output.read(Duration::from_secs(1))).last().unwrap(), "1 goes on");
}

#[test]
fn a_file_that_somebody_else_empties_is_read_from_its_beginning() {
    let mut output = Output::new();
    output.write("a\nbegun and more");
    assert_eq!(output.told(), ["1 a"]);
    output.writer.set_len(0).unwrap();
    output.write("b\nc\n");
    let read = output.read(Duration::ZERO);
    assert_eq!(told(&read).last().unwrap(), "1 c");
}
