//! The first half of a takeover, in the new process: it asks, and is handed everything.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use control::connect_socket_named;
use mesh_protocol::receive_with_descriptors;
use rustix::process::geteuid;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::message::{Handed, Hello, ToNew, ToOld, receive, send};
use super::sockets::{MAX_DESCRIPTORS, Taken};
use super::succeeding::Predecessor;
use super::{HANDING, ON_ITS_WAY, PROTOCOL, SOCKET};
use crate::failure::Failure;
use crate::up::data_dir::DataDir;

/// What is gone on with.
pub(crate) struct TakenOver {
    pub(in super::super) data_dir: DataDir,
    pub(in super::super) sockets: Taken,
    pub(in super::super) predecessor: Predecessor,
}

/// Whether there is a socket to ask at.
///
/// # Errors
/// There is none.
pub(in super::super) fn is_there(root: &Path) -> Result<(), Failure> {
    if root.join("run").join(SOCKET).exists() { Ok(()) } else { Err(nobody(root)) }
}

fn nobody(root: &Path) -> Failure {
    Failure::NotRunning(format!(
        "no serviceos runs on the data directory {}, so there is nothing to take over: start it without --takeover",
        root.display()
    ))
}

/// Asks the one that runs on a data directory for its place.
///
/// # Errors
/// None runs there, it refuses, or it ends meanwhile.
pub(in super::super) async fn ask(root: &Path) -> Result<TakenOver, Failure> {
    let began = Instant::now();
    let mut connection = match connect_socket_named(&root.join("run"), SOCKET).await {
        Ok(connection) => connection,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            return Err(nobody(root));
        }
        Err(error) => {
            let failed = format!("failed to reach the serviceos on {}", root.display());
            return Err(anyhow::Error::from(error).context(failed).into());
        }
    };
    let peer = connection.peer_cred().context("failed to ask who runs there")?;
    if peer.uid() != geteuid().as_raw() {
        return Err(anyhow!("the serviceos on {} is another user's", root.display()).into());
    }
    let hello = Hello { protocol: PROTOCOL, version: env!("CARGO_PKG_VERSION").to_owned() };
    send(&mut connection, &ToOld::Hello(hello)).await?;
    let answer = timeout(HANDING, receive::<ToNew>(&mut connection)).await;
    let handed = match answer.context("the serviceos that runs does not answer")?? {
        ToNew::Handed(handed) => *handed,
        ToNew::Refused(reason) => return Err(anyhow!("the serviceos that runs refuses: {reason}").into()),
        ToNew::InFlight(_) | ToNew::Nonces(_) => {
            return Err(anyhow!("the serviceos that runs answers something else").into());
        }
    };
    Ok(handed_over(connection, handed, root, began).await?)
}

async fn handed_over(
    connection: UnixStream,
    handed: Handed,
    root: &Path,
    began: Instant,
) -> Result<TakenOver> {
    let count = handed.groups.iter().map(|group| group.count).sum();
    let connection = connection.into_std()?;
    let receiving = tokio::task::spawn_blocking(move || descriptors(connection, count));
    let (connection, descriptors) = receiving.await.context("failed to receive what is handed over")??;
    let sockets = Taken::of(&handed.groups, descriptors)?;
    TakenOver::of(connection, handed, sockets, root, began)
}

/// Receives so many descriptors.
fn descriptors(mut connection: StdUnixStream, count: usize) -> Result<(StdUnixStream, Vec<OwnedFd>)> {
    if count > MAX_DESCRIPTORS {
        bail!("the other serviceos hands {count} descriptors over, which is more than {MAX_DESCRIPTORS}");
    }
    connection.set_nonblocking(false)?;
    connection.set_read_timeout(Some(ON_ITS_WAY))?;
    let mut all = Vec::with_capacity(count);
    while all.len() < count {
        let (_empty, descriptors) = receive_with_descriptors(&mut connection).context(
            "the other serviceos has ended while it handed over: start this one without --takeover",
        )?;
        if descriptors.is_empty() {
            bail!("the other serviceos hands fewer descriptors over than it says");
        }
        all.extend(descriptors);
    }
    connection.set_read_timeout(None)?;
    connection.set_nonblocking(true)?;
    Ok((connection, all))
}

impl TakenOver {
    /// What is gone on with, of everything that was handed over.
    pub(super) fn of(
        connection: StdUnixStream,
        handed: Handed,
        mut sockets: Taken,
        root: &Path,
        began: Instant,
    ) -> Result<Self> {
        let lock: File = sockets.lock.take().context("the lock of the data directory was not handed over")?;
        let data_dir = DataDir::of_lock(root, lock)?;
        let connection = UnixStream::from_std(connection)?;
        Ok(Self { data_dir, sockets, predecessor: Predecessor::new(connection, handed, began) })
    }
}
