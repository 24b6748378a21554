use super::*;
use crate::Mode;

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn store(&self) -> Store {
        Store::open(&self.0.path().join("store.redb")).unwrap()
    }

    async fn open(&self, trust_domain: &str) -> Result<Vault, SecretsError> {
        let domain = Domain { trust_domain: trust_domain.into(), mode: Mode::Development };
        Vault::open(self.store(), &self.0.path().join("master.key"), domain).await
    }
}

const DOMAIN: &str = "serviceos.dev.invalid";

#[tokio::test]
async fn a_secret_is_made_once_and_is_the_same_after_a_restart() {
    let place = Place::new();
    let mut vault = place.open(DOMAIN).await.unwrap();
    let genesis = *vault.genesis();
    let made = vault.ensure("vrf-key", Generate::Ed25519).await.unwrap();
    assert_eq!(vault.ensure("vrf-key", Generate::Ed25519).await.unwrap()[0].value, made[0].value);
    assert_ne!(vault.ensure("vrf-signing", Generate::Ed25519).await.unwrap()[0].value, made[0].value);
    drop(vault);
    let vault = place.open(DOMAIN).await.unwrap();
    assert_eq!(vault.reveal("vrf-key").unwrap().unwrap()[0].value, made[0].value);
    assert_eq!(*vault.genesis(), genesis);
    assert!(vault.reveal("unknown").unwrap().is_none());
}

#[tokio::test]
async fn another_trust_domain_and_a_lost_or_exchanged_master_key_are_refused() {
    let place = Place::new();
    place.open(DOMAIN).await.unwrap();
    assert!(matches!(place.open("other.dev.invalid").await, Err(SecretsError::OtherDomain { .. })));
    let key = place.0.path().join("master.key");
    std::fs::remove_file(&key).unwrap();
    assert!(matches!(place.open(DOMAIN).await, Err(SecretsError::MasterKeyMissing(_))));
    MasterKey::create(&key).unwrap();
    assert!(matches!(place.open(DOMAIN).await, Err(SecretsError::Tampered(_))));
}

#[tokio::test]
async fn a_changed_byte_anywhere_a_removed_and_an_exchanged_record_are_noticed() {
    let place = Place::new();
    let mut vault = place.open(DOMAIN).await.unwrap();
    for name in ["a", "b"] {
        vault.ensure(name, Generate::Random).await.unwrap();
    }
    drop(vault);
    let rows = place.store().range("secrets/").await.unwrap();
    assert_eq!(rows.len(), 4, "two secrets, the mesh root and the hash over them");
    for row in &rows {
        for byte in (0..row.value.len()).step_by(7) {
            let mut changed = row.value.clone();
            changed[byte] ^= 0x40;
            tampered(&place, Transaction::new().put(row.key.clone(), changed), row).await;
        }
        tampered(&place, Transaction::new().delete(row.key.clone()), row).await;
    }
    let (a, b) = (&rows[1], &rows[0]);
    let exchange = Transaction::new().put(a.key.clone(), b.value.clone()).put(b.key.clone(), a.value.clone());
    place.store().commit(exchange).await.unwrap();
    assert!(matches!(place.open(DOMAIN).await, Err(SecretsError::Tampered(_))));
}

async fn tampered(place: &Place, change: Transaction, row: &store::KeyValue) {
    place.store().commit(change).await.unwrap();
    let opened = place.open(DOMAIN).await;
    assert!(matches!(opened, Err(SecretsError::Tampered(_))), "{}", String::from_utf8_lossy(&row.key));
    place.store().commit(Transaction::new().put(row.key.clone(), row.value.clone())).await.unwrap();
    assert!(place.open(DOMAIN).await.is_ok());
}
