//! How an authority comes to be: from what an earlier one has left, or for the first time.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use appraisal::Roots;
use mesh_protocol::{Revocations, SignedRevocations};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::CertificateDer;
use secrets::Vault;
use store::{Availability, KeyValue, Outcome as Committed, Store, StoreError, Transaction};
use tokio::sync::watch;
use types::{NodeName, ServiceName};
use zeroize::Zeroizing;

use super::admissions::Beginning;
use super::evaluations::Evaluations;
use super::granting::{check_room, grants};
use super::transitions::{self, Chain, shared_manifest};
use super::{Authority, Inner, Own, ServicePolicy, State};
use crate::audit::{AuditError, AuditTrail, Entry, Outcome as AuditOutcome};
use crate::ca::{self, IssuingCa};
use crate::clock::{CheckedClock, Clocks};
use crate::nonces::{LIFE_MS, Minter, Used};
use crate::quota::Quota;
use crate::revocations::sign;
use crate::seal_key::OpeningKey;
use crate::{Signer, TrustError};

pub(super) const ROOT: &str = "trust/root";
pub(super) const REVOCATIONS: &str = "trust/revocations";
pub(super) const USED: &str = "trust/used/";

/// Where the watermark of a clock is: each machine has its own.
pub(super) fn watermark(node: Option<&NodeName>) -> String {
    node.map_or_else(|| "trust/watermark".to_owned(), |node| format!("trust/watermark/{node}"))
}

/// The secret under nonces and tickets.
const MINTER: &str = "mesh-nonces";

/// Who brings another manifest into force that was changed while no authority ran.
const START: &str = "start";

/// First joins that are appraised at the same time, and those that may wait for that.
const FIRST_JOINS: (usize, usize) = (2, 256);
/// The same for renewals.
const RENEWALS: (usize, usize) = (1, 1024);

/// What an authority is opened with.
pub struct Opening {
    /// The store.
    pub store: Store,
    /// Which machine this is, where several share the store: it admits the replicas of its own.
    pub node: Option<NodeName>,
    /// The secrets; the vault says which mesh this is.
    pub vault: Arc<tokio::sync::Mutex<Vault>>,
    /// Whose evidence counts.
    pub roots: Roots,
    /// The machine's clocks.
    pub clocks: Clocks,
    /// The file of the audit trail.
    pub audit: PathBuf,
    /// Everything that decides trust, as JSON.
    pub manifest: serde_json::Value,
    /// The services.
    pub services: BTreeMap<ServiceName, ServicePolicy>,
    /// Evidence of the authority itself.
    pub own: Own,
}

