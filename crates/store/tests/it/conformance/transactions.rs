use store::{
    MAX_KEY_BYTES, MAX_OPERATIONS, MAX_TRANSACTION_BYTES, MAX_VALUE_BYTES, Outcome, Store, StoreError,
    Transaction,
};

use super::{committed, value};

pub(crate) async fn what_is_written_is_read_with_its_revisions(store: Store) {
    assert_eq!(store.get("a").await.unwrap(), None);
    let first = committed(&store, Transaction::new().put("a", "1")).await;
    let second = committed(&store, Transaction::new().put("a", "2").put("b", "3")).await;
    assert!(0 < first && first < second);
    let row = store.get("a").await.unwrap().unwrap();
    assert_eq!((row.key.as_slice(), row.value.as_slice()), (&b"a"[..], &b"2"[..]));
    assert_eq!((row.create_revision, row.mod_revision, row.lease), (first, second, None));
    let row = store.get("b").await.unwrap().unwrap();
    assert_eq!((row.create_revision, row.mod_revision), (second, second), "one revision a transaction");
}

pub(crate) async fn a_key_that_was_deleted_begins_anew(store: Store) {
    committed(&store, Transaction::new().put("a", "1").put("b", "1")).await;
    let deleted = committed(&store, Transaction::new().delete("a")).await;
    assert_eq!(store.get("a").await.unwrap(), None);
    let again = committed(&store, Transaction::new().if_absent("a").put("a", "2")).await;
    assert!(deleted < again);
    let row = store.get("a").await.unwrap().unwrap();
    assert_eq!((row.create_revision, row.mod_revision), (again, again));
    assert_eq!(value(&store, "b").await, b"1");
}

pub(crate) async fn a_comparison_that_does_not_hold_changes_nothing(store: Store) {
    let first = committed(&store, Transaction::new().if_absent("a").put("a", "1")).await;
    let conflict = Ok(Outcome::Conflict { key: b"a".to_vec() });
    let gone = Ok(Outcome::Conflict { key: b"gone".to_vec() });
    for (refused, expected) in [
        (Transaction::new().if_absent("a").put("a", "2").put("b", "2"), &conflict),
        (Transaction::new().if_revision("a", first + 1).delete("a").put("b", "2"), &conflict),
        (Transaction::new().if_revision("gone", first).put("b", "2"), &gone),
    ] {
        assert_eq!(store.commit(refused).await.map_err(|error| error.to_string()), *expected);
    }
    assert_eq!(store.get("b").await.unwrap(), None);
    assert_eq!(store.get("a").await.unwrap().unwrap().mod_revision, first);
    committed(&store, Transaction::new().if_revision("a", first).put("a", "2")).await;
    assert_eq!(value(&store, "a").await, b"2");
}

pub(crate) async fn the_first_comparison_that_does_not_hold_is_named(store: Store) {
    let first = committed(&store, Transaction::new().put("a", "1").put("b", "1").put("c", "1")).await;
    let transaction = Transaction::new().if_revision("a", first).if_absent("b").if_absent("c").put("d", "1");
    assert_eq!(store.commit(transaction).await.unwrap(), Outcome::Conflict { key: b"b".to_vec() });
}

pub(crate) async fn comparisons_are_of_what_was_before_the_transaction(store: Store) {
    let both = Transaction::new().if_absent("a").if_absent("b").put("a", "1").put("b", "1");
    let first = committed(&store, both).await;
    let swap = Transaction::new().if_revision("a", first).if_revision("b", first).put("b", "2").delete("a");
    committed(&store, swap).await;
    assert_eq!((store.get("a").await.unwrap(), value(&store, "b").await), (None, b"2".to_vec()));
}

pub(crate) async fn what_changes_nothing_is_committed_all_the_same(store: Store) {
    let first = committed(&store, Transaction::new().put("a", "1")).await;
    let nothing = [
        Transaction::new(),
        Transaction::new().delete("gone"),
        Transaction::new().if_absent("gone").delete("gone"),
        Transaction::new().if_revision("a", first),
    ];
    for transaction in nothing {
        assert!(first <= committed(&store, transaction).await, "the revision is the store's own");
    }
    assert_eq!(store.get("a").await.unwrap().unwrap().mod_revision, first);
    let same = committed(&store, Transaction::new().put("a", "1")).await;
    assert!(first < same, "the same value is a write like others");
}

pub(crate) async fn a_key_that_is_written_twice_is_refused(store: Store) {
    for twice in [
        Transaction::new().put("a", "1").put("a", "2"),
        Transaction::new().put("a", "1").put("b", "1").delete("a"),
        Transaction::new().delete("a").delete("a"),
    ] {
        assert!(matches!(store.commit(twice).await, Err(StoreError::WrittenTwice(key)) if key == "a"));
    }
    assert_eq!(store.range("").await.unwrap().rows, []);
}

pub(crate) async fn transactions_over_a_limit_are_refused_whole(store: Store) {
    let many = (0..=MAX_OPERATIONS).fold(Transaction::new(), |all, number| all.put(number.to_string(), "x"));
    let compared =
        (0..MAX_OPERATIONS).fold(Transaction::new(), |all, number| all.if_absent(number.to_string()));
    for refused in [
        many,
        compared.put("k", "x"),
        Transaction::new().put("a", "x").put("k", vec![0; MAX_VALUE_BYTES + 1]),
        Transaction::new()
            .put("a", vec![0; MAX_VALUE_BYTES])
            .put("b", vec![0; MAX_TRANSACTION_BYTES - MAX_VALUE_BYTES]),
        Transaction::new().put("a", "x").delete(vec![b'k'; MAX_KEY_BYTES + 1]),
        Transaction::new().put("a", "x").put("", "x"),
    ] {
        assert!(matches!(store.commit(refused).await, Err(StoreError::TooLarge(_))));
    }
    assert_eq!(store.range("").await.unwrap().rows, []);
}

