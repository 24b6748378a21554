//! Fencing tokens: what the store says is written once for each registration, and the revision of that write only grows, over
//! restarts of this process and over all nodes that share the store. Renewals are not written.

use serde::Serialize;
use store::{Outcome, Store, StoreError, Transaction};
use types::ReplicaId;

use super::Applicant;

/// Where the last registration of each replica is.
const REGISTRATIONS: &str = "registrations/";

/// What is written of a registration. Its token is the revision of the row.
#[derive(Serialize)]
struct Row {
    v: u32,
    run: String,
    address: String,
}

/// Writes down that a process registers itself, and gives the token of that.
///
/// # Errors
/// It may not be written down.
pub(crate) async fn next_token(
    store: &Store,
    replica: &ReplicaId,
    applicant: &Applicant,
) -> Result<u64, StoreError> {
    let row =
        Row { v: 1, run: mesh_protocol::to_hex(&applicant.run), address: applicant.address.to_string() };
    let row = serde_json::to_vec(&row).map_err(|error| StoreError::Failed(error.to_string()))?;
    let key = format!("{REGISTRATIONS}{}/{}", replica.service, replica.instance());
    match store.commit(Transaction::new().put(key, row)).await? {
        Outcome::Committed { revision } => Ok(revision),
        Outcome::Conflict { .. } => unreachable!("nothing was compared"),
    }
}

#[cfg(test)]
mod tests {
    use types::Description;

    use super::*;

    #[tokio::test]
    async fn tokens_only_grow_also_over_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.redb");
        let ids: [ReplicaId; 2] = ["web/0", "web/1"].map(|id| id.parse().unwrap());
        let mut given = Vec::new();
        for run in 0..3 {
            let store = Store::open(&path).unwrap();
            for id in &ids {
                let address = ([10, 0, 0, 7], 7443).into();
                let applicant =
                    Applicant { run: [run; 16], address, leaf: [0; 32], description: Description::default() };
                given.push(next_token(&store, id, &applicant).await.unwrap());
            }
            let rows = store.range(REGISTRATIONS).await.unwrap().rows;
            assert_eq!(rows.len(), 2, "the last one of each replica");
            assert_eq!(rows[1].mod_revision, *given.last().unwrap());
        }
        assert!(given.is_sorted_by(|one, next| one < next), "{given:?}");
    }
}