impl Authority {
    /// Opens the authority of a store, or makes it there.
    ///
    /// # Errors
    /// What an earlier one has left cannot be read or does not verify, the roots are those of the other mode, or the disk fails.
    pub async fn open(opening: Opening) -> Result<Self, TrustError> {
        let Opening { store, node, vault, roots, clocks, audit, manifest, services, own } = opening;
        let Held { domain, genesis, root_key, minter } = Held::of(&vault, &services).await?;
        if roots.mode() != domain.mode {
            return Err(TrustError::RootsOfOtherMode { mesh: domain.mode, roots: roots.mode() });
        }
        let signer = Signer::new(&root_key)?;
        let clock = CheckedClock::new(clocks, number(&store, &watermark(node.as_ref())).await?);
        // A clock that is behind stops joins, not the start.
        let seconds = clock.latest() / 1000;
        let root = root(&store, &root_key, &domain, seconds).await?;
        let (known, known_at) = Chain::known(&store, &genesis).await?;
        let next = known.with(&manifest)?;
        if next.is_some()
            && let Availability::Away { reason, .. } = &*store.availability().borrow()
        {
            return Err(TrustError::ChangedWithoutStore(reason.clone()));
        }
        // The first manifest is that of whoever is quicker.
        if next.is_some()
            && known.n > 0
            && let Some(node) = &node
        {
            transitions::no_other_node_lives(&store, node, known.n, &manifest).await?;
        }
        let entry = next.as_ref().map(|next| next.entry(&domain, START)).transpose()?;
        let chain = next.as_ref().unwrap_or(&known);
        let transition = chain.transition()?;
        let (issuing, grants) = {
            let mut vault = vault.lock().await;
            let issuing = vault.ensure_internal(&format!("mesh-issuer-{}", chain.n), new_key).await?;
            (issuing, grants(&vault, services.iter()))
        };
        let ca = IssuingCa::new(root, &root_key, &domain, (chain.n, transition), &issuing, seconds)?;
        let (revocations, revocations_at) = revocations(&store, &signer, transition, seconds).await?;
        let used = used(&store, clock.watermark()).await?;
        let evaluations = Evaluations::known(&store).await?;
        let opening_key = OpeningKey::generate(domain.mode, &domain.trust_domain, signer.spki())?;
        let mut audit = trail(audit, genesis, &signer, entry.clone(), seconds).await?;
        if let Some(next) = &next
            && let Err(error) = next.keep(&store, known_at, shared_manifest(node.as_ref(), &manifest)).await
        {
            // Whether it is there, nobody knows then.
            let is_undecided = matches!(error, TrustError::Store(StoreError::Undecided(_)));
            if let Some(entry) = entry.filter(|_| !is_undecided) {
                let reason = Some(error.to_string());
                let failed = Entry { outcome: AuditOutcome::Failed, reason, ..entry };
                let _said = tokio::task::spawn_blocking(move || audit.append(failed, seconds)).await;
            }
            return Err(error);
        }
        let services = services.into_iter().map(|(name, policy)| (name, Arc::new(policy))).collect();
        let beginning = Beginning {
            node: node.as_ref(),
            signer: &signer,
            services: &services,
            revocations: &revocations.revocations,
            n: chain.n,
            now: seconds,
        };
        let standings = beginning.standings(&store).await?;
        Ok(Self(Arc::new(Inner {
            domain,
            genesis,
            node,
            roots,
            clock,
            minter: Minter::new(&minter),
            signer,
            store,
            vault,
            audit: Arc::new(Mutex::new(audit)),
            own,
            opening_key,
            state: Mutex::new(State {
                ca: Arc::new(ca),
                before: None,
                in_force_since: seconds,
                manifest: Arc::new(manifest),
                expected: None,
                behind: None,
                revocations_at,
                unnamed: Vec::new(),
                services: Arc::new(services),
                used,
                rejected: BTreeMap::new(),
                versions: BTreeMap::new(),
            }),
            standings: watch::Sender::new(Arc::new(standings)),
            revocations: watch::Sender::new(Arc::new(revocations)),
            in_force: watch::Sender::new(chain.n),
            grants: watch::Sender::new(Arc::new(grants)),
            secret_changes: watch::Sender::new(0),
            schedule: Mutex::default(),
            evaluations,
            revoking: tokio::sync::Mutex::new(()),
            first_joins: Quota::new(FIRST_JOINS),
            renewals: Quota::new(RENEWALS),
            refusals: Mutex::default(),
            dismissed: Mutex::default(),
        })))
    }
}

/// What the vault holds of the mesh itself.
struct Held {
    domain: secrets::Domain,
    genesis: [u8; 32],
    root_key: Zeroizing<Vec<u8>>,
    /// Under nonces and tickets.
    minter: Zeroizing<Vec<u8>>,
}

impl Held {
    /// Takes it out, or makes what is not there yet.
    async fn of(
        vault: &tokio::sync::Mutex<Vault>,
        services: &BTreeMap<ServiceName, ServicePolicy>,
    ) -> Result<Self, TrustError> {
        let mut vault = vault.lock().await;
        check_room(&vault, services.iter(), None)?;
        let minter = vault.ensure_internal(MINTER, random).await?;
        let (domain, genesis) = (vault.domain().clone(), *vault.genesis());
        Ok(Self { domain, genesis, root_key: vault.root_key()?, minter })
    }
}

