//! One feed: the latest reading of each source, and the round that was published last.
//!
//! ```text
//! reading → latest of its source → within maxAge → not an outlier → at least minSources → median
//!         → a new round if it moved or the heartbeat is due, else a confirmation of the round that stands
//! ```
//!
//! The transition is pure: the time is an argument, nothing is awaited. Too few sources change nothing, so the last round
//! stands and grows old; it is never stamped anew.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};

use crate::aggregate::{Aggregate, Quote, aggregate, plausible};
use crate::clock::{Clock, age};
use crate::price::Price;
use crate::settings::Rules;
use crate::source::Reading;

/// One published value. A round never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Round {
    /// Counts from 1 at the start of the replica, and on where the feed is configured anew.
    pub(crate) number: u64,
    pub(crate) price: Price,
    pub(crate) confidence: Price,
    /// When enough sources had said so.
    pub(crate) timestamp: Timestamp,
    pub(crate) source_ids: Vec<String>,
}

/// What readers see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) round: Arc<Round>,
    /// When enough sources last said that the round still holds within the deviation.
    pub(crate) confirmed_at: Timestamp,
}

/// Whether enough sources stand behind a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Live,
    Stale,
}

impl Published {
    pub(crate) fn age(&self, now: Timestamp) -> Duration {
        age(now, self.confirmed_at)
    }

    pub(crate) fn status(&self, now: Timestamp, max_age: Duration) -> Status {
        if self.age(now) <= max_age { Status::Live } else { Status::Stale }
    }
}

/// A source as its feed sees it.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) weight: usize,
    pub(crate) latest: Option<Reading>,
}

/// The state of a feed, owned by its task.
#[derive(Debug)]
pub(crate) struct Feed {
    rules: Rules,
    members: Vec<Member>,
    published: Option<Published>,
    /// Whether that is of a feed before, so that the first agreement is a round of its own.
    is_of_another: bool,
}

impl Feed {
    /// One that goes on with the rounds of a feed before, if there was one.
    pub(crate) fn after(before: Option<Published>, rules: Rules, members: Vec<Member>) -> Self {
        Self { rules, members, is_of_another: before.is_some(), published: before }
    }

    /// Takes readings until the pollers are gone.
    pub(crate) async fn run(
        mut self,
        mut readings: mpsc::Receiver<(usize, Reading)>,
        published: watch::Sender<Option<Published>>,
        clock: Clock,
    ) {
        while let Some((place, reading)) = readings.recv().await {
            if let Some(change) = self.observe(place, reading, clock.now()) {
                published.send_replace(Some(change));
            }
        }
    }

    /// Takes one reading in. Answers with what is to be published, if anything is.
    pub(crate) fn observe(&mut self, place: usize, reading: Reading, now: Timestamp) -> Option<Published> {
        let latest = &mut self.members[place].latest;
        if latest.is_some_and(|latest| latest.observed_at > reading.observed_at) {
            return None;
        }
        *latest = Some(reading);
        let used = self.usable(now);
        if used.len() < self.rules.min_sources {
            return None;
        }
        let quotes: Vec<_> = used.iter().map(|(member, reading)| quote(member, reading)).collect();
        let found = aggregate(&quotes)?;
        let observed_at = self.agreed_at(&used);
        let next = if self.is_due(found, now) {
            Published { round: Arc::new(self.round(found, observed_at, &used)), confirmed_at: observed_at }
        } else {
            let standing = self.published.as_ref()?;
            Published {
                round: Arc::clone(&standing.round),
                confirmed_at: observed_at.max(standing.confirmed_at),
            }
        };
        (self.published, self.is_of_another) = (Some(next.clone()), false);
        Some(next)
    }

    /// The readings that are young enough, without outliers.
    fn usable(&self, now: Timestamp) -> Vec<(&Member, Reading)> {
        let young = |reading: &Reading| age(now, reading.observed_at) <= self.rules.max_age;
        let recent = self.members.iter().filter_map(|member| Some((member, member.latest.filter(young)?)));
        let recent: Vec<_> = recent.collect();
        let prices: Vec<_> = recent.iter().map(|(_, reading)| reading.price).collect();
        recent
            .into_iter()
            .zip(plausible(&prices))
            .filter_map(|(used, plausible)| plausible.then_some(used))
            .collect()
    }

    /// The moment from which on at least `minSources` of these readings existed.
    fn agreed_at(&self, used: &[(&Member, Reading)]) -> Timestamp {
        let mut moments: Vec<_> = used.iter().map(|(_, reading)| reading.observed_at).collect();
        moments.sort_unstable();
        moments[moments.len() - self.rules.min_sources]
    }

    fn is_due(&self, found: Aggregate, now: Timestamp) -> bool {
        let Some(Published { round, .. }) = &self.published else { return true };
        self.is_of_another
            || round.price.moved(found.price, self.rules.deviation_bps)
            || age(now, round.timestamp) >= self.rules.heartbeat
    }

    fn round(&self, found: Aggregate, timestamp: Timestamp, used: &[(&Member, Reading)]) -> Round {
        let before = self.published.as_ref().map_or(0, |published| published.round.number);
        Round {
            number: before + 1,
            price: found.price.floor(self.rules.decimals),
            confidence: found.confidence.ceil(self.rules.decimals),
            timestamp,
            source_ids: used.iter().map(|(member, _)| member.id.clone()).collect(),
        }
    }
}

fn quote(member: &Member, reading: &Reading) -> Quote {
    // No HTTP source gives an interval of its own.
    Quote { price: reading.price, confidence: Price::default(), weight: member.weight }
}

#[cfg(test)]
mod tests;
