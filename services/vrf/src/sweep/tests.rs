//! What goes, when, and what takes nothing with it.

use aws_lc_rs::rand;
use sdk::{FakeState, Secret, SecretEpoch};
use zeroize::Zeroizing;

use super::*;
use crate::keys::Keys;
use crate::ledger::{Given, Keyed};
use crate::range::Draw;
use crate::records::{self, Owner};
use crate::service::{Asked, Service};

const TENANT: &str = "acme";
const DAY: u64 = 24 * 3600;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + i64::try_from(seconds).unwrap()).unwrap()
}

/// Draws at a time, and keeps the answers.
async fn draw_at(seconds: u64, kept: &FakeState, seed: Option<&str>, key: Option<&str>) -> Vec<Given> {
    let secret =
        |byte| Secret { epochs: vec![SecretEpoch { epoch: 1, value: Zeroizing::new(vec![byte; 32]) }] };
    let keys = Keys::load(&secret(7), &secret(9)).unwrap();
    let random = |bytes: &mut [u8]| rand::fill(bytes).unwrap();
    let service = Service::new(keys, Box::new(random), Box::new(move || at(seconds)), kept.state());
    let asked = Asked { draw: Draw::new(1, 6, 1).unwrap(), seed: seed.map(str::to_owned) };
    let keyed = key.map(|key| Keyed {
        key: records::key(TENANT, key.as_bytes()),
        request: [0; 32],
        moment: service.moment(),
    });
    let drawn = vec![service.draw(&service.keys(), TENANT, &asked, keyed.is_some())];
    service.ledger.settle(&Owner::new(TENANT), drawn, keyed.as_ref()).await.unwrap()
}

/// How many rows there are of each kind.
fn rows(kept: &FakeState) -> String {
    let rows = kept.rows();
    let count = |kind: &[u8]| rows.iter().filter(|(key, _)| key.starts_with(kind)).count();
    format!("{} {} {} {}", count(b"id/"), count(b"seed/"), count(b"key/"), count(b"used/"))
}

fn rand_bits() -> u128 {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).unwrap();
    u128::from_be_bytes(bytes)
}

async fn sweep(kept: &FakeState, seconds: u64) {
    Sweep::new(kept.state()).sweep(at(seconds)).await.unwrap();
}

#[tokio::test]
async fn answers_stay_30_days_and_the_use_of_a_key_one() {
    let kept = FakeState::new();
    draw_at(0, &kept, Some("s"), Some("k")).await;
    draw_at(DAY, &kept, None, Some("k2")).await;
    for (seconds, left) in [
        (DAY, "2 1 2 2"),
        (DAY + 1, "2 1 1 1"),
        (2 * DAY, "2 1 1 1"),
        (2 * DAY + 1, "2 1 0 0"),
        (30 * DAY, "2 1 0 0"),
        (30 * DAY + 1, "1 0 0 0"),
        (31 * DAY + 1, "0 0 0 0"),
    ] {
        sweep(&kept, seconds).await;
        assert_eq!(rows(&kept), left, "{seconds}");
    }
}

#[tokio::test]
async fn a_seed_whose_answer_has_gone_is_drawn_again_and_so_is_a_key() {
    let kept = FakeState::new();
    let first = draw_at(0, &kept, Some("s"), None).await;
    // Used a day before its answer goes: that is there no more when the key still is.
    let used = draw_at(30 * DAY - 10, &kept, Some("s"), Some("k")).await;
    assert!(used[0].replayed && used[0].record == first[0].record);
    sweep(&kept, 30 * DAY + 1).await;
    assert_eq!(rows(&kept), "0 0 1 1");
    let again = draw_at(30 * DAY + 2, &kept, Some("s"), Some("k")).await;
    assert!(!again[0].replayed);
    assert_eq!(again[0].record.beta, first[0].record.beta, "it is a function of key, tenant and seed");
    assert_eq!(rows(&kept), "1 1 1 1");
    sweep(&kept, 31 * DAY).await;
    assert_eq!(rows(&kept), "1 1 1 1", "the use of the key began anew");
}

#[tokio::test]
async fn more_than_a_page_goes_in_one_sweep_and_what_is_not_due_stays() {
    let kept = FakeState::new();
    for draw in 0..100 {
        let seed = format!("{draw}");
        draw_at(draw, &kept, (draw % 2 == 0).then_some(seed.as_str()), Some(&seed)).await;
    }
    sweep(&kept, 30 * DAY + 70).await;
    assert_eq!(rows(&kept), "30 15 0 0");
}

#[tokio::test]
async fn where_room_is_short_the_oldest_go_that_nothing_leads_to() {
    let kept = FakeState::new();
    for draw in 0..40 {
        let key = format!("{draw}");
        draw_at(draw, &kept, None, (draw < 35).then_some(key.as_str())).await;
    }
    let bytes = kept.state().usage().await.unwrap().bytes;
    kept.has_room_for(bytes * 4 / 3 + 10);
    sweep(&kept, 100).await;
    assert_eq!(rows(&kept), "40 0 35 35", "there is room");
    kept.has_room_for(bytes * 4 / 3 - 10);
    sweep(&kept, 100).await;
    assert_eq!(rows(&kept), "35 0 35 35", "those that keys lead to stay for now");
    kept.has_room_for(bytes / 4);
    sweep(&kept, DAY + 3700).await;
    assert_eq!(rows(&kept), "5 0 0 0");
}

#[tokio::test(start_paused = true)]
async fn while_more_is_to_go_than_one_sweep_removes_the_next_one_does_not_wait_long() {
    const ANSWERS: usize = MAX_PAGES * PAGE + 10 * PAGE;
    let kept = FakeState::new();
    let drawn = draw_at(0, &kept, None, None).await.remove(0).record;
    let another = |_| Record { id: Ulid::from_parts(drawn.id.timestamp_ms(), rand_bits()), ..drawn.clone() };
    let records: Vec<_> = (1..ANSWERS).map(another).collect();
    for some in records.chunks(MAX_STATE_KEYS) {
        let writes = some.iter().flat_map(|record| record.writes(&Owner::new(TENANT))).collect();
        assert!(matches!(kept.state().write(writes).await, Ok(Written::Done(_))));
    }
    let bytes = kept.state().usage().await.unwrap().bytes;
    kept.has_room_for(bytes / ANSWERS as u64 * 4 * PAGE as u64);
    let sweep = Sweep::new(kept.state()).keep(|| at(100), || 0.5);
    let ended = tokio::time::timeout(EVERY + SOON * 2, sweep).await;
    assert!(ended.is_err(), "it sweeps for ever");
    assert_eq!(kept.rows().len(), 3 * PAGE);
}

#[tokio::test]
async fn two_replicas_that_sweep_at_once_are_in_nobodys_way() {
    let kept = FakeState::new();
    for draw in 0..80 {
        draw_at(draw, &kept, Some(&draw.to_string()), None).await;
    }
    tokio::join!(sweep(&kept, 31 * DAY), sweep(&kept, 31 * DAY));
    sweep(&kept, 31 * DAY).await;
    assert_eq!(rows(&kept), "0 0 0 0");
}
