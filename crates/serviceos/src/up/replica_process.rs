//! A replica as a process that `up` looks after, its child or one that an earlier `up` has left: what it is told, what it reports,
//! and what it has written last.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use mesh::Members;
use mesh_protocol::{Assignment, Bytes, RegisteredBy, Report};
use service_lifecycle::{Cause, Exit, Launch, LaunchError, Left, Listening, Process, Signal};
use service_registry::{Channel, Registry, Snapshot, Version};
use service_router::TlsClient;
use tokio::time::timeout;
use types::ReplicaId;

use super::adoption::record::{self, Listens, Record};
use super::adoption::{self, Adopted, Judge, Leftovers};
use super::groups::{Confinement, Group};
use super::joining::Begun;
use super::measuring::Launchable;
use super::output::Outputs;
use super::reload::Live;
use super::specs::{Spec, Specs};
use crate::hold::Hold;
use crate::launcher_process::LauncherProcess;
use crate::left_process::ProcessMark;

/// How long it may take until what the authority has decided is written.
const WRITTEN: Duration = Duration::from_secs(5);
/// What an output that nobody has followed may take of the disk; the file begins anew when that is more.
const MAX_OUTPUT_BYTES: u64 = 16 << 20;
/// What `stat` counts the parts of a file in that it takes of the disk.
const BLOCK_BYTES: u64 = 512;
/// How much of the output's end is looked at for the last lines.
const TAIL_BYTES: u64 = 4 << 10;
const LAST_LINES: usize = 5;

/// Starts the replicas of the services that are processes, and takes over those that an earlier `up` has left.
pub(super) struct ReplicaLauncher {
    run: PathBuf,
    specs: Specs,
    mesh: Arc<Begun>,
    outputs: Outputs,
    registry: Registry,
    left: Leftovers,
    /// What a replica that was left is asked who it is with.
    tls: TlsClient,
    confinement: Arc<Confinement>,
    hold: Hold,
    read: BTreeMap<ReplicaId, u64>,
}

/// Where what belongs to replicas is kept.
pub(super) struct Kept {
    /// Their files.
    pub(super) run: PathBuf,
    /// What they write.
    pub(super) outputs: Outputs,
    /// How their processes are held.
    pub(super) hold: Hold,
    /// How far somebody else has read what they write.
    pub(super) read: BTreeMap<ReplicaId, u64>,
}

/// A replica's process.
pub(crate) struct ReplicaProcess {
    process: Held,
    /// Who is to end with it, whatever they have become.
    group: Option<Group>,
    /// How it ended.
    exit: Option<Exit>,
    record: Record,
    run: PathBuf,
    outputs: Outputs,
}

/// Whose child it is.
enum Held {
    Child {
        process: LauncherProcess,
        assignment: Box<Assignment>,
        members: Members,
    },
    /// Of an earlier `up`.
    Adopted {
        process: Adopted,
        address: SocketAddr,
        channel: Channel,
    },
}

impl ReplicaLauncher {
    pub(super) fn new(kept: Kept, live: &Live, mesh: &Arc<Begun>, left: Leftovers) -> anyhow::Result<Self> {
        let tls = live.upstream_tls.of_mesh().context("failed to set up TLS to the replicas")?;
        let (mesh, registry) = (Arc::clone(mesh), live.registry.clone());
        let (specs, Kept { run, outputs, hold, read }) = (live.specs.clone(), kept);
        let confinement = Arc::clone(&live.confinement);
        Ok(Self { run, specs, mesh, outputs, registry, left, tls, confinement, hold, read })
    }

    /// Whether a replica is wanted, and started here.
    pub(super) fn wants(&self, replica: &ReplicaId, snapshot: &Snapshot) -> bool {
        self.specs.has(&replica.service) && snapshot.replica(replica).is_some()
    }

    /// Processes that were left of others, and that nobody has found meanwhile who has their numbers now.
    pub(super) fn unwanted(&self, snapshot: &Snapshot) -> Vec<adoption::Left> {
        self.left.take_unwanted(|replica| self.wants(replica, snapshot))
    }

