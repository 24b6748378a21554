//! `serviceos down`: asks the running one to drain and stop, and waits until it has ended, and so whoever goes on in its place where
//! one takes over from another. Where none runs, what one has left that was killed is ended.

use std::path::Path;

use anyhow::{Context, anyhow};
use control::{AdminClient, ClientError, Status};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::cli::PlaceArgs;
use crate::commands::block_on;
use crate::failure::Failure;
use crate::output::print;
use crate::up::adoption::{self, EndedLeftovers};

/// How many more may be found running when one has ended.
const TAKEOVERS: usize = 3;

pub(crate) fn run(place: &PlaceArgs) -> Result<(), Failure> {
    let data_dir = place.data_dir();
    let client = AdminClient::new(&data_dir);
    match block_on(async { Ok(client.get::<Status>("/v1/status").await) })? {
        Ok(status) => stop(&client, status.pid)?,
        Err(not_running @ ClientError::NotRunning { .. }) => {
            return if block_on(end_what_is_left(&data_dir))? { Ok(()) } else { Err(not_running.into()) };
        }
        Err(error) => return Err(error.into()),
    }
    for another in 0..=TAKEOVERS {
        match block_on(async { Ok(client.get::<Status>("/v1/status").await) })? {
            Ok(_one_more) if another == TAKEOVERS => break,
            Ok(status) => {
                let pid = status.pid;
                print(format_args!("serviceos (pid {pid}) runs in its place"))?;
                stop(&client, pid)?;
            }
            Err(ClientError::NotRunning { .. }) => {
                print(format_args!("stopped"))?;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(anyhow!("whenever one is stopped, another one runs: look who starts it").into())
}

/// Gives the order, and waits until that process has ended.
fn stop(client: &AdminClient, pid: u32) -> Result<(), Failure> {
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let number = number.context("failed to read the process's number")?;
    // Held before the order is given, so that the number cannot have become another process's.
    let process = match pidfd_open(number, PidfdFlags::empty()) {
        Ok(process) => process,
        Err(Errno::SRCH) => return Ok(()),
        Err(error) => {
            return Err(anyhow::Error::from(error).context("failed to watch the running serviceos").into());
        }
    };
    match block_on(async { Ok(client.order("/v1/shutdown").await) })? {
        Ok(()) => print(format_args!("draining serviceos (pid {pid})"))?,
        // It has ended meanwhile.
        Err(ClientError::NotRunning { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let mut ended = [PollFd::new(&process, PollFlags::IN)];
    poll(&mut ended, None).context("failed to wait for the running serviceos")?;
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
