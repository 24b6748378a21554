//! `serviceos down`: asks the running one to drain and stop, and waits until it has ended.

use anyhow::Context;
use control::{AdminClient, Status};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::cli::PlaceArgs;
use crate::commands::block_on;
use crate::failure::Failure;
use crate::output::print;
use crate::up::quoter::end_what_is_left;

pub(crate) fn run(place: &PlaceArgs) -> Result<(), Failure> {
    let data_dir = place.data_dir();
    let client = AdminClient::new(&data_dir);
    let pid = block_on(async {
        let status: Status = match client.get("/v1/status").await {
            Ok(status) => status,
            Err(error) => {
                // One that was killed may have left its quoter.
                if end_what_is_left(&data_dir.join("run")).await {
                    print(format_args!("the development quoter of a serviceos that was killed is stopped"))?;
                }
                return Err(error.into());
            }
        };
        Ok(status.pid)
    })?;
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
