//! What is secret: opened or made, and sorted by who may have it.

use std::collections::BTreeMap;

use access::{ApiKeys, KeyKind, Rate, Tier, Tiers};
use anyhow::{Context, Result, anyhow};
use configuration::{Builtin, Settings};
use mesh_protocol::{Secret, SecretEpoch, SecretSet};
use secrets::{Domain, Epoch, Generate, Mode, Vault};
use store::Store;
use types::ServiceName;

use super::data_dir::DataDir;

/// The secret under the keyed hashes of API keys.
const PEPPER: &str = "access-pepper";

/// Opens the store, the secrets and the API keys; the secrets of each service are made if there are none.
pub(crate) async fn open(
    data_dir: &DataDir,
    settings: &Settings,
) -> Result<(ApiKeys, BTreeMap<ServiceName, SecretSet>)> {
    let path = data_dir.store()?;
    let store = tokio::task::spawn_blocking(move || Store::open(&path))
        .await
        .context("failed to open the store")?
        .context("failed to open the store")?;
    let domain = Domain { trust_domain: settings.trust_domain.clone(), mode: Mode::Development };
    let mut vault = Vault::open(store.clone(), &data_dir.master_key(), domain)
        .await
        .context("failed to open the secrets")?;
    let pepper = vault.ensure(PEPPER, Generate::Random).await.context("failed to make a secret")?;
    let pepper = &pepper.last().ok_or_else(|| anyhow!("the secret {PEPPER} has no epoch"))?.value;
    let keys = ApiKeys::open(store, pepper, KeyKind::Test, tiers(settings))
        .await
        .context("failed to read the API keys")?;
    let mut by_service = BTreeMap::new();
    for service in &settings.services {
        let Some(process) = service.process() else { continue };
        let mut set = SecretSet::new();
        for name in implied_secrets(process.builtin) {
            // Two services that run the same program are two services: neither may answer with the other's key.
            let own = format!("{}-{}", service.name, name.trim_start_matches("vrf-"));
            let epochs = vault.ensure(&own, Generate::Ed25519).await.context("failed to make a secret")?;
            set.insert((*name).to_owned(), handed_over(epochs));
        }
        by_service.insert(service.name.clone(), set);
    }
    Ok((keys, by_service))
}

/// The tiers that keys can have: the built-in ones, and what the configuration adds or changes.
pub(crate) fn tiers(settings: &Settings) -> Tiers {
    let tier = |tier: &configuration::TierSettings| Tier {
        rate: Rate { count: tier.rate.count, per: tier.rate.per },
        burst: tier.burst,
    };
    Tiers::with(
        settings.gateway.tiers.iter().map(|(name, settings)| (name.clone(), tier(settings))).collect(),
    )
}

/// The secrets that a built-in service cannot do without; all of its replicas share them.
fn implied_secrets(builtin: Builtin) -> &'static [&'static str] {
    match builtin {
        Builtin::Vrf => &["vrf-key", "vrf-signing"],
        Builtin::Datafeed | Builtin::Oracle => &[],
    }
}

fn handed_over(epochs: Vec<Epoch>) -> Secret {
    let epochs = epochs.into_iter().map(|epoch| SecretEpoch { epoch: epoch.number, value: epoch.value });
    Secret { epochs: epochs.collect() }
}
