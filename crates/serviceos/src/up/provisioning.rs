//! What is secret: opened or made, and sorted by who may have it.

use std::collections::BTreeMap;
use std::sync::Arc;

use access::{ApiKeys, KeyKind, Limit, Rate, Tier, Tiers};
use anyhow::{Context, Result, anyhow};
use configuration::{Builtin, GenerateType, LimitSettings, Program, Settings, TierSettings};
use secrets::{Domain, Generate, Vault};
use store::Store;
use tokio::sync::Mutex;
use trust::SecretGrant;
use types::ServiceName;

use super::data_dir::DataDir;

/// The secret under the keyed hashes of API keys.
const PEPPER: &str = "access-pepper";

/// What was opened.
pub(super) struct Provisions {
    pub(super) keys: ApiKeys,
    pub(super) vault: Arc<Mutex<Vault>>,
    /// Which secrets each service is given, once it has joined.
    pub(super) grants: BTreeMap<ServiceName, Vec<SecretGrant>>,
}

/// Opens the secrets and the API keys; the secrets of each service are made if there are none.
pub(super) async fn open(data_dir: &DataDir, store: &Store, settings: &Settings) -> Result<Provisions> {
    let domain = Domain { trust_domain: settings.trust_domain.clone(), mode: settings.mode };
    let mut vault = Vault::open(store.clone(), &data_dir.master_key(), domain)
        .await
        .context("failed to open the secrets")?;
    // A clock before 1970 makes secrets that look old, nothing worse.
    let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or_default();
    let pepper = vault.ensure(PEPPER, Generate::Random, now).await.context("failed to make a secret")?;
    let pepper = &pepper.last().ok_or_else(|| anyhow!("the secret {PEPPER} has no epoch"))?.value;
    let keys = ApiKeys::open(store.clone(), pepper, KeyKind::from(settings.mode), tiers(settings))
        .await
        .context("failed to read the API keys")?;
    for (name, secret) in &settings.secrets {
        vault.ensure(name, generate(secret.generate), now).await.context("failed to make a secret")?;
    }
    let mut grants = BTreeMap::new();
    for service in &settings.services {
        let Some(process) = service.process() else { continue };
        let named =
            process.secrets.iter().map(|name| SecretGrant { name: name.clone(), record: name.clone() });
        let mut granted: Vec<_> = named.collect();
        for name in implied_secrets(&process.program) {
            // Two services that run the same program are two services: neither may answer with the other's key.
            let record = format!("{}-{}", service.name, name.trim_start_matches("vrf-"));
            vault.ensure(&record, Generate::Ed25519, now).await.context("failed to make a secret")?;
            granted.retain(|grant| grant.name != *name);
            granted.push(SecretGrant { name: (*name).to_owned(), record });
        }
        grants.insert(service.name.clone(), granted);
    }
    Ok(Provisions { keys, vault: Arc::new(Mutex::new(vault)), grants })
}

/// The tiers that keys can have: the built-in ones, and what the configuration adds or changes.
pub(crate) fn tiers(settings: &Settings) -> Tiers {
    let tier = |tier: &TierSettings| Tier { limit: limit(&tier.limit), daily: tier.daily };
    let configured = &settings.gateway.rate_limits.tiers;
    Tiers::with(configured.iter().map(|(name, settings)| (name.clone(), tier(settings))).collect())
}

/// A limit as the gateway counts by it.
pub(crate) fn limit(settings: &LimitSettings) -> Limit {
    Limit::new(Rate { count: settings.rate.count, per: settings.rate.per }, settings.burst)
}

/// The secrets that a built-in service cannot do without; all of its replicas share them.
fn implied_secrets(program: &Program) -> &'static [&'static str] {
    match program {
        Program::Builtin(Builtin::Vrf) => &["vrf-key", "vrf-signing"],
        Program::Builtin(Builtin::Datafeed | Builtin::Oracle) | Program::Command(_) | Program::Elsewhere => {
            &[]
        }
    }
}

fn generate(kind: GenerateType) -> Generate {
    match kind {
        GenerateType::Ed25519 => Generate::Ed25519,
        GenerateType::P256 => Generate::P256,
        GenerateType::Random => Generate::Random,
    }
}
