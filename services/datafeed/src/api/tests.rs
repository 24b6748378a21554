use std::sync::Mutex;

use axum::body::Body;
use axum::http::Request;
use expect_test::expect;
use http_body_util::BodyExt;
use outbound::FakeServer;
use serde_json::{Value, json};
use tokio::time::sleep;
use tower::ServiceExt;

use super::*;
use crate::clock::Clock;
use crate::price::Price;
use crate::service::{Plan, PlannedSource, Planner};
use crate::settings::{FeedSettings, settings};
use crate::source::{Reading, Reads, Source, SourceError};

/// A source that says what the test has set, and counts how often it was asked.
#[derive(Clone)]
struct Scripted {
    price: Arc<Mutex<Option<&'static str>>>,
    asked: Arc<Mutex<u32>>,
    clock: Clock,
}

impl Scripted {
    fn new(price: Option<&'static str>, clock: &Clock) -> Self {
        Self { price: Arc::new(Mutex::new(price)), asked: Arc::default(), clock: clock.clone() }
    }

    fn set(&self, price: Option<&'static str>) {
        *self.price.lock().unwrap() = price;
    }
}

impl Source for Scripted {
    fn read(&self) -> Reads<'_> {
        *self.asked.lock().unwrap() += 1;
        let price = self.price.lock().unwrap().map(|price| Price::parse(price).unwrap());
        let reading = price.map(|price| Reading { price, observed_at: self.clock.now() });
        Box::pin(std::future::ready(reading.ok_or(SourceError::Status(500))))
    }
}

/// One feed with these sources, on a clock that the test moves.
fn app(min_sources: usize, sources: &[&Scripted], clock: Clock) -> axum::Router {
    let rules = Rules { min_sources, ..Rules::of("BTC-USD") };
    sdk::router(router(Arc::new(Service::start(vec![plan(rules, sources)], clock))))
}

fn plan(rules: Rules, sources: &[&Scripted]) -> Plan {
    let planned = |(place, source): (usize, &&Scripted)| PlannedSource {
        id: format!("source-{place}"),
        weight: 1,
        every: Duration::from_secs(1),
        source: Box::new(Scripted::clone(source)),
    };
    let settings = Some(FeedSettings { rules: rules.clone(), sources: Vec::new() });
    Plan { rules, sources: sources.iter().enumerate().map(planned).collect(), settings }
}

async fn get_json(app: &axum::Router, path: &str) -> Value {
    let response = app.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
    let (status, body) = (response.status(), response.into_body().collect().await.unwrap().to_bytes());
    let body: Value = serde_json::from_slice(&body).unwrap();
    if !status.is_success() {
        assert_eq!(body["status"], status.as_u16());
    }
    body
}

async fn code(app: &axum::Router, path: &str) -> String {
    let body = get_json(app, path).await;
    format!("{} {}", body["status"], body["code"].as_str().unwrap_or("no code"))
}

/// Long enough for every poller to have been asked so many times.
async fn seconds(seconds: u64) {
    sleep(Duration::from_millis(seconds * 1_000)).await;
}

async fn just_after_the_start() {
    sleep(Duration::from_millis(500)).await;
}

