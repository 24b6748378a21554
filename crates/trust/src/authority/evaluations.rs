//! The evaluations of the vendors: a vendor looks at its platforms again and again, and numbers what it says of them then
//! (`tcbEvaluationDataNumber`). Once a newer number was seen, an older one counts no more, also after a new start.
//!
//! The number of one replica counts for all. A replica that has an identity keeps it until it ends, and tries again until then:
//! otherwise one machine that is ahead of the others would end all of them at their next renewal.

use std::collections::BTreeMap;

use appraisal::{Appraised, Fault};
use mesh_protocol::{EvidenceKind, SpiffeId};
use serde_json::json;
use store::{KeyValue, Store, Transaction};
use tokio::sync::Mutex;

use super::Authority;
use crate::TrustError;
use crate::audit::{Entry, Outcome};

/// Where they are in the store, each behind the kind of evidence.
pub(super) const EVALUATIONS: &str = "trust/evaluation/";

/// The highest that was seen of each kind of evidence. Held while another is written down.
pub(super) struct Evaluations(Mutex<BTreeMap<EvidenceKind, u32>>);

impl Evaluations {
    /// What an earlier authority has left.
    pub(super) async fn known(store: &Store) -> Result<Self, TrustError> {
        let rows = store.range(EVALUATIONS).await?;
        let known = rows.into_iter().map(|row| read(&row));
        Ok(Self(Mutex::new(known.collect::<Result<_, _>>()?)))
    }

    /// What another node has seen.
    pub(super) async fn meet(&self, row: KeyValue) -> Result<(), TrustError> {
        let (kind, evaluation) = read(&row)?;
        let mut known = self.0.lock().await;
        let highest = known.entry(kind).or_default();
        *highest = evaluation.max(*highest);
        Ok(())
    }

    /// The highest of a kind; 0 where none was seen.
    pub(super) async fn seen(&self, kind: EvidenceKind) -> u32 {
        self.0.lock().await.get(&kind).copied().unwrap_or_default()
    }
}

fn read(row: &KeyValue) -> Result<(EvidenceKind, u32), TrustError> {
    let read = || {
        let kind = str::from_utf8(row.key.strip_prefix(EVALUATIONS.as_bytes())?).ok()?.parse().ok()?;
        Some((kind, u32::from_be_bytes(row.value.as_slice().try_into().ok()?)))
    };
    read().ok_or(TrustError::Tampered("evaluations"))
}

/// Whether the vendor's word in evidence is no older than what was seen of it. Whoever has a certificate so far may come again
/// with a newer one; `previous` is that.
pub(super) fn is_current(appraised: &Appraised, seen: u32, previous: Option<&[u8; 32]>) -> Result<(), Fault> {
    appraised.is_no_older(seen).map_err(|outdated| match previous {
        Some(_) => outdated.worth_another_try(),
        None => outdated,
    })
}

impl Authority {
    /// From now on no older word of the vendor's counts. That it rises is in the audit trail, with whose evidence it came: others
    /// may be refused for it.
    pub(super) async fn remember_evaluation(
        &self,
        of: &SpiffeId,
        appraised: &Appraised,
    ) -> Result<(), TrustError> {
        let Appraised { kind, evaluation, .. } = *appraised;
        let mut known = self.0.evaluations.0.lock().await;
        let before = known.get(&kind).copied();
        if before.is_some_and(|before| evaluation <= before) {
            return Ok(());
        }
        if let Some(before) = before {
            let entry = Entry {
                kind: "tcb-evaluation".into(),
                actor: of.to_string(),
                subject: self.0.domain.trust_domain.clone(),
                outcome: Outcome::Done,
                reason: None,
                data: json!({"kind": kind.to_string(), "before": before, "now": evaluation}),
            };
            self.audit(entry, self.0.clock.latest() / 1000).await?;
        }
        let row = evaluation.to_be_bytes();
        self.0.store.commit(Transaction::new().put(format!("{EVALUATIONS}{kind}"), row)).await?;
        known.insert(kind, evaluation);
        Ok(())
    }
}
