use std::collections::BTreeMap;
use std::io::BufReader;
use std::sync::atomic::{AtomicBool, Ordering};

use ::secrets::{Domain, Generate, MAX_VALUE_BYTES, Origin, Vault};
use appraisal::{Policy, Roots};
use mesh_protocol::{EvidenceError, EvidenceKind};
use store::Store;
use tokio::sync::Mutex;
use types::Mode;

use super::*;
use crate::audit;
use crate::{Opening, SecretGrant};

/// An authority whose service `api` is given the secret `token`, and `signer` under another name.
struct Place {
    folder: tempfile::TempDir,
    authority: Authority,
    has_evidence: Arc<AtomicBool>,
}

impl Place {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store.redb")).unwrap();
        let domain = Domain { trust_domain: "secrets.dev.invalid".into(), mode: Mode::Development };
        let mut vault = Vault::open(store.clone(), &folder.path().join("master.key"), domain).await.unwrap();
        vault.ensure("signer", Generate::Ed25519, 1).await.unwrap();
        let grant = |name: &str, record: &str| SecretGrant { name: name.into(), record: record.into() };
        let policy = ServicePolicy {
            policy: Policy::of_releases(Vec::new()),
            version: "1.0.0".into(),
            replicas: 1,
            config_digest: [0; 32],
            secrets: vec![grant("token", "token"), grant("key", "signer")],
        };
        let has_evidence = Arc::new(AtomicBool::new(true));
        let gives = Arc::clone(&has_evidence);
        let opening = Opening {
            store,
            vault: Arc::new(Mutex::new(vault)),
            roots: Roots::Development(Vec::new()),
            clocks: crate::Clocks { wall: Arc::new(|| 1_800_000_000_000), boot: Arc::new(|| 0) },
            audit: folder.path().join(audit::FILE_NAME),
            manifest: json!({}),
            services: BTreeMap::from([("api".parse().unwrap(), policy)]),
            own: Arc::new(move |report_data| {
                let quote = report_data.to_vec();
                let evidence = Evidence { kind: EvidenceKind::Simulated, quote, collateral: Vec::new() };
                let gives = gives.load(Ordering::Relaxed);
                let given = if gives { Ok(evidence) } else { Err(EvidenceError("it is gone".into())) };
                Box::pin(std::future::ready(given))
            }),
        };
        let authority = Authority::open(opening).await.unwrap();
        Self { folder, authority, has_evidence }
    }

    async fn set(&self, name: &str, value: &[u8]) -> Result<u64, TrustError> {
        let (key, _evidence) = self.authority.seal_key(&[1; 32]).await.unwrap();
        self.authority.set_secret(name, &key.seal(name, value).unwrap(), "admin socket").await
    }

    async fn value(&self, name: &str) -> Vec<u8> {
        let vault = self.authority.0.vault.lock().await;
        vault.reveal(name).unwrap().unwrap().last().unwrap().value.to_vec()
    }

    /// What is in the audit trail, which must verify.
    fn audit(&self) -> Vec<String> {
        let trail = std::fs::read(self.folder.path().join(audit::FILE_NAME)).unwrap();
        let root = self.authority.root_spki();
        audit::verify(BufReader::new(&trail[..]), &self.authority.genesis(), root).unwrap();
        let records = audit::last_records(&trail[..], 100).unwrap();
        let told = |record: &audit::Recorded| {
            assert!(record.actor.starts_with("admin "), "{record:?}");
            let outcome = serde_json::to_value(record.outcome).unwrap();
            format!("{} {} {} {}", record.kind, record.subject, outcome.as_str().unwrap(), record.data)
        };
        // The first one is that the manifest came into force.
        records[1..].iter().map(told).collect()
    }
}

#[tokio::test]
async fn the_evidence_for_the_key_is_bound_to_the_nonce_of_whoever_asks() {
    let place = Place::new().await;
    let (key, evidence) = place.authority.seal_key(&[1; 32]).await.unwrap();
    assert_eq!(evidence.quote, key.report_data(&[1; 32]));
    assert_eq!((key.root_spki.as_slice(), key.mode), (place.authority.root_spki(), Mode::Development));
    let (again, evidence) = place.authority.seal_key(&[2; 32]).await.unwrap();
    assert!(again == key && evidence.quote == key.report_data(&[2; 32]));
    place.has_evidence.store(false, Ordering::Relaxed);
    assert!(matches!(place.authority.seal_key(&[1; 32]).await, Err(TrustError::Evidence(_))));
}

