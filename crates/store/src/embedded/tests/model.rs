//! The store against a model that knows every revision, with little history and starts in between.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const KEPT: Kept = Kept { revisions: 7, bytes: 1 << 20 };

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8, Option<usize>),
    Delete(u8, u8),
    Create(u8, u8),
    Revoke(usize),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..5u8, any::<u8>(), proptest::option::of(0..2usize)).prop_map(|(key, value, lease)| Step::Put(key, value, lease)),
        3 => (0..5u8, 0..5u8).prop_map(|(one, other)| Step::Delete(one, other)),
        3 => (0..5u8, 0..5u8).prop_map(|(absent, key)| Step::Create(absent, key)),
        1 => (0..2usize).prop_map(Step::Revoke),
        1 => Just(Step::Reopen),
    ]
}

#[derive(Default)]
struct Model {
    revision: u64,
    rows: BTreeMap<Vec<u8>, KeyValue>,
}

impl Model {
    fn put(&mut self, key: u8, value: u8, lease: Option<LeaseId>) {
        self.revision += 1;
        let create_revision = self.rows.get(&[key][..]).map_or(self.revision, |row| row.create_revision);
        let row = KeyValue {
            key: vec![key],
            value: vec![value],
            create_revision,
            mod_revision: self.revision,
            lease,
        };
        self.rows.insert(vec![key], row);
    }

    fn remove(&mut self, goes: impl Fn(&KeyValue) -> bool) {
        let before = self.rows.len();
        self.rows.retain(|_, row| !goes(row));
        self.revision += u64::from(self.rows.len() < before);
    }
}

async fn agree(steps: Vec<Step>) {
    let place = Place::new();
    let hour = Duration::from_secs(3600);
    let (mut store, mut shared) = place.open_keeping(KEPT);
    let mut leases = [store.grant(hour).await.unwrap(), store.grant(hour).await.unwrap()];
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Put(key, value, lease) => {
                let lease = lease.map(|lease| leases[lease]);
                model.put(key, value, lease);
                let transaction = match lease {
                    Some(lease) => Transaction::new().put_leased([key], [value], lease),
                    None => Transaction::new().put([key], [value]),
                };
                assert_eq!(committed(&store, transaction).await, model.revision);
            }
            Step::Delete(one, other) => {
                model.remove(|row| row.key == [one] || row.key == [other]);
                let transaction = Transaction::new().delete([one]);
                let transaction = if one == other { transaction } else { transaction.delete([other]) };
                assert_eq!(committed(&store, transaction).await, model.revision);
            }
            Step::Create(absent, key) => {
                let transaction = Transaction::new().if_absent([absent]).put([key], [0]);
                let outcome = store.commit(transaction).await.unwrap();
                if model.rows.contains_key(&[absent][..]) {
                    assert_eq!(outcome, Outcome::Conflict { key: vec![absent] });
                } else {
                    model.put(key, 0, None);
                    assert_eq!(outcome, Outcome::Committed { revision: model.revision });
                }
            }
            Step::Revoke(at) => {
                model.remove(|row| row.lease == Some(leases[at]));
                store.revoke(leases[at]).await.unwrap();
                leases[at] = store.grant(hour).await.unwrap();
            }
            Step::Reopen => {
                drop((store, shared));
                (store, shared) = place.open_keeping(KEPT);
            }
        }
        let range = store.range("").await.unwrap();
        assert_eq!(range.revision, model.revision);
        assert!(range.rows.iter().eq(model.rows.values()));
    }
    assert_whole(&shared);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_agrees_with_a_model_of_every_revision(steps in proptest::collection::vec(step(), 0..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(agree(steps));
    }
}
