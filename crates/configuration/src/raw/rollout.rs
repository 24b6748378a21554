//! The keys of a rollout.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{seconds, whole, written};
use crate::scalar::{AutoPromote, Field, Ratio, Spanned, StrategyWord, Whole};
use crate::settings::Percent;

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawRollout {
    pub(crate) strategy: Field<StrategyWord>,
    pub(crate) max_surge: Field<Whole>,
    pub(crate) max_unavailable: Field<Whole>,
    pub(crate) min_ready: Field<Duration>,
    pub(crate) progress_deadline: Field<Duration>,
    /// Left out: those of [`RawStep::by_default`], where there are any.
    #[serde(deserialize_with = "written")]
    pub(crate) steps: Option<Spanned<Vec<Spanned<RawStep>>>>,
    /// Left out: all of its defaults, where there is one.
    #[serde(deserialize_with = "written")]
    pub(crate) gate: Option<Spanned<RawGate>>,
    pub(crate) auto_promote: Field<AutoPromote>,
    pub(crate) keep: Field<Duration>,
}

impl Default for RawRollout {
    fn default() -> Self {
        Self {
            strategy: Field::default_of(StrategyWord::Rolling),
            max_surge: whole(1),
            max_unavailable: whole(0),
            min_ready: seconds(2),
            progress_deadline: seconds(600),
            steps: None,
            gate: None,
            auto_promote: Field::default_of(AutoPromote::After(Duration::ZERO)),
            keep: seconds(300),
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawStep {
    pub(crate) weight: Option<Field<Percent>>,
    /// Left out: until somebody promotes it.
    pub(crate) pause: Option<Field<Duration>>,
}

impl RawStep {
    /// The steps of a canary that writes none.
    pub(crate) fn by_default() -> [Self; 2] {
        [10, 50].map(|weight| Self {
            weight: Percent::new(weight).map(Field::default_of),
            pause: Some(seconds(300)),
        })
    }
}

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawGate {
    pub(crate) error_rate: Field<Percent>,
    pub(crate) latency_ratio: Field<Ratio>,
    pub(crate) min_requests: Field<Whole>,
}

impl Default for RawGate {
    fn default() -> Self {
        Self {
            error_rate: Field::default_of(Percent::new(1).expect("1 is at most 100")),
            latency_ratio: Field::default_of(Ratio(2.0)),
            min_requests: whole(100),
        }
    }
}
