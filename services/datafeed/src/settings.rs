//! The configuration: which pairs, from which sources. Raw structs hold the defaults, validated ones are what runs.

use std::collections::HashSet;
use std::time::Duration;

use outbound::{Allow, AllowError, AllowList};
use serde::Deserialize;
use serde_json::Value;
use serde_json_path::JsonPath;

use types::duration;

const MAX_FEEDS: usize = 1_000;
const MAX_SOURCES: usize = 32;
const MAX_WEIGHT: usize = 100;
const MAX_DECIMALS: u32 = 18;
/// Polling faster than this is of no use to anybody and rude to the source.
const MIN_INTERVAL: Duration = Duration::from_millis(100);
/// The longest of every duration.
const MAX_DURATION: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct RawSettings {
    feeds: Vec<RawFeed>,
    allow_loopback: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawFeed {
    pair: String,
    #[serde(default = "eight")]
    decimals: u32,
    #[serde(default = "one_hour")]
    heartbeat: String,
    #[serde(default = "ten")]
    deviation_bps: u32,
    #[serde(default = "ten_seconds")]
    max_age: String,
    #[serde(default = "one")]
    min_sources: usize,
    sources: Vec<RawSource>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawSource {
    id: String,
    url: String,
    json_path: String,
    timestamp_path: Option<String>,
    #[serde(default = "one_second")]
    interval: String,
    #[serde(default = "one")]
    weight: usize,
}

fn eight() -> u32 {
    8
}

fn ten() -> u32 {
    10
}

fn one() -> usize {
    1
}

fn one_hour() -> String {
    "1h".to_owned()
}

fn ten_seconds() -> String {
    "10s".to_owned()
}

fn one_second() -> String {
    "1s".to_owned()
}

/// What runs.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Empty where nothing is configured.
    pub(crate) feeds: Vec<FeedSettings>,
    /// The URLs of all sources, and nothing else.
    pub(crate) allow: AllowList,
}

/// One pair and where its prices come from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FeedSettings {
    pub(crate) rules: Rules,
    pub(crate) sources: Vec<SourceSettings>,
}

/// When a feed publishes, and how.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rules {
    pub(crate) pair: String,
    pub(crate) decimals: u32,
    pub(crate) heartbeat: Duration,
    pub(crate) deviation_bps: u32,
    pub(crate) max_age: Duration,
    pub(crate) min_sources: usize,
}

/// One HTTP source.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SourceSettings {
    pub(crate) id: String,
    pub(crate) url: String,
    pub(crate) json_path: JsonPath,
    pub(crate) timestamp_path: Option<JsonPath>,
    pub(crate) interval: Duration,
    pub(crate) weight: usize,
}

impl Rules {
    /// The rules of a pair of which only the name is given.
    pub(crate) fn of(pair: &str) -> Self {
        Self {
            pair: pair.to_owned(),
            decimals: eight(),
            heartbeat: Duration::from_secs(60 * 60),
            deviation_bps: ten(),
            max_age: Duration::from_secs(10),
            min_sources: one(),
        }
    }
}

/// Whether a configuration is valid; the text names the key and what is expected there.
pub fn check_config(config: &Value) -> Result<(), String> {
    settings(config).map(drop)
}

pub(crate) fn settings(config: &Value) -> Result<Settings, String> {
    let raw: RawSettings =
        serde_path_to_error::deserialize(config).map_err(|error| match error.path().to_string() {
            path if path == "." => error.inner().to_string(),
            path => format!("{path}: {}", error.inner()),
        })?;
    AllowList::new(&[], &raw.allow_loopback).map_err(|error| error.to_string())?;
    at_most("feeds", raw.feeds.len(), MAX_FEEDS)?;
    let mut feeds = Vec::new();
    let mut pairs = HashSet::new();
    for (index, feed) in raw.feeds.into_iter().enumerate() {
        let key = format!("feeds[{index}]");
        let feed = feed_settings(&key, feed, &raw.allow_loopback)?;
        if !pairs.insert(feed.rules.pair.clone()) {
            return Err(format!("{key}.pair: {} is already a feed", feed.rules.pair));
        }
        feeds.push(feed);
    }
    let entries: Vec<_> =
        feeds.iter().flat_map(|feed| &feed.sources).map(|source| entry(&source.url)).collect();
    let allow = AllowList::new(&entries, &raw.allow_loopback).map_err(|error| error.to_string())?;
    Ok(Settings { feeds, allow })
}