#[tokio::test(start_paused = true)]
async fn a_price_is_answered_with_exactly_its_decimals() {
    let clock = Clock::paused();
    let sources = ["17912.9", "17904.80", "17915.123456789"].map(|price| Scripted::new(Some(price), &clock));
    let app = app(3, &sources.each_ref(), clock);
    just_after_the_start().await;
    expect![[r#"
        {
          "pair": "BTC-USD",
          "value": "17912.90000000",
          "decimals": 8,
          "timestamp": "1970-01-01T00:00:00.000Z",
          "ageMs": 500,
          "sources": 3,
          "sourceIds": [
            "source-0",
            "source-1",
            "source-2"
          ],
          "confidence": "8.10000000",
          "round": 1,
          "status": "live"
        }"#]]
    .assert_eq(&format!("{:#}", get_json(&app, "/v1/price/BTC-USD").await));
    expect![[r#"
        {
          "feeds": [
            {
              "pair": "BTC-USD",
              "decimals": 8,
              "status": "live",
              "heartbeat": "1h",
              "deviationBps": 10,
              "maxAge": "10s"
            }
          ]
        }"#]]
    .assert_eq(&format!("{:#}", get_json(&app, "/v1/feeds").await));
}

#[tokio::test(start_paused = true)]
async fn silent_sources_leave_the_last_value_which_turns_stale_and_is_not_stamped_anew() {
    let clock = Clock::paused();
    let source = Scripted::new(Some("100"), &clock);
    let app = app(1, &[&source], clock);
    just_after_the_start().await;
    source.set(None);
    let first = get_json(&app, "/v1/price/BTC-USD").await;
    seconds(12).await;
    let mut later = get_json(&app, "/v1/price/BTC-USD").await;
    assert_eq!((later["status"].take(), later["ageMs"].take()), (json!("stale"), json!(12_500)));
    assert_eq!((&later["timestamp"], &later["round"]), (&first["timestamp"], &first["round"]));
    assert_eq!(get_json(&app, "/v1/feeds").await["feeds"][0]["status"], "stale");
    assert_eq!(code(&app, "/v1/price/BTC-USD?maxAge=12s").await, "503 FEED_STALE");
    assert_eq!(get_json(&app, "/v1/price/BTC-USD?maxAge=13s").await["status"], "stale");
    source.set(Some("100"));
    seconds(1).await;
    assert_eq!(get_json(&app, "/v1/price/BTC-USD?maxAge=12s").await["status"], "live");
}

#[tokio::test(start_paused = true)]
async fn a_steady_price_stays_young_in_its_round() {
    let clock = Clock::paused();
    let source = Scripted::new(Some("100"), &clock);
    let app = app(1, &[&source], clock);
    just_after_the_start().await;
    seconds(60).await;
    let price = get_json(&app, "/v1/price/BTC-USD?maxAge=1s").await;
    assert_eq!(
        (&price["round"], &price["ageMs"], &price["status"]),
        (&json!(1), &json!(500), &json!("live"))
    );
    source.set(Some("101"));
    seconds(1).await;
    assert_eq!(get_json(&app, "/v1/price/BTC-USD").await["round"], 2);
}

#[tokio::test(start_paused = true)]
async fn before_a_first_value_there_are_too_few_sources() {
    let clock = Clock::paused();
    let (good, bad) = (Scripted::new(Some("100"), &clock), Scripted::new(None, &clock));
    let app = app(2, &[&good, &bad], clock);
    just_after_the_start().await;
    assert_eq!(code(&app, "/v1/price/BTC-USD").await, "503 FEED_TOO_FEW_SOURCES");
    assert_eq!(get_json(&app, "/v1/feeds").await["feeds"][0]["status"], "stale");
    bad.set(Some("101"));
    seconds(1).await;
    assert_eq!(get_json(&app, "/v1/price/BTC-USD").await["sources"], 2);
}

#[tokio::test(start_paused = true)]
async fn a_get_never_asks_a_source() {
    let clock = Clock::paused();
    let source = Scripted::new(Some("100"), &clock);
    let app = app(1, &[&source], clock);
    just_after_the_start().await;
    for _ in 0..10 {
        get_json(&app, "/v1/price/BTC-USD").await;
    }
    assert_eq!(*source.asked.lock().unwrap(), 1);
    seconds(3).await;
    assert_eq!(*source.asked.lock().unwrap(), 4);
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_wrongly_has_a_code() {
    let clock = Clock::paused();
    let app = app(1, &[&Scripted::new(Some("100"), &clock)], clock);
    just_after_the_start().await;
    assert_eq!(code(&app, "/v1/price/XRP-USD").await, "404 FEED_UNKNOWN");
    for query in ["maxAge=5", "maxAge=", "maxAge=-5s", "maxage=5s", "maxAge=1s&maxAge=2s", "maxAge=5s&x=1"] {
        assert_eq!(
            code(&app, &format!("/v1/price/BTC-USD?{query}")).await,
            "400 FEED_BAD_REQUEST",
            "{query}"
        );
    }
}

#[tokio::test]
async fn without_feeds_there_are_two_synthetic_ones_named_so() {
    let clock = Clock::system();
    let plans = Planner::new(clock.clone()).plans(settings(&json!({})).unwrap());
    let service = Service::start(plans, clock);
    for feed in service.feeds().values() {
        feed.published.clone().wait_for(Option::is_some).await.unwrap();
    }
    let app = sdk::router(router(Arc::new(service)));
    for pair in ["BTC-USD", "ETH-USD"] {
        let price = get_json(&app, &format!("/v1/price/{pair}?maxAge=10s")).await;
        assert_eq!((&price["sourceIds"], &price["status"]), (&json!(["synthetic"]), &json!("live")));
    }
}

#[tokio::test]
async fn a_feed_reads_real_http_sources_in_the_exchanges_own_shapes() {
    let answer = |body: &'static str| {
        move |_: &str| {
            Some(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes())
        }
    };
    let binance = FakeServer::http(answer(r#"{"symbol":"BTCUSD","price":"17912.90000000"}"#)).await;
    let coinbase = FakeServer::http(answer(r#"{"data":{"amount":17904.80}}"#)).await;
    let okx = FakeServer::http(answer(r#"{"data":[{"last":"1.79152e4"}]}"#)).await;
    let broken = FakeServer::http(answer(r#"{"price":null}"#)).await;
    let source = |id: &str, server: &FakeServer, path: &str| json!({"id": id, "url": server.url("/p?s=1"), "jsonPath": path});
    let loopback = [&binance, &coinbase, &okx, &broken].map(FakeServer::host_and_port);
    let config = json!({
        "feeds": [{"pair": "BTC-USD", "minSources": 3, "decimals": 2, "sources": [
            source("binance", &binance, "$.price"),
            source("coinbase", &coinbase, "$.data.amount"),
            source("okx", &okx, "$.data[0].last"),
            source("broken", &broken, "$.price"),
        ]}],
        "allowLoopback": loopback,
    });
    let clock = Clock::system();
    let plans = Planner::new(clock.clone()).plans(settings(&config).unwrap());
    let service = Service::start(plans, clock);
    service.feeds()["BTC-USD"].published.clone().wait_for(Option::is_some).await.unwrap();
    let price = get_json(&sdk::router(router(Arc::new(service))), "/v1/price/BTC-USD").await;
    assert_eq!((&price["value"], &price["confidence"]), (&json!("17912.90"), &json!("8.10")));
    assert_eq!(price["sourceIds"], json!(["binance", "coinbase", "okx"]));
    assert!(okx.heads()[0].starts_with("GET /p?s=1 HTTP/1.1\r\n"));
}

#[tokio::test(start_paused = true)]
async fn another_configuration_leaves_no_pair_without_its_price_and_what_is_the_same_as_it_is() {
    let clock = Clock::paused();
    let [btc, eth, sol] = ["17912.9", "3000", "150"].map(|price| Scripted::new(Some(price), &clock));
    let (one, two) = (Rules::of("BTC-USD"), Rules::of("ETH-USD"));
    let plans = vec![plan(one.clone(), &[&btc]), plan(two.clone(), &[&eth])];
    let service = Arc::new(Service::start(plans, clock.clone()));
    let app = sdk::router(router(Arc::clone(&service)));
    just_after_the_start().await;
    let held = service.feeds();
    // The source of the changed feed is silent at first; the feed that stays is not asked anew.
    let silent = Scripted::new(None, &clock);
    let changed = Rules { decimals: 2, ..two };
    service.take(vec![plan(one, &[&btc]), plan(changed, &[&silent]), plan(Rules::of("SOL-USD"), &[&sol])]);
    let asked = *btc.asked.lock().unwrap();
    assert!(Arc::ptr_eq(&held["BTC-USD"], &service.feeds()["BTC-USD"]));
    let price = get_json(&app, "/v1/price/ETH-USD").await;
    assert_eq!((&price["value"], &price["round"]), (&json!("3000.00"), &json!(1)));
    assert_eq!(code(&app, "/v1/price/SOL-USD").await, "503 FEED_TOO_FEW_SOURCES");
    just_after_the_start().await;
    assert_eq!(*btc.asked.lock().unwrap(), asked, "its next turn has not come");
    assert_eq!(get_json(&app, "/v1/price/SOL-USD").await["value"], "150.00000000");
    silent.set(Some("3001"));
    seconds(1).await;
    let price = get_json(&app, "/v1/price/ETH-USD").await;
    assert_eq!((&price["value"], &price["round"]), (&json!("3001.00"), &json!(2)));
    // What is in flight ends with the feeds that it began with, and these end with it.
    let left = Arc::downgrade(&held["ETH-USD"]);
    drop(held);
    assert!(left.upgrade().is_none());
    let asked = *eth.asked.lock().unwrap();
    seconds(5).await;
    assert_eq!(*eth.asked.lock().unwrap(), asked, "nobody polls for a feed that is gone");
    service.take(Vec::new());
    assert_eq!(code(&app, "/v1/price/BTC-USD").await, "404 FEED_UNKNOWN");
}
