use std::cell::Cell;
use std::time::Duration;

use super::*;
use crate::{Limit, Rate, Tier};

mod rotating;

thread_local! {
    /// How many keys this thread has hashed.
    pub(super) static HASHED: Cell<u32> = const { Cell::new(0) };
}

impl ApiKeys {
    /// Makes a key with a secret.
    pub(crate) async fn create(
        self: &Arc<Self>,
        new: NewKey,
        now: Timestamp,
    ) -> Result<(KeyRecord, ApiKey), AccessError> {
        let made = self.make(new, now).await?;
        let (record, key) = self.add(made).await?;
        Ok((record, key.expect("a secret")))
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn wanted(scopes: &[&str]) -> NewKey {
    NewKey {
        name: "test".into(),
        scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
        tenant: None,
        tier: None,
        expires_at: None,
        public_key: None,
    }
}

fn in_tier(name: &str) -> NewKey {
    NewKey { tier: Some(name.to_owned()), ..wanted(&["a"]) }
}

fn store(folder: &tempfile::TempDir) -> Store {
    Store::open(&folder.path().join("store.redb")).unwrap()
}

async fn keys(folder: &tempfile::TempDir) -> Arc<ApiKeys> {
    keys_in(&store(folder)).await
}

/// The keys of a store that others may have open too.
async fn keys_in(store: &Store) -> Arc<ApiKeys> {
    let pepper = Zeroizing::new(vec![5; 32]);
    Arc::new(ApiKeys::open(store.clone(), &pepper, KeyKind::Test, Tiers::built_in()).await.unwrap())
}

/// The caller of a key in the table in force.
fn caller(owner: &ApiKeys, key: &ApiKey) -> Arc<Caller> {
    owner.subscribe().borrow().authenticate(key.expose(), at(100)).unwrap()
}

/// Takes one request from the caller's bucket: how many are left, or how long to wait.
fn take_one(caller: &Caller) -> Result<u32, Duration> {
    let bucket = caller.allowance().unwrap().bucket().expect("a limit");
    bucket.check(0).map(|allowed| allowed.remaining).map_err(|denied| denied.retry_after)
}

/// The built-in tiers and one of so many requests a minute.
fn with_tier(name: &str, count: u32, burst: u32) -> Tiers {
    let rate = Rate { count, per: Duration::from_secs(60) };
    Tiers::with(BTreeMap::from([(name.to_owned(), Tier { limit: Limit::new(rate, burst), daily: None })]))
}

#[tokio::test]
async fn a_created_key_is_recognised_at_once_and_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let owner = keys(&folder).await;
    let table = owner.subscribe();
    let new = NewKey { tenant: Some("acme".into()), ..wanted(&["randomness"]) };
    let (record, key) = owner.create(new, at(100)).await.unwrap();
    let check = |caller: &Caller| {
        assert_eq!(caller.subject(), record.id.as_bytes());
        assert_eq!((&caller.tenant()[..], &caller.scope_list()[..]), (&b"acme"[..], &b"randomness"[..]));
    };
    check(&table.borrow().authenticate(key.expose(), at(100)).unwrap());
    drop((owner, table));
    let owner = keys(&folder).await;
    check(&caller(&owner, &key));
    assert_eq!(owner.list().await, [record]);
}

#[tokio::test]
async fn a_key_is_refused_from_its_expiry_on_and_after_its_revocation() {
    let folder = tempfile::tempdir().unwrap();
    let owner = keys(&folder).await;
    let table = owner.subscribe();
    let new = NewKey { expires_at: Some(at(200)), ..wanted(&["a"]) };
    let (record, key) = owner.create(new, at(100)).await.unwrap();
    assert!(table.borrow().authenticate(key.expose(), at(199)).is_ok());
    assert_eq!(table.borrow().authenticate(key.expose(), at(200)).unwrap_err(), Refusal::Expired);
    owner.revoke(&record.id, at(150)).await.unwrap();
    assert_eq!(owner.revoke(&record.id, at(160)).await.unwrap().revoked_at, Some(at(150)));
    assert_eq!(table.borrow().authenticate(key.expose(), at(151)).unwrap_err(), Refusal::Unknown);
    assert!(matches!(owner.revoke("key_none", at(160)).await, Err(AccessError::UnknownKey(_))));
}

#[tokio::test]
async fn a_remembered_key_is_forgotten_when_it_changes_expires_or_is_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let owner = keys(&folder).await;
    let table = owner.subscribe();
    let (first, first_key) = owner.create(wanted(&["a"]), at(100)).await.unwrap();
    let (_, second_key) =
        owner.create(NewKey { expires_at: Some(at(200)), ..wanted(&["b"]) }, at(100)).await.unwrap();
    let mut remembered = None;
    let mut ask = |key: &str, now| {
        let table = table.borrow();
        let answer = table.authenticate_again(&mut remembered, key.as_bytes(), at(now));
        match (&answer, table.authenticate(key, at(now))) {
            (Ok(remembered), Ok(found)) => {
                assert!(Arc::ptr_eq(remembered, &found), "with and without memory the same");
            }
            (remembered, found) => {
                assert_eq!(
                    remembered.as_ref().err(),
                    found.err().as_ref(),
                    "with and without memory the same"
                );
            }
        }
        answer.map(|caller| caller.subject().clone())
    };
    assert_eq!(ask(first_key.expose(), 100).unwrap(), first.id.as_bytes());
    assert_eq!(ask(first_key.expose(), 100).unwrap(), first.id.as_bytes());
    assert!(ask(second_key.expose(), 199).is_ok());
    assert_eq!(ask(second_key.expose(), 200), Err(Refusal::Expired));
    assert_eq!(ask(&second_key.expose()[..56], 100), Err(Refusal::Malformed));
    assert!(ask(first_key.expose(), 100).is_ok());
    owner.revoke(&first.id, at(150)).await.unwrap();
    assert_eq!(ask(first_key.expose(), 151), Err(Refusal::Unknown));
}

