//! What the authority shows of itself: policies, the records of its appraisals, and how far its audit trail goes.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use serde_json::Value;
use types::ServiceName;

use super::{Authority, ServicePolicy};
use crate::TrustError;
use crate::audit::AuditHead;

/// How far the audit trail goes, and what it verifies with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditState {
    /// T_0, which the first record follows.
    pub genesis: [u8; 32],
    /// The last record.
    pub last: AuditHead,
    /// The last record that a signed head covers.
    pub signed: AuditHead,
}

impl Authority {
    /// T_0, which names the mesh for ever.
    pub fn genesis(&self) -> [u8; 32] {
        self.0.domain.genesis(self.root_spki())
    }

    /// What the replicas of each service must be, and what they are given.
    pub fn services(&self) -> Arc<BTreeMap<ServiceName, Arc<ServicePolicy>>> {
        Arc::clone(&self.state().services)
    }

    /// The signed records of the appraisals of a replica as they are stored, the oldest first; empty where there are none.
    ///
    /// # Errors
    /// The store fails.
    pub async fn records(&self, service: &ServiceName, instance: &str) -> Result<Vec<Value>, TrustError> {
        let rows = self.0.store.range(appraisals(service, instance).as_str()).await?.rows;
        let read = |row: &store::KeyValue| {
            serde_json::from_slice(&row.value).map_err(|_| TrustError::Tampered("appraisal records"))
        };
        rows.iter().map(read).collect()
    }

    /// How far the audit trail goes.
    ///
    /// # Errors
    /// A part of the authority failed.
    pub async fn audit_state(&self) -> Result<AuditState, TrustError> {
        let (audit, genesis) = (Arc::clone(&self.0.audit), self.genesis());
        let look = tokio::task::spawn_blocking(move || {
            let audit = audit.lock().unwrap_or_else(PoisonError::into_inner);
            AuditState { genesis, last: audit.last(), signed: audit.signed_head() }
        });
        look.await.map_err(|_| TrustError::Failed)
    }
}

/// What the keys of a replica's records begin with.
pub(super) fn appraisals(service: &ServiceName, instance: &str) -> String {
    format!("trust/appraisal/{service}/{instance}/")
}
