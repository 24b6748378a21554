//! A replica as a child process of `up`: what it is told, what it reports, and what it has written last.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use configuration::{Program, Resources, ServiceSettings, Settings};
use mesh::Members;
use mesh_protocol::{Assignment, RegisteredBy, Report};
use service_lifecycle::{Cause, Exit, Launch, LaunchError, Listening, Process, Signal};
use service_registry::Channel;
use tokio::time::timeout;
use types::{ReplicaId, ServiceName};

use super::groups::{Confinement, Group};
use super::joining::Begun;
use super::measuring::Launchable;
use super::output::Outputs;
use super::told::Told;
use crate::launcher_process::LauncherProcess;

/// How long it may take until what the authority has decided is written.
const WRITTEN: Duration = Duration::from_secs(5);
/// What an output that nobody has followed may take of the disk; the file begins anew when that is more.
const MAX_OUTPUT_BYTES: u64 = 16 << 20;
/// What `stat` counts the parts of a file in that it takes of the disk.
const BLOCK_BYTES: u64 = 512;
/// How much of the output's end is looked at for the last lines.
const TAIL_BYTES: u64 = 4 << 10;
const LAST_LINES: usize = 5;

/// Starts the replicas of the services that are processes.
pub(super) struct ReplicaLauncher {
    run: PathBuf,
    services: BTreeMap<ServiceName, Spec>,
    mesh: Arc<Begun>,
    outputs: Outputs,
    confinement: Confinement,
}

struct Spec {
    launchable: Launchable,
    /// What a command may use.
    resources: Option<Resources>,
    told: Told,
}

/// A replica's process.
pub(crate) struct ReplicaProcess {
    process: LauncherProcess,
    /// Who is to end with it, whatever they have become.
    group: Option<Group>,
    /// How it ended.
    exit: Option<Exit>,
    assignment: Assignment,
    members: Members,
    output: PathBuf,
    /// Where this run's output begins in the file.
    output_start: u64,
    outputs: Outputs,
}

impl ReplicaLauncher {
    pub(super) fn new(
        run: &Path,
        settings: &Settings,
        mesh: Arc<Begun>,
        outputs: Outputs,
        confinement: Confinement,
    ) -> Self {
        let spec = |service: &ServiceSettings| {
            let process = service.process()?;
            let spec = Spec {
                launchable: mesh.measurements.services.get(&service.name)?.clone(),
                resources: match &process.program {
                    Program::Command(command) => Some(command.resources),
                    Program::Builtin(_) | Program::Elsewhere => None,
                },
                told: Told::of(service, process),
            };
            Some((service.name.clone(), spec))
        };
        let services = settings.services.iter().filter_map(spec).collect();
        Self { run: run.to_owned(), services, mesh, outputs, confinement }
    }

    async fn spawn(&self, replica: &ReplicaId, spec: &Spec) -> anyhow::Result<ReplicaProcess> {
        let output = self.run.join(format!("{}.log", replica.file_stem()));
        // Everything else of the start needs the folder too, so it is this step that finds it missing.
        let opened = open_output(&output);
        let (output_file, output_start) = opened.with_context(|| {
            format!("{} cannot be opened; is the data directory there?", output.display())
        })?;
        self.outputs.follow(replica.clone(), spec.told.version().to_owned(), output.clone(), output_start);
        // From here on it is one that has yet to join, whatever it was before.
        let ticket = self.mesh.authority.ticket(&replica.service, &replica.instance())?;
        let registration = self.mesh.quoter.registration().await?;
        let mut launchable = spec.launchable.clone();
        let mut group = None;
        if let (Launchable::Command { order, .. }, Some(resources)) = (&mut launchable, &spec.resources) {
            let confined = self.confinement.of(replica, resources);
            (order.limits, group) = confined.context("failed to make its control group")?;
        }
        let give = move |to: &mut StdUnixStream| match launchable {
            Launchable::Replica { order, measured } => order.give(to, &measured, &registration),
            Launchable::Command { order, .. } => order.give(to, &registration),
        };
        let (stdout, stderr) = (output_file.try_clone()?.into(), output_file.into());
        let process = LauncherProcess::start(&self.run, stdout, stderr, give).await?;
        let in_force = self.mesh.launched(replica);
        let assignment = spec.told.assignment(replica.clone(), in_force, ticket, RegisteredBy::Supervisor);
        let members = self.mesh.members.clone();
        let outputs = self.outputs.clone();
        Ok(ReplicaProcess { process, group, exit: None, assignment, members, output, output_start, outputs })
    }
}

impl Launch for ReplicaLauncher {
    type Process = ReplicaProcess;

    async fn launch(&self, replica: &ReplicaId) -> Result<ReplicaProcess, LaunchError> {
        let spec = self.services.get(&replica.service);
        let spec =
            spec.ok_or_else(|| LaunchError(format!("{} is not in the configuration", replica.service)))?;
        let spawned = self.spawn(replica, spec).await;
        spawned.map_err(|error| LaunchError(format!("failed to start the process: {error:#}")))
    }
}

impl Process for ReplicaProcess {
    fn pid(&self) -> Option<u32> {
        Some(self.process.pid())
    }

    async fn listening(&mut self) -> Result<Listening, LaunchError> {
        let report = self.process.assign(&self.assignment);
        let malformed = || LaunchError("it reported a certificate that is none".into());
        match report.await {
            Ok(Report::Listening { address, leaf }) => {
                let leaf = leaf.0.as_slice().try_into().map_err(|_| malformed())?;
                let channel = channel(&self.members, &self.assignment.replica, leaf).await?;
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
        let status = self.process.ended().await;
        // Whoever asks may give up in between, and asks again then.
        if let Some(group) = &self.group {
            let replica = &self.assignment.replica;
            if group.end().await > 0 {
                tracing::warn!(%replica, "the replica needed more memory than `resources` gives it, and was killed");
            }
        }
        self.group = None;
        let length = std::fs::metadata(&self.output).map_or(0, |output| output.len());
        self.outputs.ended(self.assignment.replica.clone(), length);
        let last_lines = last_lines(&self.output, self.output_start).unwrap_or_default();
        let (code, signal) = status.as_ref().map_or((None, None), |status| (status.code(), status.signal()));
        self.exit.insert(Exit::Ended { code, signal, last_lines }).clone()
    }

    fn signal(&self, signal: Signal, _cause: &Cause) {
        match signal {
            Signal::Terminate => self.process.terminate(),
            Signal::Kill => {
                self.process.kill();
                if let Some(group) = &self.group {
                    group.kill();
                }
            }
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

fn last_lines(path: &Path, start: u64) -> std::io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    // A file that was emptied since holds nothing of an earlier run.
    let start = if start > length { 0 } else { start };
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES).max(start)))?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut tail)?;
    let text = String::from_utf8_lossy(&tail);
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    Ok(lines[lines.len().saturating_sub(LAST_LINES)..].iter().map(|line| (*line).to_owned()).collect())
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
