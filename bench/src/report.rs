//! The results as a table for the screen, as JSON, and as Markdown for the repository.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context;
use comfy_table::presets;
use comfy_table::{CellAlignment, Table, TableStyle};
use serde::Serialize;

use crate::machine::Machine;
use crate::metric::Metric;
use crate::target::{Outcome, Ratio, Row, Series, Verdict};

/// Where the published results lie, from the workspace's root.
pub(crate) const PUBLISHED: &str = "bench/RESULTS.md";

/// Everything that one run found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) rounds: u32,
    pub(crate) seconds: u64,
    pub(crate) cases: Vec<Outcome>,
}

/// Writes `results.json` into `folder`.
///
/// # Errors
///
/// It cannot be written.
pub(crate) fn write_json(report: &Report, folder: &Path) -> anyhow::Result<()> {
    let json = serde_json::to_string_pretty(report)?;
    std::fs::write(folder.join("results.json"), json + "\n").context("failed to write results.json")
}

/// How much of what is published a run replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    Everything,
    /// Its own cases; the others stay as an earlier run left them.
    ItsCases,
}

/// Writes the Markdown file.
///
/// # Errors
///
/// It cannot be written, for instance because the runner was not started in the workspace's root.
pub(crate) fn publish(report: &Report, extent: Extent) -> anyhow::Result<()> {
    let text = match extent {
        Extent::Everything => markdown(report),
        Extent::ItsCases => {
            let before = std::fs::read_to_string(PUBLISHED);
            with_its_cases(&before.with_context(|| format!("failed to read {PUBLISHED}"))?, report)
        }
    };
    std::fs::write(PUBLISHED, text).with_context(|| format!("failed to write {PUBLISHED}"))
}

/// The machine in a few lines.
pub(crate) fn machine_text(machine: &Machine) -> String {
    let mut text =
        format!("{} × {}, Linux {}, {}\n", machine.cores, machine.cpu, machine.kernel, machine.date);
    for (name, version) in &machine.programs {
        let _to_a_string = writeln!(text, "{name:<10} {version}");
    }
    text
}

/// One case for the screen.
pub(crate) fn case_text(outcome: &Outcome) -> String {
    let mut text = format!("{}: {}\n", outcome.case, outcome.title);
    for series in &outcome.series {
        let _to_a_string =
            write!(text, "\n{}\n{}\n", series.name, table(series, presets::UTF8_HORIZONTAL_ONLY));
        for line in lines_below(series) {
            let _to_a_string = writeln!(text, "  {line}");
        }
    }
    for note in &outcome.notes {
        let _to_a_string = writeln!(text, "  note: {note}");
    }
    text
}

fn markdown(report: &Report) -> String {
    let machine = &report.machine;
    let mut text = format!(
        "# Results\n\nWritten by `{}` on {}. Medians of {} rounds of {} s, each program in its turn. Ratios within this run \
         count, absolute times do not. `core %` is how much of its core the proxy used, `foreign %` what others took of \
         that core meanwhile.\n\n{} × {}, Linux {}; the proxy on core 0, load generator and upstreams on core 1.\n\n\
         | program | version |\n|---|---|\n",
        machine.command,
        machine.date,
        report.rounds,
        report.seconds,
        machine.cores,
        machine.cpu,
        machine.kernel
    );
    for (name, version) in &machine.programs {
        let _to_a_string = writeln!(text, "| {name} | {version} |");
    }
    for outcome in &report.cases {
        text += &section(outcome, "");
    }
    text
}

/// The text of another run, in which the cases of this one have the place of theirs, or the last one.
fn with_its_cases(before: &str, report: &Report) -> String {
    let machine = &report.machine;
    let versions: Vec<&str> = machine.programs.iter().map(|(_, version)| version.as_str()).collect();
    let serviceos = versions.iter().find(|version| version.starts_with("serviceos")).unwrap_or(&"serviceos");
    let origin = format!(
        "\nOf a run of its own: `{}` on {}, {serviceos}, medians of {} rounds.\n",
        machine.command, machine.date, report.rounds
    );
    let mut parts: Vec<String> = before.split("\n## ").map(str::to_owned).collect();
    for outcome in &report.cases {
        let section = section(outcome, &origin);
        let section = section.trim_start_matches("\n## ").to_owned();
        let is_it = |part: &&mut String| part.lines().next() == Some(outcome.case.as_str());
        match parts.iter_mut().skip(1).find(is_it) {
            Some(part) => *part = section,
            None => parts.push(section),
        }
    }
    parts.join("\n## ")
}

fn section(outcome: &Outcome, origin: &str) -> String {
    let mut text = format!("\n## {}\n\n{}\n{origin}", outcome.case, outcome.title);
    for series in &outcome.series {
        let _to_a_string =
            write!(text, "\n### {}\n\n{}\n\n", series.name, table(series, presets::ASCII_MARKDOWN));
        for line in lines_below(series) {
            let _to_a_string = writeln!(text, "- {line}");
        }
    }
    if !outcome.notes.is_empty() {
        text.push('\n');
    }
    for note in &outcome.notes {
        let _to_a_string = writeln!(text, "- {note}");
    }
    text
}

