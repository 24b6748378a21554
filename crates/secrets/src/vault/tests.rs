use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use types::Mode;

use super::*;
use crate::MAX_NAME_BYTES;

/// A data directory whose store stays open.
struct Place {
    folder: tempfile::TempDir,
    store: Store,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store.redb")).unwrap();
        Self { folder, store }
    }

    async fn open(&self, trust_domain: &str) -> Result<Vault, SecretsError> {
        let domain = Domain { trust_domain: trust_domain.into(), mode: Mode::Development };
        Vault::open(self.store.clone(), &self.folder.path().join("master.key"), domain).await
    }

    async fn rows(&self, prefix: &str) -> Vec<store::KeyValue> {
        self.store.range(prefix).await.unwrap().rows
    }

    async fn write(&self, change: Transaction) {
        self.store.commit(change).await.unwrap();
    }
}

const DOMAIN: &str = "serviceos.dev.invalid";

fn values(epochs: Option<Vec<Epoch>>) -> Vec<(u32, Vec<u8>)> {
    epochs.unwrap().into_iter().map(|epoch| (epoch.number, epoch.value.to_vec())).collect()
}

fn released(vault: &Vault, name: &str) -> Vec<(u64, u32, Vec<u8>)> {
    let released = vault.release(name).unwrap().unwrap_or_default();
    released.into_iter().map(|secret| (secret.version, secret.epoch, secret.value.to_vec())).collect()
}

#[tokio::test]
async fn a_secret_is_made_once_and_is_the_same_after_a_restart() {
    let place = Place::new();
    let mut vault = place.open(DOMAIN).await.unwrap();
    let genesis = *vault.genesis();
    let made = vault.ensure("vrf-key", Generate::Ed25519, 1).await.unwrap();
    assert_eq!(vault.ensure("vrf-key", Generate::Ed25519, 2).await.unwrap()[0].value, made[0].value);
    assert_ne!(vault.ensure("vrf-signing", Generate::Ed25519, 2).await.unwrap()[0].value, made[0].value);
    drop(vault);
    let vault = place.open(DOMAIN).await.unwrap();
    assert_eq!(vault.reveal("vrf-key").unwrap().unwrap()[0].value, made[0].value);
    assert_eq!(*vault.genesis(), genesis);
    assert!(vault.reveal("unknown").unwrap().is_none());
    assert!(vault.release("unknown").unwrap().is_none());
}

#[tokio::test]
async fn another_trust_domain_and_a_lost_or_exchanged_master_key_are_refused() {
    let place = Place::new();
    place.open(DOMAIN).await.unwrap();
    assert!(matches!(place.open("other.dev.invalid").await, Err(SecretsError::OtherDomain { .. })));
    let key = place.folder.path().join("master.key");
    std::fs::remove_file(&key).unwrap();
    assert!(matches!(place.open(DOMAIN).await, Err(SecretsError::MasterKeyMissing(_))));
    MasterKey::create(&key).unwrap();
    assert!(matches!(place.open(DOMAIN).await, Err(SecretsError::OtherMasterKey(_))));
}

#[tokio::test]
async fn each_value_that_is_set_is_a_version_and_the_newest_counts() {
    let place = Place::new();
    let mut vault = place.open(DOMAIN).await.unwrap();
    for number in 1..=20_u8 {
        assert_eq!(vault.set("token", &[number], u64::from(number)).await.unwrap(), u64::from(number));
        assert_eq!(values(vault.reveal("token").unwrap()), [(1, vec![number])]);
        assert_eq!(released(&vault, "token"), [(u64::from(number), 1, vec![number])]);
    }
    let vault = place.open(DOMAIN).await.unwrap();
    let [token] = vault.list().try_into().unwrap();
    assert_eq!((token.name.as_str(), token.origin, token.generate), ("token", Origin::Set, None));
    let kept: Vec<_> = token.versions.iter().map(|info| (info.version, info.epoch, info.made_at)).collect();
    assert_eq!(kept, (5..=20).map(|version| (version, 1, Some(version))).collect::<Vec<_>>());
    assert_eq!(place.rows("secrets/made/").await.len(), MAX_VERSIONS);
}

