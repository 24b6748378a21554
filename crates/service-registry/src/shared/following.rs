//! What other nodes say of their replicas, in the registry of this one.
//!
//! A replica whose row goes is selected no more at once, and is forgotten after a while: in between its node may come back. After
//! the store was away, rows that go are believed for a moment to be there: leases that nobody could renew end together, and
//! those who held them may be well.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use store::{Change, Changes, KeyValue, Store, StoreError, Watch, Watched};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use types::{NodeName, ReplicaId, ServiceName};

use super::node::Node;
use super::row::{INSTANCES, Row, Run, replica_of};
use super::{AGAIN, Seal};
use crate::{
    Attestation, Attested, Channel, Confirmed, Gate, Health, Instance, Labels, LifecycleState, MeshPeer,
    Presence, Refusal, Registry, Replica, Verdict,
};

/// How long a replica is shown whose node is gone.
const GRACE: Duration = Duration::from_secs(60);
/// How long rows that go are held back once the store is there again.
const HELD_BACK: Duration = Duration::from_secs(10);
/// How long this gateway's workers may take to see what is followed.
const CONFIRMATION: Duration = Duration::from_secs(5);
/// How often it is looked at whether an identity is over.
const LOOK: Duration = Duration::from_secs(1);
/// Revisions that are taken over at once, where so many have come.
const MOST_AT_ONCE: usize = 1_000;

/// The replicas of the other nodes.
pub(super) struct Follower {
    store: Store,
    own: NodeName,
    registry: Registry,
    seal: Arc<dyn Seal>,
    far: BTreeMap<ReplicaId, Far>,
    /// The services of which something is to be put into the registry.
    changed: BTreeSet<ServiceName>,
    /// Until when rows that go are held back.
    held_until: Option<Instant>,
    /// The list of services for which everything was put into the registry.
    list: u64,
}

struct Far {
    row: Row,
    /// When the row was signed.
    at: u64,
    instance: Option<Arc<Instance>>,
    sighting: Sighting,
    /// What its node says of its attestation.
    said: Attestation,
    /// What this one makes of that.
    identity: Identity,
    attestation: Attestation,
}

/// Whether an identity holds, as far as this node knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Identity {
    Holds,
    Over,
    Revoked,
}

/// Whether the row is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sighting {
    There,
    /// It went, and is believed until then.
    HeldBack(Instant),
    /// It went; the replica is forgotten then.
    Gone(Instant),
}

impl Follower {
    pub(super) fn new(node: &Node, registry: Registry, seal: Arc<dyn Seal>) -> Self {
        let (store, own) = (node.store.clone(), node.name.clone());
        let (far, changed) = (BTreeMap::new(), BTreeSet::new());
        Self { store, own, registry, seal, far, changed, held_until: None, list: 0 }
    }

    /// Follows for ever, and says up to which revision this gateway's workers see what was followed.
    pub(super) async fn follow(mut self, seen: &watch::Sender<u64>) {
        let mut is_first = true;
        loop {
            match self.store.range(INSTANCES).await {
                Ok(range) => {
                    if !std::mem::take(&mut is_first) {
                        self.hold_back();
                    }
                    self.take_all(range.rows);
                    self.see(range.revision, seen).await;
                    let watch = self.store.watch(INSTANCES, range.revision);
                    let error = self.follow_changes(watch, seen).await;
                    // What came before that counts.
                    self.put();
                    if !matches!(error, StoreError::Compacted { .. }) {
                        tracing::warn!(%error, "the replicas of other nodes are not followed; they are read again");
                        sleep(AGAIN).await;
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "the replicas of other nodes cannot be read");
                    sleep(AGAIN).await;
                }
            }
        }
    }

    async fn follow_changes(&mut self, mut watch: Watch, seen: &watch::Sender<u64>) -> StoreError {
        let mut snapshots = self.registry.subscribe();
        // However much comes, what is over by itself is looked at in time.
        let mut next = self.next_deadline();
        loop {
            next = next.min(self.next_deadline());
            tokio::select! {
                watched = watch.next() => if let Err(error) = self.take_what_came(watched, &mut watch, seen).await {
                    return error;
                },
                _ = snapshots.changed() => if snapshots.borrow_and_update().list != self.list {
                    self.put();
                },
                () = sleep_until(next) => {
                    self.pass();
                    self.put();
                    next = self.next_deadline();
                }
            }
        }
    }

