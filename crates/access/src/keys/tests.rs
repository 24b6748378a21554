use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn wanted(scopes: &[&str]) -> NewKey {
    NewKey {
        name: "test".into(),
        scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
        tenant: None,
        expires_at: None,
    }
}

async fn keys(folder: &tempfile::TempDir) -> Arc<ApiKeys> {
    let store = Store::open(&folder.path().join("store.redb")).unwrap();
    Arc::new(ApiKeys::open(store, &Zeroizing::new(vec![5; 32]), KeyKind::Test).await.unwrap())
}

#[tokio::test]
async fn a_created_key_is_recognised_at_once_and_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let owner = keys(&folder).await;
    let table = owner.subscribe();
    let new = NewKey { tenant: Some("acme".into()), ..wanted(&["randomness"]) };
    let (record, key) = owner.create(new, at(100)).await.unwrap();
    let expected = Caller::new(&record.id, "acme", vec!["randomness".into()]);
    assert_eq!(*table.borrow().authenticate(key.expose(), at(100)).unwrap(), expected);
    drop((owner, table));
    let owner = keys(&folder).await;
    assert_eq!(*owner.subscribe().borrow().authenticate(key.expose(), at(100)).unwrap(), expected);
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
        let answer = table.authenticate_again(&mut remembered, key, at(now));
        assert_eq!(answer, table.authenticate(key, at(now)), "with and without memory the same");
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
    assert_eq!(table.borrow().authenticate(&typo, at(0)).unwrap_err(), Refusal::Malformed);
}

#[tokio::test]
async fn the_development_key_has_all_scopes_and_is_the_same_at_each_start() {
    let folder = tempfile::tempdir().unwrap();
    let owner = keys(&folder).await;
    let first = owner.development_key().expose().to_owned();
    let caller = owner.subscribe().borrow().authenticate(&first, at(0)).unwrap();
    assert_eq!(caller.missing_scope(&["anything".to_owned()]), None);
    drop(owner);
    assert_eq!(keys(&folder).await.development_key().expose(), first);
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