#[tokio::test]
async fn a_rotation_adds_an_epoch_of_the_same_kind_and_keeps_the_earlier_ones() {
    let place = Place::new();
    let mut vault = place.open(DOMAIN).await.unwrap();
    let first = vault.ensure("signer", Generate::P256, 10).await.unwrap()[0].value.to_vec();
    assert_eq!(vault.rotate("signer", 20).await.unwrap(), 2);
    assert_eq!(vault.rotate("signer", 30).await.unwrap(), 3);
    let vault = place.open(DOMAIN).await.unwrap();
    let epochs = values(vault.reveal("signer").unwrap());
    assert_eq!(epochs.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(epochs[0].1, first);
    assert!(epochs[0].1 != epochs[1].1 && epochs[1].1 != epochs[2].1);
    let expected = epochs.iter().map(|(epoch, value)| (u64::from(*epoch), *epoch, value.clone()));
    assert_eq!(released(&vault, "signer"), expected.collect::<Vec<_>>());
    let [signer] = vault.list().try_into().unwrap();
    assert_eq!((signer.origin, signer.generate), (Origin::Generated, Some(Generate::P256)));
    assert_eq!(signer.versions.last().unwrap().made_at, Some(30));
}

#[tokio::test]
async fn what_does_not_fit_the_origin_of_a_secret_is_refused() {
    let place = Place::new();
    let mut vault = place.open(DOMAIN).await.unwrap();
    vault.ensure("made", Generate::Random, 1).await.unwrap();
    vault.set("given", b"value", 1).await.unwrap();
    assert!(matches!(vault.set("made", b"value", 1).await, Err(SecretsError::Immutable(_))));
    assert!(matches!(vault.rotate("given", 1).await, Err(SecretsError::NotGenerated(_))));
    assert!(matches!(vault.rotate("unknown", 1).await, Err(SecretsError::Unknown(_))));
    assert!(matches!(vault.remove("unknown").await, Err(SecretsError::Unknown(_))));
    let given = vault.ensure("given", Generate::Random, 1).await.unwrap();
    assert_eq!(given[0].value.as_slice(), b"value", "a secret that an operator gave is not made");
}

#[tokio::test]
async fn the_secrets_of_the_mesh_itself_are_out_of_reach() {
    let place = Place::new();
    let mut vault = place.open(DOMAIN).await.unwrap();
    let made = || Ok::<_, SecretsError>(Zeroizing::new(vec![7; 40]));
    let nonces = vault.ensure_internal("nonces", made).await.unwrap();
    let again = vault.ensure_internal("nonces", || Err::<_, SecretsError>(SecretsError::TooLarge)).await;
    assert_eq!((nonces.as_slice(), again.unwrap().as_slice()), ([7; 40].as_slice(), [7; 40].as_slice()));
    vault.ensure("access-pepper", Generate::Random, 1).await.unwrap();
    vault.set("nonces", b"of a service", 1).await.unwrap();
    assert_eq!(vault.list().len(), 1, "a service may have the same name");
    for name in ["access-pepper", "mesh/root", "mesh/nonces", "mesh/another"] {
        assert!(matches!(vault.set(name, b"value", 1).await, Err(SecretsError::Reserved(_))), "{name}");
        assert!(matches!(vault.rotate(name, 1).await, Err(SecretsError::Reserved(_))), "{name}");
        assert!(matches!(vault.remove(name).await, Err(SecretsError::Reserved(_))), "{name}");
        assert!(vault.release(name).unwrap().is_none() && !vault.due(name, Duration::ZERO, 9), "{name}");
    }
    let vault = place.open(DOMAIN).await.unwrap();
    assert!(RootKey::matches(&vault.root_key().unwrap(), &vault.root_spki));
}

#[tokio::test]
async fn names_values_and_numbers_have_their_limits() {
    let place = Place::new();
    let mut vault = place.open(DOMAIN).await.unwrap();
    for bad in ["", "A", "a/b", "a-", &"a".repeat(MAX_NAME_BYTES + 1)] {
        assert!(matches!(vault.set(bad, b"value", 1).await, Err(SecretsError::InvalidName)), "{bad}");
        assert!(matches!(vault.ensure(bad, Generate::Random, 1).await, Err(SecretsError::InvalidName)));
    }
    let large = vec![1; MAX_VALUE_BYTES + 1];
    assert!(matches!(vault.set("large", &large, 1).await, Err(SecretsError::TooLarge)));
    vault.set("large", &large[1..], 1).await.unwrap();
    assert_eq!(vault.release("large").unwrap().unwrap()[0].value.len(), MAX_VALUE_BYTES);
    // What follows is refused before anything is written, so the store need not hold what stands in memory.
    let full = |name: String, epoch| {
        let header = Header { name, version: 1, epoch, origin: Origin::Generated };
        let stored = Stored::seal(&vault.keys, &header, b"value", None).unwrap();
        ((header.name, 1), Arc::new(stored))
    };
    let filled: Vec<_> = (1..MAX_SECRETS).map(|number| full(format!("s{number}"), MAX_EPOCHS)).collect();
    vault.records.extend(filled);
    assert!(matches!(vault.set("another", b"value", 1).await, Err(SecretsError::TooMany)));
    assert!(matches!(vault.ensure("another", Generate::Random, 1).await, Err(SecretsError::TooMany)));
    assert!(matches!(vault.rotate("s1", 1).await, Err(SecretsError::TooManyEpochs(_))));
}

#[tokio::test]
async fn a_removed_secret_leaves_no_row_however_many_versions_it_had() {
    let place = Place::new();
    let mut vault = place.open(DOMAIN).await.unwrap();
    vault.set("other", b"stays", 1).await.unwrap();
    let before = place.rows("secrets/").await.len();
    vault.ensure("many", Generate::Random, 1).await.unwrap();
    for _ in 0..2 * REMOVED_AT_ONCE {
        vault.rotate("many", 2).await.unwrap();
    }
    vault.remove("many").await.unwrap();
    assert_eq!(place.rows("secrets/").await.len(), before);
    let mut vault = place.open(DOMAIN).await.unwrap();
    assert!(vault.release("many").unwrap().is_none());
    assert_eq!(released(&vault, "other"), [(1, 1, b"stays".to_vec())]);
    assert_eq!(vault.set("many", b"anew", 1).await.unwrap(), 1);
}

#[tokio::test]
async fn what_would_be_given_is_known_without_the_values_and_after_a_new_start() {
    let place = Place::new();
    let mut vault = place.open(DOMAIN).await.unwrap();
    vault.ensure("key", Generate::Random, 1).await.unwrap();
    vault.rotate("key", 2).await.unwrap();
    vault.set("token", b"first", 3).await.unwrap();
    vault.set("token", b"second one", 4).await.unwrap();
    for vault in [&vault, &place.open(DOMAIN).await.unwrap()] {
        let given = |version, epoch, bytes| Given { version, epoch, bytes };
        assert_eq!(vault.given("key"), [given(1, 1, 32), given(2, 2, 32)]);
        assert_eq!(vault.given("token"), [given(2, 1, 10)]);
        assert_eq!(vault.given("unknown").len() + vault.given("mesh/root").len(), 0);
    }
}

#[tokio::test]
async fn a_rotation_is_due_by_the_age_of_the_newest_epoch() {
    let place = Place::new();
    let mut vault = place.open(DOMAIN).await.unwrap();
    vault.ensure("key", Generate::Ed25519, 1_000).await.unwrap();
    vault.set("given", b"value", 0).await.unwrap();
    let hour = Duration::from_secs(3_600);
    assert!(!vault.due("key", hour, 4_599) && vault.due("key", hour, 4_600));
    assert!(!vault.due("key", hour, 0), "a clock that stepped back makes nothing old");
    assert!(!vault.due("given", hour, 9_999) && !vault.due("unknown", hour, 9_999));
    vault.rotate("key", 4_600).await.unwrap();
    assert!(!vault.due("key", hour, 4_600));
}

#[tokio::test]
async fn a_store_of_version_0_1_0_opens_and_its_keys_can_be_rotated() {
    let bytes = |hex: &str| -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    };
    let place = Place::new();
    let key = place.folder.path().join("master.key");
    MasterKey::create(&key).unwrap();
    std::fs::write(&key, bytes("32def7b6c75f977ec91fc2b5224ca1870dc98d59e4639d9d8b495fc923805ff6")).unwrap();
    for row in include_str!("tests/store-0.1.0.txt").lines() {
        let (key, value) = row.split_once(' ').unwrap();
        place.write(Transaction::new().put(key, bytes(value))).await;
    }
    let mut vault = place.open(DOMAIN).await.unwrap();
    let value = bytes("893aebcfd20cde3000d5d182cabfee1d50ea6247af40bc864ffaf9fa75cee8b4");
    assert_eq!(released(&vault, "vrf-key"), [(1, 1, value.clone())]);
    let names: Vec<_> = vault.list().into_iter().map(|secret| secret.name).collect();
    assert_eq!(names, ["vrf-key", "vrf-signing"]);
    let unknown = VersionInfo { version: 1, epoch: 1, made_at: None };
    assert_eq!((vault.list()[0].generate, vault.list()[0].versions[0]), (None, unknown));
    assert!(vault.due("vrf-key", Duration::from_secs(u64::MAX), 0), "its age is not known");
    assert!(matches!(vault.set("vrf-key", b"value", 1).await, Err(SecretsError::Immutable(_))));
    assert_eq!(vault.rotate("vrf-key", 5).await.unwrap(), 2);
    let vault = place.open(DOMAIN).await.unwrap();
    assert_eq!(values(vault.reveal("vrf-key").unwrap())[0], (1, value));
    assert!(!vault.due("vrf-key", Duration::from_secs(1), 5));
}