    /// Takes over what came, with what came since: as long as this takes, more may come.
    async fn take_what_came(
        &mut self,
        first: Result<Watched, StoreError>,
        watch: &mut Watch,
        seen: &watch::Sender<u64>,
    ) -> Result<(), StoreError> {
        let (mut came, mut last, mut count) = (Some(first), None, 0);
        while let Some(watched) = came.take() {
            match watched? {
                Watched::Changes(changes) => {
                    last = Some(changes.revision);
                    self.take(changes);
                }
                Watched::Resumed => self.hold_back(),
            }
            count += 1;
            if count < MOST_AT_ONCE {
                came = at_hand(watch).await;
            }
        }
        if let Some(revision) = last {
            self.see(revision, seen).await;
        }
        Ok(())
    }

    /// Puts everything into the registry, and waits until the workers see it.
    async fn see(&mut self, revision: u64, seen: &watch::Sender<u64>) {
        let epoch = self.put();
        if self.registry.confirmed_here(epoch, CONFIRMATION).await == Confirmed::TimedOut {
            tracing::warn!("a gateway worker has not taken the replicas of other nodes over in time");
        }
        seen.send_replace(revision);
    }

    /// What goes now may be there again soon.
    fn hold_back(&mut self) {
        self.held_until = Some(Instant::now() + HELD_BACK);
    }

    /// Everything that there is; what is not there any more went while nobody looked.
    pub(super) fn take_all(&mut self, rows: Vec<KeyValue>) {
        let there: BTreeSet<_> = rows.iter().filter_map(|row| replica_of(&row.key)).collect();
        rows.iter().for_each(|row| self.take_row(row));
        let gone: Vec<_> = self.far.keys().filter(|replica| !there.contains(replica)).cloned().collect();
        gone.iter().for_each(|replica| self.goes(replica));
    }

    fn take(&mut self, changes: Changes) {
        for change in changes.changes {
            match change {
                Change::Put(row) => self.take_row(&row),
                Change::Deleted(key) => {
                    if let Some(replica) = replica_of(&key) {
                        self.goes(&replica);
                    }
                }
            }
        }
    }

    pub(super) fn take_row(&mut self, row: &KeyValue) {
        let key = String::from_utf8_lossy(&row.key);
        let Some(replica) = replica_of(&row.key).filter(|replica| replica.node.as_ref() != Some(&self.own))
        else {
            return;
        };
        let known = self.far.get(&replica);
        let (row, at) = match Row::open(&key, &row.value, &*self.seal) {
            // Whoever has the name later has a higher token, though the clock of its machine may have been put back since.
            Ok((row, at)) if known.is_some_and(|known| at < known.at && row.token <= known.row.token) => {
                tracing::error!(%replica, "what another node says of its replica is older than what it has said; it is not believed");
                return;
            }
            Ok(opened) => opened,
            Err(reason) => {
                tracing::error!(%replica, reason, "what another node says of its replica is not believed");
                return;
            }
        };
        let former = known.and_then(|known| Some((&known.row, known.instance.as_ref()?)));
        let instance = row.run.as_ref().map(|run| self.instance(&replica, &row, run, former));
        self.changed.insert(replica.service.clone());
        let former = self.far.remove(&replica).and_then(|far| far.instance);
        if let Some(former) =
            former.filter(|former| !instance.as_ref().is_some_and(|is| Arc::ptr_eq(is, former)))
        {
            end(&former);
        }
        let said = row.attestation();
        let (sighting, identity, attestation) = (Sighting::There, Identity::Holds, said.clone());
        let mut far = Far { row, at, instance, sighting, said, identity, attestation };
        let _told_already = self.judge(&replica, &mut far, Timestamp::now());
        self.far.insert(replica, far);
    }

    /// Looks at whether an identity holds, and says whether that is news. Nobody may be connected to one that does not; if it
    /// does again, as when a clock was wrong or a revocation is taken back, its run is connected to anew.
    fn judge(&self, replica: &ReplicaId, far: &mut Far, now: Timestamp) -> bool {
        let run = far.row.run.as_ref();
        let is_over = far.said.appraised.as_ref().is_some_and(|appraised| appraised.expires <= now);
        let identity = match run {
            Some(run) if self.seal.is_revoked(&run.spiffe_id, &run.leaf) => Identity::Revoked,
            _ if is_over => Identity::Over,
            _ => Identity::Holds,
        };
        if identity == far.identity {
            return false;
        }
        far.identity = identity;
        far.attestation = match identity {
            Identity::Over if far.said.value == Attested::Valid => far.said.expired(now),
            Identity::Holds | Identity::Over => far.said.clone(),
            Identity::Revoked => {
                let (code, detail) = ("REVOKED".into(), "it is on this mesh's list".into());
                far.said.refused(Refusal { code, detail }, now)
            }
        };
        match (identity, run) {
            (Identity::Holds, Some(run)) => far.instance = Some(self.instance(replica, &far.row, run, None)),
            (Identity::Holds, None) => {}
            (Identity::Over | Identity::Revoked, _) => far.instance.iter().for_each(|instance| end(instance)),
        }
        true
    }

