use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use store::{Store, Transaction};
use tokio::task::JoinHandle;
use types::{Description, NodeName, ReplicaId, ServiceName};

use super::*;
use crate::{
    Attestation, Attested, Change, Channel, Confirmed, Instance, Labels, LifecycleState, MeshPeer, NodeFacts,
    Presence, Registration, Replica, Service, SpecDigest, Verdict, Version, WorkerSubscription,
};

/// What the replicas of a node run.
fn version() -> Version {
    Version::new("1.0.0", SpecDigest([0x3f; 32]))
}

/// A seal that is no secret: what the real one does is the authority's.
struct Stamp {
    revokes_all: AtomicBool,
    manifest: watch::Sender<u64>,
}

impl Default for Stamp {
    fn default() -> Self {
        Self { revokes_all: AtomicBool::new(false), manifest: watch::Sender::new(1) }
    }
}

impl Seal for Stamp {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        Ok(message.iter().rev().copied().collect())
    }

    fn is_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        self.sign(message).is_ok_and(|expected| expected == signature)
    }

    fn is_revoked(&self, _spiffe_id: &str, _leaf: &[u8; 32]) -> bool {
        self.revokes_all.load(Ordering::Relaxed)
    }

    fn manifests(&self) -> watch::Receiver<u64> {
        self.manifest.subscribe()
    }
}

/// A store that several nodes share.
struct Place {
    store: Store,
    _folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path: PathBuf = folder.path().join("store.redb");
        Self { store: Store::open(&path).unwrap(), _folder: folder }
    }

    /// A row, once it is there.
    async fn until_row(&self, key: &str) -> store::KeyValue {
        let after = self.store.range(key).await.unwrap();
        if let Some(row) = after.rows.into_iter().next() {
            return row;
        }
        let mut watch = self.store.watch(key, after.revision);
        timeout(async {
            loop {
                if let store::Watched::Changes(changes) = watch.next().await.unwrap()
                    && let Some(store::Change::Put(row)) = changes.changes.into_iter().next()
                {
                    return row;
                }
            }
        })
        .await
    }

    async fn rows(&self, prefix: &str) -> Vec<String> {
        let rows = self.store.range(prefix).await.unwrap();
        rows.into_iter().map(|row| String::from_utf8(row.key).unwrap()).collect()
    }
}

