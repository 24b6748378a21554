//! What is measured, in which unit, and how rounds are summed up.

use std::collections::BTreeMap;

use serde::Serialize;

/// A measure. The order is the order of the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    /// Processor time of the proxy for each request.
    CpuMicros,
    UserMicros,
    SystemMicros,
    /// Bodies passed for each second of the proxy's processor time.
    MibPerCpuSecond,
    RequestsPerSecond,
    P50Micros,
    P99Micros,
    P999Micros,
    ResidentMib,
    /// With all that it has started.
    AllResidentMib,
    /// Growth of resident memory for each idle connection.
    KibPerConnection,
    FailedRequests,
    /// Of the body of one answer, where programs get theirs from different upstreams.
    BodyBytes,
    Milliseconds,
    /// Of the start of a replica.
    StartMilliseconds,
    /// How much of its core the proxy used.
    CorePercent,
    /// How much of the proxy's core others used meanwhile: noise.
    ForeignPercent,
}

impl Metric {
    /// The head of the column, with the unit.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::CpuMicros => "CPU µs/req",
            Self::UserMicros => "user µs",
            Self::SystemMicros => "system µs",
            Self::MibPerCpuSecond => "MiB/CPU s",
            Self::RequestsPerSecond => "req/s",
            Self::P50Micros => "p50 µs",
            Self::P99Micros => "p99 µs",
            Self::P999Micros => "p99.9 µs",
            Self::ResidentMib => "RSS MiB",
            Self::AllResidentMib => "all MiB",
            Self::KibPerConnection => "KiB/connection",
            Self::FailedRequests => "failed",
            Self::BodyBytes => "body B",
            Self::Milliseconds => "ms",
            Self::StartMilliseconds => "start ms",
            Self::CorePercent => "core %",
            Self::ForeignPercent => "foreign %",
        }
    }

    /// The value with as many digits as mean something.
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Self::CpuMicros | Self::UserMicros | Self::SystemMicros | Self::KibPerConnection => {
                format!("{value:.2}")
            }
            Self::ResidentMib
            | Self::AllResidentMib
            | Self::Milliseconds
            | Self::StartMilliseconds
            | Self::CorePercent
            | Self::ForeignPercent => format!("{value:.1}"),
            _ => format!("{value:.0}"),
        }
    }
}

/// What one round of one program gave.
pub(crate) type Sample = BTreeMap<Metric, f64>;

/// The median of each measure that all rounds have.
pub(crate) fn medians(rounds: &[Sample]) -> Sample {
    let Some(first) = rounds.first() else { return Sample::new() };
    let of = |metric: &Metric| {
        let values: Option<Vec<f64>> = rounds.iter().map(|round| round.get(metric).copied()).collect();
        Some((*metric, median(values?)?))
    };
    first.keys().filter_map(of).collect()
}

/// The middle value, or the mean of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    Some((values[middle - 1] + upper) / 2.0)
}

/// The value below which `share` of the sorted values lie, by nearest rank.
pub(crate) fn percentile(sorted: &[u32], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().map_or(f64::NAN, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_both() {
        assert_eq!(median(vec![9.0, 1.0, 3.0]), Some(3.0));
        assert_eq!(median(vec![4.0, 1.0, 9.0, 2.0]), Some(3.0));
        assert_eq!(median(vec![]), None);
    }

    #[test]
    fn a_percentile_is_a_value_that_was_measured() {
        let values: Vec<u32> = (1..=1000).collect();
        assert_eq!(percentile(&values, 0.5), 500.0);
        assert_eq!(percentile(&values, 0.999), 999.0);
        assert_eq!(percentile(&[7], 0.99), 7.0);
        assert!(percentile(&[], 0.99).is_nan());
    }
}
