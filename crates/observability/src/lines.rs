//! Lines to standard output and standard error. A pipe that nobody reads, a full disk or a terminal that went away must
//! never hold up what is only being told about: a thread of its own writes, and what it cannot keep up with is dropped.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// Texts on their way.
const QUEUED: usize = 4096;
/// Bytes on their way beyond which nothing is taken that is only offered.
const OFFERED_BYTES: usize = 1 << 20;

enum Message {
    Text(Vec<u8>),
    /// Answered once everything before it is written.
    Flush(SyncSender<()>),
}

/// Writes without ever waiting. Clones write to the same place.
#[derive(Clone)]
pub struct Lines {
    sender: SyncSender<Message>,
    /// Bytes on their way.
    waiting: Arc<AtomicUsize>,
}

impl Lines {
    /// Lines to standard output.
    pub fn to_stdout() -> Self {
        Self::to(std::io::stdout())
    }

    /// Lines to standard error.
    pub fn to_stderr() -> Self {
        Self::to(std::io::stderr())
    }

    fn to(out: impl Write + Send + 'static) -> Self {
        let (sender, receiver) = sync_channel(QUEUED);
        let waiting = Arc::new(AtomicUsize::new(0));
        let written = Arc::clone(&waiting);
        // Without a thread nothing is told, which is no reason not to run.
        let _started = std::thread::Builder::new()
            .name("lines".into())
            .spawn(move || write(out, &receiver, &written))
            .is_ok();
        Self { sender, waiting }
    }

    /// Writes a text as it is; drops it when too much is waiting already.
    pub fn write(&self, text: impl Into<Vec<u8>>) {
        let _dropped = !self.send(text.into());
    }

    /// Writes a text only where little is waiting, so that what others say is never dropped for it; whether it was taken.
    #[must_use]
    pub fn offer(&self, text: impl Into<Vec<u8>>) -> bool {
        self.waiting.load(Ordering::Relaxed) < OFFERED_BYTES && self.send(text.into())
    }

    fn send(&self, text: Vec<u8>) -> bool {
        let bytes = text.len();
        self.waiting.fetch_add(bytes, Ordering::Relaxed);
        let is_sent = self.sender.try_send(Message::Text(text)).is_ok();
        if !is_sent {
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
        }
        is_sent
    }

    /// Waits until everything is written, at most `limit`.
    pub fn flush(&self, limit: Duration) {
        let (done, written) = sync_channel(1);
        if self.sender.try_send(Message::Flush(done)).is_ok() {
            let _written_or_too_late = written.recv_timeout(limit).is_ok();
        }
    }
}

fn write(mut out: impl Write, receiver: &Receiver<Message>, waiting: &AtomicUsize) {
    while let Ok(message) = receiver.recv() {
        match message {
            Message::Text(text) => {
                // Whoever could be told that this failed is whom it was for.
                drop(out.write_all(&text).and_then(|()| out.flush()));
                waiting.fetch_sub(text.len(), Ordering::Relaxed);
            }
            Message::Flush(done) => drop(done.send(())),
        }
    }
}

impl Write for Lines {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        Lines::write(self, text);
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, mpsc};

    use super::*;

    struct Stuck(Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, _text: &[u8]) -> std::io::Result<usize> {
            let _never_read = self.0.recv();
            Err(std::io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(text);
            Ok(text.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_place_that_takes_nothing_holds_nobody_up() {
        let (_read, never) = mpsc::channel();
        let lines = Lines::to(Stuck(never));
        for _ in 0..QUEUED * 2 {
            lines.write("line\n");
        }
        lines.flush(Duration::from_millis(1));
    }

    #[test]
    fn what_is_only_offered_is_not_taken_where_much_waits_and_what_is_said_is() {
        let (_read, never) = mpsc::channel();
        let lines = Lines::to(Stuck(never));
        assert!(lines.offer(vec![b'x'; OFFERED_BYTES / 2]));
        assert!(lines.offer(vec![b'x'; OFFERED_BYTES]));
        assert!(!lines.offer("x"));
        assert!(lines.send(b"said".to_vec()));
        let kept = Kept::default();
        let lines = Lines::to(kept.clone());
        for _ in 0..4 {
            assert!(lines.offer(vec![b'x'; OFFERED_BYTES]), "what was written waits no more");
            lines.flush(Duration::from_secs(60));
        }
    }

    #[test]
    fn everything_is_written_when_flush_returns() {
        let kept = Kept::default();
        let lines = Lines::to(kept.clone());
        lines.write("a\n");
        lines.write("b\n");
        lines.flush(Duration::from_secs(60));
        assert_eq!(*kept.0.lock().unwrap(), b"a\nb\n");
    }
}
