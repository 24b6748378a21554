//! Where prices come from: the seam of this service, a source over HTTP, and the synthetic one.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use jiff::Timestamp;
use outbound::{Client, FetchError, Request};
use serde_json::Value;
use serde_json_path::JsonPath;
use thiserror::Error;
use tokio::task::spawn_blocking;

use crate::clock::Clock;
use crate::price::{Price, PriceError};
use crate::settings::SourceSettings;

/// The id of the source that makes its prices up.
pub(crate) const SYNTHETIC: &str = "synthetic";

/// How far a source's clock may be ahead of this one.
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(5);

/// A price and when it was one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) price: Price,
    pub(crate) observed_at: Timestamp,
}

/// Why a source gave no price.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum SourceError {
    #[error("{0}")]
    Fetch(#[from] FetchError),
    #[error("the source answered with status {0}")]
    Status(u16),
    #[error("the answer is not JSON: {0}")]
    NotJson(String),
    #[error("{0} selects {1} values instead of one")]
    Selected(&'static str, usize),
    #[error("the price is {0}")]
    Price(#[from] PriceError),
    #[error("the price is not positive")]
    NotPositive,
    #[error("the time is neither seconds or milliseconds since 1970 nor RFC 3339")]
    Time,
    #[error("the time is ahead of this clock by more than {} s", MAX_CLOCK_SKEW.as_secs())]
    Ahead,
}

/// A read under way.
pub(crate) type Reads<'a> = Pin<Box<dyn Future<Output = Result<Reading, SourceError>> + Send + 'a>>;

/// Gives the current price when asked.
pub(crate) trait Source: Send + Sync {
    fn read(&self) -> Reads<'_>;
}

/// A JSON document behind a URL.
pub(crate) struct HttpSource {
    client: Client,
    url: String,
    price: JsonPath,
    time: Option<JsonPath>,
    clock: Clock,
}

impl HttpSource {
    pub(crate) fn new(settings: &SourceSettings, client: Client, clock: Clock) -> Self {
        let SourceSettings { url, json_path, timestamp_path, .. } = settings.clone();
        Self { client, url, price: json_path, time: timestamp_path, clock }
    }

    async fn fetch(&self) -> Result<Reading, SourceError> {
        let response = self.client.fetch(Request::get(&self.url)).await?;
        let now = self.clock.now();
        if !response.status.is_success() {
            return Err(SourceError::Status(response.status.as_u16()));
        }
        let (price, time) = (self.price.clone(), self.time.clone());
        // An answer has up to 2 MB, which is too long for the event loop.
        let extraction = spawn_blocking(move || extract(&response.body, &price, time.as_ref(), now));
        extraction.await.expect("an extraction neither panics nor is aborted")
    }
}

impl Source for HttpSource {
    fn read(&self) -> Reads<'_> {
        Box::pin(self.fetch())
    }
}

fn extract(
    body: &[u8],
    price: &JsonPath,
    time: Option<&JsonPath>,
    now: Timestamp,
) -> Result<Reading, SourceError> {
    let document: Value =
        serde_json::from_slice(body).map_err(|error| SourceError::NotJson(error.to_string()))?;
    let price = match one(&document, price, "jsonPath")? {
        // The number is still the text that the source wrote.
        Value::Number(number) => Price::parse(&number.to_string())?,
        Value::String(text) => Price::parse(text)?,
        _ => return Err(PriceError::NotANumber.into()),
    };
    if price <= Price::default() {
        return Err(SourceError::NotPositive);
    }
    let observed_at = match time {
        Some(path) => moment(one(&document, path, "timestampPath")?)?,
        None => now,
    };
    if observed_at > now + MAX_CLOCK_SKEW {
        return Err(SourceError::Ahead);
    }
    Ok(Reading { price, observed_at: observed_at.min(now) })
}

fn one<'a>(document: &'a Value, path: &JsonPath, key: &'static str) -> Result<&'a Value, SourceError> {
    let nodes = path.query(document).all();
    let [node] = nodes.as_slice() else { return Err(SourceError::Selected(key, nodes.len())) };
    Ok(node)
}

/// Seconds or milliseconds since 1970 (the latter from 10¹¹ on, which as seconds is the year 5138), or RFC 3339.
fn moment(value: &Value) -> Result<Timestamp, SourceError> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        _ => return Err(SourceError::Time),
    };
    let moment = match text.parse::<i64>() {
        Ok(number) if number >= 100_000_000_000 => Timestamp::from_millisecond(number),
        Ok(number) => Timestamp::from_second(number),
        Err(_) => text.parse(),
    };
    moment.map_err(|_| SourceError::Time)
}