fn feed_settings(key: &str, raw: RawFeed, loopback: &[String]) -> Result<FeedSettings, String> {
    let rules = rules(key, &raw)?;
    let mut sources = Vec::new();
    let mut ids = HashSet::new();
    for (index, source) in raw.sources.into_iter().enumerate() {
        let key = format!("{key}.sources[{index}]");
        let source = source_settings(&key, source, loopback)?;
        if !ids.insert(source.id.clone()) {
            return Err(format!("{key}.id: {} is already a source of this feed", source.id));
        }
        sources.push(source);
    }
    Ok(FeedSettings { rules, sources })
}

fn rules(key: &str, raw: &RawFeed) -> Result<Rules, String> {
    let letters = |part: &str| part.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    let symbol = |part: &str| (1..=16).contains(&part.len()) && letters(part);
    if !raw.pair.split_once('-').is_some_and(|(base, quote)| symbol(base) && symbol(quote)) {
        return Err(format!(
            "{key}.pair: expected two symbols of upper-case letters and digits, such as BTC-USD"
        ));
    }
    if raw.decimals > MAX_DECIMALS {
        return Err(format!("{key}.decimals: expected 0 to {MAX_DECIMALS}"));
    }
    if !(1..=10_000).contains(&raw.deviation_bps) {
        return Err(format!("{key}.deviationBps: expected 1 to 10000"));
    }
    if raw.sources.is_empty() {
        return Err(format!("{key}.sources: expected at least one source"));
    }
    at_most(&format!("{key}.sources"), raw.sources.len(), MAX_SOURCES)?;
    if !(1..=raw.sources.len()).contains(&raw.min_sources) {
        return Err(format!("{key}.minSources: expected 1 to {}, the number of sources", raw.sources.len()));
    }
    Ok(Rules {
        pair: raw.pair.clone(),
        decimals: raw.decimals,
        heartbeat: duration_of(&format!("{key}.heartbeat"), &raw.heartbeat, Duration::from_secs(1))?,
        deviation_bps: raw.deviation_bps,
        max_age: duration_of(&format!("{key}.maxAge"), &raw.max_age, MIN_INTERVAL)?,
        min_sources: raw.min_sources,
    })
}

fn source_settings(key: &str, raw: RawSource, loopback: &[String]) -> Result<SourceSettings, String> {
    let id = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    if !(1..=40).contains(&raw.id.len()) || !raw.id.bytes().all(id) {
        return Err(format!(
            "{key}.id: expected 1 to 40 lower-case letters, digits, hyphens and underscores"
        ));
    }
    AllowList::new(&[entry(&raw.url)], loopback).map_err(|error| match error {
        AllowError::Url(_, error) => format!("{key}.url: {error}"),
        _ => format!("{key}.url: expected https, since only what allowLoopback names may be plain http"),
    })?;
    if !(1..=MAX_WEIGHT).contains(&raw.weight) {
        return Err(format!("{key}.weight: expected 1 to {MAX_WEIGHT}"));
    }
    let path = |name: &str, text: &str| {
        JsonPath::parse(text).map_err(|error| format!("{key}.{name}: not a JSONPath: {}", error.message()))
    };
    Ok(SourceSettings {
        json_path: path("jsonPath", &raw.json_path)?,
        timestamp_path: raw.timestamp_path.as_deref().map(|text| path("timestampPath", text)).transpose()?,
        interval: duration_of(&format!("{key}.interval"), &raw.interval, MIN_INTERVAL)?,
        id: raw.id,
        url: raw.url,
        weight: raw.weight,
    })
}

/// The allow-list's entry for a source: its URL without the query.
fn entry(url: &str) -> Allow {
    Allow::get(url.split('?').next().unwrap_or_default())
}

fn at_most(key: &str, count: usize, most: usize) -> Result<(), String> {
    if count > most { Err(format!("{key}: expected at most {most}")) } else { Ok(()) }
}

