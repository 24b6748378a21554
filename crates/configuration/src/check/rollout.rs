//! How a service is brought from one version to another.

use std::time::Duration;

use types::duration;

use super::{Checker, MAX_DURATION};
use crate::raw::{RawGate, RawRollout, RawStep};
use crate::report::Origin;
use crate::scalar::{AutoPromote, Field, Mismatch, Ratio, Spanned, StrategyWord};
use crate::settings::{CanaryGate, CanaryStep, Percent, Rollout, RolloutStrategy};

/// The most replicas beside those that are wanted, or below them: as many as a service may have.
const MAX_BESIDE: i128 = 1_000;
/// The most steps of a canary.
const MAX_STEPS: usize = 20;
/// The most calls that a gate may wait for.
const MAX_REQUESTS: i128 = 1_000_000;
/// The longest that a replica may have to be selectable before it counts.
const MAX_MIN_READY: Duration = Duration::from_secs(3_600);
const LARGEST_RATIO: f64 = 100.0;

/// The strategies that have keys of their own.
const CANARY: &str = "canary";
const BLUE_GREEN: &str = "blueGreen";

impl Checker {
    /// `origin` is where it is written as a whole.
    pub(super) fn rollout(&mut self, key: &str, raw: RawRollout, origin: Origin) -> Rollout {
        let word = self.value(&format!("{key}.strategy"), raw.strategy);
        let spanned = |place: Option<_>| place.map_or(Origin::Default, Origin::from);
        let of_one = [
            (spanned(raw.steps.as_ref().map(|steps| steps.referenced)), "steps", CANARY),
            (spanned(raw.gate.as_ref().map(|gate| gate.referenced)), "gate", CANARY),
            (raw.auto_promote.origin, "autoPromote", BLUE_GREEN),
            (raw.keep.origin, "keep", BLUE_GREEN),
        ];
        self.only_of_its_strategy(key, word, of_one);
        let steps = self.steps(&format!("{key}.steps"), raw.steps);
        let gate = self.gate(&format!("{key}.gate"), raw.gate.map(|gate| gate.value).unwrap_or_default());
        let auto_promote = self.auto_promote(&format!("{key}.autoPromote"), raw.auto_promote);
        let keep = self.duration_within(&format!("{key}.keep"), raw.keep, Duration::ZERO..=MAX_DURATION);
        let mut beside = |name: &str, field| self.whole(&format!("{key}.{name}"), field, 0..=MAX_BESIDE);
        let max_surge = beside("maxSurge", raw.max_surge);
        let max_unavailable = beside("maxUnavailable", raw.max_unavailable);
        if (max_surge, max_unavailable) == (0, 0) {
            let message = format!(
                "{key}: with `maxSurge: 0` and `maxUnavailable: 0` no replica could ever take another one's place"
            );
            let help = "write `maxSurge: 1` to start one more meanwhile, or `maxUnavailable: 1` to go with one fewer";
            self.wrong(origin, message, Some(help.to_owned()));
        }
        let (min_ready, progress_deadline) = self.times(key, raw.min_ready, raw.progress_deadline);
        let strategy = match word {
            Some(StrategyWord::Rolling) | None => RolloutStrategy::Rolling,
            Some(StrategyWord::Canary) => RolloutStrategy::Canary { steps, gate },
            Some(StrategyWord::BlueGreen) => RolloutStrategy::BlueGreen { auto_promote, keep },
        };
        Rollout { strategy, max_surge, max_unavailable, min_ready, progress_deadline }
    }

    /// A strategy that is none is wrong itself, and then nobody knows which keys it has.
    fn only_of_its_strategy(
        &mut self,
        key: &str,
        strategy: Option<StrategyWord>,
        keys: [(Origin, &str, &str); 4],
    ) {
        let Some(strategy) = strategy else { return };
        let own = match strategy {
            StrategyWord::Rolling => "rolling",
            StrategyWord::Canary => CANARY,
            StrategyWord::BlueGreen => BLUE_GREEN,
        };
        for (origin, name, of) in keys {
            if origin != Origin::Default && of != own {
                let message = format!("{key}.{name}: only the strategy {of} has this, and this one is {own}");
                self.wrong(
                    origin,
                    message,
                    Some(format!("leave `{name}` out, or write `strategy: {of}` beside it")),
                );
            }
        }
    }

