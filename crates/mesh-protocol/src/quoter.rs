//! The development quoter's clients: a process that asks for its evidence, whoever starts the quoter, and the launcher
//! that says what runs. The quoter plays the part that the machine's quoting service plays on real hardware, and runs in a
//! process of its own (`crates/dev-quoter`).
//!
//! ```text
//!     up ── control ─────────▶ quoter      root certificate, registration sockets, the authority's evidence, stop
//!     launcher ─ registration ▶ quoter     once: (pidfd, evidence socket, W)
//!     its process ─ evidence ─▶ quoter     64 bytes of report data ▶ evidence with MRENCLAVE = W, while the process lives
//! ```
//!
//! Each of these is one end of a socket pair that was handed over. The quoter's named socket leads to a control connection
//! only, and only for whoever can read the control key; nobody gets evidence for having connected.

mod exchange;
mod wire;

pub use wire::{
    CONTROL_KEY_BYTES, MAX_QUOTER_REQUEST_BYTES, QuoterAnswer, QuoterRefusal, QuoterRequest,
    decode_control_key, decode_registration, receive_request,
};

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags, open};
use thiserror::Error;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::{
    Evidence, EvidenceError, EvidenceKind, EvidenceSource, FrameError, receive_with_descriptors,
    send_with_descriptors,
};
use exchange::{Exchange, is_gone};

/// How long the quoter may take for an answer. It signs in under a millisecond.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// The longest path that fits into a socket's address (unix(7): 108 bytes with the trailing NUL).
const MAX_SOCKET_PATH_BYTES: usize = 107;

/// Why the quoter did not do what it was asked.
#[derive(Debug, Error)]
pub enum QuoterError {
    /// It has hung up.
    #[error(
        "the development quoter is gone; identities hold until they expire, and replicas that are started once it runs \
         again get evidence from the new one"
    )]
    Gone,
    /// It says no.
    #[error("the development quoter refused: {detail} ({code})")]
    Refused {
        /// A stable code ([`QuoterRefusal::code`]).
        code: String,
        /// What happened this time.
        detail: String,
    },
    /// It does not answer.
    #[error("the development quoter did not answer for {} seconds; is its process stopped?", ANSWER_LIMIT.as_secs())]
    Silent,
    /// The control key cannot be read.
    #[error("the quoter's control key {path} cannot be used: {reason}")]
    ControlKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Its answer makes no sense.
    #[error("the development quoter answered something else than evidence; is it of another version?")]
    Evidence,
    /// The messages could not be exchanged.
    #[error("the development quoter cannot be reached: {0}")]
    Frame(#[from] FrameError),
}

impl From<io::Error> for QuoterError {
    fn from(error: io::Error) -> Self {
        Self::Frame(error.into())
    }
}

/// Where a process that was started through a launcher gets its evidence.
pub struct QuoterSource(Mutex<Exchange>);

impl QuoterSource {
    /// Evidence over the socket that the process was born with. Within a runtime.
    ///
    /// # Errors
    /// The machine's.
    pub fn new(stream: StdUnixStream) -> io::Result<Self> {
        Ok(Self(Mutex::new(Exchange::new(stream)?)))
    }

    async fn ask(&self, report_data: [u8; 64]) -> Result<Evidence, QuoterError> {
        decode(&self.0.lock().await.ask(&report_data, None).await?)
    }
}

impl EvidenceSource for QuoterSource {
    fn kind(&self) -> EvidenceKind {
        EvidenceKind::Simulated
    }

    async fn evidence(&self, report_data: [u8; 64]) -> Result<Evidence, EvidenceError> {
        self.ask(report_data).await.map_err(|error| EvidenceError(error.to_string()))
    }
}

/// The quoter's control connection. It may be used by several tasks; one question is asked at a time.
pub struct QuoterControl(Mutex<Exchange>);

impl QuoterControl {
    /// Control over the socket pair that the quoter was started with. Within a runtime.
    ///
    /// # Errors
    /// The machine's.
    pub fn from_stream(stream: StdUnixStream) -> io::Result<Self> {
        Ok(Self(Mutex::new(Exchange::new(stream)?)))
    }

    /// Control of a quoter that somebody else started, over its named socket.
    ///
    /// # Errors
    /// Nobody listens, the control key cannot be read, others may read it, or it is not this quoter's.
    pub async fn connect(socket: &Path, key_file: &Path) -> Result<Self, QuoterError> {
        let key = read_control_key(key_file).await?;
        let (_held, path) = socket_path(socket)?;
        let mut exchange = Exchange::over(UnixStream::connect(path).await?);
        exchange.ask(&wire::encode_control_key(&key), None).await?;
        Ok(Self(Mutex::new(exchange)))
    }

    /// The development root's certificate, DER.
    ///
    /// # Errors
    /// The quoter is gone or refuses.
    pub async fn root(&self) -> Result<Vec<u8>, QuoterError> {
        self.ask(&QuoterRequest::Root, None).await
    }

    /// A registration socket for one launcher, good for [`register`] once.
    ///
    /// # Errors
    /// The quoter is gone or refuses.
    pub async fn registration(&self) -> Result<StdUnixStream, QuoterError> {
        let (ours, theirs) = StdUnixStream::pair()?;
        self.ask(&QuoterRequest::Registration, Some(theirs.as_fd())).await?;
        Ok(ours)
    }

    /// Evidence of whoever holds this connection, over these 64 bytes.
    ///
    /// # Errors
    /// The quoter is gone or refuses.
    pub async fn evidence(&self, report_data: [u8; 64], workload: [u8; 32]) -> Result<Evidence, QuoterError> {
        decode(&self.ask(&QuoterRequest::Evidence { report_data, workload }, None).await?)
    }

