//! A mesh in a temporary folder: the authority with its store, its vault and its audit trail, a development quoter, and a clock
//! that is set by hand.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use appraisal::{Code, Policy, Release, Roots};
use dev_quoter::{Profile, Quoter};
use mesh_protocol::tls::RootPin;
use mesh_protocol::{EvidenceError, to_hex};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use secrets::{Domain, Generate, Vault};
use serde_json::{Value, json};
use store::{Store, Transaction};
use tempfile::TempDir;
use tokio::time::Instant;
use trust::{Authority, Clocks, Opening, Own, SecretGrant, ServicePolicy, Standing, TrustError};
use types::{Mode, NodeName, ServiceName};

/// When everything begins, Unix seconds.
pub(crate) const NOW: u64 = 1_800_000_000;
/// The workload digests of the release, of another service's and of the authority.
pub(crate) const W: [u8; 32] = [7; 32];
pub(crate) const ORACLE_W: [u8; 32] = [17; 32];
pub(crate) const AUTHORITY_W: [u8; 32] = [27; 32];
pub(crate) const VERSION: &str = "1.4.2";
pub(crate) const CONFIG_DIGEST: [u8; 32] = [12; 32];
pub(crate) const TRUST_DOMAIN: &str = "join.dev.invalid";
/// What an operator has set.
pub(crate) const TOKEN: &[u8] = b"a token";

/// What a mesh is opened with.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) mode: Mode,
    /// `None` for the quoter's.
    pub(crate) roots: Option<Roots>,
    pub(crate) manifest: Value,
    /// The service that the tests join as.
    pub(crate) vrf: ServicePolicy,
    pub(crate) time: Time,
    /// Which of the nodes it is, where there are several.
    pub(crate) node: Option<NodeName>,
}

/// How time passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Time {
    /// Only by [`Clock::forward`].
    Still,
    /// With tokio's clock, which the test has paused.
    Tokio,
}

impl Default for Setup {
    fn default() -> Self {
        let grant = |name: &str, record: &str| SecretGrant { name: name.into(), record: record.into() };
        let vrf = ServicePolicy {
            policy: Policy::of_releases(vec![Release::simulated(VERSION, W)]),
            version: VERSION.into(),
            replicas: 2,
            config_digest: CONFIG_DIGEST,
            secrets: vec![grant("signing-key", "seed"), grant("api-token", "token")],
        };
        let manifest = json!({"services": {"vrf": {"replicas": 2}}});
        Self { mode: Mode::Development, roots: None, manifest, vrf, time: Time::Still, node: None }
    }
}

/// The clock of the authority's machine.
#[derive(Clone)]
pub(crate) struct Clock {
    milliseconds: Arc<AtomicU64>,
    /// By how much the time of day was set back.
    behind: Arc<AtomicU64>,
    begun: Option<Instant>,
}

impl Clock {
    fn new(time: Time) -> Self {
        let milliseconds = Arc::new(AtomicU64::new(NOW * 1000));
        Self { milliseconds, behind: Arc::default(), begun: (time == Time::Tokio).then(Instant::now) }
    }

    /// Unix milliseconds.
    pub(crate) fn milliseconds(&self) -> u64 {
        self.running() - self.behind.load(Ordering::Relaxed)
    }

    /// The same for a clock that nobody sets.
    fn running(&self) -> u64 {
        let passed = self.begun.map_or(Duration::ZERO, |begun| begun.elapsed());
        self.milliseconds.load(Ordering::Relaxed) + u64::try_from(passed.as_millis()).unwrap()
    }

    /// Unix seconds.
    pub(crate) fn seconds(&self) -> u64 {
        self.milliseconds() / 1000
    }

    pub(crate) fn forward(&self, by: Duration) {
        self.milliseconds.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::Relaxed);
    }

    pub(crate) fn back(&self, by: Duration) {
        self.behind.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::Relaxed);
    }

    /// Sets a part of that right again.
    pub(crate) fn right(&self, by: Duration) {
        self.behind.fetch_sub(u64::try_from(by.as_millis()).unwrap(), Ordering::Relaxed);
    }
}

/// The mesh.
pub(crate) struct Mesh {
    pub(crate) authority: Authority,
    pub(crate) clock: Clock,
    pub(crate) quoter: Arc<Mutex<Quoter>>,
    pub(crate) vault: Arc<tokio::sync::Mutex<Vault>>,
    /// The key of the mesh listener.
    pub(crate) authority_spki: Arc<[u8]>,
    store: Store,
    setup: Setup,
    folder: Arc<TempDir>,
}

