//! Whoever runs can be asked for its place at any time: by a process of the same user, one at a time.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result, bail};
use control::bind_socket_named;
use rustix::process::{Pid, PidfdFlags, Signal, geteuid, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::message::{Hello, ToNew, ToOld, receive, send};
use super::succeeding::Stage;
use super::{HELLO, PROTOCOL, SOCKET};
use crate::up::background::{Background, told};

/// Somebody who asks for the place of this process.
pub(in super::super) struct Asking {
    pub(super) connection: UnixStream,
    pub(super) process: Asker,
    pub(in super::super) version: String,
}

/// Its process.
pub(super) struct Asker {
    pub(super) pid: u32,
    /// None where it cannot be watched.
    process: Option<AsyncFd<OwnedFd>>,
}

impl Asking {
    /// The number of its process.
    pub(in super::super) fn pid(&self) -> u32 {
        self.process.pid
    }
}

impl Asker {
    fn of(pid: Option<i32>) -> Self {
        let known = pid.and_then(Pid::from_raw);
        let descriptor = known.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        #[expect(
            deprecated,
            reason = "its successor is unsafe code; an owned descriptor stays open for as long as it is registered"
        )]
        let process =
            descriptor.and_then(|descriptor| AsyncFd::with_interest(descriptor, Interest::READABLE).ok());
        Self { pid: pid.map_or(0, i32::unsigned_abs), process }
    }

    /// This process, which starts once more.
    pub(super) fn itself() -> Self {
        Self { pid: std::process::id(), process: None }
    }

    /// Ends it at once, if it has not ended by itself after a moment, and waits for that: whoever goes on must be the only one.
    pub(super) async fn end(&self) {
        let Some(process) = &self.process else { return };
        if timeout(HELLO, process.readable()).await.is_err() {
            let _ended_meanwhile = pidfd_send_signal(process.get_ref(), Signal::KILL).is_err();
            let _ended_or_unwatchable = process.readable().await.is_ok();
        }
    }
}

/// The socket, in the folder that only this user may enter.
pub(in super::super) fn listen(run: &Path) -> io::Result<UnixListener> {
    bind_socket_named(run, SOCKET)
}

/// Begins to listen to who asks. While this process takes the place of another one itself, it says so.
pub(in super::super) fn begin(
    listener: UnixListener,
    stage: watch::Receiver<Stage>,
    background: &mut Background,
) -> mpsc::Receiver<Asking> {
    let (asked, asking) = mpsc::channel(1);
    background.add(|stopped| stand(listener, asked, stage, stopped));
    asking
}

async fn stand(
    listener: UnixListener,
    asked: mpsc::Sender<Asking>,
    stage: watch::Receiver<Stage>,
    stopped: watch::Receiver<bool>,
) {
    let answering = async {
        loop {
            match listener.accept().await {
                Ok((connection, _nameless)) => {
                    if let Err(error) = answer(connection, &asked, &stage).await {
                        tracing::warn!(
                            "somebody asked for the place of this serviceos and was refused: {error:#}"
                        );
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "nobody can ask for the place of this serviceos now");
                    tokio::time::sleep(HELLO).await;
                }
            }
        }
    };
    tokio::select! {
        () = answering => {}
        () = told(stopped) => {}
    }
}

async fn answer(
    mut connection: UnixStream,
    asked: &mpsc::Sender<Asking>,
    stage: &watch::Receiver<Stage>,
) -> Result<()> {
    let peer = connection.peer_cred().context("who it is cannot be asked")?;
    // The folder lets nobody else in; whoever was given the descriptor all the same is refused without a word.
    if peer.uid() != geteuid().as_raw() {
        bail!("it is of the user {}", peer.uid());
    }
    let hello = timeout(HELLO, receive::<ToOld>(&mut connection)).await;
    let hello = match hello.context("it says nothing")?? {
        ToOld::Hello(hello) => hello,
        ToOld::Proven | ToOld::Serving | ToOld::Seen(_) => bail!("it does not begin with who it is"),
    };
    let Hello { protocol, version } = hello;
    let busy = stage.borrow().busy();
    let refusal = match busy {
        Some(busy) => Some(busy),
        None if protocol != PROTOCOL => Some(format!(
            "serviceos {} speaks form {PROTOCOL} of the takeover, and {version} speaks {protocol}: stop this one and start the \
             other",
            env!("CARGO_PKG_VERSION")
        )),
        None => None,
    };
    if let Some(refusal) = refusal {
        let told = timeout(HELLO, send(&mut connection, &ToNew::Refused(refusal.clone()))).await;
        told.context("it does not listen")??;
        bail!(refusal);
    }
    let process = Asker::of(peer.pid());
    // There is one at a time: what follows takes this task's turn away.
    let _being_told_to_end = asked.send(Asking { connection, process, version }).await.is_err();
    std::future::pending().await
}
