//! Whoever runs can be asked for its place at any time: by a process of the same user, one at a time.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
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
    pub(in super::super) connection: UnixStream,
    pub(in super::super) process: Asker,
    pub(in super::super) version: String,
}

/// Its process.
pub(in super::super) struct Asker {
    pub(in super::super) pid: u32,
    process: AsyncFd<OwnedFd>,
}

impl Asker {
    /// # Errors
    /// It cannot be watched, so that nobody could say whether it is the only one that serves.
    fn of(pid: Option<i32>) -> Result<Self> {
        let pid =
            pid.and_then(Pid::from_raw).context("it has no number here: it runs in another namespace")?;
        let descriptor = pidfd_open(pid, PidfdFlags::empty()).context("it cannot be watched")?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe code; an owned descriptor stays open for as long as it is registered"
        )]
        let process =
            AsyncFd::with_interest(descriptor, Interest::READABLE).context("it cannot be watched")?;
        Ok(Self { pid: pid.as_raw_nonzero().get().unsigned_abs(), process })
    }

    /// What it does within this time. When it is late it is ended at once, before it can begin to serve.
    ///
    /// # Errors
    /// It has failed, or was late.
    pub(super) async fn within<T>(
        &self,
        limit: Duration,
        part: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        match timeout(limit, part).await {
            Ok(done) => done,
            Err(_late) => {
                self.kill().await;
                Err(anyhow!("it did not serve within {limit:?}, and was ended"))
            }
        }
    }

    /// Waits until it has ended, and ends it when it does not by itself after a moment: whoever goes on must be the only one.
    pub(super) async fn end(&self) {
        if timeout(HELLO, self.process.readable()).await.is_err() {
            self.kill().await;
        }
    }

    async fn kill(&self) {
        self.signal(Signal::KILL);
        let _ended_or_unwatchable = self.process.readable().await.is_ok();
    }

    /// Tells it what this process was told.
    pub(in super::super) fn signal(&self, signal: Signal) {
        let _ended_meanwhile = pidfd_send_signal(self.process.get_ref(), signal).is_err();
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
    let process = match busy {
        Some(busy) => Err(anyhow!(busy)),
        None if protocol != PROTOCOL => Err(anyhow!(
            "serviceos {} speaks form {PROTOCOL} of the takeover, and {version} speaks {protocol}: stop this one and start the \
             other",
            env!("CARGO_PKG_VERSION")
        )),
        None => Asker::of(peer.pid()),
    };
    let process = match process {
        Ok(process) => process,
        Err(refusal) => {
            let told = ToNew::Refused(format!("{refusal:#}"));
            timeout(HELLO, send(&mut connection, &told)).await.context("it does not listen")??;
            return Err(refusal);
        }
    };
    // There is one at a time: what follows takes this task's turn away.
    let _being_told_to_end = asked.send(Asking { connection, process, version }).await.is_err();
    std::future::pending().await
}