    /// Nobody is renewed that an earlier `up` has admitted and that is not wanted any more.
    pub(super) fn dismiss(&self, is_unwanted: impl Fn(&ReplicaId) -> bool) {
        let standings = Arc::clone(&self.mesh.authority.standings().borrow());
        for (service, instance) in standings.keys() {
            if ReplicaId::of_instance(service.clone(), instance).is_ok_and(|replica| is_unwanted(&replica)) {
                self.mesh.authority.dismiss(service, instance);
            }
        }
    }

    /// The replicas of which a process was left.
    pub(super) fn found(&self) -> Vec<ReplicaId> {
        self.left.replicas()
    }

    /// Where what it writes goes.
    fn output(&self, replica: &ReplicaId) -> PathBuf {
        self.run.join(format!("{}.log", replica.file_stem()))
    }

    async fn spawn(&self, replica: &ReplicaId, spec: &Spec) -> anyhow::Result<ReplicaProcess> {
        let starts = spec.starts.as_ref().map_err(|reason| anyhow::anyhow!("{reason}"))?;
        let output = self.output(replica);
        // Everything else of the start needs the folder too, so it is this step that finds it missing.
        let opened = open_output(&output);
        let (output_file, output_start) = opened.with_context(|| {
            format!("{} cannot be opened; is the data directory there?", output.display())
        })?;
        self.outputs.follow(replica.clone(), spec.version.label().to_owned(), output.clone(), output_start);
        // From here on it is one that has yet to join, whatever it was before.
        let (authority, instance) = (&self.mesh.authority, replica.instance());
        authority.runs(&replica.service, &instance, spec.version.label());
        let ticket = authority.ticket(&replica.service, &instance)?;
        let registration = self.mesh.quoter.registration().await?;
        let mut launchable = starts.launchable.clone();
        let mut group = None;
        if let (Launchable::Command { order, .. }, Some(resources)) = (&mut launchable, &starts.resources) {
            let confined = self.confinement.of(replica, resources);
            (order.limits, group) = confined.context("failed to make its control group")?;
        }
        let give = move |to: &mut StdUnixStream| match launchable {
            Launchable::Replica { order, measured } => order.give(to, &measured, &registration),
            Launchable::Command { order, .. } => order.give(to, &registration),
        };
        let output_files = (output_file.try_clone()?.into(), output_file.into());
        let process = LauncherProcess::start(&self.run, output_files, self.hold.clone(), give).await?;
        let known = self.registry.snapshot().replica(replica).map(|replica| replica.restarts);
        let begun = record::Begun {
            replica: replica.clone(),
            spec: starts.id.clone(),
            version: spec.version.clone(),
            mesh: self.mesh.address,
            output,
            output_start,
            restarts: known.unwrap_or_default(),
            grace: starts.grace,
            group: group.as_ref().map(|group| group.path().to_owned()),
        };
        // Before it is told what it is: whatever lives on without this process is written down.
        let record = begun.with(ProcessMark::of(process.pid())?);
        record.write(&self.run)?;
        let in_force = self.mesh.launched(replica);
        let assignment = starts.told.assignment(replica.clone(), in_force, ticket, RegisteredBy::Supervisor);
        let members = self.mesh.members.clone();
        let process = Held::Child { process, assignment: Box::new(assignment), members };
        let (run, outputs) = (self.run.clone(), self.outputs.clone());
        Ok(ReplicaProcess { process, group, exit: None, record, run, outputs })
    }
}

impl Launch for ReplicaLauncher {
    type Process = ReplicaProcess;