impl Mesh {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// With something else than usual.
    pub(crate) async fn with(change: impl FnOnce(&mut Setup)) -> Self {
        let mut setup = Setup::default();
        change(&mut setup);
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let clock = Clock::new(setup.time);
        let quoter = Arc::new(Mutex::new(Quoter::generate(NOW).unwrap()));
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let store = store(&folder);
        Self::open(folder, store, setup, clock, quoter, key.subject_public_key_info().into()).await.unwrap()
    }

    /// Another node with the same store, with something changed.
    pub(crate) async fn beside(
        &self,
        node: &str,
        change: impl FnOnce(&mut Setup),
    ) -> Result<Self, TrustError> {
        let mut setup = Setup { node: Some(node.parse().unwrap()), ..self.setup.clone() };
        change(&mut setup);
        let (folder, store) = (Arc::clone(&self.folder), self.store.clone());
        let (clock, quoter) = (self.clock.clone(), Arc::clone(&self.quoter));
        Self::open(folder, store, setup, clock, quoter, Arc::clone(&self.authority_spki)).await
    }

    /// A node says that it runs.
    pub(crate) async fn lives(&self) {
        let node = self.setup.node.as_ref().unwrap();
        self.store.commit(Transaction::new().put(format!("present/{node}/manifest"), "1")).await.unwrap();
    }

    /// A node takes its name.
    pub(crate) async fn begins(&self) {
        let node = self.setup.node.as_ref().unwrap();
        self.store.commit(Transaction::new().put(format!("present/{node}/alive"), "{}")).await.unwrap();
    }

    /// Whose platform pretends something.
    pub(crate) async fn pretending(profile: Profile) -> Self {
        let mesh = Self::new().await;
        mesh.pretend(profile);
        mesh
    }

    /// Ends the authority and opens it again on what it has left, with something changed.
    pub(crate) async fn restarted(self, change: impl FnOnce(&mut Setup)) -> Self {
        self.reopened(change).await.unwrap()
    }

    /// The same, where it may fail.
    pub(crate) async fn reopened(self, change: impl FnOnce(&mut Setup)) -> Result<Self, TrustError> {
        let Self { authority, clock, quoter, vault, authority_spki, store, mut setup, folder } = self;
        drop((authority, vault, store));
        change(&mut setup);
        let store = self::store(&folder);
        Self::open(folder, store, setup, clock, quoter, authority_spki).await
    }

    async fn open(
        folder: Arc<TempDir>,
        store: Store,
        setup: Setup,
        clock: Clock,
        quoter: Arc<Mutex<Quoter>>,
        authority_spki: Arc<[u8]>,
    ) -> Result<Self, TrustError> {
        let domain = Domain { trust_domain: TRUST_DOMAIN.into(), mode: setup.mode };
        let mut vault = Vault::open(store.clone(), &folder.path().join("master.key"), domain).await.unwrap();
        if vault.reveal("seed").unwrap().is_none() {
            vault.ensure("seed", Generate::Ed25519, NOW).await.unwrap();
            vault.rotate("seed", NOW).await.unwrap();
            vault.set("token", TOKEN, NOW).await.unwrap();
        }
        let vault = Arc::new(tokio::sync::Mutex::new(vault));
        let root = quoter.lock().unwrap().root().to_vec();
        let opening = Opening {
            node: setup.node.clone(),
            store: store.clone(),
            vault: Arc::clone(&vault),
            roots: setup.roots.clone().unwrap_or(Roots::Development(root)),
            clocks: clocks(&clock),
            audit: audit_file(&folder, &setup),
            manifest: setup.manifest.clone(),
            services: services(&setup),
            own: own_evidence(&clock, &quoter),
        };
        let authority = Authority::open(opening).await?;
        Ok(Self { authority, clock, quoter, vault, authority_spki, store, setup, folder })
    }

    /// Another manifest comes into force, with the same services.
    pub(crate) async fn apply(&self, manifest: Value) {
        self.authority.apply(manifest, services(&self.setup), "a test").await.unwrap();
    }

    /// Another configuration of vrf, which is another manifest.
    pub(crate) async fn configure(&self, config_digest: [u8; 32]) {
        let mut setup = self.setup.clone();
        setup.vrf.config_digest = config_digest;
        let manifest = json!({"services": {"vrf": {"config": to_hex(&config_digest)}}});
        self.authority.apply(manifest, services(&setup), "a test").await.unwrap();
    }

    pub(crate) fn pretend(&self, profile: Profile) {
        self.quoter.lock().unwrap().pretend(profile);
    }

    /// The platform's hardware id, as policies and revocations name it.
    pub(crate) fn platform(&self) -> String {
        to_hex(&self.quoter.lock().unwrap().ppid())
    }

    pub(crate) fn ticket(&self, service: &str, instance: &str) -> Vec<u8> {
        self.authority.ticket(&service.parse().unwrap(), instance).unwrap()
    }

