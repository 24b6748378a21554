use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use store::{Change, Changes, KeyValue, LeaseId, Outcome, Store, StoreError, Transaction};

use super::{changes, changes_to};

const STEPS: usize = 200;
const KEYS: u8 = 6;
const LEASES: usize = 3;

/// What is asked of the store.
#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<Compared>, Vec<Written>),
    Revoke(usize),
}

/// A comparison of a key; one of those that are not with what is there now may hold or not.
#[derive(Debug, Clone)]
enum Compared {
    Absent(u8),
    Now(u8),
    Was(u8, u64),
}

#[derive(Debug, Clone)]
enum Written {
    Put(u8, u8, Option<usize>),
    Delete(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let compared = prop_oneof![
        (0..KEYS).prop_map(Compared::Absent),
        (0..KEYS).prop_map(Compared::Now),
        (0..KEYS, 0..4u64).prop_map(|(key, back)| Compared::Was(key, back)),
    ];
    let written = prop_oneof![
        3 => (0..KEYS, any::<u8>(), proptest::option::of(0..LEASES)).prop_map(|(key, value, lease)| Written::Put(key, value, lease)),
        2 => (0..KEYS).prop_map(Written::Delete),
    ];
    let commit = (proptest::collection::vec(compared, 0..2), proptest::collection::vec(written, 0..4));
    prop_oneof![
        20 => commit.prop_map(|(compared, written)| Step::Commit(compared, written)),
        1 => (0..LEASES).prop_map(Step::Revoke),
    ]
}

/// What the store should hold, and what it should have told whoever watches.
struct Model {
    store: Store,
    revision: u64,
    rows: BTreeMap<Vec<u8>, KeyValue>,
    leases: [LeaseId; LEASES],
    history: Vec<Changes>,
}

fn name(key: u8) -> Vec<u8> {
    vec![b'k', key]
}

impl Model {
    fn compares(&self, compared: &[Compared]) -> (Transaction, Option<Vec<u8>>) {
        let (mut transaction, mut unmet) = (Transaction::new(), None);
        for compared in compared {
            let (Compared::Absent(key) | Compared::Now(key) | Compared::Was(key, _)) = compared;
            let (key, row) = (name(*key), self.rows.get(&name(*key)));
            let wanted = match compared {
                Compared::Absent(_) => None,
                Compared::Now(_) => row.map(|row| row.mod_revision),
                Compared::Was(_, back) => {
                    Some(row.map_or(1, |row| row.mod_revision.saturating_sub(*back).max(1)))
                }
            };
            transaction = match wanted {
                None => transaction.if_absent(key.clone()),
                Some(revision) => transaction.if_revision(key.clone(), revision),
            };
            if unmet.is_none() && row.map(|row| row.mod_revision) != wanted {
                unmet = Some(key);
            }
        }
        (transaction, unmet)
    }

    async fn commit(&mut self, compared: &[Compared], written: &[Written]) {
        let (mut transaction, unmet) = self.compares(compared);
        let mut keys = Vec::new();
        let mut twice = false;
        for written in written {
            let (Written::Put(key, ..) | Written::Delete(key)) = written;
            twice |= keys.contains(key);
            keys.push(*key);
            transaction = match written {
                Written::Put(key, value, None) => transaction.put(name(*key), [*value]),
                Written::Put(key, value, Some(lease)) => {
                    transaction.put_leased(name(*key), [*value], self.leases[*lease])
                }
                Written::Delete(key) => transaction.delete(name(*key)),
            };
        }
        match self.store.commit(transaction).await {
            Err(StoreError::WrittenTwice(_)) => assert!(twice),
            Ok(Outcome::Conflict { key }) => assert_eq!(Some(key), unmet),
            Ok(Outcome::Committed { revision }) => {
                assert!(!twice && unmet.is_none());
                self.wrote(revision, written);
            }
            Err(other) => panic!("{other}"),
        }
    }

    fn wrote(&mut self, revision: u64, written: &[Written]) {
        let mut changes = Vec::new();
        for written in written {
            match written {
                Written::Put(key, value, lease) => {
                    let key = name(*key);
                    let create_revision = self.rows.get(&key).map_or(revision, |row| row.create_revision);
                    let lease = lease.map(|lease| self.leases[lease]);
                    let row = KeyValue {
                        key: key.clone(),
                        value: vec![*value],
                        create_revision,
                        mod_revision: revision,
                        lease,
                    };
                    self.rows.insert(key, row.clone());
                    changes.push(Change::Put(row));
                }
                Written::Delete(key) => {
                    changes.extend(self.rows.remove(&name(*key)).map(|row| Change::Deleted(row.key)));
                }
            }
        }
        self.changed(revision, changes);
    }

    fn changed(&mut self, revision: u64, mut changes: Vec<Change>) {
        if changes.is_empty() {
            assert!(revision >= self.revision);
            return;
        }
        assert!(revision > self.revision);
        self.revision = revision;
        changes.sort_by(|one, other| one.key().cmp(other.key()));
        self.history.push(Changes { revision, changes });
    }

    /// Ends a lease and takes another one in its place.
    async fn revoke(&mut self, at: usize) {
        let lease = self.leases[at];
        self.store.revoke(lease).await.unwrap();
        self.leases[at] = self.store.grant(std::time::Duration::from_secs(3600)).await.unwrap();
        let goes = |row: &KeyValue| row.lease == Some(lease);
        let gone: Vec<_> =
            self.rows.values().filter(|row| goes(row)).map(|row| Change::Deleted(row.key.clone())).collect();
        self.rows.retain(|_, row| !goes(row));
        if !gone.is_empty() {
            let seen = changes(&mut self.store.watch("k", self.revision)).await;
            self.changed(seen.revision, gone);
        }
    }
}

pub(crate) async fn the_store_agrees_with_a_model(store: Store) {
    let hour = std::time::Duration::from_secs(3600);
    let mut leases = Vec::new();
    for _ in 0..LEASES {
        leases.push(store.grant(hour).await.unwrap());
    }
    let start = store.range("k").await.unwrap().revision;
    let leases = leases.try_into().unwrap();
    let mut model =
        Model { store: store.clone(), revision: start, rows: BTreeMap::new(), leases, history: Vec::new() };
    let steps = proptest::collection::vec(step(), STEPS);
    for step in steps.new_tree(&mut TestRunner::deterministic()).unwrap().current() {
        match step {
            Step::Commit(compared, written) => model.commit(&compared, &written).await,
            Step::Revoke(at) => model.revoke(at).await,
        }
        let found = store.range("k").await.unwrap().rows;
        assert!(found.iter().eq(model.rows.values()), "{found:?} and {:?}", model.rows);
    }
    let mut seen = changes_to(&mut store.watch("k", start), model.revision).await;
    for changes in &mut seen {
        changes.changes.sort_by(|one, other| one.key().cmp(other.key()));
    }
    assert_eq!(seen, model.history);
}
