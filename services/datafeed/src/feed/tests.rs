use std::collections::BTreeMap;

use expect_test::{Expect, expect};

use super::*;

fn at(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap()
}

fn feed(rules: Rules, ids: &[&str]) -> Feed {
    let member = |id: &&str| Member { id: (*id).to_owned(), weight: 1, latest: None };
    Feed::after(None, rules, ids.iter().map(member).collect())
}

/// One reading a line: the second, the source's number, the price and, after `@`, the second that the source claims.
fn check(rules: Rules, sources: &[&str], script: &str, expected: Expect) {
    let mut feed = feed(rules.clone(), sources);
    let mut text = String::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.split_whitespace();
        let now: i64 = words.next().unwrap().parse().unwrap();
        let place = words.next().unwrap().parse().unwrap();
        let price = Price::parse(words.next().unwrap()).unwrap();
        let claimed = words.next().map_or(now, |word| word.trim_start_matches('@').parse().unwrap());
        let change =
            feed.observe(place, Reading { price, observed_at: at(claimed * 1_000) }, at(now * 1_000));
        text += &format!("{line}: {}\n", change.map_or("-".to_owned(), |change| shown(&change, &rules)));
    }
    expected.assert_eq(&text);
}

fn shown(Published { round, confirmed_at }: &Published, rules: &Rules) -> String {
    format!(
        "round {} {} ±{} of {} at {}, confirmed {}",
        round.number,
        round.price.text(rules.decimals),
        round.confidence.text(rules.decimals),
        round.source_ids.join("+"),
        round.timestamp.as_second(),
        confirmed_at.as_second()
    )
}

fn rules(min_sources: usize) -> Rules {
    Rules { decimals: 2, min_sources, ..Rules::of("BTC-USD") }
}

