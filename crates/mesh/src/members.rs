//! From what the authority decides to what the registry says: the one writer of the attestation fact.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use appraisal::Code;
use jiff::Timestamp;
use mesh_protocol::to_hex;
use service_registry::{Appraised, Attestation, Change, MeshPeer, Refusal, Registry};
use tokio::sync::watch;
use tokio::time::sleep;
use trust::{Admission, Authority, Standing, Standings};
use types::{ReplicaId, ServiceName};

type Peers = BTreeMap<ReplicaId, (Arc<Admission>, Arc<MeshPeer>)>;

/// The replicas that have joined; its clones are the same.
#[derive(Clone, Default)]
pub struct Members(Arc<watch::Sender<Peers>>);

impl Members {
    /// The peer that a replica has become with a certificate, of which this is the SHA-256. Waits until what the authority has
    /// decided is written.
    pub async fn joined(&self, replica: &ReplicaId, leaf: [u8; 32]) -> Arc<MeshPeer> {
        let mut peers = self.0.subscribe();
        let has_it = |admission: &Admission| {
            admission.leaf == leaf || admission.renewed.is_some_and(|(before, _)| before == leaf)
        };
        let is_it = |peers: &Peers| peers.get(replica).is_some_and(|(admission, _)| has_it(admission));
        let (admission, peer) = match peers.wait_for(is_it).await {
            Ok(peers) => peers[replica].clone(),
            Err(_) => unreachable!("this holds the sender"),
        };
        if !peer.has_ended() {
            return peer;
        }
        // It was lost sight of, and has come again with the identity that it has.
        let again = again(&admission);
        self.0.send_modify(|peers| {
            peers.insert(replica.clone(), (admission, Arc::clone(&again)));
        });
        again
    }
}

/// A peer of an admission that has none, or whose peer has ended. It may show the certificate before as long as any other.
fn again(admission: &Admission) -> Arc<MeshPeer> {
    let id = admission.id.to_string();
    match admission.renewed {
        None => Arc::new(MeshPeer::new(id, admission.leaf)),
        Some((former, until)) => {
            let peer = MeshPeer::new(id, former);
            peer.renewed(admission.leaf, (former, moment(until)));
            Arc::new(peer)
        }
    }
}

/// Writes the attestation of every replica, until it is told to end.
pub async fn write_attestation(
    authority: Authority,
    registry: Registry,
    members: Members,
    shutdown: impl Future<Output = ()>,
) {
    tokio::pin!(shutdown);
    let mut writer = Writer { registry, members, written: Arc::default(), ending: BTreeMap::new() };
    let mut standings = authority.standings();
    loop {
        let now = standings.borrow_and_update().clone();
        writer.write(now);
        let next = writer.end_those_that_are_over();
        tokio::select! {
            changed = standings.changed() => if changed.is_err() {
                return;
            },
            () = sleep(next.unwrap_or(Duration::MAX)) => {}
            () = &mut shutdown => return,
        }
    }
}

struct Writer {
    registry: Registry,
    members: Members,
    written: Arc<Standings>,
    /// Peers whose identity ends without a new one, by when.
    ending: BTreeMap<ReplicaId, (Timestamp, Arc<MeshPeer>)>,
}

impl Writer {
    /// What has changed since the last time.
    fn write(&mut self, standings: Arc<Standings>) {
        for (key, standing) in standings.iter() {
            if self.written.get(key) == Some(standing) {
                continue;
            }
            let Some(replica) = replica_of(key) else { continue };
            match standing {
                Standing::Pending { since } => self.pending(&replica, moment(*since)),
                Standing::Valid(admission) => self.valid(&replica, admission),
                Standing::Expired(admission) => self.expired(&replica, admission),
                Standing::Refused { fault, since } => {
                    let refusal =
                        Refusal { code: fault.code.as_str().to_owned(), detail: fault.detail.clone() };
                    self.refused(&replica, refusal, fault.code, moment(*since));
                }
            }
        }
        let before = std::mem::replace(&mut self.written, standings);
        let gone: Vec<_> = before.keys().filter(|key| !self.written.contains_key(*key)).collect();
        gone.into_iter().filter_map(replica_of).for_each(|replica| self.forget(&replica));
    }

    fn pending(&mut self, replica: &ReplicaId, since: Timestamp) {
        self.forget(replica);
        self.attest(replica, |_| Attestation::pending(since));
    }

    fn valid(&mut self, replica: &ReplicaId, admission: &Arc<Admission>) {
        self.ending.remove(replica);
        // Written before anybody can connect, so that nobody sees a peer that is not attested.
        let appraised = Arc::new(shown(admission));
        self.attest(replica, |attestation| attestation.valid(appraised, moment(admission.appraised_at)));
        self.members.0.send_modify(|peers| {
            let known = peers.get(replica).map(|(before, peer)| (Arc::clone(before), Arc::clone(peer)));
            let peer = match (known, admission.renewed) {
                // Only its end has changed: another transition came into force.
                (Some((before, peer)), _) if before.leaf == admission.leaf => peer,
                // Nobody connects to a peer that has ended, and there is nothing to be kept of it.
                (Some((_, peer)), _) if peer.has_ended() => again(admission),
                // The one before is what the replica shows until it has taken the new one; of one whose answer was lost it
                // knows nothing.
                (Some((before, peer)), Some((renewed, until)))
                    if before.leaf == renewed
                        || before.renewed.is_some_and(|(former, _)| former == renewed) =>
                {
                    peer.renewed(admission.leaf, (renewed, moment(until)));
                    peer
                }
                (Some((_, peer)), _) => {
                    peer.end();
                    Arc::new(MeshPeer::new(admission.id.to_string(), admission.leaf))
                }
                // It was admitted before this process was there, and may show the one before still.
                (None, _) => again(admission),
            };
            peers.insert(replica.clone(), (Arc::clone(admission), peer));
        });
    }

