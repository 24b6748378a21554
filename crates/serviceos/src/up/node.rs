//! Which machine this is, and what it shares with others where the store is one that several have.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use configuration::{Settings, StoreSettings};
use mesh_protocol::to_hex;
use service_registry::{Node, Seal};
use store::Store;
use tokio::sync::watch;
use trust::Authority;
use types::NodeName;

/// The name of this machine in the mesh.
pub(super) fn name(settings: &Settings) -> NodeName {
    settings.node.clone().unwrap_or_else(host_name)
}

/// The same where there may be others: their names are part of those of the replicas then.
pub(crate) fn among_others(settings: &Settings) -> Option<NodeName> {
    match settings.store {
        StoreSettings::Embedded => None,
        StoreSettings::Etcd(_) => Some(name(settings)),
    }
}

/// Takes this machine's name in the store, where there may be others. `owner` is the file by which the data directory is known
/// again.
pub(super) async fn claim(settings: &Settings, store: &Store, owner: &Path) -> Result<Option<Node>> {
    let Some(name) = among_others(settings) else { return Ok(None) };
    if settings.mesh.ip().is_loopback() {
        tracing::warn!(
            "the replicas of this node listen on {}, where other machines do not reach them; `mesh.listen` says where they do",
            settings.mesh.ip()
        );
    }
    let owner = read_or_make(owner).with_context(|| format!("failed to use {}", owner.display()))?;
    let claimed = Node::claim(store.clone(), name, owner).await;
    Ok(Some(claimed.context("failed to take the node's name")?))
}

/// What the authority says of what nodes tell each other.
pub(super) fn seal(authority: Authority) -> Arc<dyn Seal> {
    Arc::new(OfAuthority(authority))
}

struct OfAuthority(Authority);

impl Seal for OfAuthority {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        self.0.sign_for_nodes(message).map_err(|error| error.to_string())
    }

    fn is_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        mesh_protocol::is_signed_by(self.0.root_spki(), message, signature)
    }

    fn is_revoked(&self, spiffe_id: &str, leaf: &[u8; 32]) -> bool {
        spiffe_id.parse().map_or(true, |id| self.0.is_revoked(&id, leaf))
    }

    fn manifests(&self) -> watch::Receiver<u64> {
        self.0.transitions()
    }
}

fn read_or_make(path: &Path) -> io::Result<String> {
    match std::fs::read_to_string(path) {
        Ok(known) if !known.trim().is_empty() => return Ok(known.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut random = [0; 16];
    aws_lc_rs::rand::fill(&mut random)
        .map_err(|_| io::Error::other("the operating system gave no randomness"))?;
    let made = to_hex(&random);
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(made.as_bytes())?;
    file.sync_all()?;
    Ok(made)
}

/// The machine's name, as far as it can be a node's.
fn host_name() -> NodeName {
    let name = rustix::system::uname();
    let name = name.nodename().to_string_lossy();
    let kept: String = name
        .chars()
        .filter(|letter| letter.is_ascii_alphanumeric() || *letter == '-')
        .take(NodeName::MAX_BYTES)
        .collect();
    kept.trim_matches('-').parse().unwrap_or_else(|_| "node".parse().expect("a name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_is_known_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.id");
        let made = read_or_make(&path).unwrap();
        assert_eq!((made.len(), read_or_make(&path).unwrap()), (32, made.clone()));
        // A crash may leave an empty file.
        std::fs::write(&path, "").unwrap();
        assert_ne!(read_or_make(&path).unwrap(), made);
    }

    #[test]
    fn every_machine_has_a_name_that_can_be_one() {
        assert!(!host_name().as_str().is_empty());
    }
}
