//! What a short helper process says, within a time and a size.

use std::io::{self, PipeReader, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Timespec;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use thiserror::Error;

/// What the process may take.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) time: Duration,
    pub(crate) bytes: usize,
}

/// What a process said, to either of its outputs, and how it ended.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    pub(crate) said: Vec<u8>,
}

/// Why it is not known what it says.
#[derive(Debug, Error)]
pub(crate) enum OutputError {
    #[error("it cannot be run: {0}")]
    Io(#[from] io::Error),
    #[error("it does not end within {} s", .0.as_secs())]
    TooLong(Duration),
    #[error("it says more than {0} bytes")]
    TooMuch(usize),
}

/// A process and its group, which are over and reaped when this is dropped.
struct Running {
    child: Child,
    reaped: bool,
}

/// Runs the command to its end, with its input as the caller set it.
pub(crate) fn run(mut command: Command, bounds: Bounds) -> Result<Output, OutputError> {
    let deadline = Instant::now() + bounds.time;
    let (reader, writer) = io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer).process_group(0);
    let mut running = Running { child: command.spawn()?, reaped: false };
    // It holds the other end of the pipe.
    drop(command);
    let said = read(reader, bounds, deadline)?;
    let ended = pidfd_open(running.pid(), PidfdFlags::empty()).map_err(io::Error::from)?;
    if !readable(&ended, deadline)? {
        return Err(OutputError::TooLong(bounds.time));
    }
    Ok(Output { status: running.end()?, said })
}

fn read(mut pipe: PipeReader, bounds: Bounds, deadline: Instant) -> Result<Vec<u8>, OutputError> {
    let mut said = Vec::new();
    let mut piece = [0; 4096];
    loop {
        if !readable(&pipe, deadline)? {
            return Err(OutputError::TooLong(bounds.time));
        }
        let length = pipe.read(&mut piece)?;
        if length == 0 {
            return Ok(said);
        }
        if said.len() + length > bounds.bytes {
            return Err(OutputError::TooMuch(bounds.bytes));
        }
        said.extend_from_slice(&piece[..length]);
    }
}

/// Waits until there is something to read, or the other end is closed.
fn readable(descriptor: &impl AsFd, deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(descriptor, PollFlags::IN)], Some(&left)) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

impl Running {
    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Waits for a process that has ended, or ends it, with whatever it started.
    fn end(&mut self) -> io::Result<ExitStatus> {
        // Until it is reaped, its number is surely its own.
        if !self.reaped {
            let _nobody_left = kill_process_group(self.pid(), Signal::KILL);
        }
        self.reaped = true;
        self.child.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _nothing_left_to_do = self.end();
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::process::Stdio;

    use super::*;

    const BOUNDS: Bounds = Bounds { time: Duration::from_secs(60), bytes: 1000 };

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).stdin(Stdio::null());
        command
    }

    #[test]
    fn both_outputs_and_the_status_are_seen() {
        let output = run(shell("echo one; echo two >&2; exit 3"), BOUNDS).unwrap();
        assert_eq!((output.said.as_slice(), output.status.code()), (&b"one\ntwo\n"[..], Some(3)));
    }

    #[test]
    fn a_process_that_says_too_much_is_ended() {
        let refused = run(shell("while :; do echo on and on; done"), BOUNDS);
        assert!(matches!(refused, Err(OutputError::TooMuch(1000))));
    }

    #[test]
    fn a_process_that_does_not_end_is_ended_with_everything_that_it_started() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let mut command = shell("exec 3<&0; cat <&3 & cat");
        command.stdin(OwnedFd::from(theirs));
        let bounds = Bounds { time: Duration::from_millis(20), ..BOUNDS };
        assert!(matches!(run(command, bounds), Err(OutputError::TooLong(_))));
        // The other end closes with the last process that holds it.
        ours.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        assert_eq!(ours.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn a_process_that_closes_its_outputs_and_stays_is_ended() {
        let (_open_to_the_end, theirs) = UnixStream::pair().unwrap();
        let mut command = shell("exec >&- 2>&-; read line");
        command.stdin(OwnedFd::from(theirs));
        let bounds = Bounds { time: Duration::from_millis(20), ..BOUNDS };
        assert!(matches!(run(command, bounds), Err(OutputError::TooLong(_))));
    }
}