/// A node with one replica of `vrf` and a gateway worker that confirms what it sees, unless it is told to stop doing so.
struct TestNode {
    registry: Registry,
    replica: ReplicaId,
    seal: Arc<Stamp>,
    running: JoinHandle<()>,
    worker: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl TestNode {
    async fn begin(place: &Place, name: &str) -> Self {
        Self::claim(place, name, name).await.unwrap()
    }

    async fn claim(place: &Place, name: &str, owner: &str) -> Result<Self, ClaimError> {
        let node: NodeName = name.parse().unwrap();
        let service: ServiceName = "vrf".parse().unwrap();
        let replica = ReplicaId::new(service.clone(), 0).on(Some(node.clone()));
        let labels = Arc::new(Labels { protocol: "http1", zone: None, metadata: Default::default() });
        let stopped = Replica::stopped(replica.clone(), Timestamp::UNIX_EPOCH);
        let replicas = vec![Replica { labels: Some(labels), ..stopped }];
        let registry = Registry::new(vec![Service {
            name: service,
            version: "1.0.0".into(),
            split: None,
            required: true,
            desired: replicas.len(),
            replicas,
        }]);
        let seal = Arc::<Stamp>::default();
        let claimed = Node::claim(place.store.clone(), node, owner.into()).await?;
        let worker = tokio::spawn(confirm(registry.subscribe_worker()));
        let stop = watch::Sender::new(false);
        let mut told = stop.subscribe();
        let shutdown = async move {
            let _told = told.wait_for(|stop| *stop).await.is_ok();
        };
        let running = tokio::spawn(claimed.run(registry.clone(), Arc::clone(&seal) as _, shutdown));
        Ok(Self { registry, replica, seal, running, worker, stop })
    }

    /// Its replica serves, with a certificate.
    fn serves(&self, leaf: u8) -> u64 {
        let peer = Arc::new(MeshPeer::new(
            format!("spiffe://t.dev.invalid/service/vrf/{}", self.replica.instance()),
            [leaf; 32],
        ));
        self.registry.update(&self.replica, |replica| {
            let attestation = Attestation::pending(Timestamp::UNIX_EPOCH);
            replica.attestation = Attestation { value: Attested::Valid, ..attestation };
            let instance = Instance::new(self.replica.clone(), 7, ([10, 0, 0, leaf], 4000).into(), version());
            replica.instance = Some(Arc::new(Instance { channel: Channel::Mesh(peer), ..instance }));
            (replica.state, replica.reason) = (LifecycleState::Ready, None);
            Change::Made
        })
    }

    fn enters(&self, state: LifecycleState) -> u64 {
        self.registry.update(&self.replica, |replica| {
            replica.state = state;
            Change::Made
        })
    }

    /// What this node sees of another's replica, once it is so.
    async fn sees(&self, other: &Self, what: impl Fn(&Replica) -> bool) -> Replica {
        self.until(|snapshot| snapshot.replica(&other.replica).filter(|replica| what(replica)).cloned()).await
    }

    async fn until<T>(&self, look: impl Fn(&crate::Snapshot) -> Option<T>) -> T {
        let mut snapshots = self.registry.subscribe();
        let looked = async {
            loop {
                if let Some(found) = look(&snapshots.borrow_and_update().clone()) {
                    return found;
                }
                snapshots.changed().await.unwrap();
            }
        };
        timeout(looked).await
    }

    /// Ends without a word, as by SIGKILL.
    fn dies(self) {
        self.running.abort();
        self.worker.abort();
    }

    async fn ends(self) {
        self.stop.send_replace(true);
        self.running.await.unwrap();
        self.worker.abort();
    }
}

async fn confirm(mut worker: WorkerSubscription) {
    loop {
        let epoch = worker.snapshots.borrow_and_update().epoch;
        worker.confirm(epoch);
        if worker.snapshots.changed().await.is_err() {
            return;
        }
    }
}

async fn timeout<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(100), what).await.expect("it did not happen in time")
}

fn is_ready(replica: &Replica) -> bool {
    replica.state == LifecycleState::Ready && replica.instance.is_some()
}

#[tokio::test]
async fn what_a_replica_has_registered_with_at_its_node_is_seen_by_the_others() {
    let place = Place::new();
    let (one, two) = (TestNode::begin(&place, "n1").await, TestNode::begin(&place, "n2").await);
    one.serves(1);
    let metadata = [("rack".to_owned(), "7".to_owned())].into();
    let description = Description { zone: Some("eu-1b".into()), weight: 3, metadata };
    let registration = Registration { lease: "5f3a".into(), fencing_token: 42, description };
    one.registry.update(&one.replica, |replica| {
        replica.register(Arc::new(registration.clone()));
        Change::Made
    });
    let seen = two.sees(&one, |replica| replica.presence.registration().is_some()).await;
    assert_eq!(seen.presence, Presence::Registered(Arc::new(registration)));
    let own = one.registry.snapshot().replica(&one.replica).unwrap().clone();
    assert_eq!((seen.weight, &seen.labels), (3, &own.labels));
    assert_eq!(seen.labels.unwrap().zone.as_deref(), Some("eu-1b"));
    // Its lease is over, and then it is forgotten.
    one.enters(LifecycleState::Stopped);
    two.sees(&one, |replica| replica.state == LifecycleState::Stopped).await;
    one.registry.update(&one.replica, |replica| {
        replica.vacate();
        Change::Made
    });
    let seen = two.sees(&one, |replica| replica.presence == Presence::Vacant).await;
    assert_eq!((seen.weight, seen.labels.unwrap().zone.clone()), (1, None));
    one.dies();
    two.dies();
}

