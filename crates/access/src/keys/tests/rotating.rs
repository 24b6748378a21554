//! A key that is given another secret.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

use super::*;

const DAY: i64 = 24 * 3600;

async fn rotate(
    owner: &Arc<ApiKeys>,
    id: &str,
    overlap: Option<&str>,
    now: i64,
) -> Result<(KeyRecord, ApiKey), AccessError> {
    let wanted = NewRotation { overlap: overlap.map(str::to_owned), public_key: None };
    let made = owner.make_rotation(id, &wanted, at(now)).await?;
    let (record, key) = owner.rotate(made).await?;
    Ok((record, key.expect("a secret")))
}

fn is_good(owner: &ApiKeys, key: &ApiKey, now: i64) -> bool {
    owner.subscribe().borrow().authenticate(key.expose(), at(now)).is_ok()
}

#[tokio::test]
async fn the_old_secret_is_good_for_a_day_and_then_ends_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let owner = keys(&folder).await;
    let (made, old) = owner.create(in_tier("free"), at(100)).await.unwrap();
    let (record, new) = rotate(&owner, &made.id, None, 200).await.unwrap();
    assert_ne!(old.expose(), new.expose());
    let expected =
        KeyRecord { rotated_at: Some(at(200)), previous_ends_at: Some(at(200 + DAY)), ..made.clone() };
    assert_eq!(record, expected, "and it is the same key");
    let check = |owner: &Arc<ApiKeys>| {
        for (key, now, good) in
            [(&old, 200 + DAY - 1, true), (&old, 200 + DAY, false), (&new, 10 * DAY, true)]
        {
            assert_eq!(is_good(owner, key, now), good, "{key:?} at {now}");
        }
    };
    check(&owner);
    let mut remembered = None;
    let table = owner.subscribe().borrow().clone();
    let mut again = |now| table.authenticate_again(&mut remembered, old.expose().as_bytes(), at(now)).err();
    assert_eq!([again(300), again(200 + DAY)], [None, Some(Refusal::Unknown)], "also where it is remembered");
    drop((owner, table));
    let owner = keys(&folder).await;
    check(&owner);
    assert_eq!(owner.list().await, [record]);
}

#[tokio::test]
async fn both_secrets_are_held_to_one_allowance_that_a_rotation_does_not_refill() {
    let folder = tempfile::tempdir().unwrap();
    let owner = keys(&folder).await;
    let (made, old) = owner.create(in_tier("free"), at(100)).await.unwrap();
    let before = caller(&owner, &old);
    let (_, new) = rotate(&owner, &made.id, None, 100).await.unwrap();
    assert!(Arc::ptr_eq(&before, &caller(&owner, &old)) && Arc::ptr_eq(&before, &caller(&owner, &new)));
}

#[tokio::test]
async fn never_more_than_two_secrets_of_a_key_are_good() {
    let folder = tempfile::tempdir().unwrap();
    let owner = keys(&folder).await;
    let (made, first) = owner.create(wanted(&["a"]), at(100)).await.unwrap();
    let (_, second) = rotate(&owner, &made.id, Some("7d"), 100).await.unwrap();
    assert!(is_good(&owner, &first, 101) && is_good(&owner, &second, 101));
    let (_, third) = rotate(&owner, &made.id, None, 102).await.unwrap();
    assert_eq!([&first, &second, &third].map(|key| is_good(&owner, key, 103)), [false, true, true]);
    let (record, fourth) = rotate(&owner, &made.id, Some("0s"), 104).await.unwrap();
    assert_eq!([&second, &third, &fourth].map(|key| is_good(&owner, key, 104)), [false, false, true]);
    assert_eq!(record.previous_ends_at, Some(at(104)));
}

#[tokio::test]
async fn a_revocation_ends_every_secret_and_what_has_ended_is_not_rotated() {
    let folder = tempfile::tempdir().unwrap();
    let owner = keys(&folder).await;
    let (made, old) = owner.create(wanted(&["a"]), at(100)).await.unwrap();
    let (_, new) = rotate(&owner, &made.id, None, 100).await.unwrap();
    let late = NewRotation::default();
    let late = owner.make_rotation(&made.id, &late, at(100)).await.unwrap();
    owner.revoke(&made.id, at(101)).await.unwrap();
    assert!(!is_good(&owner, &old, 101) && !is_good(&owner, &new, 101));
    assert!(matches!(rotate(&owner, &made.id, None, 102).await, Err(AccessError::Ended(_))));
    assert!(matches!(owner.rotate(late).await, Err(AccessError::Ended(_))), "nor one that was begun before");
    let (short, _) =
        owner.create(NewKey { expires_at: Some(at(200)), ..wanted(&["a"]) }, at(100)).await.unwrap();
    assert!(matches!(rotate(&owner, &short.id, None, 200).await, Err(AccessError::Ended(_))));
    assert!(matches!(rotate(&owner, "key_none", None, 200).await, Err(AccessError::UnknownKey(_))));
    for overlap in ["8d", "7d1ms", "1w", "", "-1s"] {
        let refused = rotate(&owner, &short.id, Some(overlap), 100).await.map(|_| ());
        assert!(matches!(refused, Err(AccessError::Invalid(_))), "{overlap}: {refused:?}");
    }
}

