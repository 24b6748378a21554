//! One process: its registration, which its launcher makes once, and its evidence while it lives.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;

use mesh_protocol::{
    FrameError, MAX_QUOTER_REQUEST_BYTES, QuoterAnswer, QuoterRefusal, decode_registration, receive_request,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tokio::sync::OwnedSemaphorePermit;

use super::{Order, Shared, answer, from_std};

const REPORT_DATA_BYTES: usize = 64;

/// A registered process.
pub(super) struct Process {
    workload: [u8; 32],
    /// Its pidfd: readable once it has ended (pidfd_open(2)). A number would be another's by then.
    ended: AsyncFd<OwnedFd>,
    stream: UnixStream,
}

/// Takes the one message of a registration socket. It has no time limit: the socket is counted like the process that it is
/// for, and closes with the launcher that holds its other end.
pub(super) async fn registration(mut stream: UnixStream, shared: Arc<Shared>, permit: OwnedSemaphorePermit) {
    let said = match receive_request(&mut stream, MAX_QUOTER_REQUEST_BYTES).await {
        Ok((payload, descriptors)) => match Process::new(&payload, descriptors) {
            Ok(process) => {
                shared.order(Order::Serve(process, permit)).await;
                QuoterAnswer::Done(Vec::new())
            }
            Err(reason) => QuoterAnswer::refused(QuoterRefusal::Malformed, reason),
        },
        // The launcher has ended before it registered anything.
        Err(FrameError::Closed) => return,
        Err(error) => QuoterAnswer::refused(QuoterRefusal::Malformed, error.to_string()),
    };
    answer(&mut stream, &said).await;
}

/// Gives a process its evidence until it has ended, whoever else may hold its socket by then.
pub(super) async fn serve(process: Process, shared: Arc<Shared>, _permit: OwnedSemaphorePermit) {
    let Process { workload, ended, mut stream } = process;
    loop {
        let received = tokio::select! {
            biased;
            _ended_or_unwatchable = ended.readable() => return,
            received = receive_request(&mut stream, REPORT_DATA_BYTES) => received,
        };
        let report_data = match received {
            Ok((payload, _)) => payload.as_slice().try_into().ok(),
            Err(FrameError::Malformed(_)) => None,
            Err(_) => return,
        };
        let Some(report_data) = report_data else {
            let said = QuoterAnswer::refused(QuoterRefusal::Malformed, "report data has exactly 64 bytes");
            answer(&mut stream, &said).await;
            return;
        };
        // The end of a process and the request of a child that it left may arrive together, in either order.
        if has_ended(&ended) || !answer(&mut stream, &shared.evidence(report_data, workload)).await {
            return;
        }
    }
}

impl Process {
    fn new(payload: &[u8], descriptors: Vec<OwnedFd>) -> Result<Self, String> {
        let workload = decode_registration(payload).ok_or("a registration names a workload digest")?;
        let [pidfd, socket] = <[OwnedFd; 2]>::try_from(descriptors).map_err(
            |_| "a registration brings a pidfd and one end of a socket pair, within the limit of open files",
        )?;
        if !is_pidfd(&pidfd) {
            return Err("the first descriptor of a registration is a pidfd".into());
        }
        let ended = watch(pidfd).map_err(|error| format!("the pidfd cannot be watched: {error}"))?;
        let stream = from_std(StdUnixStream::from(socket))
            .map_err(|error| format!("the second descriptor is no socket: {error}"))?;
        Ok(Self { workload, ended, stream })
    }
}

/// Whether it is the descriptor of a process. Anything else might never end.
fn is_pidfd(descriptor: &OwnedFd) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    // ECHILD is the answer for a process that is not this one's child, EBADF or EINVAL the one for anything else.
    matches!(waitid(WaitId::PidFd(descriptor.as_fd()), options), Ok(_) | Err(Errno::CHILD))
}

fn watch(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    #[expect(
        deprecated,
        reason = "its successor is unsafe code; an owned descriptor stays open for as long as it is registered"
    )]
    AsyncFd::with_interest(pidfd, Interest::READABLE)
}

fn has_ended(pidfd: &AsyncFd<OwnedFd>) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(pidfd.get_ref(), PollFlags::IN)], Some(&now));
    // Where the system cannot say, nothing is given.
    ready != Ok(0)
}
