//! The store in etcd, held to what both promise, and to what it says when members, connections or rights are gone.

mod access;
mod failing;
mod failover;
mod ranges;
mod watching;

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use store::{EndPoint, EtcdSettings, Store};
use testkit::Etcd;
use tokio::time::timeout;

/// Everything that a test waits for comes within this.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn settings(etcd: &Etcd, namespace: &str) -> EtcdSettings {
    let end_point =
        |address: std::net::SocketAddr| EndPoint::new(address.ip().to_string(), address.port()).unwrap();
    EtcdSettings {
        end_points: etcd.addresses().into_iter().map(end_point).collect(),
        namespace: namespace.as_bytes().to_vec(),
        tls: None,
        login: None,
        random: fastrand::Rng::with_seed(7),
    }
}

/// A store in the namespace `/test/`.
fn store(etcd: &Etcd) -> Store {
    Store::etcd(settings(etcd, "/test/")).unwrap()
}

/// Waits for something, but not for ever.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(LIMIT, what).await.expect("it comes within the limit")
}

/// The etcd that cases share, which ends with the last of those that run at the same time.
static SHARED: Mutex<Weak<Etcd>> = Mutex::new(Weak::new());
/// How many namespaces there were in it.
static NAMESPACES: AtomicU64 = AtomicU64::new(0);

fn shared() -> Option<Arc<Etcd>> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(etcd) = shared.upgrade() {
        return Some(etcd);
    }
    let etcd = Arc::new(Etcd::start(1)?);
    *shared = Arc::downgrade(&etcd);
    Some(etcd)
}

/// Runs a case in a namespace of its own.
async fn held<F: Future<Output = ()>>(case: impl FnOnce(Store) -> F) {
    let Some(etcd) = shared() else { return };
    let namespace = format!("/{}/", NAMESPACES.fetch_add(1, Ordering::Relaxed));
    soon(case(Store::etcd(settings(&etcd, &namespace)).unwrap())).await;
}

macro_rules! on_etcd {
    ($($module:ident: $($case:ident),+;)+) => {$(
        mod $module {
            $(
                #[tokio::test]
                async fn $case() {
                    super::super::held(crate::conformance::$module::$case).await;
                }
            )+
        }
    )+};
}

mod conformance {
    use crate::conformance::every_case;
    every_case!(on_etcd);
}
