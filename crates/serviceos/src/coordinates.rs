//! `run/mesh.json`: what the mesh of a data directory is known by. `up` writes it, and commands hold against it what is said to
//! them over the admin API; whoever may write it owns the data directory.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use mesh_protocol::MeshCoordinates;

const NAME: &str = "mesh.json";
/// The largest file that is read, in bytes.
const MAX_BYTES: u64 = 64 << 10;

/// Writes what replicas are told of the mesh, in a folder that is its owner's alone.
pub(crate) fn write(run: &Path, coordinates: &MeshCoordinates) -> Result<()> {
    let path = run.join(NAME);
    let json = serde_json::to_vec(coordinates)?;
    replace(&path, &json).with_context(|| format!("failed to write {}", path.display()))
}

/// Written beside and renamed, so that nobody reads half of it.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    let _left_by_a_crash = std::fs::remove_file(&beside);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    std::fs::rename(&beside, path)
}

/// Reads what the running serviceos of a data directory is known by.
pub(crate) fn read(data_dir: &Path) -> Result<MeshCoordinates> {
    let path = data_dir.join("run").join(NAME);
    let read = || {
        let mut json = Vec::new();
        File::open(&path)?.take(MAX_BYTES).read_to_end(&mut json)?;
        Ok::<_, anyhow::Error>(serde_json::from_slice(&json)?)
    };
    read().with_context(|| {
        format!(
            "failed to read {}, by which the authority is known; `serviceos up` writes it at its start",
            path.display()
        )
    })
}
