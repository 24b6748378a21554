//! The store in a file, held to what both promise.

use std::future::Future;
use std::time::Duration;

use store::{KEPT_REVISIONS, Store, StoreError, Transaction};

use crate::conformance::{changes_to, committed, every_case};

/// Time is paused, so that this passes at once where nothing moves any more.
const LIMIT: Duration = Duration::from_secs(600);

/// Runs a case on a store of its own.
async fn held<F: Future<Output = ()>>(case: impl FnOnce(Store) -> F) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store.redb")).unwrap();
    tokio::time::timeout(LIMIT, case(store)).await.expect("nothing moves any more");
}

macro_rules! on_embedded {
    ($($module:ident: $($case:ident),+;)+) => {$(
        mod $module {
            $(
                #[tokio::test(start_paused = true)]
                async fn $case() {
                    super::held(crate::conformance::$module::$case).await;
                }
            )+
        }
    )+};
}

every_case!(on_embedded);

#[tokio::test(start_paused = true)]
async fn the_last_ten_thousand_revisions_are_kept() {
    held(async |store: Store| {
        const WRITERS: u64 = 250;
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let store = store.clone();
                tokio::spawn(async move {
                    for step in 0..(KEPT_REVISIONS + 500) / WRITERS {
                        committed(&store, Transaction::new().put(writer.to_be_bytes(), step.to_be_bytes()))
                            .await;
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        let last = store.range("").await.unwrap().revision;
        assert_eq!(last, KEPT_REVISIONS + 500);
        let oldest = last - KEPT_REVISIONS + 1;
        let too_old = store.watch("", oldest - 2).next().await;
        assert!(
            matches!(too_old, Err(StoreError::Compacted { oldest: said }) if said == oldest),
            "{too_old:?}"
        );
        let seen = changes_to(&mut store.watch("", oldest - 1), last).await;
        assert!(seen.iter().map(|seen| seen.revision).eq(oldest..=last));
    })
    .await;
}