    /// Ends the quoter: no process gets evidence any more.
    ///
    /// # Errors
    /// The quoter is gone or refuses.
    pub async fn stop(&self) -> Result<(), QuoterError> {
        self.ask(&QuoterRequest::Stop, None).await.map(drop)
    }

    async fn ask(
        &self,
        request: &QuoterRequest,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<Vec<u8>, QuoterError> {
        self.0.lock().await.ask(&request.encode(), descriptor).await
    }
}

/// Registers a process with what it runs, and returns its evidence socket. Blocking, since a launcher has no event loop;
/// a registration socket takes one registration.
///
/// # Errors
/// The quoter is gone, does not answer, or refuses.
pub fn register(
    registration: &mut StdUnixStream,
    process: BorrowedFd<'_>,
    workload: [u8; 32],
) -> Result<StdUnixStream, QuoterError> {
    let (ours, theirs) = StdUnixStream::pair()?;
    registration.set_read_timeout(Some(ANSWER_LIMIT))?;
    registration.set_write_timeout(Some(ANSWER_LIMIT))?;
    send_with_descriptors(registration, &wire::encode_registration(&workload), &[process, theirs.as_fd()])
        .map_err(blocking)?;
    drop(theirs);
    let (answer, _none) = receive_with_descriptors(registration).map_err(blocking)?;
    match QuoterAnswer::decode(&answer)? {
        QuoterAnswer::Done(_) => Ok(ours),
        QuoterAnswer::Refused { code, detail } => Err(QuoterError::Refused { code, detail }),
    }
}

/// A path to a socket that fits into a socket's address, good while the descriptor is held. Data directories are often
/// deeper than that; then it leads through the open folder.
///
/// # Errors
/// The folder is not there.
pub fn socket_path(socket: &Path) -> io::Result<(Option<OwnedFd>, PathBuf)> {
    if socket.as_os_str().len() <= MAX_SOCKET_PATH_BYTES {
        return Ok((None, socket.to_owned()));
    }
    let (Some(folder), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path of a socket ends in its name"));
    };
    let held = open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let short = Path::new("/proc/self/fd").join(held.as_raw_fd().to_string()).join(name);
    Ok((Some(held), short))
}

fn decode(evidence: &[u8]) -> Result<Evidence, QuoterError> {
    Evidence::decode(evidence).map_err(|_| QuoterError::Evidence)
}

fn blocking(error: FrameError) -> QuoterError {
    match error {
        FrameError::Closed => QuoterError::Gone,
        FrameError::Io(error) if is_gone(&error) => QuoterError::Gone,
        FrameError::Io(error) if error.kind() == io::ErrorKind::WouldBlock => QuoterError::Silent,
        other => QuoterError::Frame(other),
    }
}

async fn read_control_key(path: &Path) -> Result<Zeroizing<[u8; CONTROL_KEY_BYTES]>, QuoterError> {
    let unusable = |reason: String| QuoterError::ControlKey { path: path.to_owned(), reason };
    let failed = |error: io::Error| unusable(error.to_string());
    let mut file = tokio::fs::File::open(path).await.map_err(failed)?;
    let mode = file.metadata().await.map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(unusable(format!("its mode is {mode:o}, so others can read it; chmod 600 it")));
    }
    let mut key = Zeroizing::new([0; CONTROL_KEY_BYTES]);
    let mut end = [0; 1];
    let whole = file.read_exact(&mut *key).await.is_ok() && matches!(file.read(&mut end).await, Ok(0));
    if whole { Ok(key) } else { Err(unusable("it does not hold exactly 32 bytes".into())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{read_frame, write_frame};

    fn evidence() -> Evidence {
        Evidence { kind: EvidenceKind::Simulated, quote: vec![1; 40], collateral: vec![2; 20] }
    }

    #[tokio::test]
    async fn a_source_asks_with_the_report_data_alone_and_says_when_the_quoter_is_gone() {
        let (near, far) = StdUnixStream::pair().unwrap();
        far.set_nonblocking(true).unwrap();
        let mut far = UnixStream::from_std(far).unwrap();
        let source = QuoterSource::new(near).unwrap();
        let quoter = async {
            assert_eq!(read_frame(&mut far).await.unwrap().as_slice(), [7; 64]);
            write_frame(&mut far, &QuoterAnswer::evidence(&evidence()).encode()).await.unwrap();
        };
        let (got, ()) = tokio::join!(source.evidence([7; 64]), quoter);
        assert_eq!(got, Ok(evidence()));
        drop(far);
        let EvidenceError(reason) = source.evidence([7; 64]).await.unwrap_err();
        assert!(reason.starts_with("the development quoter is gone"), "{reason}");
    }

    #[test]
    fn a_registration_without_a_quoter_says_that_it_is_gone() {
        let (mut near, far) = StdUnixStream::pair().unwrap();
        drop(far);
        let process = near.try_clone().unwrap();
        let registered = register(&mut near, process.as_fd(), [1; 32]);
        assert!(matches!(registered, Err(QuoterError::Gone)), "{registered:?}");
    }

    #[test]
    fn a_deep_path_is_made_short_and_another_is_left_alone() {
        let (held, same) = socket_path(Path::new("/tmp/quoter.sock")).unwrap();
        assert_eq!((held.is_none(), same.as_path()), (true, Path::new("/tmp/quoter.sock")));
        let deep = Path::new("/").join("./".repeat(60)).join("quoter.sock");
        let (held, short) = socket_path(&deep).unwrap();
        assert!(held.is_some() && short.as_os_str().len() <= MAX_SOCKET_PATH_BYTES, "{}", short.display());
    }
}
