//! `serviceos down`: asks the running one to drain and stop, and waits until it has ended. Where none runs, what one has left that
//! was killed is ended.

use std::path::Path;

use anyhow::{Context, anyhow};
use control::{AdminClient, ClientError, Status};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::cli::PlaceArgs;
use crate::commands::block_on;
use crate::failure::Failure;
use crate::output::print;
use crate::up::adoption::{self, EndedLeftovers};

pub(crate) fn run(place: &PlaceArgs) -> Result<(), Failure> {
    let data_dir = place.data_dir();
    let client = AdminClient::new(&data_dir);
    let pid = block_on(async {
        let status: Status = match client.get("/v1/status").await {
            Ok(status) => status,
            Err(ClientError::NotRunning { data_dir, reason }) => {
                if end_what_is_left(&data_dir).await? {
                    return Ok(None);
                }
                return Err(ClientError::NotRunning { data_dir, reason }.into());
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Some(status.pid))
    })?;
    let Some(pid) = pid else { return Ok(()) };
    // Held before the order is given, so that the number cannot have become another process's.
    let process =
        i32::try_from(pid).ok().and_then(Pid::from_raw).context("failed to read the process's number")?;
    let process =
        pidfd_open(process, PidfdFlags::empty()).context("failed to watch the running serviceos")?;
    block_on(async { Ok(client.order("/v1/shutdown").await?) })?;
    print(format_args!("draining serviceos (pid {pid})"))?;
    let mut ended = [PollFd::new(&process, PollFlags::IN)];
    poll(&mut ended, None).context("failed to wait for the running serviceos")?;
    print(format_args!("stopped"))?;
    Ok(())
}

/// The replicas and the quoter of one that was killed; whether there were any.
async fn end_what_is_left(data_dir: &Path) -> Result<bool, Failure> {
    let Some(EndedLeftovers { replicas, quoter, unreadable }) = adoption::end_what_is_left(data_dir).await
    else {
        return Ok(false);
    };
    for record in &replicas {
        let (replica, pid) = (&record.replica, record.process.pid);
        print(format_args!("stopped {replica} (pid {pid}) of a serviceos that was killed"))?;
    }
    if quoter {
        print(format_args!("the development quoter of a serviceos that was killed is stopped"))?;
    }
    if let Some(path) = unreadable.first() {
        let more = unreadable.len() - 1;
        return Err(anyhow!(
            "{} cannot be read, and {more} more: the replica may run on until its identity ends; find it by its working \
             directory, end it, and remove the file",
            path.display()
        )
        .into());
    }
    Ok(quoter || !replicas.is_empty())
}