fn table(series: &Series, style: TableStyle) -> Table {
    let metrics: BTreeSet<Metric> = series.rows.iter().flat_map(|row| row.medians.keys().copied()).collect();
    let mut table = Table::new();
    table.load_style(style);
    table.set_header(std::iter::once("").chain(metrics.iter().map(|metric| metric.label())));
    for row in &series.rows {
        table.add_row(cells(row, &metrics));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn cells(row: &Row, metrics: &BTreeSet<Metric>) -> Vec<String> {
    let name = if row.absent.is_some() { format!("{} (absent)", row.name) } else { row.name.clone() };
    let values = metrics
        .iter()
        .map(|metric| row.medians.get(metric).map_or_else(|| "–".to_owned(), |value| metric.show(*value)));
    std::iter::once(name).chain(values).collect()
}

/// The ratios, the verdicts, and why rows are absent.
fn lines_below(series: &Series) -> Vec<String> {
    let verdicts = series.verdicts.iter().map(verdict_text);
    let absences = series.rows.iter().filter_map(|row| {
        let reason = row.absent.as_ref()?.replace('\n', " ");
        Some(format!("{} is absent: {reason}", row.name))
    });
    ratio_lines(&series.ratios).into_iter().chain(verdicts).chain(absences).collect()
}

/// One line for each measure.
fn ratio_lines(ratios: &[Ratio]) -> Vec<String> {
    let same = |one: &Ratio, other: &Ratio| one.metric == other.metric && one.of == other.of;
    let of_one_measure = ratios.chunk_by(same).map(|ratios| {
        let each: Vec<String> =
            ratios.iter().map(|ratio| format!("{:.2} × {}", ratio.value, ratio.to)).collect();
        let first = ratios
            .first()
            .map_or_else(String::new, |first| format!("{}, {}", first.of, first.metric.label()));
        format!("{first} = {}", each.join(" = "))
    });
    of_one_measure.collect()
}

fn verdict_text(verdict: &Verdict) -> String {
    let outcome = match verdict.passed {
        Some(true) => "passed",
        Some(false) => "MISSED",
        None => "not measured",
    };
    let value = verdict.value.map_or_else(String::new, |value| format!(" ({value:.2})"));
    format!("{outcome}{value}: {}", verdict.target)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::metric::Sample;
    use crate::target::{Against, Bound, Target};

    #[test]
    fn a_run_of_some_cases_takes_the_place_of_those_and_says_so() {
        let outcome = |case: &str| Outcome {
            case: case.to_owned(),
            title: format!("{case} again"),
            notes: Vec::new(),
            series: Vec::new(),
        };
        let machine = Machine {
            cpu: String::new(),
            cores: 2,
            kernel: String::new(),
            date: "today".to_owned(),
            command: "cargo xtask bench b d".to_owned(),
            programs: vec![("ServiceOS".to_owned(), "serviceos 0.1.0 (commit c)".to_owned())],
        };
        let report = Report { machine, rounds: 3, seconds: 5, cases: vec![outcome("b"), outcome("d")] };
        let before = "# Results\n\nof all\n\n## a\n\nold\n\n## b\n\nold\n\n## c\n\nold\n";
        expect![[r"
            # Results

            of all

            ## a

            old

            ## b

            b again

            Of a run of its own: `cargo xtask bench b d` on today, serviceos 0.1.0 (commit c), medians of 3 rounds.

            ## c

            old

            ## d

            d again

            Of a run of its own: `cargo xtask bench b d` on today, serviceos 0.1.0 (commit c), medians of 3 rounds.
        "]]
        .assert_eq(&with_its_cases(before, &report));
    }

    #[test]
    fn a_case_is_a_table_with_its_targets() {
        let sample = |cpu| Sample::from([(Metric::CpuMicros, cpu), (Metric::P99Micros, 100.0 * cpu)]);
        let rows = vec![
            Row::new("nginx", vec![sample(20.0), sample(24.0), sample(21.0)]),
            Row::absent("HAProxy", "not installed".to_owned()),
            Row::new("ServiceOS", vec![sample(16.0), sample(15.0), sample(14.7)]),
        ];
        let target = Target {
            of: "ServiceOS",
            metric: Metric::CpuMicros,
            against: Against::Best(&["nginx"]),
            bound: Bound::AtMost(0.75),
            stretch: None,
        };
        let outcome = Outcome {
            case: "http1".to_owned(),
            title: "small answers".to_owned(),
            notes: vec!["HAProxy does not buffer its log.".to_owned()],
            series: vec![Series::new("64 connections", rows, &[target])],
        };
        expect![[r#"
            http1: small answers

            64 connections
            ────────────────────────────────────────
                                CPU µs/req   p99 µs 
            ════════════════════════════════════════
             nginx                   21.00     2100 
            ────────────────────────────────────────
             HAProxy (absent)            –        – 
            ────────────────────────────────────────
             ServiceOS               15.00     1500 
            ────────────────────────────────────────
              ServiceOS, CPU µs/req = 0.71 × nginx
              passed (0.71): ServiceOS, CPU µs/req: ≤ 0.75 × nginx
              HAProxy is absent: not installed
              note: HAProxy does not buffer its log.
        "#]]
        .assert_eq(&case_text(&outcome));
    }
}
