//! The admissions of this node's replicas as they are in the store, signed by the mesh's root: a replica that outlives the
//! authority that has admitted it is known to the next one, and need not join again.
//!
//! A row is written with the join that it is of, and goes with a refusal. What it says ends when the identity does.

use std::sync::Arc;

use appraisal::{Appraised, TcbStatus};
use mesh_protocol::{Bytes, Revocations, Subject, is_signed_by};
use serde::{Deserialize, Serialize};
use store::{Availability, MAX_OPERATIONS, Store, Transaction};
use types::wire::Message;
use types::{NodeName, ReplicaId, ServiceName};

use super::Services;
use crate::records::canonical_json;
use crate::{Admission, Signer, Standing, Standings, TrustError, revocations};

/// What the keys of the rows begin with.
const ADMISSIONS: &str = "trust/admission/";

/// Where the row of a replica is.
pub(super) fn key(service: &ServiceName, instance: &str) -> String {
    format!("{ADMISSIONS}{service}/{instance}")
}

/// A row.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    admission: Kept,
    /// Over "serviceos/admission/v1\0" ‖ lp(canonical JSON).
    signature: Bytes,
}

/// An admission as JSON.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kept {
    id: String,
    leaf: Bytes,
    renewed: Option<(Bytes, u64)>,
    kind: String,
    measurement: String,
    release: String,
    tcb: TcbStatus,
    advisories: Vec<String>,
    platform: Vec<String>,
    evaluation: u32,
    expires: u64,
    record: String,
    appraised_at: u64,
    config: Bytes,
    n: u64,
    not_after: u64,
    drains_at: u64,
}

impl Kept {
    fn of(admission: &Admission) -> Self {
        let Appraised { kind, measurement, release, tcb, advisories, platform, evaluation, expires } =
            admission.appraised.clone();
        Self {
            id: admission.id.to_string(),
            leaf: Bytes(admission.leaf.to_vec()),
            renewed: admission.renewed.map(|(leaf, until)| (Bytes(leaf.to_vec()), until)),
            kind: kind.to_string(),
            measurement,
            release,
            tcb,
            advisories,
            platform,
            evaluation,
            expires,
            record: admission.record.clone(),
            appraised_at: admission.appraised_at,
            config: Bytes(admission.config.to_vec()),
            n: admission.n,
            not_after: admission.not_after,
            drains_at: admission.drains_at,
        }
    }

    fn admission(self) -> Option<Admission> {
        let digest = |bytes: &Bytes| <[u8; 32]>::try_from(bytes.0.as_slice()).ok();
        let renewed = match &self.renewed {
            Some((leaf, until)) => Some((digest(leaf)?, *until)),
            None => None,
        };
        Some(Admission {
            id: self.id.parse().ok()?,
            leaf: digest(&self.leaf)?,
            renewed,
            appraised: Appraised {
                kind: self.kind.parse().ok()?,
                measurement: self.measurement,
                release: self.release,
                tcb: self.tcb,
                advisories: self.advisories,
                platform: self.platform,
                evaluation: self.evaluation,
                expires: self.expires,
            },
            record: self.record,
            appraised_at: self.appraised_at,
            config: digest(&self.config)?,
            n: self.n,
            not_after: self.not_after,
            drains_at: self.drains_at,
        })
    }
}

/// The row of an admission.
pub(super) fn row(admission: &Admission, signer: &Signer) -> Result<Vec<u8>, TrustError> {
    let admission = Kept::of(admission);
    let signature = Bytes(signer.sign(&message(&admission)?)?);
    serde_json::to_vec(&Signed { admission, signature })
        .map_err(|error| TrustError::Record(error.to_string()))
}

/// What a row says; none where the mesh's root has not signed it.
fn read(row: &[u8], signer: &Signer) -> Option<Admission> {
    let Signed { admission, signature } = serde_json::from_slice(row).ok()?;
    let message = message(&admission).ok()?;
    is_signed_by(signer.spki(), &message, &signature.0).then(|| admission.admission()).flatten()
}