#[tokio::test]
async fn a_typo_is_malformed_and_a_stranger_is_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let owner = keys(&folder).await;
    let table = owner.subscribe();
    let stranger = ApiKey::from_bits(KeyKind::Test, &[1; 32]);
    assert_eq!(table.borrow().authenticate(stranger.expose(), at(0)).unwrap_err(), Refusal::Unknown);
    let typo = format!("{}x", &stranger.expose()[..56]);
    let before = HASHED.get();
    assert_eq!(table.borrow().authenticate(&typo, at(0)).unwrap_err(), Refusal::Malformed);
    assert_eq!(HASHED.get(), before, "it is not even hashed");
}

#[tokio::test]
async fn the_development_key_has_all_scopes_and_is_the_same_at_each_start() {
    let folder = tempfile::tempdir().unwrap();
    let owner = keys(&folder).await;
    let first = owner.development_key().expect("in development").expose().to_owned();
    let caller = owner.subscribe().borrow().authenticate(&first, at(0)).unwrap();
    assert_eq!(caller.missing_scope(&["anything".to_owned()]), None);
    drop(owner);
    assert_eq!(keys(&folder).await.development_key().unwrap().expose(), first);
}

#[tokio::test]
async fn keys_of_the_other_mode_are_refused_unseen_and_production_has_no_development_key() {
    let folder = tempfile::tempdir().unwrap();
    let pepper = Zeroizing::new(vec![5; 32]);
    let owner = ApiKeys::open(store(&folder), &pepper, KeyKind::Live, Tiers::built_in()).await.unwrap();
    let owner = Arc::new(owner);
    assert!(owner.development_key().is_none());
    let (record, live) = owner.create(wanted(&["a"]), at(100)).await.unwrap();
    assert!(live.expose().starts_with("sk_live_") && record.tier == "free", "{record:?}");
    caller(&owner, &live);
    drop(owner);
    let owner = keys(&folder).await;
    let (_, test) = owner.create(wanted(&["a"]), at(100)).await.unwrap();
    let table = owner.subscribe().borrow().clone();
    let before = HASHED.get();
    assert_eq!(table.authenticate(live.expose(), at(100)).unwrap_err(), Refusal::OtherMode);
    assert_eq!(HASHED.get(), before, "although it is in the table");
    assert!(table.authenticate(test.expose(), at(100)).is_ok());
    assert_eq!(HASHED.get(), before + 1);
}

#[tokio::test]
async fn keys_that_would_be_ambiguous_or_useless_are_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let owner = keys(&folder).await;
    let bad = [
        NewKey { name: String::new(), ..wanted(&["a"]) },
        NewKey { name: "a\nb".into(), ..wanted(&["a"]) },
        wanted(&[]),
        wanted(&["a b"]),
        wanted(&["*"]),
        wanted(&["Admin"]),
        NewKey { tenant: Some("a b".into()), ..wanted(&["a"]) },
        NewKey { expires_at: Some(at(100)), ..wanted(&["a"]) },
    ];
    for new in bad {
        assert!(matches!(owner.create(new.clone(), at(100)).await, Err(AccessError::Invalid(_))), "{new:?}");
    }
    assert_eq!(owner.list().await, []);
}