    /// The run of a row: that which is known already, perhaps with another certificate, or a new one.
    fn instance(
        &self,
        replica: &ReplicaId,
        row: &Row,
        run: &Run,
        known: Option<(&Row, &Arc<Instance>)>,
    ) -> Arc<Instance> {
        let is_the_same = |(before, _): &(&Row, &Arc<Instance>)| {
            before.run.as_ref().is_some_and(|known| {
                // Another process counts its runs anew, and no certificate is given to two runs; a node that had to take its name
                // again goes on with the runs that it has.
                let shows_the_same =
                    known.leaf == run.leaf || run.former.is_some_and(|(former, _)| former == known.leaf);
                (before.token == row.token || shows_the_same)
                    && (known.number, known.address, &known.spiffe_id)
                        == (run.number, run.address, &run.spiffe_id)
            })
        };
        if let Some((_, instance)) = known.filter(is_the_same)
            && let Channel::Mesh(peer) = &instance.channel
            && !peer.has_ended()
        {
            peer.renewed(run.leaf, run.former.unwrap_or((run.leaf, Timestamp::UNIX_EPOCH)));
            return Arc::clone(instance);
        }
        let peer = MeshPeer::new(run.spiffe_id.clone(), run.former.map_or(run.leaf, |(former, _)| former));
        if let Some(former) = run.former {
            peer.renewed(run.leaf, former);
        }
        let incarnation = self.registry.next_incarnation();
        let built = Instance::new(replica.clone(), incarnation, run.address, run.version());
        Arc::new(Instance { channel: Channel::Mesh(Arc::new(peer)), ..built })
    }

    fn goes(&mut self, replica: &ReplicaId) {
        let now = Instant::now();
        let held = self.held_until.filter(|until| now < *until);
        if let Some(far) = self.far.get_mut(replica).filter(|far| far.sighting == Sighting::There) {
            far.sighting = held.map_or(Sighting::Gone(now + GRACE), Sighting::HeldBack);
            self.changed.insert(replica.service.clone());
        }
    }

    /// Time has passed.
    pub(super) fn pass(&mut self) {
        let (now, time) = (Instant::now(), Timestamp::now());
        let mut all = std::mem::take(&mut self.far);
        all.retain(|replica, far| {
            let forgotten = matches!(far.sighting, Sighting::Gone(until) if until <= now);
            let missed = matches!(far.sighting, Sighting::HeldBack(until) if until <= now);
            if forgotten {
                far.instance.iter().for_each(|instance| end(instance));
            } else if missed {
                far.sighting = Sighting::Gone(now + GRACE);
            }
            if forgotten || self.judge(replica, far, time) || missed {
                self.changed.insert(replica.service.clone());
            }
            !forgotten
        });
        self.far = all;
    }

    fn next_deadline(&self) -> Instant {
        let times = self.far.values().filter_map(|far| match far.sighting {
            Sighting::There => None,
            Sighting::HeldBack(until) | Sighting::Gone(until) => Some(until),
        });
        let soonest = if self.far.is_empty() { GRACE } else { LOOK };
        times.min().unwrap_or_else(|| Instant::now() + soonest).min(Instant::now() + soonest)
    }