#[tokio::test]
async fn a_changed_byte_anywhere_a_removed_and_an_exchanged_record_are_noticed() {
    let place = Place::new();
    let mut vault = place.open(DOMAIN).await.unwrap();
    vault.ensure("a", Generate::Random, 1).await.unwrap();
    vault.ensure("b", Generate::Ed25519, 1).await.unwrap();
    vault.rotate("b", 2).await.unwrap();
    vault.set("c", b"first", 3).await.unwrap();
    vault.set("c", b"second", 4).await.unwrap();
    drop(vault);
    let rows = place.rows("secrets/").await;
    assert_eq!(
        rows.len(),
        5 + 6 + 1,
        "five times, the same versions and the mesh root, and the hash over them"
    );
    for row in &rows {
        for byte in 0..row.value.len() {
            let mut changed = row.value.clone();
            changed[byte] ^= 0x40;
            tampered(&place, Transaction::new().put(row.key.clone(), changed), row).await;
        }
        for length in [0, row.value.len() - 1] {
            let cut = row.value[..length].to_vec();
            tampered(&place, Transaction::new().put(row.key.clone(), cut), row).await;
        }
        let longer = [row.value.as_slice(), &[0]].concat();
        tampered(&place, Transaction::new().put(row.key.clone(), longer), row).await;
        place.write(Transaction::new().put(row.key.clone(), row.value.clone())).await;
        if !row.key.starts_with(b"secrets/made/") {
            tampered(&place, Transaction::new().delete(row.key.clone()), row).await;
            place.write(Transaction::new().put(row.key.clone(), row.value.clone())).await;
        }
    }
    place.open(DOMAIN).await.unwrap();
    for pair in rows.windows(2) {
        let [a, b] = pair else { unreachable!("windows have two rows") };
        let exchange =
            Transaction::new().put(a.key.clone(), b.value.clone()).put(b.key.clone(), a.value.clone());
        tampered(&place, exchange, a).await;
        let back = Transaction::new().put(a.key.clone(), a.value.clone()).put(b.key.clone(), b.value.clone());
        place.write(back).await;
    }
}