#[tokio::test]
async fn each_node_sees_the_replicas_of_the_others_and_checks_them_itself() {
    let place = Place::new();
    let (one, two) = (TestNode::begin(&place, "n1").await, TestNode::begin(&place, "n2").await);
    one.serves(1);
    let seen = two.sees(&one, is_ready).await;
    let instance = seen.instance.clone().unwrap();
    assert_eq!((instance.address, &instance.version), (([10, 0, 0, 1], 4000).into(), &version()));
    let Channel::Mesh(peer) = &instance.channel else { panic!("it is a member of the mesh") };
    assert_eq!(
        (peer.spiffe_id(), peer.accepted(Timestamp::now())),
        ("spiffe://t.dev.invalid/service/vrf/n1.0", vec![[1; 32]])
    );
    assert_eq!(seen.health.verdict, Verdict::Unknown, "what one node finds out is not what another does");
    assert!(seen.attestation.holds() && seen.selectable().is_err());
    two.registry.update(&one.replica, |replica| {
        replica.health.verdict = Verdict::Healthy;
        Change::Made
    });
    // What its node says next takes nothing of that away.
    one.registry.update(&one.replica, |replica| {
        replica.restarts = 3;
        Change::Made
    });
    let seen = two.sees(&one, |replica| replica.restarts == 3).await;
    assert!(seen.selectable().is_ok() && Arc::ptr_eq(seen.instance.as_ref().unwrap(), &instance));
    assert!(one.registry.snapshot().replica(&two.replica).is_some());
    one.ends().await;
    two.ends().await;
    assert_eq!(place.rows("").await, [""; 0], "whoever leaves leaves nothing behind");
}

#[tokio::test]
async fn a_renewed_certificate_is_the_same_run_and_another_run_ends_the_one_before() {
    let place = Place::new();
    let (one, two) = (TestNode::begin(&place, "n1").await, TestNode::begin(&place, "n2").await);
    one.serves(1);
    let first = two.sees(&one, is_ready).await.instance.unwrap();
    one.registry.update(&one.replica, |replica| {
        let Some(Channel::Mesh(peer)) = replica.instance.as_ref().map(|instance| &instance.channel) else {
            panic!()
        };
        peer.renewed([2; 32], ([1; 32], Timestamp::MAX));
        replica.restarts = 1;
        Change::Made
    });
    let renewed = two.sees(&one, |replica| replica.restarts == 1).await.instance.unwrap();
    let Channel::Mesh(peer) = &renewed.channel else { panic!() };
    assert!(Arc::ptr_eq(&first, &renewed));
    assert_eq!(peer.accepted(Timestamp::now()), [[2; 32], [1; 32]]);
    one.registry.update(&one.replica, |replica| {
        replica.instance = None;
        replica.state = LifecycleState::Stopped;
        Change::Made
    });
    two.sees(&one, |replica| replica.instance.is_none()).await;
    assert!(peer.has_ended());
    one.ends().await;
    two.ends().await;
}

#[tokio::test]
async fn a_drain_waits_for_the_workers_of_every_gateway() {
    let place = Place::new();
    let (one, two) = (TestNode::begin(&place, "n1").await, TestNode::begin(&place, "n2").await);
    one.serves(1);
    two.sees(&one, is_ready).await;
    // A worker of the other gateway that takes its time.
    let slow = two.registry.subscribe_worker();
    let epoch = one.enters(LifecycleState::Draining);
    two.sees(&one, |replica| replica.state == LifecycleState::Draining).await;
    let registry = one.registry.clone();
    let waiting = registry.confirmed(epoch, Duration::from_secs(100));
    tokio::pin!(waiting);
    // As many turns as anything of this could take: it is not confirmed by the passing of time.
    for _ in 0..100 {
        tokio::select! {
            biased;
            _ = &mut waiting => panic!("the other gateway has not confirmed"),
            () = tokio::task::yield_now() => {}
        }
    }
    let seen = two.registry.snapshot().epoch;
    slow.confirm(seen + 100);
    assert_eq!(timeout(waiting).await, Confirmed::ByAll);
    // A gateway that is gone is not waited for.
    two.ends().await;
    let epoch = one.enters(LifecycleState::Stopped);
    assert_eq!(timeout(one.registry.confirmed(epoch, Duration::from_secs(100))).await, Confirmed::ByAll);
    one.ends().await;
}

