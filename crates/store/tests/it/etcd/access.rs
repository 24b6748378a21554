//! Who is let in, and who is not.

use store::{EtcdTls, Login, Store, StoreError, Transaction, Watched};
use testkit::{Authority, Etcd};
use zeroize::Zeroizing;

use super::{settings, soon};
use crate::conformance::{committed, value};

fn tls(authority: &Authority, own: Option<&testkit::Certificate>) -> EtcdTls {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.der().to_vec().into()).unwrap();
    EtcdTls { roots, client: own.map(|own| (vec![own.der().to_vec().into()], own.key())) }
}

#[tokio::test]
async fn over_tls_both_sides_show_who_they_are() {
    let (authority, other) = (Authority::new("etcd"), Authority::new("another"));
    let Some(etcd) = Etcd::start_secured(&authority) else { return };
    let own = authority.certificate(&["client"]);
    let of = |tls| Store::etcd(store::EtcdSettings { tls: Some(tls), ..settings(&etcd, "/t/") }).unwrap();
    let store = of(tls(&authority, Some(&own)));
    let mut watch = store.watch("a", 0);
    committed(&store, Transaction::new().put("a", "1")).await;
    assert_eq!(value(&store, "a").await, b"1");
    assert!(matches!(soon(watch.next()).await.unwrap(), Watched::Changes(_)));
    for stranger in [
        tls(&other, Some(&own)),
        tls(&authority, None),
        tls(&authority, Some(&other.certificate(&["client"]))),
    ] {
        let refused = of(stranger).commit(Transaction::new().put("a", "2")).await.unwrap_err();
        assert!(matches!(refused, StoreError::Unreachable(_)), "{refused}");
    }
}

fn login(etcd: &Etcd, namespace: &str, user: &str, password: &str) -> Store {
    let login = Some(Login { user: user.to_owned(), password: Zeroizing::new(password.to_owned()) });
    Store::etcd(store::EtcdSettings { login, ..settings(etcd, namespace) }).unwrap()
}

#[tokio::test]
async fn a_user_may_do_what_its_role_allows_and_nobody_else_anything() {
    let Some(etcd) = Etcd::start(1) else { return };
    // Whoever has a password does not need it before there are users.
    let store = login(&etcd, "/app/", "app", "correct horse");
    committed(&store, Transaction::new().put("a", "0")).await;
    etcd.enable_users("app", "correct horse", (b"/app/", b"/app0"));
    committed(&store, Transaction::new().put("a", "1")).await;
    let lease = store.grant(std::time::Duration::from_secs(5)).await.unwrap();
    store.keep_alive(lease).await.unwrap();
    let last = committed(&store, Transaction::new().put_leased("b", "2", lease)).await;
    let mut watch = store.watch("", 0);
    let changes = crate::conformance::changes_to(&mut watch, last).await;
    assert_eq!(changes.len(), 3);

    for stranger in [
        super::store(&etcd),
        login(&etcd, "/other/", "app", "correct horse"),
        login(&etcd, "/app/", "app", "wrong"),
    ] {
        let mut watch = stranger.watch("a", 0);
        let refused = [
            stranger.get("a").await.unwrap_err(),
            stranger.commit(Transaction::new().put("a", "x")).await.unwrap_err(),
            soon(watch.next()).await.unwrap_err(),
            soon(watch.next()).await.unwrap_err(),
        ];
        for refused in refused {
            assert!(matches!(refused, StoreError::Refused(_)), "{refused}");
            assert!(!refused.to_string().contains("horse"));
        }
    }
}

#[tokio::test]
async fn a_token_that_etcd_has_forgotten_is_made_anew() {
    let Some(mut etcd) = Etcd::start(1) else { return };
    etcd.enable_users("app", "secret", (b"/app/", b"/app0"));
    let store = login(&etcd, "/app/", "app", "secret");
    let first = committed(&store, Transaction::new().put("a", "1")).await;
    let mut watch = store.watch("", first);
    // A member keeps its tokens in memory.
    etcd.kill(0);
    etcd.restart(0);
    let second = committed(&store, Transaction::new().put("a", "2")).await;
    assert_eq!(value(&store, "a").await, b"2");
    let changes = soon(crate::conformance::changes_to(&mut watch, second)).await;
    assert_eq!(changes.len(), 1);
}