#[tokio::test]
async fn the_store_never_holds_a_key_in_the_clear() {
    let folder = tempfile::tempdir().unwrap();
    let owner = keys(&folder).await;
    let (_, key) = owner.create(wanted(&["a"]), at(100)).await.unwrap();
    drop(owner);
    let file = std::fs::read(folder.path().join("store.redb")).unwrap();
    let body = &key.expose().as_bytes()[8..24];
    assert!(!file.windows(body.len()).any(|window| window == body));
}

#[tokio::test]
async fn a_revocation_that_nobody_waits_for_any_more_is_still_in_force() {
    let folder = tempfile::tempdir().unwrap();
    let owner = keys(&folder).await;
    let (record, key) = owner.create(wanted(&["a"]), at(100)).await.unwrap();
    let mut table = owner.subscribe();
    table.mark_unchanged();
    {
        let revoking = owner.revoke(&record.id, at(150));
        tokio::pin!(revoking);
        assert!(
            std::future::poll_fn(|context| std::task::Poll::Ready(
                revoking.as_mut().poll(context).is_pending()
            ))
            .await
        );
    }
    table.changed().await.unwrap();
    assert_eq!(table.borrow().authenticate(key.expose(), at(151)).unwrap_err(), Refusal::Unknown);
    assert!(owner.list().await[0].revoked_at.is_some());
}

#[tokio::test]
async fn a_key_is_held_to_its_tier_and_to_none_if_none_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let owner = keys(&folder).await;
    let (free, free_key) = owner.create(in_tier("free"), at(100)).await.unwrap();
    let (other, other_key) = owner.create(wanted(&["a"]), at(100)).await.unwrap();
    assert_eq!((free.tier.as_str(), other.tier.as_str()), ("free", "unlimited"));
    let check = |owner: &Arc<ApiKeys>| {
        let free = caller(owner, &free_key);
        let limiter = free.allowance().unwrap().bucket().expect("a limit");
        assert_eq!((free.tier(), limiter.limit().rate().count, limiter.limit().burst()), ("free", 60, 10));
        for key in [&other_key, owner.development_key().unwrap()] {
            let caller = caller(owner, key);
            assert_eq!(
                (caller.tier(), caller.allowance().and_then(|allowance| allowance.bucket()).is_none()),
                ("unlimited", true)
            );
        }
    };
    check(&owner);
    drop(owner);
    check(&keys(&folder).await);
}

