//! The rollouts of a service as others see them: the one that is on its way, what it waits for, and how others have ended. A stable
//! contract.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use service_lifecycle::rollout::{Count, Gate, Outcome, Pace, Progress, Sample, Stage, Waits};
use service_lifecycle::{EndedRollout, FleetHandle, RolloutStatus, Rollouts};
use tokio::sync::watch;
use types::ServiceName;

use crate::client::StreamEvent;
use crate::health::rfc3339;

/// The document of `GET /v1/services/{name}/rollout`, and of what steers a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceRollout {
    /// The service.
    pub service: String,
    /// What the version is known by that runs, or that is to.
    pub wanted: String,
    /// The rollout that is on its way.
    pub rollout: Option<RolloutEntry>,
    /// The one that has ended last.
    pub last: Option<RolloutEnded>,
}

/// The document of `GET /v1/services/{name}/rollout/history`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutHistory {
    /// The service.
    pub service: String,
    /// Those that have ended, the newest first, at most 20.
    pub rollouts: Vec<RolloutEnded>,
}

/// The answer of `POST /v1/services/{name}/rollout/start`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutStarted {
    /// Whether a rollout has begun: not where what was measured is what runs, or is on its way.
    pub started: bool,
    /// How things are since.
    pub status: ServiceRollout,
}

/// A rollout that is on its way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutEntry {
    /// What the version is known by that ran before.
    pub from: String,
    /// What the one is known by that is to run. The same where all replicas only start again.
    pub to: String,
    /// `rolling`, `canary` or `blueGreen`.
    pub strategy: String,
    /// Where it is: `step`, `preview`, `switched`, `filling` or `reverting`.
    pub stage: String,
    /// The same in words.
    pub said: String,
    /// The step of a canary, from 1.
    pub step: Option<usize>,
    /// How many steps it has; 0 where it is no canary.
    pub steps: usize,
    /// Why the new version is given up, where it is.
    pub reason: Option<String>,
    /// The part of the calls that the new version has, in percent; none where each replica has as much as any other.
    pub percent: Option<u8>,
    /// `going` or `paused`.
    pub pace: String,
    /// When it began, RFC 3339.
    pub since: String,
    /// The old version.
    pub stable: RolloutSide,
    /// The new one.
    pub target: RolloutSide,
    /// What the new version has to hold; none where it is no canary.
    pub gate: Option<RolloutGate>,
    /// What has yet to come before it goes on; all of it.
    pub waits: Vec<RolloutWait>,
}

/// One version of a service while another takes its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutSide {
    /// How many replicas the stage leads to.
    pub wanted: usize,
    /// How many there are, those that leave among them.
    pub there: usize,
    /// How many have been selectable for `minReady`.
    pub available: usize,
    /// Its calls since the stage began, while calls are divided.
    pub requests: u64,
    /// Those of them that failed.
    pub errors: u64,
    /// The part that these are, 0 to 1; none of no calls.
    pub error_rate: Option<f64>,
    /// Within how many milliseconds 99 of 100 were answered; none of no calls.
    pub p99_ms: Option<f64>,
}

/// What a new version has to hold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutGate {
    /// By how much its part of failed calls may be larger than the old version's, 0 to 1.
    pub error_rate: f64,
    /// How many times the old version's 99th percentile its own may be.
    pub latency_ratio: f64,
    /// From how many calls on it is judged.
    pub min_requests: u64,
}

/// What a rollout waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutWait {
    /// `replicas`, `samples`, `time`, `promotion` or `resumption`.
    #[serde(rename = "for")]
    pub what: String,
    /// The calls that are missing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub missing: Option<u64>,
    /// The seconds that are left.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub seconds: Option<u64>,
    /// The same in words, with what to do where somebody has to do something.
    pub said: String,
}

/// A rollout that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutEnded {
    /// What the version is known by that ran before.
    pub from: String,
    /// What the one is known by that was to run. The same where all replicas only started again.
    pub to: String,
    /// `done`, `reverted`, `incomplete`: reverted, and not every replica of the old version serves again, or `replaced`: another rollout
    /// has taken its place.
    pub outcome: String,
    /// Why it was given up, where it was.
    pub reason: Option<String>,
    /// When it began, RFC 3339.
    pub since: String,
    /// When it ended, RFC 3339.
    pub ended: String,
}

/// One reader's place beside the rollouts of a service.
pub(crate) struct FollowRollouts {
    service: ServiceName,
    rollouts: watch::Receiver<Rollouts>,
    progress: watch::Receiver<Option<Progress>>,
}

/// A rollout that is on its way, in a few words.
pub(crate) fn brief(status: &RolloutStatus) -> String {
    let (to, stage) = (status.to.id(), &status.stage);
    let share = status.percent.map(|percent| format!(", {percent} % of the calls")).unwrap_or_default();
    let paused = if status.pace == Pace::Paused { ", paused" } else { "" };
    format!("to {to}: {stage}{share}{paused}")
}

impl ServiceRollout {
    pub(crate) fn now(service: &ServiceName, fleet: &FleetHandle) -> Self {
        Self::of(service, &fleet.rollouts(), fleet.progress().as_ref())
    }

    fn of(service: &ServiceName, rollouts: &Rollouts, progress: Option<&Progress>) -> Self {
        // Before a fleet has looked once, nothing is known of it.
        let unknown = Progress::default();
        let progress = progress.unwrap_or(&unknown);
        Self {
            service: service.to_string(),
            wanted: rollouts.wanted.id().to_owned(),
            rollout: rollouts.on_its_way.as_ref().map(|status| RolloutEntry::of(service, status, progress)),
            last: rollouts.ended.back().map(RolloutEnded::of),
        }
    }
}

