//! What a case found, and whether it is good enough: ratios of medians held against the targets.

use serde::Serialize;

use crate::metric::{Metric, Sample, medians};

/// What a case found.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) case: String,
    pub(crate) title: String,
    pub(crate) notes: Vec<String>,
    pub(crate) series: Vec<Series>,
}

/// One kind of work within a case.
#[derive(Debug, Serialize)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) rows: Vec<Row>,
    pub(crate) ratios: Vec<Ratio>,
    pub(crate) verdicts: Vec<Verdict>,
}

impl Series {
    /// Holds the rows against each other and against the targets.
    pub(crate) fn new(name: &str, rows: Vec<Row>, targets: &[Target]) -> Self {
        let verdicts = targets.iter().map(|target| verdict(&rows, target)).collect();
        Self { name: name.to_owned(), ratios: ratios(&rows, targets), rows, verdicts }
    }
}

/// One row's median divided by another's.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Ratio {
    pub(crate) metric: Metric,
    pub(crate) of: &'static str,
    pub(crate) to: String,
    pub(crate) value: f64,
}

/// What one program gave.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) medians: Sample,
    pub(crate) rounds: Vec<Sample>,
    /// Why there is nothing.
    pub(crate) absent: Option<String>,
}

impl Row {
    pub(crate) fn new(name: &str, rounds: Vec<Sample>) -> Self {
        Self { name: name.to_owned(), medians: medians(&rounds), rounds, absent: None }
    }

    pub(crate) fn absent(name: &str, reason: String) -> Self {
        Self { name: name.to_owned(), absent: Some(reason), ..Self::default() }
    }

    fn median(&self, metric: Metric) -> Option<f64> {
        self.medians.get(&metric).copied()
    }
}

/// What a row must reach.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub(crate) of: &'static str,
    pub(crate) metric: Metric,
    pub(crate) against: Against,
    pub(crate) bound: Bound,
    /// Better than what must be.
    pub(crate) stretch: Option<f64>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Against {
    /// The median of the best of these rows.
    Best(&'static [&'static str]),
    /// Nothing: the bound is the value itself.
    Itself,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }

    fn better(self, one: f64, other: f64) -> f64 {
        match self {
            Self::AtMost(_) => one.min(other),
            Self::AtLeast(_) => one.max(other),
        }
    }
}

/// A target and what became of it.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Verdict {
    pub(crate) target: String,
    /// The ratio, or the value where there is nothing to divide by. None where it could not be measured.
    pub(crate) value: Option<f64>,
    pub(crate) passed: Option<bool>,
}

/// Programs that were to be the better of which, as far as they were measured.
pub(crate) const NGINX_OR_HAPROXY: Against = Against::Best(&["nginx", "HAProxy"]);

/// What the targets are about, divided by what each other row has of it.
fn ratios(rows: &[Row], targets: &[Target]) -> Vec<Ratio> {
    let mut ratios: Vec<Ratio> = Vec::new();
    for Target { of, metric, .. } in targets {
        let Some(own) = rows.iter().find(|row| row.name == *of).and_then(|row| row.median(*metric)) else {
            continue;
        };
        for row in rows.iter().filter(|row| row.name != *of) {
            let Some(other) = row.median(*metric) else { continue };
            let ratio = Ratio { metric: *metric, of, to: row.name.clone(), value: own / other };
            if !ratios.contains(&ratio) {
                ratios.push(ratio);
            }
        }
    }
    ratios
}

fn verdict(rows: &[Row], target: &Target) -> Verdict {
    let value = value(rows, target);
    Verdict { target: describe(target), value, passed: value.map(|value| target.bound.holds(value)) }
}

fn value(rows: &[Row], target: &Target) -> Option<f64> {
    let median = |name: &str| rows.iter().find(|row| row.name == name)?.median(target.metric);
    let own = median(target.of)?;
    match target.against {
        Against::Itself => Some(own),
        Against::Best(names) => {
            let measured = names.iter().filter_map(|name| median(name));
            Some(own / measured.reduce(|one, other| target.bound.better(one, other))?)
        }
    }
}

fn describe(target: &Target) -> String {
    let (sign, limit) = match target.bound {
        Bound::AtMost(limit) => ("≤", limit),
        Bound::AtLeast(limit) => ("≥", limit),
    };
    let against = match target.against {
        Against::Itself => String::new(),
        Against::Best([name]) => format!(" × {name}"),
        Against::Best(names) => format!(" × the better of {}", names.join(" and ")),
    };
    let stretch = target.stretch.map_or_else(String::new, |stretch| format!(" (stretch {stretch})"));
    format!("{}, {}: {sign} {limit}{against}{stretch}", target.of, target.metric.label())
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn row(name: &str, cpu: f64) -> Row {
        Row::new(name, vec![Sample::from([(Metric::CpuMicros, cpu)])])
    }

    fn check(rows: &[Row], against: Against, bound: Bound, expected: Expect) {
        let target =
            Target { of: "ServiceOS", metric: Metric::CpuMicros, against, bound, stretch: Some(0.5) };
        let verdict = verdict(rows, &target);
        expected.assert_eq(&format!("{} → {:?} {:?}", verdict.target, verdict.value, verdict.passed));
    }

    #[test]
    fn the_better_peer_counts() {
        let rows = [row("nginx", 20.0), row("HAProxy", 25.0), row("ServiceOS", 16.0)];
        check(
            &rows,
            NGINX_OR_HAPROXY,
            Bound::AtMost(0.75),
            expect![
                "ServiceOS, CPU µs/req: ≤ 0.75 × the better of nginx and HAProxy (stretch 0.5) → Some(0.8) Some(false)"
            ],
        );
        check(
            &rows,
            NGINX_OR_HAPROXY,
            Bound::AtLeast(0.6),
            expect![
                "ServiceOS, CPU µs/req: ≥ 0.6 × the better of nginx and HAProxy (stretch 0.5) → Some(0.64) Some(true)"
            ],
        );
    }

    #[test]
    fn what_was_not_measured_neither_passes_nor_fails() {
        let rows = [Row::absent("nginx", "not installed".to_owned()), row("ServiceOS", 16.0)];
        check(
            &rows,
            NGINX_OR_HAPROXY,
            Bound::AtMost(0.75),
            expect![
                "ServiceOS, CPU µs/req: ≤ 0.75 × the better of nginx and HAProxy (stretch 0.5) → None None"
            ],
        );
        check(
            &rows,
            Against::Itself,
            Bound::AtMost(20.0),
            expect!["ServiceOS, CPU µs/req: ≤ 20 (stretch 0.5) → Some(16.0) Some(true)"],
        );
    }
}
