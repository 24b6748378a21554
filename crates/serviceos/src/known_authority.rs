//! `run/authority.json`: what the authority of a data directory is known by. `up` writes it at its start, and commands hold against
//! it what is said to them over the admin API; whoever may write it owns the data directory.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use mesh_protocol::{Bytes, MeshCoordinates};
use serde::{Deserialize, Serialize};
use types::Mode;

use crate::replaced_file::replace;

const NAME: &str = "authority.json";
/// The largest file that is read, in bytes.
const MAX_BYTES: u64 = 64 << 10;

/// What does not change while an authority runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct KnownAuthority {
    pub(crate) mode: Mode,
    pub(crate) trust_domain: String,
    /// The key of the mesh's root, as DER SubjectPublicKeyInfo.
    pub(crate) root_spki: Bytes,
    /// The development root that its evidence leads to, DER; none in production.
    pub(crate) evidence_root: Option<Bytes>,
    /// What it runs, as its evidence measures it.
    pub(crate) workload: Bytes,
}

impl From<MeshCoordinates> for KnownAuthority {
    fn from(mesh: MeshCoordinates) -> Self {
        let MeshCoordinates { mode, trust_domain, root_spki, evidence_root, authority_workload, .. } = mesh;
        Self { mode, trust_domain, root_spki, evidence_root, workload: authority_workload }
    }
}

impl KnownAuthority {
    /// Writes it in a folder that is its owner's alone.
    pub(crate) fn write(&self, run: &Path) -> Result<()> {
        let path = run.join(NAME);
        let json = serde_json::to_vec(self)?;
        replace(&path, &json).with_context(|| format!("failed to write {}", path.display()))
    }

    /// Reads what the running serviceos of a data directory has written.
    pub(crate) fn read(data_dir: &Path) -> Result<Self> {
        let path = data_dir.join("run").join(NAME);
        let read = || {
            let mut json = Vec::new();
            File::open(&path)?.take(MAX_BYTES).read_to_end(&mut json)?;
            Ok::<_, anyhow::Error>(serde_json::from_slice(&json)?)
        };
        read().with_context(|| {
            let path = path.display();
            format!("failed to read {path}, by which the authority is known; `serviceos up` writes it at its start")
        })
    }
}