async fn tampered(place: &Place, change: Transaction, row: &store::KeyValue) {
    place.write(change).await;
    let opened = place.open(DOMAIN).await;
    assert!(matches!(opened, Err(SecretsError::Tampered(_))), "{}", String::from_utf8_lossy(&row.key));
}

#[tokio::test]
async fn an_older_record_or_time_that_is_put_back_is_noticed() {
    let place = Place::new();
    let mut vault = place.open(DOMAIN).await.unwrap();
    vault.set("token", b"leaked", 1).await.unwrap();
    let old = place.rows("secrets/records/token/").await.remove(0);
    let old_time = place.rows("secrets/made/token/").await.remove(0);
    vault.remove("token").await.unwrap();
    for row in [&old, &old_time] {
        tampered(&place, Transaction::new().put(row.key.clone(), row.value.clone()), row).await;
        place.write(Transaction::new().delete(row.key.clone())).await;
    }
    let twice = Transaction::new().put("secrets/records/mesh/root/1", old.value.clone());
    tampered(&place, twice, &old).await;
}

#[tokio::test]
async fn a_time_that_is_gone_is_unknown() {
    let place = Place::new();
    place.open(DOMAIN).await.unwrap().ensure("key", Generate::P256, 1).await.unwrap();
    let time = place.rows("secrets/made/").await.remove(0);
    place.write(Transaction::new().delete(time.key)).await;
    let vault = place.open(DOMAIN).await.unwrap();
    assert_eq!((vault.list()[0].generate, vault.list()[0].versions[0].made_at), (None, None));
    assert!(vault.due("key", Duration::from_secs(u64::MAX), 1));
}

#[tokio::test]
async fn a_vault_that_somebody_else_overtook_changes_nothing_and_reads_again() {
    let place = Place::new();
    let mut one = place.open(DOMAIN).await.unwrap();
    let mut other = place.open(DOMAIN).await.unwrap();
    one.set("a", b"one", 1).await.unwrap();
    assert!(matches!(other.set("b", b"other", 1).await, Err(SecretsError::Conflict)));
    assert_eq!(other.set("b", b"other", 1).await.unwrap(), 1);
    assert_eq!(released(&other, "a"), [(1, 1, b"one".to_vec())]);
    assert_eq!(place.open(DOMAIN).await.unwrap().list().len(), 2);
}

