//! Starts the pollers and the feeds, and hands out what they published; exchanges them where the configuration is another.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use outbound::{AllowList, Client, Roots, SystemResolver};
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
    /// What it is made of, where it is configured.
    pub(crate) settings: Option<FeedSettings>,
}

/// A source of such a feed.
pub(crate) struct PlannedSource {
    pub(crate) id: String,
    pub(crate) weight: usize,
    pub(crate) every: Duration,
    pub(crate) source: Box<dyn Source>,
}

/// A feed that runs. Its tasks end with it.
pub(crate) struct Running {
    pub(crate) rules: Rules,
    pub(crate) published: watch::Receiver<Option<Published>>,
    settings: Option<FeedSettings>,
    _tasks: JoinSet<()>,
}

/// All feeds by their pair.
pub(crate) type Feeds = BTreeMap<String, Arc<Running>>;

/// The feeds of the configuration in force.
pub(crate) struct Service {
    /// Held for as long as it takes to count one owner more.
    feeds: RwLock<Arc<Feeds>>,
    pub(crate) clock: Clock,
}

/// Makes plans of settings.
pub(crate) struct Planner {
    clock: Clock,
    /// Made when the first source needs it; another configuration needs no other but for what it allows.
    client: OnceLock<Client>,
}

/// Makes the routes of the service from what the replica was given, and starts its feeds.
pub async fn build(start: sdk::Start) -> Result<axum::Router, sdk::StartError> {
    let first = settings(&start.config).map_err(sdk::StartError::new)?;
    let planner = Planner::new(Clock::system());
    let service = Arc::new(Service::start(planner.plans(first), planner.clock.clone()));
    let configured = Arc::clone(&service);
    // Ends when nobody offers it another configuration any more.
    tokio::spawn(start.configs.follow(move |offer| {
        let next = settings(offer.value()).map_err(sdk::StartError::new)?;
        configured.take(planner.plans(next));
        Ok(())
    }));
    Ok(api::router(service))
}

impl Planner {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, client: OnceLock::new() }
    }

    /// The configured feeds, or the synthetic ones where none is configured.
    pub(crate) fn plans(&self, settings: Settings) -> Vec<Plan> {
        let clock = &self.clock;
        if settings.feeds.is_empty() {
            return [("BTC-USD", "60000"), ("ETH-USD", "3000")]
                .map(|(pair, base)| synthetic(pair, base, clock))
                .into();
        }
        let client = self.client.get_or_init(|| {
            let nothing = AllowList::new(&[], &[]).expect("a list of nothing is one");
            Client::new(nothing, SystemResolver, Roots::system())
        });
        let client = client.allowing(settings.allow);
        settings.feeds.into_iter().map(|feed| configured(feed, &client, clock)).collect()
    }
}

fn configured(settings: FeedSettings, client: &Client, clock: &Clock) -> Plan {
    let FeedSettings { rules, sources } = settings.clone();
    let planned = |source: SourceSettings| PlannedSource {
        source: Box::new(HttpSource::new(&source, client.clone(), clock.clone())),
        id: source.id,
        weight: source.weight,
        every: source.interval,
    };
    Plan { rules, sources: sources.into_iter().map(planned).collect(), settings: Some(settings) }
}

fn synthetic(pair: &str, base: &str, clock: &Clock) -> Plan {
    let base = Price::parse(base).expect("the base of a synthetic feed is a number");
    let source = PlannedSource {
        id: SYNTHETIC.to_owned(),
        weight: 1,
        every: Duration::from_secs(1),
        source: Box::new(Synthetic { base, clock: clock.clone() }),
    };
    Plan { rules: Rules::of(pair), sources: vec![source], settings: None }
}

impl Service {
    pub(crate) fn start(plans: Vec<Plan>, clock: Clock) -> Self {
        let service = Self { feeds: RwLock::default(), clock };
        service.take(plans);
        service
    }

    /// The feeds that there are now. Whoever answers does so with the same from beginning to end.
    pub(crate) fn feeds(&self) -> Arc<Feeds> {
        Arc::clone(&self.feeds.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Has those that ask from now on see these feeds. One that is made of the same goes on as it is; one of a pair that there was
    /// begins with what was published of that, so that there is a price, as old as it is, until its own sources have spoken.
    pub(crate) fn take(&self, plans: Vec<Plan>) {
        let before = self.feeds();
        let take = |plan: Plan| {
            let pair = plan.rules.pair.clone();
            let feed = match before.get(&pair) {
                Some(running) if running.settings == plan.settings => Arc::clone(running),
                known => {
                    let published = known.and_then(|known| known.published.borrow().clone());
                    Arc::new(start_feed(plan, published, &self.clock))
                }
            };
            (pair, feed)
        };
        let feeds = Arc::new(plans.into_iter().map(take).collect());
        *self.feeds.write().unwrap_or_else(PoisonError::into_inner) = feeds;
    }
}

fn start_feed(plan: Plan, before: Option<Published>, clock: &Clock) -> Running {
    let Plan { rules, sources, settings } = plan;
    let mut tasks = JoinSet::new();
    let (sender, readings) = mpsc::channel(MAX_WAITING_READINGS);
    let (publisher, published) = watch::channel(before.clone());
    let mut members = Vec::new();
    for (place, PlannedSource { id, weight, every, source }) in sources.into_iter().enumerate() {
        members.push(Member { id: id.clone(), weight, latest: None });
        let poller = Poller { pair: rules.pair.clone(), id, place, every, source };
        tasks.spawn(poller.run(sender.clone()));
    }
    let feed = Feed::after(before, rules.clone(), members);
    tasks.spawn(feed.run(readings, publisher, clock.clone()));
    Running { rules, published, settings, _tasks: tasks }
}
