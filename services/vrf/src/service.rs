//! What the service does, without HTTP: draw proven integers, and check them.
//!
//! It keeps no state between requests, so that a replica that fails takes nothing with it: that is the ledger's. Randomness and
//! time come from outside.

use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::rand;
use jiff::Timestamp;
use sdk::{SecretSet, Start, StartError, State};
use serde_json::Value;
use tokio::sync::watch;
use types::wire::Message;
use ulid::Ulid;

use crate::api;
use crate::ecvrf::{BETA_BYTES, Invalid, Output, PublicKey};
use crate::keys::{Keys, PROVING_SECRET, SIGNING_SECRET};
use crate::ledger::Ledger;
use crate::range::Draw;
use crate::records::{self, Record};
use crate::self_test;
use crate::sweep::Sweep;

const ALPHA_TAG: &[u8] = b"serviceos/vrf/v1\0";
/// The random bytes that stand in the place of a seed where none is given.
const RANDOM_SEED_BYTES: usize = 32;

/// Fills a slice with random bytes.
pub(crate) type Randomness = Box<dyn Fn(&mut [u8]) + Send + Sync>;
/// Tells the time.
pub(crate) type Clock = Box<dyn Fn() -> Timestamp + Send + Sync>;

/// The service with its keys.
pub(crate) struct Service {
    /// Held for as long as it takes to count one owner more.
    keys: RwLock<Arc<Keys>>,
    randomness: Randomness,
    clock: Clock,
    /// What was answered.
    pub(crate) ledger: Ledger,
}

/// What somebody asks for.
pub(crate) struct Asked {
    pub(crate) draw: Draw,
    pub(crate) seed: Option<String>,
}

impl Service {
    /// A service with these keys, this source of randomness and this clock, which keeps its answers there.
    pub(crate) fn new(keys: Keys, randomness: Randomness, clock: Clock, state: State) -> Self {
        Self { keys: RwLock::new(Arc::new(keys)), randomness, clock, ledger: Ledger::new(state) }
    }

    /// The keys that are in force now. Whoever answers does so with the same from beginning to end.
    pub(crate) fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Has those that answer from now on use the keys of these secrets; what is wrong with them changes nothing.
    pub(crate) fn take(&self, secrets: &SecretSet) -> Result<(), StartError> {
        let keys = Arc::new(keys_of(secrets)?);
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    /// Draws integers. The same tenant and seed have the same integers for ever, as long as the key stays.
    pub(crate) fn draw(&self, keys: &Keys, tenant: &str, asked: &Asked, has_key: bool) -> Record {
        let seed = asked.seed.as_deref();
        let alpha = seed
            .map_or_else(|| alpha(tenant, self.random::<RANDOM_SEED_BYTES>()), |seed| alpha(tenant, seed));
        let Output { proof, beta } = keys.proving.prove(&alpha);
        let key = keys.current();
        let record = Record {
            id: self.moment(),
            draw: asked.draw,
            alpha,
            beta,
            proof,
            key_id: key.id.clone(),
            epoch: key.epoch,
            signature: Vec::new(),
            seed: seed.map(|seed| records::seed(tenant, seed)),
            has_key,
        };
        let signature = keys.signing.sign(&record.statement()).as_ref().to_vec();
        Record { signature, ..record }
    }

    /// A ULID of now.
    pub(crate) fn moment(&self) -> Ulid {
        let milliseconds = u64::try_from((self.clock)().as_millisecond()).unwrap_or(0);
        Ulid::from_parts(milliseconds, u128::from_be_bytes(self.random()))
    }

    fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        (self.randomness)(&mut bytes);
        bytes
    }
}

/// Checks a proof, and repeats the draw if one is given.
pub(crate) fn verify(
    public: &PublicKey,
    alpha: &[u8],
    proof: &[u8],
    draw: Option<&Draw>,
) -> Result<([u8; BETA_BYTES], Option<Vec<i64>>), Invalid> {
    let beta = public.verify(alpha, proof)?;
    Ok((beta, draw.map(|draw| draw.values(&beta))))
}

/// "serviceos/vrf/v1\0" ‖ lp(tenant) ‖ lp(seed): tenants cannot foresee each other's integers, whatever seed they choose.
fn alpha(tenant: &str, seed: impl AsRef<[u8]>) -> Vec<u8> {
    Message::tagged(ALPHA_TAG).lp(tenant).lp(seed).finish()
}

