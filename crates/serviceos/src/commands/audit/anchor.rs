//! What an audit trail is verified with: T_0 and the key of the mesh's root. The running serviceos is asked, and where none runs,
//! the store is opened, whose secrets prove the two.

use std::path::Path;

use anyhow::{Context, anyhow};
use control::{AdminClient, AuditInfo, ClientError};
use mesh_protocol::from_hex;
use secrets::{Domain, SecretsError, Vault};
use store::{Store, StoreError};
use types::Mode;

use crate::failure::Failure;

/// What a trail begins after and is signed with, and how far it goes at least.
pub(super) struct Anchor {
    pub(super) genesis: [u8; 32],
    pub(super) root_spki: Vec<u8>,
    /// How far it goes, as the running serviceos says.
    pub(super) running: Option<Reached>,
}

/// Records that were made before the file was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reached {
    pub(super) last: u64,
    pub(super) hash: [u8; 32],
    pub(super) signed: u64,
}

/// The anchor of a data directory.
pub(super) async fn of(data_dir: &Path) -> Result<Anchor, Failure> {
    match AdminClient::new(data_dir).get::<AuditInfo>("/v1/audit").await {
        Ok(info) => Ok(told(&info).context("the running serviceos names no hash")?),
        Err(ClientError::NotRunning { .. }) => stored(data_dir).await,
        Err(error) => Err(error.into()),
    }
}

fn told(info: &AuditInfo) -> Option<Anchor> {
    let hash = |text: &str| from_hex(text)?.as_slice().try_into().ok();
    Some(Anchor {
        genesis: hash(&info.genesis)?,
        root_spki: info.root_spki.0.clone(),
        running: Some(Reached { last: info.last.seq, hash: hash(&info.last.hash)?, signed: info.signed.seq }),
    })
}

async fn stored(data_dir: &Path) -> Result<Anchor, Failure> {
    let path = data_dir.join("store.redb");
    if !path.exists() {
        return Err(anyhow!("{} is not there, and T_0 and the root key are in it; with a store in etcd, start serviceos first", path.display()).into());
    }
    let opened = tokio::task::spawn_blocking(move || Store::open(&path)).await;
    let store = match opened.context("failed to open the store")? {
        Ok(store) => store,
        Err(error @ StoreError::InUse(_)) => {
            return Err(Failure::NotRunning(format!(
                "{error}, and no serviceos answers there yet; ask again"
            )));
        }
        Err(error) => return Err(anyhow::Error::new(error).context("failed to open the store").into()),
    };
    let trust_domain = Vault::trust_domain_in(&store).await.context("failed to read the store")?;
    let trust_domain = trust_domain.ok_or_else(|| anyhow!("the store holds no mesh yet"))?;
    let vault = open(store, data_dir, &trust_domain).await.context("failed to open the secrets")?;
    Ok(Anchor { genesis: *vault.genesis(), root_spki: vault.root_spki().to_vec(), running: None })
}

/// The mode is nowhere in the clear, and in every record that is sealed: only the right one opens them.
async fn open(store: Store, data_dir: &Path, trust_domain: &str) -> Result<Vault, SecretsError> {
    let key = data_dir.join("master.key");
    // A vault makes what is missing, and nothing is to be made here.
    if !key.exists() {
        return Err(SecretsError::MasterKeyMissing(key));
    }
    let domain = |mode| Domain { trust_domain: trust_domain.to_owned(), mode };
    match Vault::open(store.clone(), &key, domain(Mode::Development)).await {
        Err(SecretsError::OtherMasterKey(_)) => Vault::open(store, &key, domain(Mode::Production)).await,
        other => other,
    }
}