/// A made-up price for trying things out: it climbs by 1 basis point a second for two minutes and falls again, as a
/// function of the time of day alone, so that all replicas make the same one.
pub(crate) struct Synthetic {
    pub(crate) base: Price,
    pub(crate) clock: Clock,
}

impl Source for Synthetic {
    fn read(&self) -> Reads<'_> {
        let observed_at = self.clock.now();
        let phase = observed_at.as_second().rem_euclid(240);
        let basis_points = i128::from(phase.min(240 - phase));
        let price = Price(self.base.0 + self.base.0 / 10_000 * basis_points);
        Box::pin(std::future::ready(Ok(Reading { price, observed_at })))
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn extracted(body: &str) -> String {
        let (price, time) = (JsonPath::parse("$.p").unwrap(), JsonPath::parse("$.t").unwrap());
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let time = body.contains("\"t\"").then_some(&time);
        match extract(body.as_bytes(), &price, time, now) {
            Ok(reading) => format!("{} at {}", reading.price.text(8), reading.observed_at),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn prices_and_times_are_read_exactly_or_refused() {
        let bodies = [
            r#"{"p":17912.90}"#,
            r#"{"p":"17912.9"}"#,
            r#"{"p":1.79129e4}"#,
            r#"{"p":9007199254.74099301}"#,
            r#"{"p":1,"t":1699999990}"#,
            r#"{"p":1,"t":"1699999990123"}"#,
            r#"{"p":1,"t":"2023-11-14T22:13:10Z"}"#,
            r#"{"p":1,"t":1700000004}"#,
            r#"{"p":1,"t":1700000006}"#,
            r#"{"p":1,"t":null}"#,
            r#"{"p":1,"t":1.5}"#,
            r#"{"p":null}"#,
            r#"{"p":[1]}"#,
            r#"{"p":"1,5"}"#,
            r#"{"p":0}"#,
            r#"{"p":-1}"#,
            r#"{"p":1e99}"#,
            r#"{"q":1}"#,
            r#"{"p":179"#,
            "<html>",
        ];
        let text: String = bodies.iter().map(|body| format!("{body}  {}\n", extracted(body))).collect();
        expect![[r#"
            {"p":17912.90}  17912.90000000 at 2023-11-14T22:13:20Z
            {"p":"17912.9"}  17912.90000000 at 2023-11-14T22:13:20Z
            {"p":1.79129e4}  17912.90000000 at 2023-11-14T22:13:20Z
            {"p":9007199254.74099301}  9007199254.74099301 at 2023-11-14T22:13:20Z
            {"p":1,"t":1699999990}  1.00000000 at 2023-11-14T22:13:10Z
            {"p":1,"t":"1699999990123"}  1.00000000 at 2023-11-14T22:13:10.123Z
            {"p":1,"t":"2023-11-14T22:13:10Z"}  1.00000000 at 2023-11-14T22:13:10Z
            {"p":1,"t":1700000004}  1.00000000 at 2023-11-14T22:13:20Z
            {"p":1,"t":1700000006}  the time is ahead of this clock by more than 5 s
            {"p":1,"t":null}  the time is neither seconds or milliseconds since 1970 nor RFC 3339
            {"p":1,"t":1.5}  the time is neither seconds or milliseconds since 1970 nor RFC 3339
            {"p":null}  the price is not a decimal number
            {"p":[1]}  the price is not a decimal number
            {"p":"1,5"}  the price is not a decimal number
            {"p":0}  the price is not positive
            {"p":-1}  the price is not positive
            {"p":1e99}  the price is not below 10^12
            {"q":1}  jsonPath selects 0 values instead of one
            {"p":179  the answer is not JSON: EOF while parsing an object at line 1 column 8
            <html>  the answer is not JSON: expected value at line 1 column 1
        "#]]
        .assert_eq(&text);
    }

    #[tokio::test(start_paused = true)]
    async fn the_synthetic_price_depends_on_the_time_of_day_alone() {
        let base = Price::parse("60000").unwrap();
        let source = Synthetic { base, clock: Clock::paused() };
        let mut prices = Vec::new();
        for _ in 0..5 {
            prices.push(source.read().await.unwrap().price.text(2));
            tokio::time::advance(Duration::from_secs(60)).await;
        }
        assert_eq!(prices, ["60000.00", "60360.00", "60720.00", "60360.00", "60000.00"]);
    }
}