#[tokio::test]
async fn two_that_make_the_same_secret_have_the_same_one() {
    let place = Place::new();
    let mut one = place.open(DOMAIN).await.unwrap();
    let mut other = place.open(DOMAIN).await.unwrap();
    let value = |epochs: Vec<Epoch>| epochs[0].value.to_vec();
    let first = value(one.ensure("key", Generate::Random, 1).await.unwrap());
    assert_eq!(value(other.ensure("key", Generate::Random, 2).await.unwrap()), first);
    let make = |byte| move || Ok::<_, SecretsError>(Zeroizing::new(vec![byte; 32]));
    let first = other.ensure_internal("issuer", make(1)).await.unwrap();
    assert_eq!(one.ensure_internal("issuer", make(2)).await.unwrap(), first);
    assert!(!one.refresh().await.unwrap(), "it has read everything");
    other.rotate("key", 3).await.unwrap();
    assert!(one.refresh().await.unwrap());
    assert_eq!(one.reveal("key").unwrap().unwrap().len(), 2);
}

#[derive(Debug, Clone)]
enum Step {
    Ensure(&'static str),
    Set(&'static str, u8),
    Rotate(&'static str),
    Remove(&'static str),
    Reopen,
}

fn any_step() -> impl Strategy<Value = Step> {
    let name = prop::sample::select(vec!["a", "a-b", "ab"]);
    prop_oneof![
        name.clone().prop_map(Step::Ensure),
        (name.clone(), any::<u8>()).prop_map(|(name, value)| Step::Set(name, value)),
        name.clone().prop_map(Step::Rotate),
        name.prop_map(Step::Remove),
        Just(Step::Reopen),
    ]
}

/// What a secret is expected to be.
enum Model {
    Set { value: u8, version: u64 },
    Generated { epochs: u32 },
}

fn expected(model: Option<&Model>, step: &Step) -> Option<Model> {
    match (model, step) {
        (None, Step::Ensure(_)) => Some(Model::Generated { epochs: 1 }),
        (None, Step::Set(_, value)) => Some(Model::Set { value: *value, version: 1 }),
        (Some(Model::Set { version, .. }), Step::Set(_, value)) => {
            Some(Model::Set { value: *value, version: version + 1 })
        }
        (Some(Model::Generated { epochs }), Step::Rotate(_)) => Some(Model::Generated { epochs: epochs + 1 }),
        _ => None,
    }
}

async fn follow(steps: Vec<Step>) {
    let place = Place::new();
    let mut vault = place.open(DOMAIN).await.unwrap();
    let mut models: BTreeMap<&str, Model> = BTreeMap::new();
    for step in steps {
        let name = match &step {
            Step::Ensure(name) | Step::Set(name, _) | Step::Rotate(name) | Step::Remove(name) => *name,
            Step::Reopen => "",
        };
        let after = expected(models.get(name), &step);
        let changed = match &step {
            Step::Ensure(name) => vault.ensure(name, Generate::Random, 1).await.is_ok() && after.is_some(),
            Step::Set(name, value) => vault.set(name, &[*value], 1).await.is_ok(),
            Step::Rotate(name) => vault.rotate(name, 1).await.is_ok(),
            Step::Remove(name) => vault.remove(name).await.is_ok(),
            Step::Reopen => {
                vault = place.open(DOMAIN).await.unwrap();
                false
            }
        };
        match step {
            Step::Remove(_) => assert_eq!(models.remove(name).is_some(), changed),
            _ => assert_eq!(after.is_some(), changed, "{step:?}"),
        }
        if let Some(after) = after {
            models.insert(name, after);
        }
        assert_eq!(vault.list().len(), models.len());
        for (name, model) in &models {
            let found = released(&vault, name);
            match model {
                Model::Set { value, version } => assert_eq!(found, [(*version, 1, vec![*value])]),
                Model::Generated { epochs } => {
                    let numbers: Vec<_> = found.iter().map(|(_, epoch, _)| *epoch).collect();
                    assert_eq!(numbers, (1..=*epochs).collect::<Vec<_>>());
                }
            }
        }
    }
    place.open(DOMAIN).await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_sequence_of_changes_leaves_what_it_says_and_a_store_that_verifies(
        steps in prop::collection::vec(any_step(), 1..40),
    ) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(follow(steps));
    }
}
