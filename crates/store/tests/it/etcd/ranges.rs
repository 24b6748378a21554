//! Ranges that are larger than one answer.

use store::Transaction;
use testkit::Etcd;

use super::{soon, store};
use crate::conformance::committed;

#[tokio::test]
async fn a_range_of_many_pages_is_of_one_moment() {
    const ROWS: u32 = 2_000;
    let Some(etcd) = Etcd::start(1) else { return };
    let store = store(&etcd);
    for batch in 0..ROWS / 100 {
        let keys = (batch * 100..batch * 100 + 100).map(|key| format!("k/{key:05}"));
        committed(&store, keys.fold(Transaction::new(), |all, key| all.put(key, "0"))).await;
    }
    // Both ends are always written together, and each range reads them with pages in between.
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            for step in 1..100u8 {
                committed(&store, Transaction::new().put("k/00000", [step]).put("k/01999", [step])).await;
            }
        }
    });
    while !writer.is_finished() {
        let range = soon(store.range("k/")).await.unwrap();
        assert_eq!(range.rows.len(), ROWS as usize);
        assert!(range.rows.is_sorted_by(|one, other| one.key < other.key));
        assert_eq!(range.rows[0].mod_revision.max(22), range.rows[1999].mod_revision.max(22));
        assert!(range.rows.iter().all(|row| row.mod_revision <= range.revision));
    }
    writer.await.unwrap();
}

#[tokio::test]
async fn large_values_make_smaller_pages() {
    let Some(etcd) = Etcd::start(1) else { return };
    let store = store(&etcd);
    for key in 0..20u8 {
        committed(&store, Transaction::new().put([b'k', key], vec![key; 1 << 20])).await;
    }
    let range = soon(store.range("k")).await.unwrap();
    let found: Vec<_> = range.rows.iter().map(|row| (row.key[1], row.value.len(), row.value[0])).collect();
    assert_eq!(found, (0..20).map(|key| (key, 1 << 20, key)).collect::<Vec<_>>());
}
