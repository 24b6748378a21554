//! The development quoter as a process of its own. It outlives this process when that is killed, and the next one finds it
//! again; an orderly end takes it along.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use mesh_protocol::{Evidence, EvidenceError, QuoterControl, QuoterError};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use crate::hold::Hold;
use crate::launcher_process::THIS_BINARY;

/// How long it may take to end once it was told to.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How soon it is looked again whether it has.
const ASKED_AGAIN: Duration = Duration::from_millis(5);

/// The quoter; its clones are the same one.
#[derive(Clone)]
pub(crate) struct Quoter(Arc<Inner>);

struct Inner {
    run: PathBuf,
    /// Where its root and keys are.
    folder: PathBuf,
    ends: Ends,
    hold: Hold,
    process: Mutex<Process>,
    /// The development root, DER.
    root: Vec<u8>,
}

/// When a quoter ends that nobody tells to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// Never: the next `up` finds it.
    Never,
    /// With the process that started it, however that ends.
    WithParent,
}

struct Process {
    control: Arc<QuoterControl>,
    /// None where an earlier `up` started it.
    child: Option<Own>,
}

/// One that this process has started. It ends with it, unless it is held loosely; being killed drops nothing.
struct Own {
    child: Child,
    hold: Hold,
}

impl Own {
    fn kill(&mut self) {
        let _ended_already = self.child.start_kill().is_err();
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if !self.hold.is_loose() {
            self.kill();
        }
    }
}

impl Quoter {
    /// Finds the one that an earlier `up` has left, or starts one.
    pub(super) async fn reach(run: &Path, folder: PathBuf, hold: Hold) -> Result<Self> {
        let process = match found(run).await {
            Some(control) => Process { control: Arc::new(control), child: None },
            None => start(run, &folder, Ends::Never, hold.clone())?,
        };
        Self::of(process, run, folder, (Ends::Never, hold)).await
    }

    /// Starts one of its own for whoever runs where there is no `up`, with a copy of the development root. It ends with this process.
    pub(crate) async fn of_its_own(run: &Path, folder: PathBuf) -> Result<Self> {
        let (ends, hold) = (Ends::WithParent, Hold::default());
        Self::of(start(run, &folder, ends, hold.clone())?, run, folder, (ends, hold)).await
    }

    async fn of(process: Process, run: &Path, folder: PathBuf, (ends, hold): (Ends, Hold)) -> Result<Self> {
        let root = process.control.root().await.with_context(|| {
            format!("failed to start the development quoter; its last words are in {}", log(run).display())
        })?;
        let inner = Inner { run: run.to_owned(), folder, ends, hold, process: Mutex::new(process), root };
        Ok(Self(Arc::new(inner)))
    }

    /// The development root, DER.
    pub(super) fn root(&self) -> &[u8] {
        &self.0.root
    }

    /// A registration socket for one launcher.
    pub(crate) async fn registration(&self) -> Result<StdUnixStream, QuoterError> {
        match self.control().await.registration().await {
            Err(gone @ QuoterError::Gone) => {
                tracing::warn!(error = %gone, "the development quoter is gone; another is started");
                self.start_again().await?.registration().await
            }
            other => other,
        }
    }

    /// Evidence of this process, over 64 bytes.
    pub(super) async fn evidence(
        &self,
        report_data: [u8; 64],
        workload: [u8; 32],
    ) -> Result<Evidence, EvidenceError> {
        let evidence = match self.control().await.evidence(report_data, workload).await {
            Err(QuoterError::Gone) => match self.start_again().await {
                Ok(control) => control.evidence(report_data, workload).await,
                Err(error) => Err(error),
            },
            other => other,
        };
        evidence.map_err(|error| EvidenceError(error.to_string()))
    }

    async fn control(&self) -> Arc<QuoterControl> {
        Arc::clone(&self.0.process.lock().await.control)
    }

    async fn start_again(&self) -> Result<Arc<QuoterControl>, QuoterError> {
        let mut process = self.0.process.lock().await;
        // Somebody else may have been here first.
        if process.control.root().await.is_err() {
            let started = start(&self.0.run, &self.0.folder, self.0.ends, self.0.hold.clone());
            let started = started.map_err(std::io::Error::other)?;
            *process = started;
        }
        Ok(Arc::clone(&process.control))
    }

    /// Ends it at once, where nobody waits for anything any more.
    pub(super) fn kill(&self) {
        if let Ok(mut process) = self.0.process.try_lock()
            && let Some(child) = &mut process.child
        {
            child.kill();
        }
    }

    /// Ends it, with everything else.
    pub(crate) async fn stop(&self) {
        let mut process = self.0.process.lock().await;
        if let Err(error) = process.control.stop().await {
            tracing::debug!(%error, "the development quoter did not take the order to end");
        }
        if let Some(child) = &mut process.child
            && timeout(LAST_WORDS, child.child.wait()).await.is_err()
        {
            tracing::warn!("the development quoter did not end by itself: killing it");
            child.kill();
            let _unknown = child.child.wait().await.is_err();
        }
    }
}

/// The one that an earlier `up` has left, if it is of use.
async fn found(run: &Path) -> Option<QuoterControl> {
    let control = QuoterControl::connect(&socket(run), &control_key(run)).await.ok()?;
    match control.root().await {
        Ok(_root) => Some(control),
        Err(error) => {
            tracing::warn!(%error, "the development quoter of an earlier start is of no use; another is started");
            let _as_little_use = control.stop().await.is_err();
            None
        }
    }
}

/// Ends the one that an `up` has left that was killed, and waits until nobody answers any more; whether there was one.
pub(crate) async fn end_what_is_left(run: &Path) -> bool {
    let control = match QuoterControl::connect(&socket(run), &control_key(run)).await {
        Ok(control) if control.stop().await.is_ok() => control,
        Ok(_) | Err(_) => return false,
    };
    let gone = async {
        while control.root().await.is_ok() || UnixStream::connect(socket(run)).await.is_ok() {
            sleep(ASKED_AGAIN).await;
        }
    };
    if timeout(LAST_WORDS, gone).await.is_err() {
        tracing::warn!("the development quoter has yet to end");
    }
    true
}

fn start(run: &Path, folder: &Path, ends: Ends, hold: Hold) -> Result<Process> {
    let (ours, theirs) = StdUnixStream::pair()?;
    let output = OpenOptions::new().create(true).append(true).mode(0o600).open(log(run))?;
    let mut command = Command::new(THIS_BINARY);
    command
        .arg0("serviceos")
        .arg("dev-quoter")
        .arg(folder)
        .arg(socket(run))
        .arg(control_key(run))
        .args((ends == Ends::WithParent).then_some("--with-parent"))
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| name == "RUST_LOG"))
        .current_dir(run)
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::from(output.try_clone()?))
        .stderr(Stdio::from(output))
        // A signal for the group of this process, such as Ctrl-C, is none for it.
        .process_group(0);
    let child = command.spawn().context("failed to start the development quoter")?;
    let own = Own { child, hold };
    Ok(Process { control: Arc::new(QuoterControl::from_stream(ours)?), child: Some(own) })
}

fn socket(run: &Path) -> PathBuf {
    run.join("quoter.sock")
}

fn control_key(run: &Path) -> PathBuf {
    run.join("quoter.key")
}

fn log(run: &Path) -> PathBuf {
    run.join("quoter.log")
}