pub(crate) async fn transactions_as_large_as_the_limits_are_carried_out(store: Store) {
    let rest = MAX_TRANSACTION_BYTES - MAX_VALUE_BYTES - 2;
    committed(&store, Transaction::new().put("a", vec![1; MAX_VALUE_BYTES]).put("b", vec![2; rest])).await;
    let range = store.range("").await.unwrap();
    let lengths: Vec<_> = range.rows.iter().map(|row| row.value.len()).collect();
    assert_eq!(lengths, [MAX_VALUE_BYTES, rest]);
    let half = MAX_OPERATIONS / 2;
    let keys = (0..half).map(|number| format!("{number:0>MAX_KEY_BYTES$}"));
    committed(&store, keys.fold(Transaction::new(), |all, key| all.if_absent(key.clone()).put(key, "x")))
        .await;
    assert_eq!(store.range("0").await.unwrap().rows.len(), half);
}

pub(crate) async fn any_bytes_are_a_key_and_a_value(store: Store) {
    let keys: [&[u8]; 6] = [&[0], &[0, 0], &[0, 1], b"k", &[255], &[255, 255]];
    let all = keys.iter().fold(Transaction::new(), |all, key| all.put(*key, *key));
    committed(&store, all.put("empty", "")).await;
    for key in keys {
        assert_eq!(store.get(key).await.unwrap().unwrap().value, key);
    }
    assert_eq!(value(&store, "empty").await, b"");
    let found: Vec<_> = store.range("").await.unwrap().into_iter().map(|row| row.key).collect();
    let expected: [&[u8]; 7] = [&[0], &[0, 0], &[0, 1], b"empty", b"k", &[255], &[255, 255]];
    assert_eq!(found, expected);
}

pub(crate) async fn of_concurrent_creators_one_wins(store: Store) {
    let tasks: Vec<_> = (0..16)
        .map(|number: u8| {
            let store = store.clone();
            tokio::spawn(
                async move { store.commit(Transaction::new().if_absent("a").put("a", [number])).await },
            )
        })
        .collect();
    let mut won = Vec::new();
    for (number, task) in tasks.into_iter().enumerate() {
        match task.await.unwrap().unwrap() {
            Outcome::Committed { revision } => won.push((number, revision)),
            Outcome::Conflict { key } => assert_eq!(key, b"a"),
        }
    }
    let row = store.get("a").await.unwrap().unwrap();
    assert_eq!(won, [(usize::from(row.value[0]), row.mod_revision)]);
}

pub(crate) async fn no_concurrent_swap_is_lost(store: Store) {
    const EACH: u64 = 20;
    committed(&store, Transaction::new().put("count", 0u64.to_be_bytes())).await;
    let tasks: Vec<_> = (0..8).map(|_| tokio::spawn(count_up(store.clone(), EACH))).collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(value(&store, "count").await, (8 * EACH).to_be_bytes());
}

async fn count_up(store: Store, times: u64) {
    for _ in 0..times {
        loop {
            let row = store.get("count").await.unwrap().unwrap();
            let next = u64::from_be_bytes(row.value.try_into().unwrap()) + 1;
            let swap =
                Transaction::new().if_revision("count", row.mod_revision).put("count", next.to_be_bytes());
            if matches!(store.commit(swap).await.unwrap(), Outcome::Committed { .. }) {
                break;
            }
        }
    }
}

pub(crate) async fn a_read_sees_all_that_was_acknowledged_before_it(store: Store) {
    let tasks: Vec<_> = (0..8)
        .map(|writer: u8| {
            let store = store.clone();
            tokio::spawn(async move {
                for step in 0..20u8 {
                    let key = format!("k/{writer}");
                    let revision = committed(&store, Transaction::new().put(key.clone(), [step])).await;
                    let row = store.get(key.clone()).await.unwrap().unwrap();
                    assert_eq!((row.value.as_slice(), row.mod_revision), (&[step][..], revision));
                    let range = store.range("k/").await.unwrap();
                    assert!(range.revision >= revision);
                    let row = range.rows.iter().find(|row| row.key == key.as_bytes()).unwrap();
                    assert_eq!(row.mod_revision, revision);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

pub(crate) async fn a_transaction_that_is_refused_does_not_touch_those_beside_it(store: Store) {
    committed(&store, Transaction::new().put("taken", "x")).await;
    let tasks: Vec<_> = (0..64u8)
        .map(|number| {
            let (store, key) = (store.clone(), format!("k/{number:02}"));
            let transaction = Transaction::new().put(key, [number]);
            let transaction = if number % 2 == 0 { transaction.if_absent("taken") } else { transaction };
            tokio::spawn(async move { store.commit(transaction).await.unwrap() })
        })
        .collect();
    for (number, task) in tasks.into_iter().enumerate() {
        let outcome = task.await.unwrap();
        assert_eq!(matches!(outcome, Outcome::Conflict { .. }), number % 2 == 0, "{outcome:?}");
    }
    let rows = store.range("k/").await.unwrap().rows;
    assert!(rows.iter().map(|row| row.value[0]).eq((0..64).filter(|number| number % 2 == 1)));
    let mut revisions: Vec<_> = rows.iter().map(|row| row.mod_revision).collect();
    revisions.sort_unstable();
    revisions.dedup();
    assert_eq!(revisions.len(), rows.len(), "each transaction has a revision of its own");
}
