//! The store in a file, held to what both promise.

use std::future::Future;
use std::time::Duration;

use store::Store;

use crate::conformance::every_case;

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