#[tokio::test]
async fn the_replicas_of_a_node_that_is_gone_are_not_selected_any_more() {
    let place = Place::new();
    let (one, two) = (TestNode::begin(&place, "n1").await, TestNode::begin(&place, "n2").await);
    one.serves(1);
    let instance = two.sees(&one, is_ready).await.instance.unwrap();
    let id = one.replica.clone();
    // Its lease ends as if nobody had renewed it.
    let alive = place.store.get("present/n1/alive").await.unwrap().unwrap();
    one.dies();
    place.store.revoke(alive.lease.unwrap()).await.unwrap();
    let gone = two.until(|snapshot| {
        snapshot.replica(&id).filter(|replica| replica.state == LifecycleState::Stopped).cloned()
    });
    assert_eq!(gone.await.reason.as_deref(), Some("its node n1 is gone from the store"));
    let Channel::Mesh(peer) = &instance.channel else { panic!() };
    assert!(!peer.has_ended(), "requests in flight may finish");
    // Its place is free again at once.
    let again = TestNode::begin(&place, "n1").await;
    again.serves(2);
    let seen = two.sees(&again, is_ready).await.instance.unwrap();
    assert!(!Arc::ptr_eq(&seen, &instance) && peer.has_ended());
    again.ends().await;
    two.ends().await;
}

#[tokio::test]
async fn a_node_that_had_to_take_its_name_again_goes_on_with_the_runs_that_it_has() {
    let place = Place::new();
    let (one, two) = (TestNode::begin(&place, "n1").await, TestNode::begin(&place, "n2").await);
    one.serves(1);
    let instance = two.sees(&one, is_ready).await.instance.unwrap();
    two.registry.update(&one.replica, |replica| {
        replica.health.verdict = Verdict::Healthy;
        Change::Made
    });
    let alive = place.store.get("present/n1/alive").await.unwrap().unwrap();
    place.store.revoke(alive.lease.unwrap()).await.unwrap();
    two.sees(&one, |replica| replica.state == LifecycleState::Stopped).await;
    let seen = two.sees(&one, is_ready).await;
    let Channel::Mesh(peer) = &instance.channel else { panic!() };
    assert!(Arc::ptr_eq(seen.instance.as_ref().unwrap(), &instance) && !peer.has_ended());
    assert!(seen.selectable().is_ok(), "nothing has to be checked anew");
    one.ends().await;
    two.ends().await;
}

#[tokio::test]
async fn a_name_has_one_owner_and_after_a_crash_the_same_one_has_it_at_once() {
    let place = Place::new();
    let one = TestNode::claim(&place, "n1", "first").await.unwrap();
    one.serves(1);
    assert!(matches!(TestNode::claim(&place, "n1", "second").await, Err(ClaimError::Taken { .. })));
    let two = TestNode::begin(&place, "n2").await;
    two.sees(&one, is_ready).await;
    one.dies();
    let again = TestNode::claim(&place, "n1", "first").await.unwrap();
    two.sees(&again, |replica| !is_ready(replica)).await;
    again.ends().await;
    two.ends().await;
}

#[tokio::test]
async fn whoever_was_taken_for_dead_writes_nothing_any_more_under_a_name_that_another_has() {
    let place = Place::new();
    let node = Node::claim(place.store.clone(), "n1".parse().unwrap(), "owner".into()).await.unwrap();
    let former = node.claims().borrow().unwrap();
    let again = Node::claim(place.store.clone(), "n1".parse().unwrap(), "owner".into()).await.unwrap();
    let write = |node: &Node, claim| node.fenced(claim).put("instances/vrf/n1.0", "x");
    let late = place.store.commit(write(&node, former)).await.unwrap();
    assert!(matches!(late, store::Outcome::Conflict { .. }));
    let now = again.claims().borrow().unwrap();
    assert!(now.token > former.token);
    let in_time = place.store.commit(write(&again, now)).await.unwrap();
    assert!(matches!(in_time, store::Outcome::Committed { .. }));
}