impl RolloutHistory {
    pub(crate) fn of(service: &ServiceName, ended: &VecDeque<EndedRollout>) -> Self {
        let rollouts = ended.iter().rev().map(RolloutEnded::of).collect();
        Self { service: service.to_string(), rollouts }
    }
}

impl RolloutEntry {
    fn of(service: &ServiceName, status: &RolloutStatus, progress: &Progress) -> Self {
        let (stage, step, reason) = match &status.stage {
            Stage::Step(number) => ("step", Some(number + 1), None),
            Stage::Preview => ("preview", None, None),
            Stage::Switched => ("switched", None, None),
            Stage::Filling => ("filling", None, None),
            Stage::Reverting(failure) => ("reverting", None, Some(failure.to_string())),
            Stage::Over(Outcome::Done) => ("done", None, None),
            Stage::Over(Outcome::Replaced) => ("replaced", None, None),
            Stage::Over(Outcome::Reverted(failure) | Outcome::Incomplete(failure)) => {
                ("reverted", None, Some(failure.to_string()))
            }
        };
        let said = match step {
            Some(step) => format!("step {step} of {}", progress.steps),
            None => status.stage.to_string(),
        };
        Self {
            from: status.from.id().to_owned(),
            to: status.to.id().to_owned(),
            strategy: progress.strategy.to_owned(),
            stage: stage.to_owned(),
            said,
            step,
            steps: progress.steps,
            reason,
            percent: status.percent,
            pace: match status.pace {
                Pace::Going => "going",
                Pace::Paused => "paused",
            }
            .to_owned(),
            since: rfc3339(status.since),
            stable: RolloutSide::of(progress.stable, progress.samples.stable),
            target: RolloutSide::of(progress.target, progress.samples.target),
            gate: progress.gate.map(RolloutGate::of),
            waits: progress.waits.iter().map(|waits| RolloutWait::of(service, *waits)).collect(),
        }
    }
}

impl RolloutSide {
    fn of(count: Count, sample: Sample) -> Self {
        let millis = |latency: Duration| latency.as_secs_f64() * 1_000.0;
        Self {
            wanted: count.wanted,
            there: count.there,
            available: count.available,
            requests: sample.requests,
            errors: sample.errors,
            error_rate: (sample.requests > 0).then(|| sample.errors as f64 / sample.requests as f64),
            p99_ms: sample.p99.map(millis),
        }
    }
}

impl RolloutGate {
    fn of(gate: Gate) -> Self {
        let Gate { error_rate, latency_ratio, min_requests } = gate;
        Self { error_rate, latency_ratio, min_requests }
    }
}

impl RolloutWait {
    fn of(service: &ServiceName, waits: Waits) -> Self {
        let by_hand = |verb: &str| format!("waits for somebody: serviceos rollout {verb} {service}");
        let (what, missing, seconds, said) = match waits {
            Waits::Replicas => ("replicas", None, None, "waits for replicas".to_owned()),
            Waits::Samples(missing) => {
                ("samples", Some(missing), None, format!("waits for {missing} more samples"))
            }
            Waits::Time(left) => {
                let left = left.as_secs();
                ("time", None, Some(left), format!("pause ends in {left} s"))
            }
            Waits::Promotion => ("promotion", None, None, by_hand("promote")),
            Waits::Resumption => ("resumption", None, None, by_hand("resume")),
        };
        Self { what: what.to_owned(), missing, seconds, said }
    }
}

impl RolloutEnded {
    fn of(ended: &EndedRollout) -> Self {
        let (outcome, reason) = match &ended.outcome {
            Outcome::Done => ("done", None),
            Outcome::Replaced => ("replaced", None),
            Outcome::Reverted(failure) => ("reverted", Some(failure.to_string())),
            Outcome::Incomplete(failure) => ("incomplete", Some(failure.to_string())),
        };
        Self {
            from: ended.from.id().to_owned(),
            to: ended.to.id().to_owned(),
            outcome: outcome.to_owned(),
            reason,
            since: rfc3339(ended.times.0),
            ended: rfc3339(ended.times.1),
        }
    }
}

impl FollowRollouts {
    /// One that is told at once how things are.
    pub(crate) fn new(service: ServiceName, fleet: &FleetHandle) -> Self {
        let (mut rollouts, progress) = (fleet.watch_rollouts(), fleet.watch_progress());
        rollouts.mark_changed();
        Self { service, rollouts, progress }
    }

    /// What is so next, as an event of a stream. Never returns where nothing comes.
    pub(crate) async fn next(&mut self) -> Bytes {
        let changed = tokio::select! {
            changed = self.rollouts.changed() => changed,
            changed = self.progress.changed() => changed,
        };
        if changed.is_err() {
            return std::future::pending().await;
        }
        let (rollouts, progress) = (self.rollouts.borrow_and_update(), self.progress.borrow_and_update());
        let document = ServiceRollout::of(&self.service, &rollouts, progress.as_ref());
        drop((rollouts, progress));
        let data = serde_json::to_string(&document).expect("documents of text and numbers are JSON");
        format!("event: rollout\ndata: {data}\n\n").into()
    }
}

impl StreamEvent for ServiceRollout {
    fn decode(name: &str, data: &str) -> Result<Self, String> {
        match name {
            "rollout" => serde_json::from_str(data).map_err(|error| error.to_string()),
            other => Err(format!("an event {other:?}")),
        }
    }
}

#[cfg(test)]
mod tests;