#[test]
fn a_round_is_published_on_deviation_and_otherwise_confirmed() {
    let script = "
        0 0 10000
        1 0 10009.99
        2 0 10010
        3 0 10000
        4 0 9999.99";
    check(
        rules(1),
        &["a"],
        script,
        expect![[r#"
        0 0 10000: round 1 10000.00 ±0.00 of a at 0, confirmed 0
        1 0 10009.99: round 1 10000.00 ±0.00 of a at 0, confirmed 1
        2 0 10010: round 2 10010.00 ±0.00 of a at 2, confirmed 2
        3 0 10000: round 2 10010.00 ±0.00 of a at 2, confirmed 3
        4 0 9999.99: round 3 9999.99 ±0.00 of a at 4, confirmed 4
    "#]],
    );
}

#[test]
fn a_round_is_published_again_at_the_heartbeat() {
    let script = "
        0 0 10000
        3599 0 10000
        3600 0 10000
        3601 0 10000";
    check(
        rules(1),
        &["a"],
        script,
        expect![[r#"
        0 0 10000: round 1 10000.00 ±0.00 of a at 0, confirmed 0
        3599 0 10000: round 1 10000.00 ±0.00 of a at 0, confirmed 3599
        3600 0 10000: round 2 10000.00 ±0.00 of a at 3600, confirmed 3600
        3601 0 10000: round 2 10000.00 ±0.00 of a at 3600, confirmed 3601
    "#]],
    );
}

#[test]
fn too_few_sources_publish_nothing_and_stamp_nothing_anew() {
    let script = "
        0 0 10000
        1 1 10001
        2 2 10002
        5 0 20000
        11 0 20000
        12 0 20000
        13 1 20001
        14 2 20002";
    check(
        rules(3),
        &["a", "b", "c"],
        script,
        expect![[r#"
        0 0 10000: -
        1 1 10001: -
        2 2 10002: round 1 10001.00 ±1.00 of a+b+c at 0, confirmed 0
        5 0 20000: round 1 10001.00 ±1.00 of a+b+c at 0, confirmed 1
        11 0 20000: round 1 10001.00 ±1.00 of a+b+c at 0, confirmed 1
        12 0 20000: -
        13 1 20001: -
        14 2 20002: round 2 20001.00 ±1.00 of a+b+c at 12, confirmed 12
    "#]],
    );
}

#[test]
fn an_old_reading_never_replaces_a_newer_one_and_a_frozen_source_grows_old() {
    let script = "
        0 0 10000
        1 0 20000 @-5
        5 0 10000 @0
        10 0 10000 @0
        11 0 10000 @0
        12 0 10000 @11";
    check(
        rules(1),
        &["a"],
        script,
        expect![[r#"
        0 0 10000: round 1 10000.00 ±0.00 of a at 0, confirmed 0
        1 0 20000 @-5: -
        5 0 10000 @0: round 1 10000.00 ±0.00 of a at 0, confirmed 0
        10 0 10000 @0: round 1 10000.00 ±0.00 of a at 0, confirmed 0
        11 0 10000 @0: -
        12 0 10000 @11: round 1 10000.00 ±0.00 of a at 0, confirmed 11
    "#]],
    );
}

#[test]
fn a_source_that_is_off_by_a_factor_is_left_out() {
    let script = "
        0 0 10000
        0 1 10001
        0 2 10002
        0 3 1000000000000e-1
        0 3 10003";
    check(
        rules(3),
        &["a", "b", "c", "d"],
        script,
        expect![[r#"
        0 0 10000: -
        0 1 10001: -
        0 2 10002: round 1 10001.00 ±1.00 of a+b+c at 0, confirmed 0
        0 3 1000000000000e-1: round 1 10001.00 ±1.00 of a+b+c at 0, confirmed 0
        0 3 10003: round 1 10001.00 ±1.00 of a+b+c at 0, confirmed 0
    "#]],
    );
}

#[test]
fn the_weight_of_a_source_moves_the_median() {
    let mut feed = feed(rules(2), &["light", "heavy"]);
    feed.members[1].weight = 3;
    let observe = |feed: &mut Feed, place, price: &str| {
        feed.observe(place, Reading { price: Price::parse(price).unwrap(), observed_at: at(0) }, at(0))
    };
    assert_eq!(observe(&mut feed, 0, "10"), None);
    assert_eq!(observe(&mut feed, 1, "20").unwrap().round.price.text(2), "20.00");
}

#[test]
fn a_value_turns_stale_one_max_age_after_its_last_confirmation() {
    let mut feed = feed(rules(1), &["a"]);
    let reading = Reading { price: Price::parse("1").unwrap(), observed_at: at(0) };
    let published = feed.observe(0, reading, at(0)).unwrap();
    let status = |now| published.status(at(now), Duration::from_secs(10));
    assert_eq!((status(10_000), status(10_001)), (Status::Live, Status::Stale));
}

/// The five trade files of one day: the closing price of each minute, by source.
fn recorded() -> Option<BTreeMap<i64, Vec<(usize, Price)>>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors/feeds/btc-2022-12-13");
    let mut minutes = BTreeMap::<i64, Vec<_>>::new();
    for (place, name) in RECORDED.iter().enumerate() {
        let Ok(text) = std::fs::read_to_string(format!("{folder}/{name}_trade.csv")) else {
            assert!(std::env::var_os("CI").is_none(), "the recorded data is missing at {folder}");
            eprintln!("skipped: no recorded data at {folder}");
            return None;
        };
        for line in text.lines() {
            let fields: Vec<_> = line.split(',').collect();
            let close = Price::parse(fields[4]).unwrap();
            minutes.entry(fields[0].parse().unwrap()).or_default().push((place, close));
        }
    }
    Some(minutes)
}

const RECORDED: [&str; 5] = [
    "binance_coinm_btcusd",
    "binance_spot_btcbusd",
    "bybit_inverse_btcusd",
    "bybit_linear_btcusdt",
    "bybit_spot_btcusdt",
];

/// Replays minutes of the recorded day and shows each new round with its number of sources.
fn replay(rules: &Rules, from: i64, until: i64) -> Option<(String, Feed)> {
    let mut feed = feed(rules.clone(), &RECORDED);
    let (mut text, mut last) = (String::new(), 0);
    for (milliseconds, readings) in recorded()?.range(from..until) {
        for (place, price) in readings {
            let reading = Reading { price: *price, observed_at: at(*milliseconds) };
            let Some(Published { round, .. }) = feed.observe(*place, reading, at(*milliseconds)) else {
                continue;
            };
            if std::mem::replace(&mut last, round.number) != round.number {
                let (value, confidence) = (round.price.text(2), round.confidence.text(2));
                let minute = round.timestamp.to_string();
                text += &format!("{} {value} ±{confidence} {}\n", &minute[11..16], round.source_ids.len());
            }
        }
    }
    Some((text, feed))
}

const NOON: i64 = 43_200_000;
const MINUTE: i64 = 60_000;

#[test]
fn two_recorded_sources_go_silent_and_the_feed_goes_on_with_three() {
    let rules = Rules { max_age: Duration::from_secs(90), min_sources: 3, ..rules(3) };
    let Some((text, feed)) = replay(&rules, NOON - 40 * MINUTE, NOON + 100 * MINUTE) else { return };
    expect![[r#"
        11:20 17433.30 ±10.74 3
        11:32 17414.50 ±2.08 5
        11:39 17433.05 ±3.55 5
        11:41 17452.82 ±2.82 5
        12:20 17492.10 ±32.19 3
        12:21 17472.53 ±17.74 3
        12:22 17453.36 ±15.18 3
        12:23 17433.45 ±13.09 3
        12:39 17457.50 ±15.90 3
        12:54 17438.97 ±11.34 3
        12:55 17420.67 ±13.63 3
        13:09 17438.90 ±9.66 3
        13:14 17458.20 ±14.17 3
        13:18 17583.16 ±120.87 3
        13:19 17559.41 ±17.29 3
        13:21 17535.20 ±8.57 3
        13:21 17553.30 ±22.56 3
        13:23 17533.90 ±6.58 3
        13:25 17573.60 ±64.24 3
        13:26 17548.70 ±17.80 3
        13:28 17636.00 ±89.63 3
        13:29 17912.90 ±282.90 3
        13:30 17890.80 ±32.72 3
        13:31 17864.10 ±32.70 3
        13:31 17831.48 ±32.62 3
        13:32 17886.50 ±67.85 3
        13:33 17931.44 ±62.14 3
        13:34 17870.27 ±43.76 3
        13:35 17845.80 ±24.47 3
        13:36 17890.40 ±61.85 3
    "#]]
    .assert_eq(&text);
    let now = at(NOON + 99 * MINUTE);
    assert_eq!(feed.published.unwrap().status(now, rules.max_age), Status::Live);
}

#[test]
fn two_recorded_sources_go_silent_and_a_feed_that_needs_four_turns_stale() {
    let rules = Rules { max_age: Duration::from_secs(90), min_sources: 4, ..rules(4) };
    let Some((text, feed)) = replay(&rules, NOON - 10 * MINUTE, NOON + 30 * MINUTE) else { return };
    assert!(text.lines().all(|line| line.starts_with("11:5") || line.starts_with("12:0")), "{text}");
    let published = feed.published.unwrap();
    let status = |minutes| published.status(at(NOON + minutes * MINUTE), rules.max_age);
    assert_eq!((status(1), status(3)), (Status::Live, Status::Stale));
}

#[test]
fn a_feed_that_is_configured_anew_goes_on_counting_and_its_first_agreement_is_a_round_of_its_own() {
    let reading = |price: &str, second: i64| Reading {
        price: Price::parse(price).unwrap(),
        observed_at: at(second * 1_000),
    };
    let mut before = feed(rules(1), &["a"]);
    let published = before.observe(0, reading("10000", 0), at(0));
    let members = ["b", "c"].map(|id| Member { id: id.to_owned(), weight: 1, latest: None });
    let mut after = Feed::after(published, rules(2), members.into());
    assert_eq!(after.observe(0, reading("10000", 1), at(1_000)), None, "too few have spoken");
    let first = after.observe(1, reading("10000", 2), at(2_000)).unwrap();
    let second = after.observe(1, reading("10000", 3), at(3_000)).unwrap();
    expect![[r#"
        round 2 10000.00 ±0.00 of b+c at 1, confirmed 1
        round 2 10000.00 ±0.00 of b+c at 1, confirmed 1"#]]
    .assert_eq(&[shown(&first, &rules(2)), shown(&second, &rules(2))].join("\n"));
}
