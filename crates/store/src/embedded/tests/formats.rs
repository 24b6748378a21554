//! What is read of the disk: what earlier programs wrote, and anything at all.

use proptest::prelude::*;
use redb::{Database, TableDefinition};

use super::super::{history, leases, rows};
use super::*;

#[test]
fn a_file_that_is_no_store_is_refused_and_left_as_it_was() {
    let place = Place::new();
    for held in ["not a store, but precious", ""] {
        std::fs::write(place.path(), held).unwrap();
        assert!(matches!(Store::open(&place.path()), Err(StoreError::Open { .. })));
        assert_eq!(std::fs::read_to_string(place.path()).unwrap(), held);
    }
}

/// A file as it was before there were leases and watches.
fn of_before(place: &Place, rows: &[(&str, &[u8])], revision: u64) {
    let database = Database::create(place.path()).unwrap();
    let write = database.begin_write().unwrap();
    {
        let mut table = write.open_table(TableDefinition::<&[u8], &[u8]>::new("rows")).unwrap();
        for (key, row) in rows {
            table.insert(key.as_bytes(), *row).unwrap();
        }
        let mut meta = write.open_table(TableDefinition::<&str, u64>::new("meta")).unwrap();
        meta.insert("revision", revision).unwrap();
    }
    write.commit().unwrap();
}

const OLD: &[u8] = b"\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x05value";

#[tokio::test(start_paused = true)]
async fn a_file_of_before_is_read_and_its_revisions_go_on() {
    let place = Place::new();
    of_before(&place, &[("k", OLD)], 9);
    let (store, shared) = place.open_keeping(Kept::default());
    let row = store.get("k").await.unwrap().unwrap();
    let expected = KeyValue {
        key: b"k".to_vec(),
        value: b"value".to_vec(),
        create_revision: 2,
        mod_revision: 5,
        lease: None,
    };
    assert_eq!(row, expected);
    let from_before = store.watch("", 8).next().await;
    assert!(matches!(from_before, Err(StoreError::Compacted { oldest: 10 })), "{from_before:?}");
    let mut watch = store.watch("", 9);
    let lease = store.grant(Duration::from_secs(60)).await.unwrap();
    assert_eq!(
        committed(&store, Transaction::new().if_revision("k", 5).put_leased("k", "new", lease)).await,
        10
    );
    assert_eq!(changes(&mut watch).await.revision, 10);
    assert_eq!(store.get("k").await.unwrap().unwrap().create_revision, 2);
    assert_whole(&shared);
}

#[tokio::test(start_paused = true)]
async fn a_history_that_does_not_lead_to_the_revision_of_the_store_is_forgotten() {
    let place = Place::new();
    committed(&place.open(), Transaction::new().put("a", "1")).await;
    of_before(&place, &[("k", OLD)], 20);
    let (store, shared) = place.open_keeping(Kept::default());
    let with_a_gap = store.watch("", 1).next().await;
    assert!(matches!(with_a_gap, Err(StoreError::Compacted { oldest: 21 })), "{with_a_gap:?}");
    committed(&store, Transaction::new().delete("a")).await;
    assert_whole(&shared);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_row_is_named_and_stops_nothing_else() {
    let place = Place::new();
    of_before(&place, &[("bad", b"\x07nobody wrote this"), ("k", OLD)], 9);
    let store = place.open();
    let damaged = |error: StoreError| matches!(&error, StoreError::Damaged(key) if key == "bad");
    assert!(damaged(store.get("bad").await.unwrap_err()));
    assert!(damaged(store.range("").await.unwrap_err()));
    let (refused, carried_out) = tokio::join!(
        store.commit(Transaction::new().put("a", "1").put("bad", "new")),
        store.commit(Transaction::new().put("k", "2")),
    );
    assert!(damaged(refused.unwrap_err()));
    assert_eq!(carried_out.unwrap(), Outcome::Committed { revision: 10 });
    assert_eq!(store.get("a").await.unwrap(), None);
}

#[test]
fn a_lease_that_nobody_could_have_written_is_refused_at_the_start() {
    let place = Place::new();
    drop(place.open());
    let database = Database::create(place.path()).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(LEASES).unwrap().insert(7, &b"\x02"[..]).unwrap();
    write.commit().unwrap();
    drop(database);
    let refused = Store::open(&place.path()).unwrap_err();
    assert!(
        matches!(&refused, StoreError::Open { reason, .. } if reason.contains("lease 0000000000000007")),
        "{refused}"
    );
}

fn row() -> impl Strategy<Value = Vec<u8>> {
    let almost = (0..4u8, proptest::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..40));
    almost.prop_map(|(format, rest)| [&[format], rest.as_slice()].concat())
}

proptest! {
    #[test]
    fn any_bytes_are_a_row_that_this_program_writes_or_damaged(bytes in row()) {
        match rows::decode(b"k", &bytes) {
            Ok(row) => assert_eq!(rows::encode(&row), bytes),
            Err(error) => assert!(matches!(error, StoreError::Damaged(key) if key == "k")),
        }
    }

    #[test]
    fn any_bytes_are_an_entry_of_the_history_or_damaged(format in 0..3u8, bytes in proptest::collection::vec(0..4u8, 0..40)) {
        let entry = [&[format], bytes.as_slice()].concat();
        match history::under(b"", 7, &entry) {
            Ok(Some(changes)) => assert!(changes.revision == 7 && !changes.changes.is_empty()),
            Ok(None) => assert_eq!(entry, [1]),
            Err(error) => assert!(matches!(error, StoreError::Damaged(_))),
        }
    }

    #[test]
    fn any_bytes_are_a_lease_that_this_program_writes_or_nothing(bytes in proptest::collection::vec(0..3u8, 0..12)) {
        if let Some(ttl) = leases::decode(&bytes) {
            assert_eq!(leases::encode(ttl), bytes);
        }
    }
}
