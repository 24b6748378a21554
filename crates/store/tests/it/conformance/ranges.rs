use store::{MAX_OPERATIONS, Store, StoreError, Transaction};

use super::{changes, committed, keys};

async fn keys_under(store: &Store, prefix: impl Into<Vec<u8>>) -> Vec<Vec<u8>> {
    store.range(prefix).await.unwrap().into_iter().map(|row| row.key).collect()
}

pub(crate) async fn a_range_holds_exactly_the_keys_of_its_prefix_in_order(store: Store) {
    let all = Transaction::new().put("k/b", "2").put("k/a", "1").put("k", "0").put("k0", "3").put("j", "4");
    committed(&store, all.put("k/a/c", "5")).await;
    assert_eq!(keys_under(&store, "k/").await, [&b"k/a"[..], b"k/a/c", b"k/b"]);
    assert_eq!(keys_under(&store, "k").await, [&b"k"[..], b"k/a", b"k/a/c", b"k/b", b"k0"]);
    assert_eq!(keys_under(&store, "").await.len(), 6);
    assert!(keys_under(&store, "l").await.is_empty());
}

pub(crate) async fn a_prefix_may_end_in_the_highest_byte(store: Store) {
    let all: [&[u8]; 5] = [&[254], &[255], &[255, 0], &[255, 255], &[255, 255, 1]];
    committed(&store, all.iter().fold(Transaction::new(), |all, key| all.put(*key, "x"))).await;
    assert_eq!(keys_under(&store, [255]).await, all[1..]);
    assert_eq!(keys_under(&store, [255, 255]).await, all[3..]);
    committed(&store, Transaction::new().put([1, 255], "x").put([2], "x")).await;
    assert_eq!(keys_under(&store, [1, 255]).await, [[1, 255]]);
}

pub(crate) async fn pages_hold_what_comes_behind_a_key(store: Store) {
    let all = ["a", "k", "k/1", "k/2", "k/3", "k0"];
    committed(&store, all.iter().fold(Transaction::new(), |all, key| all.put(*key, "x"))).await;
    let page = async |after: &str, most| {
        let rows = store.page("k/", after, most).await.unwrap();
        rows.into_iter().map(|row| String::from_utf8(row.key).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(page("", 2).await, ["k/1", "k/2"]);
    assert_eq!(page("k/2", 2).await, ["k/3"]);
    assert_eq!(page("k/1x", 9).await, ["k/2", "k/3"]);
    assert_eq!(page("k/3", 2).await, [""; 0]);
    assert_eq!(page("", 0).await, [""; 0]);
    assert_eq!(page("z", 2).await, [""; 0]);
    assert_eq!(page("a", 1).await, ["k/1"], "what comes before the prefix is before all of it");
}

pub(crate) async fn some_keys_are_read_in_their_order_and_of_one_moment(store: Store) {
    let first = committed(&store, Transaction::new().put("k/a", "1").put("k/b", "2")).await;
    let keys = |keys: &[&str]| keys.iter().map(|key| key.as_bytes().to_vec()).collect::<Vec<_>>();
    let found = store.get_all(keys(&["k/b", "k", "k/a", "k/b"])).await.unwrap();
    let [Some(b), None, Some(a), Some(again)] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((a.key.as_slice(), a.value.as_slice(), a.mod_revision), (&b"k/a"[..], &b"1"[..], first));
    assert_eq!((b.key.as_slice(), b.value.as_slice(), b), (&b"k/b"[..], &b"2"[..], again));
    assert_eq!(store.get_all(Vec::new()).await.unwrap(), []);
    let many: Vec<_> = (0..=MAX_OPERATIONS).map(|key| key.to_string().into_bytes()).collect();
    assert_eq!(store.get_all(many[1..].to_vec()).await.unwrap(), vec![None; MAX_OPERATIONS]);
    assert!(matches!(store.get_all(many).await, Err(StoreError::TooLarge(_))));
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            for step in 0..50u8 {
                committed(&store, Transaction::new().put("k/a", [step]).put("k/b", [step])).await;
            }
        }
    });
    while !writer.is_finished() {
        let found = store.get_all(keys(&["k/a", "k/b"])).await.unwrap();
        let revisions = found.into_iter().map(|row| row.unwrap().mod_revision).collect::<Vec<_>>();
        assert_eq!(revisions[0], revisions[1]);
    }
    writer.await.unwrap();
}

pub(crate) async fn a_range_knows_the_revision_of_the_store(store: Store) {
    let empty = store.range("k").await.unwrap();
    assert_eq!(empty.rows, []);
    let mut watch = store.watch("k", empty.revision);
    let first = committed(&store, Transaction::new().put("k", "1")).await;
    let elsewhere = committed(&store, Transaction::new().put("l", "1")).await;
    assert!(empty.revision < first && first < elsewhere);
    let range = store.range("k").await.unwrap();
    assert!(range.revision >= elsewhere, "of the whole store");
    assert_eq!(range.rows[0].mod_revision, first);
    assert_eq!(
        changes(&mut watch).await.revision,
        first,
        "nothing falls between a range and a watch after it"
    );
    let mut watch = store.watch("k", range.revision);
    committed(&store, Transaction::new().put("k2", "1")).await;
    assert_eq!(keys(&changes(&mut watch).await), ["k2"]);
}

pub(crate) async fn a_range_is_of_one_moment(store: Store) {
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            for step in 0..100u8 {
                committed(&store, Transaction::new().put("k/a", [step]).put("k/z", [step])).await;
            }
        }
    });
    while !writer.is_finished() {
        let range = store.range("k/").await.unwrap();
        match range.rows.as_slice() {
            [] => {}
            [a, z] => {
                assert_eq!((&a.value, a.mod_revision), (&z.value, z.mod_revision));
                assert!(a.mod_revision <= range.revision);
            }
            other => panic!("half a transaction: {other:?}"),
        }
    }
    writer.await.unwrap();
}