    async fn left(
        &self,
        replica: &ReplicaId,
        at_once: impl Future<Output = ()> + Send,
    ) -> Option<Left<ReplicaProcess>> {
        let mut at_once = pin!(at_once);
        let left = self.left.take(replica)?;
        let (service, record) = (&replica.service, &left.record);
        let runs = record.version().or_else(|| self.specs.version_of(service, &record.spec));
        let runs = runs.filter(|version| self.specs.of(service, version).is_some());
        let judge = Judge {
            version: runs.as_ref(),
            mesh: self.mesh.address,
            authority: &self.mesh.authority,
            members: &self.mesh.members,
            tls: &self.tls,
        };
        let (pid, version) = (left.record.process.pid, &left.record.spec.version);
        self.mesh.authority.runs(&replica.service, &replica.instance(), version);
        let mut left = left;
        let judged = tokio::select! {
            judged = judge.judge(&left.record) => judged,
            () = left.process.ended() => Err("it has ended".to_owned()),
            () = &mut at_once => {
                left.end_at_once().await;
                return None;
            }
        };
        match judged {
            Ok((address, channel)) => {
                tracing::info!(%replica, pid, "an earlier serviceos has left this replica: it is taken over");
                let hold = self.hold.clone();
                let (record, process) = (left.record, Adopted { process: left.process, hold });
                let restarts = record.restarts;
                let process = Held::Adopted { process, address, channel };
                // What it has written meanwhile, the earlier one may have read already.
                let from = self.read.get(replica).copied().unwrap_or_else(|| length(&record.output));
                let version = record.spec.version.clone();
                self.outputs.follow(replica.clone(), version, record.output.clone(), from);
                let (run, outputs) = (self.run.clone(), self.outputs.clone());
                let group = record.group.clone().map(Group::left);
                let process = ReplicaProcess { process, group, exit: None, record, run, outputs };
                Some(Left { process, restarts })
            }
            Err(reason) => {
                tracing::warn!(%replica, pid, reason, "an earlier serviceos has left this replica, which is not taken over: it is ended, and started anew");
                left.end_unless(at_once).await;
                None
            }
        }
    }

    fn forget(&self, replica: &ReplicaId) {
        self.mesh.authority.dismiss(&replica.service, &replica.instance());
        self.mesh.configurations.forget(replica);
        self.outputs.forget(replica.clone());
        // Whoever follows it has it open, and reads what is left. It goes now, since another may have the replica's number soon.
        forget_output(&self.output(replica));
    }

    async fn launch(&self, replica: &ReplicaId, version: &Version) -> Result<ReplicaProcess, LaunchError> {
        let spec = self.specs.to_start(&replica.service, version).await.map_err(LaunchError)?;
        let spawned = self.spawn(replica, &spec).await;
        spawned.map_err(|error| LaunchError(format!("failed to start the process: {error:#}")))
    }
}

impl Process for ReplicaProcess {
    fn pid(&self) -> Option<u32> {
        Some(self.record.process.pid)
    }

    async fn listening(&mut self) -> Result<Listening, LaunchError> {
        let (process, assignment, members) = match &mut self.process {
            Held::Child { process, assignment, members } => (process, assignment, members),
            Held::Adopted { address, channel, .. } => {
                return Ok(Listening { address: *address, channel: channel.clone(), registration: None });
            }
        };
        let malformed = || LaunchError("it reported a certificate that is none".into());
        match process.assign(assignment).await {
            Ok(Report::Listening { address, leaf: Bytes(leaf) }) => {
                let digest = leaf.as_slice().try_into().map_err(|_| malformed())?;
                let channel = channel(members, &assignment.replica, digest).await?;
                self.record.listening = Some(Listens { address, leaf: Bytes(leaf) });
                let written = self.record.write(&self.run);
                written.map_err(|error| LaunchError(format!("{error:#}")))?;
                Ok(Listening { address, channel, registration: None })
            }
            Ok(Report::Failed(reason)) => Err(LaunchError(reason)),
            Err(error) => Err(LaunchError(format!("the handover failed: {error}"))),
        }
    }

    async fn exited(&mut self) -> Exit {
        if let Some(exit) = &self.exit {
            return exit.clone();
        }
        let words = |record: &Record| last_lines(&record.output, record.output_start).unwrap_or_default();
        let exit = match &mut self.process {
            Held::Child { process, .. } => {
                let status = process.ended().await;
                let (code, signal) =
                    status.as_ref().map_or((None, None), |status| (status.code(), status.signal()));
                Exit::Ended { code, signal, last_lines: words(&self.record) }
            }
            Held::Adopted { process, .. } => {
                process.process.ended().await;
                Exit::Adopted { last_lines: words(&self.record) }
            }
        };
        // Whoever asks may give up in between, and asks again then.
        if let Some(group) = &self.group
            && group.end().await > 0
        {
            let replica = &self.record.replica;
            tracing::warn!(%replica, "the replica needed more memory than `resources` gives it, and was killed");
        }
        self.group = None;
        self.outputs.ended(self.record.replica.clone(), length(&self.record.output));
        self.record.remove(&self.run);
        self.exit.insert(exit).clone()
    }