/// Makes the routes of a replica from its assignment, once its keys are there and the self-test passed.
///
/// # Errors
///
/// Says which secret is missing or no key, which configuration is wrong, or that the self-test failed.
pub async fn build(start: Start) -> Result<axum::Router, StartError> {
    check_config(&start.config).map_err(StartError::new)?;
    let keys = keys_of(&start.secrets)?;
    let randomness =
        |bytes: &mut [u8]| rand::fill(bytes).expect("aws-lc aborts where the system has no randomness");
    let state = start.state.clone();
    let service = Arc::new(Service::new(keys, Box::new(randomness), Box::new(Timestamp::now), start.state));
    tokio::spawn(stay(Arc::clone(&service), state, start.changes));
    // Whatever is valid means the same suite, so there is nothing to take over.
    tokio::spawn(start.configs.follow(|offer| check_config(offer.value()).map_err(StartError::new)));
    Ok(api::router(service))
}

/// What goes on beside the requests. It ends when nobody gives the service secrets any more.
async fn stay(service: Arc<Service>, state: State, changes: watch::Receiver<SecretSet>) {
    let jitter = || f64::from(u32::from_be_bytes(service.random())) / f64::from(u32::MAX);
    tokio::select! {
        () = follow(Arc::clone(&service), changes) => {}
        never = Sweep::new(state).keep(Timestamp::now, jitter) => match never {},
    }
}

/// Takes over the keys of secrets that have changed. With what is no key, the service goes on with those that it has.
async fn follow(service: Arc<Service>, mut changes: watch::Receiver<SecretSet>) {
    while changes.changed().await.is_ok() {
        let taken = service.take(&changes.borrow_and_update());
        let epoch = service.keys().current().epoch;
        match taken {
            Ok(()) => tracing::info!(epoch, "the keys of the changed secrets are in force"),
            Err(error) => {
                tracing::error!(%error, epoch, "the secrets have changed and are not used: the keys before stay in force");
            }
        }
    }
}

/// The keys that secrets hold, once they have proved something.
fn keys_of(secrets: &SecretSet) -> Result<Keys, StartError> {
    let secret = |name: &str| {
        secrets
            .get(name)
            .ok_or_else(|| StartError::new(format_args!("the secret {name} was not handed over")))
    };
    let keys = Keys::load(secret(PROVING_SECRET)?, secret(SIGNING_SECRET)?).map_err(StartError::new)?;
    self_test::run(&keys).map_err(StartError::new)?;
    Ok(keys)
}

/// Checks the service's `config` before anything is started: `{}` or `{"suite": "ed25519"}`.
///
/// # Errors
///
/// Names the key that is wrong and what it should be.
pub fn check_config(config: &Value) -> Result<(), String> {
    let Value::Object(settings) = config else {
        return Err(format!("expected a mapping, such as {{suite: ed25519}}, not {config}"));
    };
    settings.iter().try_for_each(|(key, value)| match (key.as_str(), value.as_str()) {
        ("suite", Some("ed25519")) => Ok(()),
        ("suite", _) => Err(format!("suite: expected \"ed25519\", the one suite that there is, not {value}")),
        _ => Err(format!("{key}: unknown key, expected only suite")),
    })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_configuration_is_empty_or_names_the_one_suite() {
        assert_eq!(check_config(&json!({})), Ok(()));
        assert_eq!(check_config(&json!({"suite": "ed25519"})), Ok(()));
        let wrong = [
            json!(null),
            json!(["suite"]),
            json!({"suite": "p256"}),
            json!({"suite": null}),
            json!({"suit": "ed25519"}),
            json!({"suite": "ed25519", "keys": 3}),
        ];
        let refusals: Vec<String> = wrong.iter().map(|config| check_config(config).unwrap_err()).collect();
        expect![[r#"
            expected a mapping, such as {suite: ed25519}, not null
            expected a mapping, such as {suite: ed25519}, not ["suite"]
            suite: expected "ed25519", the one suite that there is, not "p256"
            suite: expected "ed25519", the one suite that there is, not null
            suit: unknown key, expected only suite
            keys: unknown key, expected only suite
        "#]]
        .assert_eq(&(refusals.join("\n") + "\n"));
    }
}
