//! What both stores promise, as cases that know of neither: each is given a store, or a part of one, that is empty.
//!
//! Others may write elsewhere in the same store at the same time, so a case never says which number a revision has. What should
//! not happen is shown by what happens next. A case that waits for a lease takes seconds where time is not paused.

pub(crate) mod agreement;
pub(crate) mod leases;
pub(crate) mod ranges;
pub(crate) mod transactions;
pub(crate) mod watches;

use std::collections::BTreeMap;

use store::{Change, Changes, KeyValue, Outcome, Store, Transaction, Watch, Watched};

/// Names every case, by module, to a macro that makes tests of them.
macro_rules! every_case {
    ($make:ident) => {
        $make! {
            transactions:
                what_is_written_is_read_with_its_revisions,
                a_key_that_was_deleted_begins_anew,
                a_comparison_that_does_not_hold_changes_nothing,
                the_first_comparison_that_does_not_hold_is_named,
                comparisons_are_of_what_was_before_the_transaction,
                what_changes_nothing_is_committed_all_the_same,
                a_key_that_is_written_twice_is_refused,
                transactions_over_a_limit_are_refused_whole,
                transactions_as_large_as_the_limits_are_carried_out,
                any_bytes_are_a_key_and_a_value,
                of_concurrent_creators_one_wins,
                no_concurrent_swap_is_lost,
                a_read_sees_all_that_was_acknowledged_before_it,
                a_transaction_that_is_refused_does_not_touch_those_beside_it;
            ranges:
                a_range_holds_exactly_the_keys_of_its_prefix_in_order,
                pages_hold_what_comes_behind_a_key,
                a_prefix_may_end_in_the_highest_byte,
                some_keys_are_read_in_their_order_and_of_one_moment,
                a_range_knows_the_revision_of_the_store,
                a_range_is_of_one_moment;
            watches:
                a_watch_gives_each_transaction_whole_and_once,
                a_watch_gives_only_its_prefix,
                a_change_carries_all_that_a_read_would,
                a_deletion_is_shown_where_there_was_something,
                a_watch_resumes_at_any_revision_without_gap_or_repeat,
                a_watch_after_a_revision_to_come_waits_for_it,
                a_watch_that_is_asked_in_vain_loses_nothing,
                every_watch_sees_what_concurrent_writers_did_in_one_order,
                a_watch_that_begins_among_writers_misses_nothing;
            leases:
                what_is_under_a_lease_goes_at_once_when_it_is_not_renewed,
                a_lease_lives_as_long_as_it_is_renewed,
                a_lease_is_given_its_shortest_life_at_least,
                what_is_under_a_lease_that_is_revoked_goes_in_one_revision,
                a_lease_without_keys_ends_unseen,
                a_lease_that_has_ended_takes_nothing,
                a_lease_that_never_was_takes_nothing,
                a_comparison_is_judged_before_the_lease,
                a_key_that_is_written_without_a_lease_stays,
                a_key_that_is_written_under_another_lease_goes_with_that_one,
                a_key_that_was_deleted_does_not_go_again,
                what_is_written_while_a_lease_ends_goes_or_is_refused,
                every_lease_has_a_number_of_its_own;
            agreement:
                the_store_agrees_with_a_model;
        }
    };
}
pub(crate) use every_case;

/// The revision of a transaction that has to be carried out.
pub(crate) async fn committed(store: &Store, transaction: Transaction) -> u64 {
    match store.commit(transaction).await.unwrap() {
        Outcome::Committed { revision } => revision,
        Outcome::Conflict { key } => {
            panic!("a comparison of {:?} does not hold", String::from_utf8_lossy(&key))
        }
    }
}

/// The value of a key that has to be there.
pub(crate) async fn value(store: &Store, key: &str) -> Vec<u8> {
    store.get(key).await.unwrap().unwrap().value
}

/// The next change.
pub(crate) async fn changes(watch: &mut Watch) -> Changes {
    loop {
        if let Watched::Changes(changes) = watch.next().await.unwrap() {
            assert!(!changes.changes.is_empty(), "changes are never empty");
            return changes;
        }
    }
}

/// All changes up to a revision that changes something under the prefix.
pub(crate) async fn changes_to(watch: &mut Watch, revision: u64) -> Vec<Changes> {
    let mut all: Vec<Changes> = Vec::new();
    while all.last().is_none_or(|last| last.revision < revision) {
        let next = changes(watch).await;
        assert!(all.last().is_none_or(|last| last.revision < next.revision), "in order, and each once");
        all.push(next);
    }
    assert_eq!(all.last().unwrap().revision, revision);
    all
}

/// What there is after these changes.
pub(crate) fn replay(rows: &mut BTreeMap<Vec<u8>, KeyValue>, changes: &[Changes]) {
    for change in changes.iter().flat_map(|changes| &changes.changes) {
        match change {
            Change::Put(row) => drop(rows.insert(row.key.clone(), row.clone())),
            Change::Deleted(key) => assert!(rows.remove(key).is_some(), "what is deleted was there"),
        }
    }
}

/// The keys of changes, in order.
pub(crate) fn keys(changes: &Changes) -> Vec<String> {
    let mut keys: Vec<_> =
        changes.changes.iter().map(|change| String::from_utf8_lossy(change.key()).into_owned()).collect();
    keys.sort();
    keys
}
