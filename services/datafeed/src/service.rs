//! Starts the pollers and the feeds, and hands out what they published.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use outbound::{Client, Roots, SystemResolver};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::api;
use crate::clock::Clock;
use crate::feed::{Feed, Member, Published};
use crate::poller::Poller;
use crate::price::Price;
use crate::settings::{FeedSettings, Rules, Settings, SourceSettings, settings};
use crate::source::{HttpSource, SYNTHETIC, Source, Synthetic};

/// Readings of one feed that wait for its task; beyond them the pollers wait.
const MAX_WAITING_READINGS: usize = 64;

/// A feed that is about to start.
pub(crate) struct Plan {
    pub(crate) rules: Rules,
    pub(crate) sources: Vec<PlannedSource>,
}

/// A source of such a feed.
pub(crate) struct PlannedSource {
    pub(crate) id: String,
    pub(crate) weight: usize,
    pub(crate) every: Duration,
    pub(crate) source: Box<dyn Source>,
}

/// A feed that runs.
pub(crate) struct Running {
    pub(crate) rules: Rules,
    pub(crate) published: watch::Receiver<Option<Published>>,
}

/// All feeds by their pair. The tasks end with it.
pub(crate) struct Service {
    pub(crate) feeds: BTreeMap<String, Running>,
    pub(crate) clock: Clock,
    _tasks: JoinSet<()>,
}

/// Makes the routes of the service from what the replica was given, and starts its feeds.
pub async fn build(start: sdk::Start) -> Result<axum::Router, sdk::StartError> {
    let settings = settings(&start.config).map_err(sdk::StartError::new)?;
    let clock = Clock::system();
    Ok(api::router(Arc::new(Service::start(plans(settings, &clock), clock))))
}

/// The configured feeds, or the synthetic ones where none is configured.
pub(crate) fn plans(settings: Settings, clock: &Clock) -> Vec<Plan> {
    if settings.feeds.is_empty() {
        return [("BTC-USD", "60000"), ("ETH-USD", "3000")]
            .map(|(pair, base)| synthetic(pair, base, clock))
            .into();
    }
    let client = Client::new(settings.allow, SystemResolver, Roots::system());
    settings.feeds.into_iter().map(|feed| configured(feed, &client, clock)).collect()
}

fn configured(FeedSettings { rules, sources }: FeedSettings, client: &Client, clock: &Clock) -> Plan {
    let planned = |source: SourceSettings| PlannedSource {
        source: Box::new(HttpSource::new(&source, client.clone(), clock.clone())),
        id: source.id,
        weight: source.weight,
        every: source.interval,
    };
    Plan { rules, sources: sources.into_iter().map(planned).collect() }
}

fn synthetic(pair: &str, base: &str, clock: &Clock) -> Plan {
    let base = Price::parse(base).expect("the base of a synthetic feed is a number");
    let source = PlannedSource {
        id: SYNTHETIC.to_owned(),
        weight: 1,
        every: Duration::from_secs(1),
        source: Box::new(Synthetic { base, clock: clock.clone() }),
    };
    Plan { rules: Rules::of(pair), sources: vec![source] }
}

impl Service {
    pub(crate) fn start(plans: Vec<Plan>, clock: Clock) -> Self {
        let mut tasks = JoinSet::new();
        let start = |plan: Plan| (plan.rules.pair.clone(), start_feed(plan, &clock, &mut tasks));
        let feeds = plans.into_iter().map(start).collect();
        Self { feeds, clock, _tasks: tasks }
    }
}

fn start_feed(Plan { rules, sources }: Plan, clock: &Clock, tasks: &mut JoinSet<()>) -> Running {
    let (sender, readings) = mpsc::channel(MAX_WAITING_READINGS);
    let (publisher, published) = watch::channel(None);
    let mut members = Vec::new();
    for (place, PlannedSource { id, weight, every, source }) in sources.into_iter().enumerate() {
        members.push(Member { id: id.clone(), weight, latest: None });
        let poller = Poller { pair: rules.pair.clone(), id, place, every, source };
        tasks.spawn(poller.run(sender.clone()));
    }
    tasks.spawn(Feed::new(rules.clone(), members).run(readings, publisher, clock.clone()));
    Running { rules, published }
}