#[tokio::test]
async fn a_name_that_was_lost_while_everything_else_began_is_taken_again_at_once() {
    let place = Place::new();
    let node = Node::claim(place.store.clone(), "n1".parse().unwrap(), "owner".into()).await.unwrap();
    let former = node.claims().borrow().unwrap();
    node.renew().await;
    assert_eq!(*node.claims().borrow(), Some(former));
    place.store.revoke(former.lease).await.unwrap();
    node.renew().await;
    assert!(node.claims().borrow().unwrap().token > former.token);
}

#[tokio::test]
async fn of_two_processes_of_one_owner_the_later_one_keeps_the_name() {
    let place = Place::new();
    let begin = || Node::claim(place.store.clone(), "n1".parse().unwrap(), "owner".into());
    let former = begin().await.unwrap();
    let later = begin().await.unwrap();
    let claim = *later.claims().borrow();
    let again = tokio::time::timeout(3 * AGAIN, async {
        tokio::join!(former.keep(), async {
            let mut claims = former.claims();
            claims.wait_for(Option::is_none).await.unwrap();
            claims.wait_for(Option::is_some).await.unwrap();
        })
    });
    assert!(again.await.is_err(), "a data directory that was copied takes nothing from it");
    assert_eq!(*former.claims().borrow(), None);
    later.renew().await;
    assert_eq!(*later.claims().borrow(), claim);
}

#[tokio::test]
async fn what_the_mesh_has_not_signed_or_what_is_older_than_what_is_known_is_not_believed() {
    let place = Place::new();
    let (one, two) = (TestNode::begin(&place, "n1").await, TestNode::begin(&place, "n2").await);
    one.serves(1);
    two.sees(&one, is_ready).await;
    let key = row::key(&one.replica);
    let before = place.store.get(key.as_str()).await.unwrap().unwrap();
    one.enters(LifecycleState::Draining);
    two.sees(&one, |replica| replica.state == LifecycleState::Draining).await;
    let forged = String::from_utf8(before.value.clone()).unwrap().replace("10.0.0.1", "10.6.6.6");
    for value in [before.value.clone(), forged.into_bytes(), b"{}".to_vec(), vec![b'x'; 100_000]] {
        place.store.commit(Transaction::new().put(key.as_str(), value)).await.unwrap();
    }
    // A row for another replica does not stand for this one.
    let other = row::key(&"vrf/9@n1".parse().unwrap());
    place.store.commit(Transaction::new().put(other, before.value)).await.unwrap();
    one.registry.update(&one.replica, |replica| {
        replica.restarts = 5;
        Change::Made
    });
    let seen = two.sees(&one, |replica| replica.restarts == 5).await;
    assert_eq!(seen.state, LifecycleState::Draining);
    assert!(two.registry.snapshot().replica(&"vrf/9@n1".parse().unwrap()).is_none());
    // One that was written under a later claim is newer, whatever the clock of its machine says.
    let now = place.store.get(key.as_str()).await.unwrap().unwrap();
    let (mut later, at) = row::Row::open(&key, &now.value, &*one.seal).unwrap();
    (later.token, later.restarts) = (later.token + 1, 6);
    let value = later.seal(&key, at - 100_000, &*one.seal).unwrap();
    place.store.commit(Transaction::new().put(key.as_str(), value)).await.unwrap();
    two.sees(&one, |replica| replica.restarts == 6).await;
    // What is revoked here is not selected, whatever its node says.
    two.seal.revokes_all.store(true, Ordering::Relaxed);
    one.serves(3);
    let seen = two.sees(&one, |replica| replica.state == LifecycleState::Ready).await;
    assert_eq!(seen.attestation.value, Attested::Refused);
    one.ends().await;
    two.ends().await;
}