/// The audit trail, with the line of a transition where there is another.
async fn trail(
    path: PathBuf,
    genesis: [u8; 32],
    signer: &Signer,
    entry: Option<Entry>,
    now: u64,
) -> Result<AuditTrail, TrustError> {
    let pair = Arc::clone(signer.pair());
    let opened = tokio::task::spawn_blocking(move || -> Result<AuditTrail, AuditError> {
        let mut trail = AuditTrail::open(&path, genesis, pair, now)?;
        if let Some(entry) = entry {
            trail.append(entry, now)?;
        }
        Ok(trail)
    });
    Ok(opened.await.map_err(|_| TrustError::Failed)??)
}

fn random() -> Result<Zeroizing<Vec<u8>>, TrustError> {
    let mut bytes = Zeroizing::new(vec![0; 32]);
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| TrustError::Randomness)?;
    Ok(bytes)
}

/// A P-256 key as PKCS #8.
pub(super) fn new_key() -> Result<Zeroizing<Vec<u8>>, TrustError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256);
    let key = key.map_err(|error| TrustError::Certificate(error.to_string()))?;
    Ok(Zeroizing::new(key.serialize_der()))
}

/// The root certificate: made once, kept for the life of the mesh.
async fn root(
    store: &Store,
    key: &[u8],
    domain: &secrets::Domain,
    now: u64,
) -> Result<CertificateDer<'static>, TrustError> {
    if let Some(row) = store.get(ROOT).await? {
        return Ok(CertificateDer::from(row.value));
    }
    let made = ca::root_certificate(key, domain, now)?;
    match store.commit(Transaction::new().if_absent(ROOT).put(ROOT, made.to_vec())).await? {
        Committed::Committed { .. } => Ok(made),
        // Another node was quicker.
        Committed::Conflict { .. } => {
            let row = store.get(ROOT).await?.ok_or(TrustError::Tampered("root"))?;
            Ok(CertificateDer::from(row.value))
        }
    }
}

async fn revocations(
    store: &Store,
    signer: &Signer,
    transition: [u8; 32],
    now: u64,
) -> Result<(SignedRevocations, Option<u64>), TrustError> {
    let Some(row) = store.get(REVOCATIONS).await? else {
        return Ok((sign(Revocations::none(transition, now), signer)?, None));
    };
    let list = stored_revocations(&row, signer)?;
    Ok((sign(list.renewed(transition, now), signer)?, Some(row.mod_revision)))
}

/// The list in a row of the store.
pub(super) fn stored_revocations(row: &KeyValue, signer: &Signer) -> Result<Revocations, TrustError> {
    let tampered = || TrustError::Tampered("revocations");
    let known: SignedRevocations = serde_json::from_slice(&row.value).map_err(|_| tampered())?;
    known.verify(signer.spki()).cloned().ok_or_else(tampered)
}

/// The nonces and tickets that were used and may not be used again; those that have expired are forgotten with the next.
async fn used(store: &Store, now_ms: u64) -> Result<Used, TrustError> {
    let mut used = Used::default();
    for row in store.range(USED).await? {
        let expiry = row.value.as_slice().try_into().map(u64::from_be_bytes).unwrap_or(now_ms + LIFE_MS);
        let mark = row.key.strip_prefix(USED.as_bytes()).and_then(|mark| <[u8; 32]>::try_from(mark).ok());
        if let Some(mark) = mark {
            used.remember((mark, expiry));
        }
    }
    Ok(used)
}

async fn number(store: &Store, key: &str) -> Result<u64, TrustError> {
    let row = store.get(key).await?;
    Ok(row.and_then(|row| row.value.as_slice().try_into().ok()).map_or(0, u64::from_be_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn two_that_make_the_root_at_the_same_moment_have_one() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store.redb")).unwrap();
        let domain =
            secrets::Domain { trust_domain: "test.dev.invalid".into(), mode: types::Mode::Development };
        let key = new_key().unwrap();
        let make = || root(&store, &key, &domain, 1_800_000_000);
        let (one, two) = tokio::join!(make(), make());
        assert_eq!((one.unwrap(), two.unwrap()), (make().await.unwrap(), make().await.unwrap()));
    }
}
