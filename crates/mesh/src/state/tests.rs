//! What a service reaches of the store, and what it does not.

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn namespaces() -> (TempDir, Arc<Namespaces>, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store.redb")).unwrap();
    (folder, Arc::new(Namespaces::new(store.clone())), store)
}

fn bytes(text: impl AsRef<[u8]>) -> Bytes {
    Bytes(text.as_ref().to_vec())
}

fn create(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> StateWrite {
    StateWrite::Create { key: bytes(key), value: bytes(value) }
}

fn code(fault: &StateFault) -> &'static str {
    match fault {
        StateFault::Malformed(_) => "malformed",
        StateFault::TooLarge(_) => "too large",
        StateFault::Full(..) => "full",
        StateFault::Conflict(_) => "conflict",
        StateFault::Store(_) => "store",
    }
}

async fn page(namespace: &Namespace, prefix: &[u8], after: &[u8], limit: usize) -> StateRangeAnswer {
    let asked = StateRangeRequest { prefix: bytes(prefix), after: bytes(after), limit };
    namespace.range(&asked).await.unwrap()
}

#[tokio::test]
async fn nothing_is_overwritten_that_the_writer_has_not_seen() {
    let (_folder, all, _) = namespaces();
    let vrf = all.of("vrf".parse().unwrap());
    let first = vrf.write(&[create("a", "1")]).await.unwrap();
    let Err(StateFault::Conflict(present)) = vrf.write(&[create("b", "x"), create("a", "2")]).await else {
        panic!("a is there already")
    };
    assert_eq!(present, [StatePresent { key: bytes("a"), revision: first, value: Some(bytes("1")) }]);
    let replace = |revision| StateWrite::Replace { key: bytes("a"), value: bytes("2"), revision };
    assert_eq!(code(&vrf.write(&[replace(first + 1)]).await.unwrap_err()), "conflict");
    let second = vrf.write(&[replace(first)]).await.unwrap();
    let delete = |revision| StateWrite::Delete { key: bytes("a"), revision };
    assert_eq!(code(&vrf.write(&[delete(first)]).await.unwrap_err()), "conflict");
    assert_eq!(vrf.read(&[bytes("a"), bytes("b")]).await.unwrap()[0].as_ref().unwrap().revision, second);
    vrf.write(&[delete(second)]).await.unwrap();
    assert_eq!(vrf.read(&[bytes("a"), bytes("b")]).await.unwrap(), [None, None], "all of it, or nothing");
    assert_eq!((vrf.usage().rows, vrf.usage().bytes), (0, 0));
}

#[tokio::test]
async fn requests_over_a_limit_are_refused_whole() {
    let (_folder, all, store) = namespaces();
    let vrf = all.of("vrf".parse().unwrap());
    let many = |count: usize| (0..count).map(|row| create(row.to_string(), "")).collect::<Vec<_>>();
    let large = |count: usize| -> Vec<_> {
        (0..count).map(|row| create(row.to_string(), vec![0; MAX_STATE_VALUE_BYTES])).collect()
    };
    for (writes, expected) in [
        (Vec::new(), "malformed"),
        (vec![create("", "1")], "malformed"),
        (vec![create("a", "1"), create("a", "1")], "malformed"),
        (vec![create([0; MAX_STATE_KEY_BYTES + 1], "1")], "too large"),
        (vec![create("a", vec![0; MAX_STATE_VALUE_BYTES + 1])], "too large"),
        (many(MAX_STATE_KEYS + 1), "too large"),
        (large(4), "too large"),
    ] {
        assert_eq!(code(&vrf.write(&writes).await.unwrap_err()), expected);
    }
    assert_eq!(store.range("").await.unwrap().rows, []);
    vrf.write(&many(MAX_STATE_KEYS)).await.unwrap();
    vrf.write(&[create([0xff; MAX_STATE_KEY_BYTES], vec![0; MAX_STATE_VALUE_BYTES])]).await.unwrap();
    assert_eq!(code(&vrf.read(&[]).await.unwrap_err()), "malformed");
    assert_eq!(code(&vrf.read(&vec![bytes("a"); MAX_STATE_KEYS + 1]).await.unwrap_err()), "too large");
    let asked = |limit| StateRangeRequest { prefix: bytes(""), after: bytes(""), limit };
    for limit in [0, MAX_STATE_ROWS + 1] {
        assert_eq!(code(&vrf.range(&asked(limit)).await.unwrap_err()), "malformed");
    }
}