    pub(crate) fn root_pin(&self) -> RootPin {
        RootPin::Spki(self.authority.root_spki().to_vec())
    }

    /// What is said of a replica of vrf.
    pub(crate) fn standing(&self, instance: &str) -> Option<Standing> {
        let key = ("vrf".parse::<ServiceName>().unwrap(), instance.to_owned());
        self.authority.standings().borrow().get(&key).cloned()
    }

    /// In a word or a code.
    pub(crate) fn stands(&self, instance: &str) -> Result<&'static str, Code> {
        match self.standing(instance) {
            None => Ok("unknown"),
            Some(Standing::Pending { .. }) => Ok("pending"),
            Some(Standing::Valid(_)) => Ok("valid"),
            Some(Standing::Expired(_)) => Ok("expired"),
            Some(Standing::Refused { fault, .. }) => Err(fault.code),
        }
    }

    /// Changes a row of the store behind the authority's back.
    pub(crate) async fn tamper(&self, key: &str, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
        let row = self.store.get(key).await.unwrap().unwrap();
        self.store.commit(Transaction::new().put(key, change(row.value))).await.unwrap();
    }

    /// The stored records of the appraisals of a replica, the oldest first.
    pub(crate) async fn records(&self, replica: &str) -> Vec<Value> {
        let rows = self.store.range(format!("trust/appraisal/{replica}/")).await.unwrap().rows;
        rows.iter().map(|row| serde_json::from_slice(&row.value).unwrap()).collect()
    }

    pub(crate) fn audit_file(&self) -> PathBuf {
        audit_file(&self.folder, &self.setup)
    }

    /// How many used nonces and tickets are in the store.
    pub(crate) async fn used(&self) -> usize {
        self.store.range("trust/used/").await.unwrap().rows.len()
    }

    /// Puts one there, as by a join of which nobody has heard how it ended.
    pub(crate) async fn mark_used(&self, mark: [u8; 32]) {
        let key = [b"trust/used/".as_slice(), &mark].concat();
        self.store.commit(Transaction::new().put(key, u64::MAX.to_be_bytes())).await.unwrap();
    }

    /// Puts some there that nobody has used, with this expiry.
    pub(crate) async fn use_up(&self, count: u32, expiry_ms: u64) {
        let marks: Vec<_> = (0..count).collect();
        for some in marks.chunks(100) {
            let put = |all: Transaction, number: &u32| {
                let mark = mesh_protocol::sha256(&number.to_be_bytes());
                all.put([b"trust/used/".as_slice(), &mark].concat(), expiry_ms.to_be_bytes())
            };
            self.store.commit(some.iter().fold(Transaction::new(), put)).await.unwrap();
        }
    }

    /// The records of the audit trail.
    pub(crate) fn audit(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.audit_file()).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter_map(|mut line| line.get_mut("record").map(Value::take)).collect()
    }
}

/// Returns once everybody else waits for something that does not come by itself. The test has paused tokio's clock, which goes on
/// when nothing else can.
pub(crate) async fn everything_waits() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

fn store(folder: &TempDir) -> Store {
    Store::open(&folder.path().join("store.redb")).unwrap()
}

/// Each node has its own.
fn audit_file(folder: &TempDir, setup: &Setup) -> PathBuf {
    let node = setup.node.as_ref().map(|node| format!("{node}-")).unwrap_or_default();
    folder.path().join(node + trust::audit::FILE_NAME)
}

/// A machine whose time of day may be set back.
fn clocks(clock: &Clock) -> Clocks {
    let (wall, boot) = (clock.clone(), clock.clone());
    Clocks { wall: Arc::new(move || wall.milliseconds()), boot: Arc::new(move || boot.running()) }
}

fn own_evidence(clock: &Clock, quoter: &Arc<Mutex<Quoter>>) -> Own {
    let (clock, quoter) = (clock.clone(), Arc::clone(quoter));
    let evidence = move |report_data| {
        let made = quoter.lock().unwrap().evidence(report_data, AUTHORITY_W, clock.seconds());
        let made = made.map_err(|error| EvidenceError(error.to_string()));
        Box::pin(std::future::ready(made)) as Pin<Box<dyn Future<Output = _> + Send>>
    };
    Own { workload: AUTHORITY_W, evidence: Arc::new(evidence) }
}

fn services(setup: &Setup) -> BTreeMap<ServiceName, ServicePolicy> {
    let oracle = ServicePolicy {
        policy: Policy::of_releases(vec![Release::simulated(VERSION, ORACLE_W)]),
        replicas: 1,
        secrets: Vec::new(),
        ..setup.vrf.clone()
    };
    BTreeMap::from([("vrf".parse().unwrap(), setup.vrf.clone()), ("oracle".parse().unwrap(), oracle)])
}