    /// Publishes what has changed, and gives the epoch from which on it is seen.
    pub(super) fn put(&mut self) -> u64 {
        let list = self.registry.snapshot().list;
        let has_others = std::mem::replace(&mut self.list, list) != list;
        let changed = std::mem::take(&mut self.changed);
        let now = Timestamp::now();
        let mut by_service: BTreeMap<&ServiceName, Vec<(&ReplicaId, &Far)>> = BTreeMap::new();
        let concerned = |service: &ServiceName| has_others || changed.contains(service);
        for (replica, far) in self.far.iter().filter(|(replica, _)| concerned(&replica.service)) {
            by_service.entry(&replica.service).or_default().push((replica, far));
        }
        let mut entered = Vec::new();
        let epoch = self.registry.change_replicas(|service, replicas| {
            if !concerned(service) {
                return None;
            }
            let is_far = |replica: &&Replica| replica.id.node.as_ref().is_some_and(|node| *node != self.own);
            let known: BTreeMap<_, _> =
                replicas.iter().filter(is_far).map(|replica| (&replica.id, replica)).collect();
            let wanted = by_service.get(service).map_or(&[][..], Vec::as_slice);
            // What the configuration says of a service, it says of the replicas of all nodes, unless they speak for themselves.
            let labels = replicas.iter().find(|replica| !is_far(replica)).and_then(|own| own.labels.clone());
            let labels = labels.map(|labels| {
                let (zone, metadata) = (None, BTreeMap::new());
                Arc::new(Labels { protocol: labels.protocol, zone, metadata })
            });
            let wanted: Vec<_> = wanted
                .iter()
                .map(|(id, far)| {
                    let replica = replica(id, far, known.get(id).copied(), now);
                    let mut replica = Replica { labels: labels.clone(), ..replica };
                    match far.row.presence.presence() {
                        Presence::Registered(registration) => replica.register(registration),
                        // Which weight it has, the row says too.
                        presence => replica.presence = presence,
                    }
                    replica
                })
                .collect();
            let is_the_same = wanted.len() == known.len()
                && wanted.iter().all(|wanted| known.get(&wanted.id).is_some_and(|known| same(known, wanted)));
            if is_the_same {
                return None;
            }
            let enters =
                |replica: &&Replica| known.get(&replica.id).is_none_or(|known| known.state != replica.state);
            entered.extend(wanted.iter().filter(enters).cloned());
            let own = replicas.iter().filter(|replica| !is_far(replica)).cloned();
            Some(own.chain(wanted).collect())
        });
        self.tell(&entered);
        epoch
    }

    /// As the node of a replica tells of it. Not inside of the change, which others wait for, while standard error may be slow.
    fn tell(&self, entered: &[Replica]) {
        for Replica { id, state, reason, .. } in entered {
            let is_gone = self.far.get(id).is_some_and(|far| matches!(far.sighting, Sighting::Gone(_)));
            let reason = reason.as_deref().unwrap_or_default();
            if is_gone {
                tracing::warn!(replica = %id, %state, reason, "a replica of another node is selected no more");
            } else {
                tracing::info!(replica = %id, %state, reason, "a replica of another node changed its state");
            }
        }
    }
}

/// What comes of a watch without being waited for.
async fn at_hand(watch: &mut Watch) -> Option<Result<Watched, StoreError>> {
    tokio::select! {
        biased;
        watched = watch.next() => Some(watched),
        () = std::future::ready(()) => None,
    }
}

/// What the registry says of a replica. Its health is this node's own to find out, and stays while it is the same run.
fn replica(id: &ReplicaId, far: &Far, known: Option<&Replica>, now: Timestamp) -> Replica {
    let Far { row, instance, sighting, .. } = far;
    let same_run = |known: &&Replica| match (&known.instance, instance) {
        (Some(known), Some(is)) => Arc::ptr_eq(known, is),
        _ => false,
    };
    let health = match known.filter(same_run) {
        Some(known) => known.health.clone(),
        None => Health { verdict: Verdict::Unknown, since: now, reason: None, answered: 0 },
    };
    let (mut state, mut reason, mut since) = (row.state.into(), row.reason.clone(), row.since);
    if let Sighting::Gone(_) = sighting
        && state != LifecycleState::Stopped
    {
        let node = id.node.as_ref().map_or("", NodeName::as_str);
        (state, reason) = (LifecycleState::Stopped, Some(format!("its node {node} is gone from the store")));
        since = known.filter(|known| known.reason == reason).map_or(now, |known| known.since);
    }
    Replica {
        id: id.clone(),
        state,
        reason,
        since,
        restarts: row.restarts,
        crash_loop: None,
        pid: None,
        instance: instance.clone(),
        health,
        gate: Gate::Open,
        weight: row.weight,
        priority: row.priority,
        attestation: far.attestation.clone(),
        labels: None,
        presence: Presence::Given,
        changed_at: 0,
    }
}

/// Whether nothing has changed but what this node finds out itself.
fn same(known: &Replica, wanted: &Replica) -> bool {
    let instance = |replica: &Replica| replica.instance.as_ref().map(Arc::as_ptr);
    let facts = |replica: &Replica| {
        (replica.state, replica.since, replica.restarts, replica.weight, replica.priority)
    };
    (facts(known), instance(known), &known.reason) == (facts(wanted), instance(wanted), &wanted.reason)
        && known.presence == wanted.presence
        && known.attestation.value == wanted.attestation.value
        && known.attestation.appraised == wanted.attestation.appraised
        && known.attestation.reason == wanted.attestation.reason
        && known.labels == wanted.labels
}

fn end(instance: &Instance) {
    if let Channel::Mesh(peer) = &instance.channel {
        peer.end();
    }
}