    fn signal(&self, signal: Signal, _cause: &Cause) {
        if let (Some(group), Signal::Kill) = (&self.group, signal) {
            group.kill();
        }
        match (&self.process, signal) {
            (Held::Child { process, .. }, Signal::Terminate) => process.terminate(),
            (Held::Child { process, .. }, Signal::Kill) => process.kill(),
            (Held::Adopted { process, .. }, signal) => process.signal(signal),
        }
    }
}

/// How a replica that has joined is reached, once what the authority has decided is written.
pub(super) async fn channel(
    members: &Members,
    replica: &ReplicaId,
    leaf: [u8; 32],
) -> Result<Channel, LaunchError> {
    let joined = timeout(WRITTEN, members.joined(replica, leaf)).await;
    let unknown = || LaunchError("it shows a certificate that the authority did not give".into());
    Ok(Channel::Mesh(joined.map_err(|_| unknown())?))
}

/// A file and not a pipe: a replica can write to it whatever happens to this process.
fn open_output(path: &Path) -> std::io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    // Not its length: what was read is freed where it lies.
    if file.metadata()?.blocks() * BLOCK_BYTES > MAX_OUTPUT_BYTES {
        file.set_len(0)?;
    }
    let length = file.metadata()?.len();
    Ok((file, length))
}

/// What a replica has written goes with it.
pub(super) fn forget_output(output: &Path) {
    match std::fs::remove_file(output) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(output = %output.display(), %error, "the output of a replica that is gone cannot be removed");
        }
        _ => {}
    }
}

/// How much was written; nothing where the file is gone.
fn length(output: &Path) -> u64 {
    std::fs::metadata(output).map_or(0, |output| output.len())
}

fn last_lines(path: &Path, start: u64) -> std::io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    // A file that was emptied since holds nothing of an earlier run.
    let start = if start > length { 0 } else { start };
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES).max(start)))?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut tail)?;
    let text = String::from_utf8_lossy(&tail);
    let said: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let grave: Vec<_> = said.iter().copied().filter(|line| !is_all_well(line)).collect();
    let lines = if grave.is_empty() { said } else { grave };
    Ok(lines[lines.len().saturating_sub(LAST_LINES)..].iter().map(|line| (*line).to_owned()).collect())
}

/// Whether a line is one of a log that says nothing of a fault.
fn is_all_well(line: &str) -> bool {
    let is_of_level = |level: &str| line.contains(&format!("\"level\":\"{level}\""));
    line.starts_with('{') && ["INFO", "DEBUG", "TRACE"].into_iter().any(is_of_level)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_last_words_are_those_of_this_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vrf-0.log");
        let (mut file, _) = open_output(&path).unwrap();
        writeln!(file, "of an earlier run").unwrap();
        let (mut file, start) = open_output(&path).unwrap();
        assert_eq!(last_lines(&path, start).unwrap(), Vec::<String>::new());
        for number in 0..9 {
            writeln!(file, "line {number}\n").unwrap();
        }
        assert_eq!(last_lines(&path, start).unwrap(), ["line 4", "line 5", "line 6", "line 7", "line 8"]);
        file.set_len(0).unwrap();
        writeln!(file, "after it was emptied").unwrap();
        assert_eq!(last_lines(&path, u64::MAX).unwrap(), ["after it was emptied"]);
    }

    #[test]
    fn output_over_the_limit_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vrf-0.log");
        let much = usize::try_from(MAX_OUTPUT_BYTES).unwrap() + 4096;
        std::fs::write(&path, vec![b'x'; much]).unwrap();
        assert_eq!(open_output(&path).unwrap().1, 0);
        File::create(&path).unwrap().set_len(MAX_OUTPUT_BYTES * 2).unwrap();
        assert_eq!(
            open_output(&path).unwrap().1,
            MAX_OUTPUT_BYTES * 2,
            "one that was freed is left as it is"
        );
    }
}