fn message(admission: &Kept) -> Result<Vec<u8>, TrustError> {
    Ok(Message::tagged(b"serviceos/admission/v1\0").lp(canonical_json(admission)?).finish())
}

/// What an authority begins with.
pub(super) struct Beginning<'a> {
    pub(super) node: Option<&'a NodeName>,
    pub(super) signer: &'a Signer,
    pub(super) services: &'a Services,
    pub(super) revocations: &'a Revocations,
    /// The transition in force.
    pub(super) n: u64,
    /// Unix seconds.
    pub(super) now: u64,
}

impl Beginning<'_> {
    /// What an earlier authority of this node has said of the replicas that it had admitted, and that holds still. Rows of which
    /// nothing does go, where the store lets them.
    pub(super) async fn standings(&self, store: &Store) -> Result<Standings, TrustError> {
        let (mut standings, mut over) = (Standings::new(), Vec::new());
        for row in store.range(ADMISSIONS).await? {
            let Some(replica) = replica_of(&row.key) else { continue };
            // Those of the other nodes are theirs.
            if replica.node.as_ref() != self.node {
                continue;
            }
            match self.standing(&replica, &row.value) {
                Some(standing) => {
                    standings.insert((replica.service.clone(), replica.instance()), standing);
                }
                None => over.push(row.key),
            }
        }
        let is_there = matches!(*store.availability().borrow(), Availability::Available);
        if is_there {
            for keys in over.chunks(MAX_OPERATIONS) {
                let forget = keys.iter().fold(Transaction::new(), |all, key| all.delete(key.clone()));
                if let Err(error) = store.commit(forget).await {
                    tracing::debug!(%error, "admissions that are over stay in the store for now");
                    break;
                }
            }
        }
        Ok(standings)
    }

    fn standing(&self, replica: &ReplicaId, row: &[u8]) -> Option<Standing> {
        let Some(admission) = read(row, self.signer) else {
            tracing::warn!(%replica, "its admission in the store does not verify, and counts for nothing");
            return None;
        };
        let is_its_own = matches!(&admission.id.subject, Subject::Service { service, instance }
            if *service == replica.service && *instance == replica.instance());
        // How many of them are wanted, whoever looks after them decides.
        let is_wanted = self.services.contains_key(&replica.service);
        if !is_its_own || !is_wanted || admission.not_after <= self.now {
            return None;
        }
        let allowed =
            revocations::allow(self.revocations, &admission.id, Some(admission.leaf), &admission.appraised);
        if let Err(fault) = allowed {
            return Some(Standing::Refused { fault, since: self.now });
        }
        let admission = Arc::new(admission).in_transition(self.n, self.now);
        let is_over = admission.drains_at <= self.now;
        Some(if is_over { Standing::Expired(admission) } else { Standing::Valid(admission) })
    }
}