#[tokio::test]
async fn another_node_knows_both_secrets_whatever_comes_twice_or_late() {
    let folder = tempfile::tempdir().unwrap();
    let shared = store(&folder);
    let one = keys_in(&shared).await;
    let (made, first) = one.create(wanted(&["a"]), at(100)).await.unwrap();
    let two = keys_in(&shared).await;
    let (_, second) = rotate(&one, &made.id, None, 100).await.unwrap();
    // The other node has not heard of it, and loses nothing of it.
    let (record, third) = rotate(&two, &made.id, None, 101).await.unwrap();
    let following = tokio::spawn(Arc::clone(&one).follow(std::future::pending()));
    let goods = |owner: &Arc<ApiKeys>| [&first, &second, &third].map(|key| is_good(owner, key, 102));
    assert_eq!(goods(&two), [false, true, true]);
    let mut table = one.subscribe();
    let is_so = |table: &Arc<KeyTable>| table.authenticate(third.expose(), at(102)).is_ok();
    tokio::time::timeout(Duration::from_secs(60), table.wait_for(is_so)).await.expect("in time").unwrap();
    assert_eq!(goods(&one), [false, true, true]);
    assert_eq!(one.list().await, [record]);
    two.revoke(&made.id, at(103)).await.unwrap();
    let is_so = |table: &Arc<KeyTable>| table.authenticate(third.expose(), at(102)).is_err();
    tokio::time::timeout(Duration::from_secs(60), table.wait_for(is_so)).await.expect("in time").unwrap();
    assert_eq!(goods(&one), [false; 3]);
    following.abort();

    let mut ring = one.ring.lock().await;
    let place = ring.places[&made.id];
    let newest = ring.keys[place].stored.clone();
    let mut older = StoredKey { rotations: 0, ..newest.clone() };
    older.record.revoked_at = None;
    assert!(!ring.take_over(older), "an older state changes nothing");
    assert_eq!(ring.keys[place].stored, newest);
}

fn pem(seed: u8) -> String {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    let mut der = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00".to_vec();
    der.extend_from_slice(pair.public_key().as_ref());
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
    format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
}

#[tokio::test]
async fn a_key_with_a_public_key_has_no_secret_and_is_rotated_to_another_public_key() {
    let folder = tempfile::tempdir().unwrap();
    let owner = keys(&folder).await;
    let new = |seed| NewKey { public_key: Some(pem(seed)), ..wanted(&["a"]) };
    let made = owner.make(new(1), at(100)).await.unwrap();
    let (record, key) = owner.add(made).await.unwrap();
    assert!(key.is_none());
    let info = record.public_key.clone().expect("a public key");
    assert_eq!((info.algorithm, info.sha256.len()), (crate::SignatureAlgorithm::Ed25519, 64));
    let rotation = |public_key: Option<String>| NewRotation { overlap: None, public_key };
    for wrong in [rotation(None), rotation(Some(pem(1))), rotation(Some("no key".to_owned()))] {
        let refused = owner.make_rotation(&record.id, &wrong, at(100)).await.map(|_| ());
        assert!(matches!(refused, Err(AccessError::Invalid(_))), "{wrong:?}: {refused:?}");
    }
    let (secret, _) = owner.create(wanted(&["a"]), at(100)).await.unwrap();
    let refused = owner.make_rotation(&secret.id, &rotation(Some(pem(1))), at(100)).await.map(|_| ());
    assert!(matches!(refused, Err(AccessError::Invalid(_))), "{refused:?}");
    let made = owner.make_rotation(&record.id, &rotation(Some(pem(2))), at(100)).await.unwrap();
    let (rotated, key) = owner.rotate(made).await.unwrap();
    assert!(key.is_none() && rotated.public_key != record.public_key);
    drop(owner);
    let listed = keys(&folder).await.list().await;
    assert!(listed.contains(&rotated), "{listed:?}");
}