    fn times(
        &mut self,
        key: &str,
        min_ready: Field<Duration>,
        deadline: Field<Duration>,
    ) -> (Duration, Duration) {
        let origin = if min_ready.origin == Origin::Default { deadline.origin } else { min_ready.origin };
        let before = self.findings.len();
        let min_ready =
            self.duration_within(&format!("{key}.minReady"), min_ready, Duration::ZERO..=MAX_MIN_READY);
        let deadline = self.duration(&format!("{key}.progressDeadline"), deadline);
        if self.findings.len() == before && min_ready >= deadline {
            let [ready, late] = [min_ready, deadline].map(duration::text);
            let message = format!(
                "{key}: with minReady (`{ready}`) no shorter than progressDeadline (`{late}`) every rollout would be late"
            );
            let help = "write a shorter minReady, or a longer progressDeadline";
            self.wrong(origin, message, Some(help.to_owned()));
        }
        (min_ready, deadline)
    }

    fn steps(&mut self, key: &str, written: Option<Spanned<Vec<Spanned<RawStep>>>>) -> Vec<CanaryStep> {
        let Some(Spanned { value: written, referenced }) = written else {
            let steps = RawStep::by_default().map(|step| self.step(key, step, Origin::Default));
            return steps.into();
        };
        if written.is_empty() || written.len() > MAX_STEPS {
            let message = format!("{key}: expected 1 to {MAX_STEPS} steps, found {}", written.len());
            let help = "write `steps: [{weight: 10%, pause: 5m}]`, or leave `steps` out for those of the documentation";
            self.wrong(referenced.into(), message, Some(help.to_owned()));
        }
        let mut steps: Vec<CanaryStep> = Vec::new();
        for (number, step) in written.into_iter().enumerate().take(MAX_STEPS) {
            let (key, origin) = (format!("{key}[{number}]"), Origin::from(step.referenced));
            let before = self.findings.len();
            let step = self.step(&key, step.value, origin);
            let is_right = self.findings.len() == before;
            if let Some(last) = steps.last().filter(|last| is_right && step.weight <= last.weight) {
                let message = format!(
                    "{key}.weight: a step takes more of the calls than the one before ({}), found `{}`",
                    last.weight, step.weight
                );
                self.wrong(origin, message, Some("put the steps in the order of their weights".to_owned()));
            }
            steps.push(step);
        }
        steps
    }

    fn step(&mut self, key: &str, raw: RawStep, origin: Origin) -> CanaryStep {
        let weight_key = format!("{key}.weight");
        let weight = match raw.weight {
            Some(weight) => {
                if matches!(weight.value, Ok(Percent::ZERO)) {
                    let message = format!("{weight_key}: a step takes some of the calls, found `0%`");
                    self.wrong(weight.origin, message, Some("write 1% or more".to_owned()));
                }
                self.percent(&weight_key, weight)
            }
            None => {
                let message = format!("{weight_key}: missing: nothing says how many of the calls it takes");
                self.wrong(origin, message, Some("write `weight: 10%`".to_owned()));
                Percent::ZERO
            }
        };
        let pause = raw
            .pause
            .map(|pause| self.duration_within(&format!("{key}.pause"), pause, Duration::ZERO..=MAX_DURATION));
        CanaryStep { weight, pause }
    }

    fn gate(&mut self, key: &str, raw: RawGate) -> CanaryGate {
        CanaryGate {
            error_rate: self.percent(&format!("{key}.errorRate"), raw.error_rate),
            latency_ratio: self.ratio(&format!("{key}.latencyRatio"), raw.latency_ratio),
            min_requests: self.whole(&format!("{key}.minRequests"), raw.min_requests, 1..=MAX_REQUESTS),
        }
    }

    fn ratio(&mut self, key: &str, field: Field<Ratio>) -> f64 {
        let mismatch = match field.value {
            Ok(Ratio(ratio)) if (1.0..=LARGEST_RATIO).contains(&ratio) => return ratio,
            Ok(Ratio(ratio)) => Mismatch { found: format!("`{ratio}`"), help: None },
            Err(mismatch) => mismatch,
        };
        let expected = format!("a number from 1 to {LARGEST_RATIO} such as 1.5");
        self.mismatch(field.origin, key, &expected, mismatch);
        1.0
    }

    fn auto_promote(&mut self, key: &str, field: Field<AutoPromote>) -> Option<Duration> {
        let origin = field.origin;
        match self.value(key, field) {
            Some(AutoPromote::After(wait)) if wait > MAX_DURATION => {
                let [most, found] = [MAX_DURATION, wait].map(duration::text);
                let message = format!("{key}: expected `never` or a duration up to {most}, found `{found}`");
                self.wrong(origin, message, None);
                None
            }
            Some(AutoPromote::After(wait)) => Some(wait),
            Some(AutoPromote::Never) | None => None,
        }
    }
}
