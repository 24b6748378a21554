//! `run/replicas/<replica>.json`: what the next `up` has to know of a process to take it over. It is there before the process is
//! told what it is, and says where it listens once it does; it goes when the process has ended.

use std::fs::DirBuilder;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use mesh_protocol::Bytes;
use serde::{Deserialize, Serialize};
use service_registry::{SpecDigest, Version};
use types::ReplicaId;

use crate::left_process::ProcessMark;
use crate::replaced_file::replace;

const FOLDER: &str = "replicas";
/// The largest record that is read, in bytes.
const MAX_BYTES: u64 = 64 << 10;

/// What a process runs, so that one that runs something else is told from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SpecId {
    /// The label of the version.
    pub(crate) version: String,
    /// A digest of everything that takes another process when it is changed, in hexadecimal.
    pub(crate) digest: String,
}

/// A process of a replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    pub(crate) replica: ReplicaId,
    pub(crate) process: ProcessMark,
    pub(crate) spec: SpecId,
    /// What its version is made of, in hexadecimal.
    #[serde(default)]
    made_of: Option<String>,
    /// Where it was told that the mesh API is.
    pub(crate) mesh: SocketAddr,
    /// What it writes.
    pub(crate) output: PathBuf,
    /// Where in that this run begins.
    pub(crate) output_start: u64,
    pub(crate) started_at: Timestamp,
    /// How often the replica was started again by then.
    pub(crate) restarts: u32,
    /// From SIGTERM to SIGKILL, in milliseconds.
    grace_ms: u64,
    /// The control group that it is in, where there is one.
    #[serde(default)]
    pub(crate) group: Option<PathBuf>,
    /// None before it has reported that it listens: then it ends with who started it.
    pub(crate) listening: Option<Listens>,
}

/// What a replica has reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Listens {
    pub(crate) address: SocketAddr,
    /// SHA-256 of the certificate that it had then.
    pub(crate) leaf: Bytes,
}

/// What is known of a replica before it has a process.
pub(crate) struct Begun {
    pub(crate) replica: ReplicaId,
    pub(crate) spec: SpecId,
    pub(crate) version: Version,
    pub(crate) mesh: SocketAddr,
    pub(crate) output: PathBuf,
    pub(crate) output_start: u64,
    pub(crate) restarts: u32,
    pub(crate) grace: Duration,
    pub(crate) group: Option<PathBuf>,
}

impl Begun {
    /// It has this process now.
    pub(crate) fn with(self, process: ProcessMark) -> Record {
        let Self { replica, spec, version, mesh, output, output_start, restarts, grace, group } = self;
        let made_of = version.spec().map(|spec| spec.to_string());
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let started_at = Timestamp::now();
        Record {
            replica,
            process,
            spec,
            made_of,
            mesh,
            output,
            output_start,
            started_at,
            restarts,
            grace_ms,
            group,
            listening: None,
        }
    }
}

impl Record {
    /// From SIGTERM to SIGKILL.
    pub(crate) fn grace(&self) -> Duration {
        Duration::from_millis(self.grace_ms)
    }

    /// The version that it runs, where that is written down.
    pub(crate) fn version(&self) -> Option<Version> {
        let made_of = SpecDigest::from_hex(self.made_of.as_ref()?)?;
        Some(Version::new(&self.spec.version, made_of))
    }

    fn path(&self, run: &Path) -> PathBuf {
        run.join(FOLDER).join(format!("{}.json", self.replica.file_stem()))
    }

    /// Writes it, in the place of that of an earlier process.
    pub(crate) fn write(&self, run: &Path) -> Result<()> {
        let path = self.path(run);
        let write = || {
            DirBuilder::new().recursive(true).mode(0o700).create(run.join(FOLDER))?;
            replace(&path, &serde_json::to_vec(self)?)
        };
        write().with_context(|| format!("failed to write {}", path.display()))
    }

    /// Takes it away, unless it is that of another process by now.
    pub(crate) fn remove(&self, run: &Path) {
        let path = self.path(run);
        if read(&path).is_ok_and(|found| found.process != self.process) {
            return;
        }
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            let path = path.display();
            tracing::warn!(%path, %error, "what is written of a process that has ended cannot be removed");
        }
    }

    /// Those that are there and cannot be read.
    pub(crate) fn unreadable(run: &Path) -> Vec<PathBuf> {
        paths(run).filter(|path| read(path).is_err()).collect()
    }

    /// All that are there. One that cannot be read is said and left.
    pub(crate) fn all(run: &Path) -> Vec<Self> {
        let read = |path: PathBuf| match read(&path) {
            Ok(record) => Some(record),
            Err(error) => {
                let path = path.display();
                tracing::warn!(
                    %path,
                    error = format!("{error:#}"),
                    "what is written of a replica cannot be read: if it still runs, it ends with its identity"
                );
                None
            }
        };
        paths(run).filter_map(read).collect()
    }
}

fn paths(run: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(run.join(FOLDER)).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
}

fn read(path: &Path) -> Result<Record> {
    use std::io::Read;
    let mut json = Vec::new();
    std::fs::File::open(path)?.take(MAX_BYTES).read_to_end(&mut json)?;
    Ok(serde_json::from_slice(&json)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(pid: u32) -> Record {
        let begun = Begun {
            replica: "vrf/0".parse().unwrap(),
            spec: SpecId { version: "1.0.0".into(), digest: "09".repeat(32) },
            version: Version::new("1.0.0", SpecDigest([7; 32])),
            mesh: ([127, 0, 0, 1], 7402).into(),
            output: "/run/vrf-0.log".into(),
            output_start: 7,
            restarts: 3,
            grace: Duration::from_secs(10),
            group: None,
        };
        let mut mark = ProcessMark::of(std::process::id()).unwrap();
        mark.pid = pid;
        begun.with(mark)
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_goes_with_its_own_process_alone() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path();
        assert_eq!(Record::all(run), []);
        let listening = Listens { address: ([127, 0, 0, 1], 4000).into(), leaf: Bytes(vec![1; 32]) };
        let one = Record { listening: Some(listening), ..record(1) };
        one.write(run).unwrap();
        assert_eq!(Record::all(run), std::slice::from_ref(&one));
        assert_eq!(one.version(), Some(Version::new("1.0.0", SpecDigest([7; 32]))));
        let two = record(2);
        two.write(run).unwrap();
        one.remove(run);
        assert_eq!(Record::all(run), std::slice::from_ref(&two));
        std::fs::write(run.join("replicas/web-0.json"), "{").unwrap();
        assert_eq!(Record::all(run), std::slice::from_ref(&two), "what cannot be read is left");
        two.remove(run);
        two.remove(run);
        assert_eq!(Record::all(run), []);
    }
}