#[tokio::test]
async fn a_tier_that_is_not_defined_is_refused_with_those_that_are() {
    let folder = tempfile::tempdir().unwrap();
    let owner = keys(&folder).await;
    let refused = owner.create(in_tier("gold"), at(100)).await.unwrap_err().to_string();
    assert_eq!(refused, r#"there is no tier "gold"; there are developer, free, production, unlimited"#);
    owner.begin_tiers().await.set(with_tier("gold", 5, 1), 0);
    assert_eq!(owner.create(in_tier("gold"), at(100)).await.unwrap().0.tier, "gold");
}

#[tokio::test]
async fn a_record_of_the_time_before_tiers_is_of_an_unlimited_key() {
    let folder = tempfile::tempdir().unwrap();
    let record =
        r#"{"id":"key_1","name":"old","scopes":["a"],"tenant":"default","createdAt":"2025-01-01T00:00:00Z"}"#;
    let stored = format!(r#"{{"hash":{:?},"record":{record}}}"#, [1_u8; 32]);
    let transaction = Transaction::new().put(format!("{RECORDS}key_1"), stored.into_bytes());
    store(&folder).commit(transaction).await.unwrap();
    assert_eq!(keys(&folder).await.list().await[0].tier, "unlimited");
}

#[tokio::test]
async fn changes_of_other_keys_and_the_same_tiers_again_refill_no_bucket() {
    let folder = tempfile::tempdir().unwrap();
    let owner = keys(&folder).await;
    let (_, key) = owner.create(in_tier("free"), at(100)).await.unwrap();
    let take = || take_one(&caller(&owner, &key));
    assert_eq!(take().unwrap(), 9);
    let (other, other_key) = owner.create(in_tier("free"), at(100)).await.unwrap();
    assert_eq!(take().unwrap(), 8);
    assert_eq!(take_one(&caller(&owner, &other_key)).unwrap(), 9);
    owner.revoke(&other.id, at(100)).await.unwrap();
    assert_eq!(take().unwrap(), 7);
    let held = caller(&owner, &key);
    owner.begin_tiers().await.set(with_tier("gold", 5, 1), 0);
    assert_eq!(take_one(&held).unwrap(), 6, "callers held by workers share the bucket");
    assert_eq!(take().unwrap(), 5);
}

#[tokio::test]
async fn a_changed_tier_is_in_force_at_once_and_gives_nothing_back() {
    let folder = tempfile::tempdir().unwrap();
    let owner = keys(&folder).await;
    let (_, key) = owner.create(in_tier("free"), at(100)).await.unwrap();
    let mut table = owner.subscribe();
    table.mark_unchanged();
    let take = || take_one(&caller(&owner, &key));
    assert!((0..10).all(|_| take().is_ok()) && take().is_err());
    owner.begin_tiers().await.set(with_tier("free", 60, 12), 0);
    assert!(table.has_changed().unwrap(), "workers are told");
    assert_eq!(take().unwrap(), 1);
    owner.begin_tiers().await.set(with_tier("free", 1, 5), 0);
    assert_eq!(take().unwrap_err(), Duration::from_secs(60));
}

#[tokio::test]
async fn a_key_of_a_tier_that_is_gone_falls_to_free_with_one_warning() {
    let folder = tempfile::tempdir().unwrap();
    let owner = keys(&folder).await;
    owner.begin_tiers().await.set(with_tier("gold", 1_000_000, 1000), 0);
    let (_, key) = owner.create(in_tier("gold"), at(100)).await.unwrap();
    assert_eq!(caller(&owner, &key).tier(), "gold");
    drop(owner);
    let owner = keys(&folder).await;
    let fallen = caller(&owner, &key);
    assert_eq!(
        (fallen.tier(), fallen.allowance().unwrap().bucket().expect("a limit").limit().burst()),
        ("free", 10)
    );
    assert_eq!(owner.list().await[0].tier, "gold", "the record is as it was made");
    let mut ring = owner.ring.lock().await;
    assert_eq!(ring.newly_unknown_tiers(), BTreeMap::new(), "the operator was warned at the start");
    ring.unknown_tiers.clear();
    assert_eq!(ring.newly_unknown_tiers(), BTreeMap::from([("gold".to_owned(), 1)]));
    drop(ring);
    owner.begin_tiers().await.set(with_tier("gold", 5, 1), 0);
    assert_eq!(caller(&owner, &key).tier(), "gold", "defined again, it is in force again");
    assert_eq!(owner.ring.lock().await.unknown_tiers, BTreeSet::new());
}

#[tokio::test]
async fn keys_of_other_nodes_count_and_those_that_they_revoke_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let shared = store(&folder);
    let (one, two) = (keys_in(&shared).await, keys_in(&shared).await);
    let (early, early_key) = one.create(wanted(&["a"]), at(100)).await.unwrap();
    let following = tokio::spawn(Arc::clone(&two).follow(std::future::pending()));
    let (late, late_key) = one.create(wanted(&["b"]), at(100)).await.unwrap();
    let accepts = |key: &ApiKey, accepted: bool| {
        let (mut table, key) = (two.subscribe(), key.expose().to_owned());
        async move {
            let is_so = |table: &Arc<KeyTable>| table.authenticate(&key, at(100)).is_ok() == accepted;
            let seen = table.wait_for(is_so);
            tokio::time::timeout(Duration::from_secs(60), seen).await.expect("in time").unwrap();
        }
    };
    accepts(&early_key, true).await;
    accepts(&late_key, true).await;
    assert!(two.list().await.contains(&late));
    two.revoke(&early.id, at(101)).await.unwrap();
    one.revoke(&early.id, at(102)).await.unwrap();
    accepts(&early_key, false).await;
    assert_eq!(two.list().await[0].revoked_at, Some(at(101)));
    following.abort();
}

#[tokio::test]
async fn a_record_that_cannot_be_read_keeps_nobody_from_learning_of_a_revocation() {
    let folder = tempfile::tempdir().unwrap();
    let shared = store(&folder);
    let (one, two) = (keys_in(&shared).await, keys_in(&shared).await);
    let (early, early_key) = one.create(wanted(&["a"]), at(100)).await.unwrap();
    one.revoke(&early.id, at(101)).await.unwrap();
    // Of a later version, perhaps.
    shared.commit(Transaction::new().put("access/keys/key_z", "{}")).await.unwrap();
    let (late, late_key) = one.create(wanted(&["b"]), at(100)).await.unwrap();
    let following = tokio::spawn(Arc::clone(&two).follow(std::future::pending()));
    let mut table = two.subscribe();
    let mut until = async |key: &ApiKey, accepted: bool| {
        let is_so = |table: &Arc<KeyTable>| table.authenticate(key.expose(), at(100)).is_ok() == accepted;
        tokio::time::timeout(Duration::from_secs(60), table.wait_for(is_so)).await.expect("in time").unwrap();
    };
    until(&late_key, true).await;
    until(&early_key, false).await;
    one.revoke(&late.id, at(102)).await.unwrap();
    until(&late_key, false).await;
    following.abort();
}