#[tokio::test]
async fn services_that_come_have_the_replicas_of_other_nodes() {
    let place = Place::new();
    let (one, two) = (TestNode::begin(&place, "n1").await, TestNode::begin(&place, "n2").await);
    one.serves(1);
    two.sees(&one, is_ready).await;
    two.registry.replace_services(|_| Vec::new());
    let own = Replica::stopped(two.replica.clone(), Timestamp::UNIX_EPOCH);
    let name = two.replica.service.clone();
    let service = Service {
        name,
        version: "2.0.0".into(),
        split: None,
        required: true,
        desired: 1,
        replicas: vec![own],
    };
    two.registry.replace_services(|_| vec![Arc::new(service)]);
    two.sees(&one, is_ready).await;
    one.ends().await;
    two.ends().await;
}

#[tokio::test]
async fn what_is_looked_through_for_nodes_has_no_rows_but_theirs() {
    let place = Place::new();
    let one = TestNode::begin(&place, "n1").await;
    // The texts of the configurations that were in force are under `nodes/`, which may be many megabytes.
    assert_eq!(place.rows("nodes/").await, [""; 0]);
    one.ends().await;
}

#[tokio::test]
async fn an_identity_that_was_over_by_a_wrong_clock_is_connected_to_again() {
    let place = Place::new();
    let node = Node::claim(place.store.clone(), "n1".parse().unwrap(), "owner".into()).await.unwrap();
    let far = TestNode::begin(&place, "n2").await;
    let registry =
        Registry::new(far.registry.snapshot().services.iter().map(|known| Service::clone(known)).collect());
    far.serves(1);
    let row = place.until_row(&row::key(&far.replica)).await;
    let mut follower = Follower::new(&node, registry.clone(), Arc::clone(&far.seal) as _);
    let peer = |registry: &Registry| {
        let replica = registry.snapshot().replica(&far.replica).cloned().unwrap();
        match &replica.instance.unwrap().channel {
            Channel::Mesh(peer) => Arc::clone(peer),
            _ => panic!("it is a member of the mesh"),
        }
    };
    follower.take_row(&row);
    far.seal.revokes_all.store(true, Ordering::Relaxed);
    follower.pass();
    follower.put();
    assert!(peer(&registry).has_ended());
    far.seal.revokes_all.store(false, Ordering::Relaxed);
    follower.pass();
    follower.put();
    assert!(!peer(&registry).has_ended());
    far.ends().await;
}

#[tokio::test]
async fn what_a_node_has_no_more_goes_out_of_the_store() {
    let place = Place::new();
    let (one, two) = (TestNode::begin(&place, "n1").await, TestNode::begin(&place, "n2").await);
    one.serves(1);
    two.sees(&one, is_ready).await;
    one.registry.replace_services(|_| Vec::new());
    two.sees(&one, |replica| replica.state == LifecycleState::Stopped).await;
    assert_eq!(place.rows("instances/").await, ["instances/vrf/n2.0"]);
    one.ends().await;
    two.ends().await;
}

#[tokio::test]
async fn each_node_knows_of_all_and_by_which_manifest_they_live() {
    let place = Place::new();
    let (one, two) = (TestNode::begin(&place, "n1").await, TestNode::begin(&place, "n2").await);
    let known = |of: &TestNode, expected: &[(&str, Option<u64>)]| {
        let (mut nodes, expected) = (of.registry.nodes(), expected.to_vec());
        let expected: Vec<_> =
            expected.into_iter().map(|(name, manifest)| (name.to_owned(), manifest)).collect();
        async move {
            let is_so = |nodes: &Arc<[NodeFacts]>| {
                let known = nodes.iter().map(|node| (node.name.to_string(), node.manifest));
                known.eq(expected.iter().cloned())
            };
            timeout(nodes.wait_for(is_so)).await.unwrap();
        }
    };
    for node in [&one, &two] {
        known(node, &[("n1", Some(1)), ("n2", Some(1))]).await;
    }
    two.seal.manifest.send_replace(2);
    known(&one, &[("n1", Some(1)), ("n2", Some(2))]).await;
    two.ends().await;
    known(&one, &[("n1", Some(1))]).await;
    one.ends().await;
}