#[tokio::test]
async fn an_answer_holds_as_many_rows_as_fit_and_says_that_there_are_more() {
    let (_folder, all, _) = namespaces();
    let vrf = all.of("vrf".parse().unwrap());
    let keys: Vec<_> = (0..6).map(|row| bytes(format!("k{row}"))).collect();
    for key in &keys {
        vrf.write(&[create(&key.0, vec![0; MAX_STATE_VALUE_BYTES])]).await.unwrap();
    }
    assert_eq!(vrf.read(&keys).await.unwrap().len(), 3);
    let first = page(&vrf, b"k", b"", 6).await;
    assert_eq!((first.rows.len(), first.more), (3, true));
    let second = page(&vrf, b"k", b"k2", 2).await;
    assert_eq!((second.rows.len(), second.more), (2, true));
    let last = page(&vrf, b"k", b"k4", 2).await;
    assert_eq!((last.rows[0].key.clone(), last.rows.len(), last.more), (bytes("k5"), 1, false));
}

#[tokio::test]
async fn a_service_that_is_full_is_told_and_others_are_not_touched() {
    let (_folder, all, _) = namespaces();
    all.usages(|usages| *usages = Usages::new(Limits { rows: 1, bytes: 100 }));
    let (vrf, oracle) = (all.of("vrf".parse().unwrap()), all.of("oracle".parse().unwrap()));
    let revision = vrf.write(&[create("a", "1")]).await.unwrap();
    assert_eq!(code(&vrf.write(&[create("b", "1")]).await.unwrap_err()), "full");
    oracle.write(&[create("b", "1")]).await.unwrap();
    vrf.write(&[StateWrite::Delete { key: bytes("a"), revision }, create("b", "1")]).await.unwrap();
}

fn any_key() -> impl Strategy<Value = Vec<u8>> {
    let likely = prop_oneof![
        Just(b"/".to_vec()),
        Just(b"../vrf/".to_vec()),
        Just(b"state/vrf/k".to_vec()),
        Just(vec![0]),
        Just(vec![0xff; 8]),
    ];
    prop_oneof![likely, proptest::collection::vec(any::<u8>(), 0..24)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_service_calls_its_keys_they_stay_its_own(
        keys in proptest::collection::btree_set(any_key(), 1..8), prefix in any_key(), after in any_key(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (_folder, all, store) = namespaces();
            // One name begins with the other, and all that is not theirs lies around them.
            let names = ["vr", "vrf", "vrf-2"].map(|name| all.of(name.parse().unwrap()));
            let around = ["state", "state/", "state/vr", "state/vrf", "state/vrf.", "state/vrf0", "z"];
            let theirs = around.iter().fold(Transaction::new(), |write, key| write.put(*key, "secret"));
            store.commit(theirs).await.unwrap();
            for (place, namespace) in names.iter().enumerate() {
                for key in keys.iter().filter(|key| !key.is_empty()) {
                    namespace.write(&[create(key, place.to_string())]).await.unwrap();
                }
            }
            for (place, namespace) in names.iter().enumerate() {
                let own = format!("state/{}/", namespace.service).into_bytes();
                let rows = page(namespace, &prefix, &after, MAX_STATE_ROWS).await.rows;
                let expected: Vec<_> = keys
                    .iter()
                    .filter(|key| !key.is_empty() && key.starts_with(&prefix) && **key > after)
                    .collect();
                assert_eq!(rows.iter().map(|row| &row.key.0).collect::<Vec<_>>(), expected);
                assert!(rows.iter().all(|row| row.value.0 == place.to_string().as_bytes()));
                let stored = store.range(own.clone()).await.unwrap().rows;
                assert_eq!(stored.len(), keys.iter().filter(|key| !key.is_empty()).count());
            }
            for key in around {
                assert_eq!(store.get(key).await.unwrap().unwrap().value, b"secret");
            }
        });
    }
}
