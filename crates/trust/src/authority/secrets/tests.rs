use std::collections::BTreeMap;
use std::io::BufReader;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ::secrets::{Domain, Generate, MAX_VALUE_BYTES, Origin, Vault};
use appraisal::{Policy, Roots};
use mesh_protocol::{EvidenceError, EvidenceKind};
use store::Store;
use tokio::sync::Mutex;
use types::Mode;

use super::*;
use crate::audit;
use crate::{MAX_GRANTED_BYTES, Opening, Own, SecretGrant};

/// An authority whose service `api` is given the secret `token`, and `signer` under another name.
struct Place {
    folder: tempfile::TempDir,
    authority: Authority,
    has_evidence: Arc<AtomicBool>,
    /// Milliseconds since the start of the machine and of the test.
    passed: Arc<AtomicU64>,
}

/// When everything begins, Unix milliseconds.
const BEGUN: u64 = 1_800_000_000_000;

impl Place {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store.redb")).unwrap();
        let domain = Domain { trust_domain: "secrets.dev.invalid".into(), mode: Mode::Development };
        let mut vault = Vault::open(store.clone(), &folder.path().join("master.key"), domain).await.unwrap();
        vault.ensure("signer", Generate::Ed25519, BEGUN / 1000).await.unwrap();
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
        let passed = Arc::new(AtomicU64::new(0));
        let (wall, boot) = (Arc::clone(&passed), Arc::clone(&passed));
        let opening = Opening {
            node: None,
            store,
            vault: Arc::new(Mutex::new(vault)),
            roots: Roots::Development(Vec::new()),
            clocks: crate::Clocks {
                wall: Arc::new(move || BEGUN + wall.load(Ordering::Relaxed)),
                boot: Arc::new(move || boot.load(Ordering::Relaxed)),
            },
            audit: folder.path().join(audit::FILE_NAME),
            manifest: json!({}),
            services: BTreeMap::from([("api".parse().unwrap(), policy)]),
            own: Own {
                workload: [0; 32],
                evidence: Arc::new(move |report_data| {
                    let quote = report_data.to_vec();
                    let evidence = Evidence { kind: EvidenceKind::Simulated, quote, collateral: Vec::new() };
                    let gives = gives.load(Ordering::Relaxed);
                    let given = if gives { Ok(evidence) } else { Err(EvidenceError("it is gone".into())) };
                    Box::pin(std::future::ready(given))
                }),
            },
        };
        let authority = Authority::open(opening).await.unwrap();
        Self { folder, authority, has_evidence, passed }
    }

    async fn set(&self, name: &str, value: &[u8]) -> Result<u64, TrustError> {
        let (key, _evidence) = self.authority.seal_key(&[1; 32]).await.unwrap();
        self.authority.set_secret(name, &key.seal(name, value).unwrap(), "admin socket").await
    }

    /// Takes another manifest over, in which the service is given these too.
    async fn apply(&self, more: &[String]) -> Result<(), TrustError> {
        let (name, policy) = self.authority.service("api").unwrap();
        let grant = |name: &String| SecretGrant { name: name.clone(), record: name.clone() };
        let mut policy = ServicePolicy::clone(&policy);
        policy.secrets.truncate(2);
        policy.secrets.extend(more.iter().map(grant));
        self.authority.apply(json!({"more": more}), BTreeMap::from([(name, policy)]), "admin file").await
    }

    async fn grant(&self, more: &[String]) {
        self.apply(more).await.unwrap();
    }

    fn pass(&self, seconds: u64) {
        self.passed.fetch_add(seconds * 1000, Ordering::Relaxed);
    }

    /// The newest epoch of the secret that is rotated.
    async fn epoch(&self) -> u32 {
        self.authority.0.vault.lock().await.given("signer").last().unwrap().epoch
    }

    /// What the service is given, as it is said.
    fn granted(&self) -> [u8; 32] {
        self.authority.grants().borrow()[&"api".parse().unwrap()]
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
            assert!(record.actor.starts_with("admin ") || record.actor == "schedule", "{record:?}");
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

#[tokio::test]
async fn a_generated_secret_is_rotated_once_its_newest_epoch_is_as_old_as_the_schedule_lets_it_become() {
    let place = Place::new().await;
    let scheduled = |name: &str| BTreeMap::from([(name.to_owned(), Duration::from_secs(3_600))]);
    place.set("token", b"given").await.unwrap();
    place.authority.schedule_rotations(scheduled("token"));
    place.pass(3_599);
    place.authority.rotate_due().await;
    place.authority.schedule_rotations(scheduled("signer"));
    place.authority.rotate_due().await;
    assert_eq!(place.epoch().await, 1, "it is not yet, and what was given is never");
    place.pass(1);
    place.authority.rotate_due().await;
    place.authority.rotate_due().await;
    assert_eq!(place.epoch().await, 2);
    // An operator's rotation counts like any other.
    place.pass(3_000);
    place.authority.rotate_secret("signer", "admin socket").await.unwrap();
    place.pass(1_000);
    place.authority.rotate_due().await;
    assert_eq!(place.epoch().await, 3);
    place.authority.schedule_rotations(BTreeMap::new());
    place.pass(9_999);
    place.authority.rotate_due().await;
    assert_eq!(
        place.audit(),
        [
            r#"secret-set token done {"version":1}"#,
            r#"secret-rotate signer done {"epoch":2}"#,
            r#"secret-rotate signer done {"epoch":3}"#,
        ]
    );
    let trail = std::fs::read_to_string(place.folder.path().join(audit::FILE_NAME)).unwrap();
    assert_eq!(trail.matches(r#""actor":"schedule""#).count(), 1, "{trail}");
}

/// Gives the service as much as it may have but for 100 bytes, as `big-0` and so on; gives how many these are.
async fn fill(place: &Place) -> usize {
    let room = MAX_GRANTED_BYTES - 100 - (32 + 192);
    let values = room.div_ceil(MAX_VALUE_BYTES);
    let names: Vec<_> = (0..values).map(|value| format!("big-{value}")).collect();
    place.grant(&names).await;
    for name in &names {
        place.set(name, &vec![0; room / values - 192]).await.unwrap();
    }
    values
}

#[tokio::test]
async fn a_service_is_given_no_more_than_an_answer_holds_and_who_would_be_is_said() {
    let place = Place::new().await;
    let values = fill(&place).await;
    let (before, lines) = (place.granted(), place.audit().len());
    let refused = place.set("token", b"one more").await.unwrap_err();
    expect_test::expect!["the service api would be given 716898 bytes of secrets, and 716800 are the most, where each value counts for 192 bytes more than it has; make one of them smaller, or take one out of services.api.secrets"].assert_eq(&refused.to_string());
    let rotated = place.authority.rotate_secret("signer", "admin socket").await;
    assert!(matches!(rotated, Err(TrustError::TooMuchGranted { .. })));
    assert_eq!(place.granted(), before);
    assert_eq!(
        place.audit()[lines..],
        ["secret-set token refused null", "secret-rotate signer refused null"]
    );
    place.set("big-0", b"small").await.unwrap();
    place.set("token", b"one more").await.unwrap();
    place.set("unused", &vec![0; MAX_VALUE_BYTES]).await.unwrap();
    // A manifest that gives it is none.
    let names: Vec<_> = (0..values).map(|value| format!("big-{value}")).collect();
    let mut more = vec!["unused".to_owned()];
    more.extend(names);
    let transition = place.authority.transition();
    let refused = place.apply(&more).await;
    assert!(matches!(refused, Err(TrustError::TooMuchGranted { .. })));
    assert_eq!(place.authority.transition(), transition);
}

#[tokio::test]
async fn a_secret_that_cannot_be_rotated_is_no_line_of_each_round_and_is_rotated_once_it_can() {
    let place = Place::new().await;
    fill(&place).await;
    place.authority.schedule_rotations(BTreeMap::from([("signer".to_owned(), Duration::from_secs(3_600))]));
    place.pass(3_600);
    place.authority.rotate_due().await;
    place.authority.rotate_due().await;
    assert_eq!(place.epoch().await, 1);
    assert!(!place.audit().iter().any(|line| line.starts_with("secret-rotate")));
    place.set("big-0", b"small").await.unwrap();
    place.authority.rotate_due().await;
    assert_eq!(place.epoch().await, 2);
}

#[tokio::test]
async fn every_change_of_what_a_service_is_given_is_said_to_it_and_no_other() {
    let place = Place::new().await;
    let mut seen = vec![place.granted()];
    let mut is_other = || {
        let granted = place.granted();
        let other = !seen.contains(&granted);
        seen.push(granted);
        other
    };
    place.set("token", b"one").await.unwrap();
    assert!(is_other());
    place.set("token", b"one").await.unwrap();
    assert!(is_other(), "a version more");
    place.authority.rotate_secret("signer", "admin socket").await.unwrap();
    assert!(is_other());
    place.set("unused", b"value").await.unwrap();
    assert!(!is_other());
    place.grant(&["unused".to_owned()]).await;
    assert!(is_other(), "another manifest");
}