#[tokio::test]
async fn a_sealed_value_becomes_a_version_and_every_change_is_in_the_audit_trail_without_it() {
    let place = Place::new().await;
    assert_eq!(place.set("token", b"canary-1").await.unwrap(), 1);
    assert_eq!(place.set("token", b"canary-2").await.unwrap(), 2);
    assert_eq!(place.value("token").await, b"canary-2");
    assert_eq!(place.authority.rotate_secret("signer", "admin token").await.unwrap(), 2);
    assert_eq!(place.set("unused", b"canary-3").await.unwrap(), 1);
    place.authority.remove_secret("unused", "admin socket").await.unwrap();
    assert_eq!(
        place.audit(),
        [
            r#"secret-set token done {"version":1}"#,
            r#"secret-set token done {"version":2}"#,
            r#"secret-rotate signer done {"epoch":2}"#,
            r#"secret-set unused done {"version":1}"#,
            "secret-remove unused done {}",
        ]
    );
    let listed = place.authority.secrets().await;
    let shown: Vec<_> = listed
        .iter()
        .map(|secret| {
            (
                secret.summary.name.as_str(),
                secret.summary.origin,
                secret.summary.versions.len(),
                secret.services.len(),
            )
        })
        .collect();
    assert_eq!(shown, [("signer", Origin::Generated, 2, 1), ("token", Origin::Set, 2, 1)]);
    let trail = std::fs::read_to_string(place.folder.path().join(audit::FILE_NAME)).unwrap();
    assert!(!trail.contains("canary"), "{trail}");
}

#[tokio::test]
async fn refusals_are_typed_and_recorded_unless_their_name_may_be_anything() {
    let place = Place::new().await;
    place.set("token", b"value").await.unwrap();
    let secrets = |refused: TrustError| match refused {
        TrustError::Secrets(error) => error,
        other => panic!("{other}"),
    };
    let set = async |name: &str, value: &[u8]| secrets(place.set(name, value).await.unwrap_err());
    assert!(matches!(set("hunter2!", b"v").await, SecretsError::InvalidName));
    assert!(matches!(set("access-pepper", b"v").await, SecretsError::Reserved(_)));
    assert!(matches!(set("signer", b"v").await, SecretsError::Immutable(_)));
    assert!(matches!(set("big", &vec![0; MAX_VALUE_BYTES + 1]).await, SecretsError::TooLarge));
    let rotated =
        async |name: &str| secrets(place.authority.rotate_secret(name, "admin socket").await.unwrap_err());
    assert!(matches!(rotated("token").await, SecretsError::NotGenerated(_)));
    assert!(matches!(rotated("hunter2").await, SecretsError::Unknown(_)));
    let in_use = place.authority.remove_secret("token", "admin socket").await.unwrap_err();
    assert_eq!(
        in_use.to_string(),
        "the secret token is given to api; take it out of the configuration first"
    );
    assert!(matches!(in_use, TrustError::SecretInUse { .. }));
    let unknown = place.authority.remove_secret("hunter2", "admin socket").await.unwrap_err();
    assert!(matches!(secrets(unknown), SecretsError::Unknown(_)));
    let (key, _) = place.authority.seal_key(&[1; 32]).await.unwrap();
    let for_another = key.seal("other", b"value").unwrap();
    let moved = place.authority.set_secret("token", &for_another, "admin socket").await;
    assert!(matches!(moved, Err(TrustError::NotSealed)));
    assert_eq!(
        place.audit(),
        [
            r#"secret-set token done {"version":1}"#,
            "secret-set signer refused null",
            "secret-set big refused null",
            "secret-rotate token refused null",
            "secret-remove token refused null",
        ]
    );
    assert_eq!(place.value("token").await, b"value");
}
