//! Where the value of a secret comes from: a file or standard input, never an argument, which everybody could see in a list of
//! processes. It is wiped when it was used.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use secrets::MAX_VALUE_BYTES;
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::output::note;

/// Within which the second line of what is pasted follows the first.
const REST_OF_A_PASTE: Duration = Duration::from_millis(100);

/// Reads the value of the secret of this name.
pub(super) async fn read(name: &str, file: Option<&Path>) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let value = match file {
        Some(path) => {
            let file = File::open(path).with_context(|| format!("failed to open {}", path.display()))?;
            whole(file).with_context(|| format!("failed to read {}", path.display()))?
        }
        None if std::io::stdin().is_terminal() => typed(name).await?,
        None => whole(standard_input()?).context("failed to read standard input")?,
    };
    if value.len() > MAX_VALUE_BYTES {
        return Err(anyhow!("the value is too large: a secret has at most 64 KiB").into());
    }
    if value.is_empty() {
        return Err(anyhow!("the value is empty; give it on standard input, or in a file with --file").into());
    }
    Ok(value)
}

/// Not through the buffer of the standard library, which nobody wipes.
fn standard_input() -> anyhow::Result<File> {
    Ok(File::from(std::io::stdin().as_fd().try_clone_to_owned().context("failed to read standard input")?))
}

/// Every byte, up to one more than there may be. The buffer never grows, so that no copy is left behind.
fn whole(file: File) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut value = Zeroizing::new(vec![0; MAX_VALUE_BYTES + 1]);
    let length = fill(&file, &mut value, |_| false)?;
    value.truncate(length);
    Ok(value)
}

/// Reads until the end, until it is full, or until `is_over` says so of what there is.
fn fill(mut file: &File, value: &mut [u8], is_over: impl Fn(&[u8]) -> bool) -> std::io::Result<usize> {
    let mut length = 0;
    while length < value.len() && !is_over(&value[..length]) {
        match file.read(&mut value[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// A line that is typed and not shown, and nothing behind it: of a value of several lines that is pasted, the rest would go to
/// the shell. Ctrl-C gives up, and leaves the terminal as it was.
async fn typed(name: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let terminal = standard_input()?;
    let _shown_again_at_the_end = Hidden::begin(standard_input()?)?;
    note(format_args!("value of {name}, which is not shown, then Enter:"));
    let line = tokio::task::spawn_blocking(move || {
        let mut line = Zeroizing::new(vec![0; MAX_VALUE_BYTES + 2]);
        let length = fill(&terminal, &mut line, |line| line.ends_with(b"\n"))?;
        line.truncate(length);
        Ok::<_, std::io::Error>((line, has_more(&terminal)))
    });
    let (line, has_more) = tokio::select! {
        line = line => line.context("failed to read the terminal")?.context("failed to read the terminal")?,
        _ = tokio::signal::ctrl_c() => return Err(anyhow!("nothing was set").into()),
    };
    if has_more {
        return Err(anyhow!("the value has more than one line; give it in a file with --file").into());
    }
    Ok(without_line_end(line))
}

/// Whether there is more to be read already, of which nobody is to see anything. What is pasted comes at once.
fn has_more(terminal: &File) -> bool {
    let wait = Timespec { tv_sec: 0, tv_nsec: REST_OF_A_PASTE.subsec_nanos().into() };
    poll(&mut [PollFd::new(terminal, PollFlags::IN)], Some(&wait)).is_ok_and(|ready| ready > 0)
}

/// What was typed before Enter.
fn without_line_end(mut line: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    if line.ends_with(b"\n") {
        let length = line.len() - 1;
        line.truncate(length);
    }
    line
}

/// A terminal that shows nothing of what is typed, until this is dropped.
struct Hidden {
    terminal: File,
    before: Termios,
}

impl Hidden {
    fn begin(terminal: File) -> anyhow::Result<Self> {
        let before = tcgetattr(&terminal).context("failed to look at the terminal")?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        hidden.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(&terminal, OptionalActions::Flush, &hidden).context("failed to set up the terminal")?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // What was typed beyond the value is thrown away, so that no shell runs a part of it.
        let _gone_already = tcsetattr(&self.terminal, OptionalActions::Flush, &self.before).is_err();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};
    use std::os::unix::fs::OpenOptionsExt;

    use rustix::fs::OFlags;
    use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};

    use super::*;

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file.rewind().unwrap();
        file
    }

    #[test]
    fn a_file_counts_with_every_byte_and_is_read_no_further_than_a_value_may_go() {
        assert_eq!(whole(file(b"a value\n")).unwrap().as_slice(), b"a value\n");
        assert_eq!(whole(file(b"")).unwrap().len(), 0);
        assert_eq!(whole(file(&vec![1; MAX_VALUE_BYTES])).unwrap().len(), MAX_VALUE_BYTES);
        assert_eq!(whole(file(&vec![1; 2 * MAX_VALUE_BYTES])).unwrap().len(), MAX_VALUE_BYTES + 1);
    }

    #[test]
    fn of_a_typed_line_the_line_end_is_left_out_and_nothing_else() {
        for (typed, value) in [("hunter2\n", "hunter2"), ("hunter2", "hunter2"), (" a \n", " a "), ("\n", "")]
        {
            let line = Zeroizing::new(typed.as_bytes().to_vec());
            assert_eq!(without_line_end(line).as_slice(), value.as_bytes(), "{typed:?}");
        }
    }

    #[test]
    fn a_second_line_is_seen_and_does_not_reach_whoever_reads_the_terminal_next() {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        unlockpt(&controller).unwrap();
        let name = ptsname(&controller, Vec::new()).unwrap();
        let not_its_terminal = i32::try_from(OFlags::NOCTTY.bits()).unwrap();
        let open = || {
            let mut options = File::options();
            options
                .read(true)
                .write(true)
                .custom_flags(not_its_terminal)
                .open(name.to_str().unwrap())
                .unwrap()
        };
        let terminal = open();
        let hidden = Hidden::begin(open()).unwrap();
        let mut controller = File::from(controller);
        let mut line = [0; 64];
        controller.write_all(b"one\n").unwrap();
        assert_eq!(fill(&terminal, &mut line, |line| line.ends_with(b"\n")).unwrap(), 4);
        assert!(!has_more(&terminal));
        controller.write_all(b"one\ntwo\n").unwrap();
        assert_eq!(fill(&terminal, &mut line, |line| line.ends_with(b"\n")).unwrap(), 4);
        assert!(has_more(&terminal));
        drop(hidden);
        assert!(!has_more(&terminal), "it is thrown away");
    }
}