fn replica_of(key: &[u8]) -> Option<ReplicaId> {
    let (service, instance) = str::from_utf8(key).ok()?.strip_prefix(ADMISSIONS)?.split_once('/')?;
    ReplicaId::of_instance(service.parse().ok()?, instance).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use appraisal::{PlatformPolicy, Policy, TcbPolicy};
    use mesh_protocol::{EvidenceKind, RevokedType};

    use super::super::ServicePolicy;
    use super::super::opening::new_key;
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn admission(instance: &str) -> Admission {
        Admission {
            id: format!("spiffe://test.dev.invalid/service/vrf/{instance}").parse().unwrap(),
            leaf: [1; 32],
            renewed: Some(([2; 32], NOW + 60)),
            appraised: Appraised {
                kind: EvidenceKind::Simulated,
                measurement: "09".repeat(32),
                release: "1.0.0".into(),
                tcb: TcbStatus::UpToDate,
                advisories: vec!["INTEL-SA-1".into()],
                platform: vec!["aa".into()],
                evaluation: 7,
                expires: NOW + 900,
            },
            record: "apr_1".into(),
            appraised_at: NOW,
            config: [3; 32],
            n: 2,
            not_after: NOW + 800,
            drains_at: NOW + 790,
        }
    }

    fn services() -> Services {
        let policy = ServicePolicy {
            policy: Policy {
                releases: Vec::new(),
                tcb: TcbPolicy::default(),
                platform: PlatformPolicy::default(),
                identity_ttl: Duration::from_secs(900),
            },
            version: "1.0.0".into(),
            replicas: 2,
            config_digest: [3; 32],
            secrets: Vec::new(),
        };
        BTreeMap::from([("vrf".parse().unwrap(), Arc::new(policy))])
    }

    /// What is begun with where the rows are these, in a moment and with a list of what is revoked.
    async fn begun(rows: &[(&str, Vec<u8>)], signer: &Signer, now: u64, list: &Revocations) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store.redb")).unwrap();
        for (key, value) in rows {
            store.commit(Transaction::new().put(*key, value.clone())).await.unwrap();
        }
        let services = services();
        let beginning = Beginning { node: None, signer, services: &services, revocations: list, n: 2, now };
        let standings = beginning.standings(&store).await.unwrap();
        let left = store.range(ADMISSIONS).await.unwrap().rows.len();
        assert_eq!(left, standings.len(), "what counts for nothing is gone");
        let word = |standing: &Standing| match standing {
            Standing::Valid(kept) if **kept == admission("0") => "valid, as it was".to_owned(),
            Standing::Valid(kept) => format!("valid until {}", kept.not_after - NOW),
            Standing::Expired(_) => "expired".to_owned(),
            Standing::Refused { fault, .. } => fault.code.as_str().to_owned(),
            Standing::Pending { .. } => "pending".to_owned(),
        };
        standings.values().map(word).collect()
    }

    #[tokio::test]
    async fn what_was_admitted_is_known_again_until_its_identity_ends_or_is_revoked() {
        let signer = Signer::new(&new_key().unwrap()).unwrap();
        let rows = [("trust/admission/vrf/0", row(&admission("0"), &signer).unwrap())];
        let none = Revocations::none([0; 32], NOW);
        let revoked = revocations::with(&none, RevokedType::Leaf, &"01".repeat(32), NOW).unwrap().unwrap();
        assert_eq!(begun(&rows, &signer, NOW, &none).await, ["valid, as it was"]);
        assert_eq!(begun(&rows, &signer, NOW + 795, &none).await, ["expired"]);
        assert_eq!(begun(&rows, &signer, NOW + 800, &none).await, [""; 0]);
        assert_eq!(begun(&rows, &signer, NOW, &revoked).await, ["REVOKED"]);
    }

    #[tokio::test]
    async fn what_the_mesh_has_not_signed_or_is_of_another_counts_for_nothing() {
        let signer = Signer::new(&new_key().unwrap()).unwrap();
        let other = Signer::new(&new_key().unwrap()).unwrap();
        let none = Revocations::none([0; 32], NOW);
        let rows = [
            ("trust/admission/vrf/0", row(&admission("0"), &other).unwrap()),
            ("trust/admission/vrf/1", row(&admission("0"), &signer).unwrap()),
            ("trust/admission/web/0", row(&admission("0"), &signer).unwrap()),
        ];
        assert_eq!(begun(&rows, &signer, NOW, &none).await, [""; 0]);
    }

    #[tokio::test]
    async fn an_admission_of_a_transition_before_ends_with_the_overlap() {
        let signer = Signer::new(&new_key().unwrap()).unwrap();
        let before = Admission { n: 1, ..admission("0") };
        let rows = [("trust/admission/vrf/0", row(&before, &signer).unwrap())];
        let none = Revocations::none([0; 32], NOW);
        assert_eq!(begun(&rows, &signer, NOW, &none).await, ["valid until 300"]);
    }
}