    /// It takes no more requests; those that it has may finish while the identity holds.
    fn expired(&mut self, replica: &ReplicaId, admission: &Admission) {
        self.attest(replica, |attestation| attestation.expired(Timestamp::now()));
        self.ends(replica, moment(admission.not_after));
    }

    fn refused(&mut self, replica: &ReplicaId, refusal: Refusal, code: Code, since: Timestamp) {
        self.attest(replica, |attestation| attestation.refused(refusal, since));
        if code == Code::Revoked {
            self.forget(replica);
            return;
        }
        // A renewal was refused: what it has may finish while the identity holds.
        let not_after = self.members.0.borrow().get(replica).map(|(admission, _)| admission.not_after);
        if let Some(not_after) = not_after {
            self.ends(replica, moment(not_after));
        }
    }

    fn ends(&mut self, replica: &ReplicaId, at: Timestamp) {
        let peer = self.members.0.borrow().get(replica).map(|(_, peer)| Arc::clone(peer));
        if let Some(peer) = peer {
            self.ending.insert(replica.clone(), (at, peer));
        }
    }

    /// Its connections end now.
    fn forget(&mut self, replica: &ReplicaId) {
        self.ending.remove(replica);
        self.members.0.send_if_modified(|peers| match peers.remove(replica) {
            Some((_, peer)) => {
                peer.end();
                true
            }
            None => false,
        });
    }

    /// Gives how long it is until the next one.
    fn end_those_that_are_over(&mut self) -> Option<Duration> {
        let now = Timestamp::now();
        self.ending.retain(|_, (at, peer)| {
            let is_over = *at <= now;
            if is_over {
                peer.end();
            }
            !is_over
        });
        let next = self.ending.values().map(|(at, _)| *at).min()?;
        Some(Duration::try_from(next.duration_since(now)).unwrap_or_default())
    }

    fn attest(&self, replica: &ReplicaId, change: impl FnOnce(&Attestation) -> Attestation) {
        self.registry.update(replica, |known| {
            known.attestation = change(&known.attestation);
            Change::Made
        });
    }
}

fn replica_of((service, instance): &(ServiceName, String)) -> Option<ReplicaId> {
    ReplicaId::of_instance(service.clone(), instance).ok()
}

fn shown(admission: &Admission) -> Appraised {
    Appraised {
        kind: admission.appraised.kind.to_string(),
        release: admission.appraised.release.clone(),
        measurement: admission.appraised.measurement.clone(),
        tcb: admission.appraised.tcb.to_string(),
        advisories: admission.appraised.advisories.clone(),
        record: admission.record.clone(),
        leaf_sha256: to_hex(&admission.leaf),
        spiffe_id: admission.id.to_string(),
        appraised_at: moment(admission.appraised_at),
        expires: moment(admission.not_after),
    }
}

fn moment(seconds: u64) -> Timestamp {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use mesh_protocol::EvidenceKind;
    use service_registry::{Replica, Service};

    use super::*;

    /// A writer, and the one replica of its registry.
    fn writer() -> (Writer, ReplicaId) {
        let id: ReplicaId = "vrf/0".parse().unwrap();
        let replicas = vec![Replica::stopped(id.clone(), Timestamp::UNIX_EPOCH)];
        let name: ServiceName = "vrf".parse().unwrap();
        let service = Service {
            name,
            version: "1.0.0".into(),
            split: None,
            required: true,
            desired: replicas.len(),
            replicas,
        };
        let (registry, members) = (Registry::new(vec![service]), Members::default());
        (Writer { registry, members, written: Arc::default(), ending: BTreeMap::new() }, id)
    }

    fn admission(not_after: u64) -> Arc<Admission> {
        let appraised = appraisal::Appraised {
            kind: EvidenceKind::Simulated,
            release: "1.0.0".into(),
            measurement: "09".repeat(32),
            platform: Vec::new(),
            tcb: appraisal::TcbStatus::UpToDate,
            advisories: Vec::new(),
            evaluation: 1,
            expires: u64::MAX,
        };
        Arc::new(Admission {
            id: "spiffe://test.dev.invalid/service/vrf/0".parse().unwrap(),
            leaf: [1; 32],
            renewed: None,
            appraised,
            record: "apr_1".into(),
            appraised_at: 0,
            config: [0; 32],
            n: 1,
            not_after,
            drains_at: not_after,
        })
    }

    fn standings(standing: Standing) -> Arc<Standings> {
        Arc::new([(("vrf".parse().unwrap(), "0".to_owned()), standing)].into())
    }

    #[test]
    fn connections_end_with_the_overlap_of_transitions_and_neither_before_nor_later() {
        let (mut writer, id) = writer();
        let now = u64::try_from(Timestamp::now().as_second()).unwrap();
        writer.write(standings(Standing::Valid(admission(now + 3600))));
        let peer = Arc::clone(&writer.members.0.borrow()[&id].1);
        // Another transition comes into force.
        writer.write(standings(Standing::Valid(admission(now + 300))));
        assert!(!peer.has_ended());
        assert!(Arc::ptr_eq(&writer.members.0.borrow()[&id].1, &peer), "it is the same run");
        writer.write(standings(Standing::Expired(admission(now + 300))));
        let left = writer.end_those_that_are_over().unwrap();
        assert!(!peer.has_ended() && left <= Duration::from_secs(300), "{left:?}");
        writer.write(standings(Standing::Expired(admission(now))));
        assert_eq!(writer.end_those_that_are_over(), None);
        assert!(peer.has_ended());
    }
}