fn duration_of(key: &str, text: &str, least: Duration) -> Result<Duration, String> {
    duration::parse(text).filter(|duration| (least..=MAX_DURATION).contains(duration)).ok_or_else(|| {
        let (least, most) = (duration::text(least), duration::text(MAX_DURATION));
        format!("{key}: expected a duration such as 10s, from {least} to {most}")
    })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    fn with(change: impl FnOnce(&mut Value)) -> Value {
        let source = json!({"id": "a", "url": "https://a.example/p?s=BTC", "jsonPath": "$.price"});
        let mut config = json!({"feeds": [{"pair": "BTC-USD", "sources": [source]}]});
        change(&mut config);
        config
    }

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let settings = settings(&with(|_| {})).unwrap();
        let feed = &settings.feeds[0];
        assert_eq!(format!("{:?}", feed.rules), format!("{:?}", Rules::of("BTC-USD")));
        assert_eq!((feed.sources[0].interval, feed.sources[0].weight), (Duration::from_secs(1), 1));
        assert!(check_config(&json!({})).is_ok());
    }

    #[test]
    fn a_configuration_that_is_not_valid_names_the_key() {
        let configs = [
            with(|c| c["feed"] = json!([])),
            with(|c| c["feeds"][0]["deviation"] = json!(1)),
            with(|c| c["feeds"][0]["sources"][0]["convert"] = json!({})),
            with(|c| c["feeds"][0]["pair"] = json!("btc/usd")),
            with(|c| c["feeds"][0]["decimals"] = json!(19)),
            with(|c| c["feeds"][0]["decimals"] = json!(1.5)),
            with(|c| c["feeds"][0]["heartbeat"] = json!("1 hour")),
            with(|c| c["feeds"][0]["deviationBps"] = json!(0)),
            with(|c| c["feeds"][0]["minSources"] = json!(2)),
            with(|c| c["feeds"][0]["sources"] = json!([])),
            with(|c| c["feeds"][0]["sources"][0]["id"] = json!("A B")),
            with(|c| c["feeds"][0]["sources"][0]["url"] = json!("http://a.example/")),
            with(|c| c["feeds"][0]["sources"][0]["url"] = json!("a.example")),
            with(|c| c["feeds"][0]["sources"][0]["jsonPath"] = json!("price")),
            with(|c| c["feeds"][0]["sources"][0]["interval"] = json!("1ms")),
            with(|c| c["feeds"][0]["sources"][0]["weight"] = json!(0)),
            with(|c| c["feeds"][0]["sources"][0]["weight"] = json!("1")),
            with(|c| c["allowLoopback"] = json!(["10.0.0.1:80"])),
            with(|c| {
                let feed = c["feeds"][0].clone();
                c["feeds"].as_array_mut().unwrap().push(feed);
            }),
        ];
        let texts: String =
            configs.iter().map(|config| format!("{}\n", check_config(config).unwrap_err())).collect();
        expect![[r#"
            feed: unknown field `feed`, expected `feeds` or `allowLoopback`
            feeds[0].deviation: unknown field `deviation`, expected one of `pair`, `decimals`, `heartbeat`, `deviationBps`, `maxAge`, `minSources`, `sources`
            feeds[0].sources[0].convert: unknown field `convert`, expected one of `id`, `url`, `jsonPath`, `timestampPath`, `interval`, `weight`
            feeds[0].pair: expected two symbols of upper-case letters and digits, such as BTC-USD
            feeds[0].decimals: expected 0 to 18
            feeds[0].decimals: invalid number
            feeds[0].heartbeat: expected a duration such as 10s, from 1s to 1d
            feeds[0].deviationBps: expected 1 to 10000
            feeds[0].minSources: expected 1 to 1, the number of sources
            feeds[0].sources: expected at least one source
            feeds[0].sources[0].id: expected 1 to 40 lower-case letters, digits, hyphens and underscores
            feeds[0].sources[0].url: expected https, since only what allowLoopback names may be plain http
            feeds[0].sources[0].url: the URL is refused: it does not begin with https://
            feeds[0].sources[0].jsonPath: not a JSONPath: parser error
            feeds[0].sources[0].interval: expected a duration such as 10s, from 100ms to 1d
            feeds[0].sources[0].weight: expected 1 to 100
            feeds[0].sources[0].weight: invalid type: string "1", expected usize
            allowLoopback[0] is not a loopback host and port, such as 127.0.0.1:8443, [::1]:8443 or localhost:8443
            feeds[1].pair: BTC-USD is already a feed
        "#]].assert_eq(&texts);
    }
}
