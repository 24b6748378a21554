//! Rollouts for people.

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use control::{
    RolloutEnded, RolloutEntry, RolloutGate, RolloutHistory, RolloutSide, RolloutStarted, ServiceRollout,
};

/// Where a rollout is, or how the last one ended.
pub(super) fn status(document: &ServiceRollout) -> String {
    let Some(rollout) = &document.rollout else { return over(document) };
    let RolloutEntry { strategy, since, .. } = rollout;
    let mut lines = vec![format!("{} {}, {strategy}, since {since}", document.service, way(rollout))];
    let mut said = |name: &str, text: String| lines.push(format!("  {name:<6}  {text}"));
    said("stage", stage(rollout));
    said("old", side(&rollout.stable));
    said("new", side(&rollout.target));
    if let Some(held) = &rollout.gate {
        said("gate", gate(held));
    }
    for (place, waits) in rollout.waits.iter().enumerate() {
        said(if place == 0 { "next" } else { "" }, waits.said.clone());
    }
    lines.join("\n")
}

/// What came of measuring again.
pub(super) fn begun(begun: &RolloutStarted) -> String {
    let ServiceRollout { service, wanted, rollout, .. } = &begun.status;
    match rollout {
        Some(_) if begun.started => status(&begun.status),
        Some(_) => format!("{wanted} is on its way already\n{}", status(&begun.status)),
        None => format!("what {service} runs is what it ran, {wanted}: there is nothing to roll out"),
    }
}

/// How the last one ended.
pub(super) fn over(document: &ServiceRollout) -> String {
    let ServiceRollout { service, last, .. } = document;
    let Some(last) = last else { return idle(document) };
    let RolloutEnded { from, to, ended, .. } = last;
    let what = if from == to { format!("the restart of {to}") } else { format!("{from} -> {to}") };
    format!("no rollout of {service} is on its way; {what} ended at {ended}, {}", outcome(last))
}

/// That there is none.
pub(super) fn idle(ServiceRollout { service, wanted, .. }: &ServiceRollout) -> String {
    format!("no rollout of {service} is on its way, and {wanted} runs")
}

/// One line.
pub(super) fn line(rollout: &RolloutEntry) -> String {
    let waits: Vec<_> = rollout.waits.iter().map(|waits| waits.said.as_str()).collect();
    let counts = |side: &RolloutSide| format!("{}/{}", side.available, side.wanted);
    let (old, new) = (counts(&rollout.stable), counts(&rollout.target));
    let line = format!("{}: {}; old {old}, new {new}", way(rollout), stage(rollout));
    if waits.is_empty() { line } else { format!("{line}; {}", waits.join(", ")) }
}

/// What of a rollout makes another line when it is another: neither the seconds that pass nor the calls.
pub(super) fn what_counts(rollout: &RolloutEntry) -> String {
    let waits: Vec<_> = rollout.waits.iter().map(|waits| waits.what.as_str()).collect();
    let counts = |side: &RolloutSide| (side.wanted, side.there, side.available);
    let counts = (counts(&rollout.stable), counts(&rollout.target));
    format!("{} {} {counts:?} {waits:?}", way(rollout), stage(rollout))
}

pub(super) fn history(document: &RolloutHistory) -> String {
    if document.rollouts.is_empty() {
        return format!("no rollout of {} has ended yet", document.service);
    }
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["FROM", "TO", "BEGAN", "ENDED", "OUTCOME"]);
    for ended in &document.rollouts {
        let RolloutEnded { from, to, since, ended: at, .. } = ended;
        table.add_row([from, to, since, at, &outcome(ended)]);
    }
    let lines = table.to_string();
    lines.lines().map(str::trim).collect::<Vec<_>>().join("\n")
}

fn outcome(ended: &RolloutEnded) -> String {
    match &ended.reason {
        None => ended.outcome.clone(),
        Some(reason) => format!("{}: {reason}", ended.outcome),
    }
}

fn way(rollout: &RolloutEntry) -> String {
    let RolloutEntry { from, to, .. } = rollout;
    if from == to { format!("{to} starts again") } else { format!("{from} -> {to}") }
}

fn stage(rollout: &RolloutEntry) -> String {
    let paused = if rollout.pace == "paused" { ", paused" } else { "" };
    let share = rollout.percent.map(|percent| format!(", {percent} % of the calls")).unwrap_or_default();
    format!("{}{share}{paused}", rollout.said)
}

fn side(side: &RolloutSide) -> String {
    let replicas = format!("{} of {} replicas available, {} there", side.available, side.wanted, side.there);
    let Some(rate) = side.error_rate else { return replicas };
    let p99 = side.p99_ms.map(|p99| format!(", p99 {p99:.1} ms")).unwrap_or_default();
    format!("{replicas}; {} calls, {:.1} % failed{p99}", side.requests, rate * 100.0)
}

fn gate(gate: &RolloutGate) -> String {
    format!(
        "at most {:.1} % more failed than of the old version, p99 at most {} times its own, judged from {} calls on",
        gate.error_rate * 100.0,
        gate.latency_ratio,
        gate.min_requests
    )
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    fn document() -> Value {
        json!({
            "service": "vrf", "wanted": "1.1.0-bbbbbbbb", "last": null,
            "rollout": {
                "from": "1.0.0-aaaaaaaa", "to": "1.1.0-bbbbbbbb", "strategy": "canary", "stage": "step",
                "said": "step 1 of 3", "step": 1, "steps": 3, "reason": null, "percent": 10, "pace": "going",
                "since": "2026-11-30T17:00:00.000Z",
                "stable": {"wanted": 3, "there": 3, "available": 3, "requests": 400, "errors": 4, "errorRate": 0.01, "p99Ms": 12.25},
                "target": {"wanted": 1, "there": 1, "available": 1, "requests": 0, "errors": 0, "errorRate": null, "p99Ms": null},
                "gate": {"errorRate": 0.01, "latencyRatio": 2.0, "minRequests": 100},
                "waits": [
                    {"for": "time", "seconds": 12, "said": "pause ends in 12 s"},
                    {"for": "samples", "missing": 100, "said": "waits for 100 more samples"},
                ],
            },
        })
    }

    fn check(document: Value, expected: &Expect) {
        expected.assert_eq(&status(&serde_json::from_value(document).unwrap()));
    }

    #[test]
    fn a_rollout_shows_both_versions_and_what_it_waits_for() {
        check(
            document(),
            &expect![[r#"
            vrf 1.0.0-aaaaaaaa -> 1.1.0-bbbbbbbb, canary, since 2026-11-30T17:00:00.000Z
              stage   step 1 of 3, 10 % of the calls
              old     3 of 3 replicas available, 3 there; 400 calls, 1.0 % failed, p99 12.2 ms
              new     1 of 1 replicas available, 1 there
              gate    at most 1.0 % more failed than of the old version, p99 at most 2 times its own, judged from 100 calls on
              next    pause ends in 12 s
                      waits for 100 more samples"#]],
        );
        let document: ServiceRollout = serde_json::from_value(document()).unwrap();
        expect!["1.0.0-aaaaaaaa -> 1.1.0-bbbbbbbb: step 1 of 3, 10 % of the calls; old 3/3, new 1/1; pause ends in 12 s, waits for 100 more samples"].assert_eq(&line(document.rollout.as_ref().unwrap()));
    }

    #[test]
    fn a_restart_is_no_change_of_version_and_has_no_gate() {
        let mut restart = document();
        let rollout = &mut restart["rollout"];
        (rollout["to"], rollout["strategy"]) = (rollout["from"].clone(), "rolling".into());
        (rollout["percent"], rollout["gate"], rollout["waits"]) = (Value::Null, Value::Null, json!([]));
        (rollout["pace"], rollout["said"]) =
            ("paused".into(), "the new version takes the place of the old one".into());
        check(
            restart,
            &expect![[r#"
            vrf 1.0.0-aaaaaaaa starts again, rolling, since 2026-11-30T17:00:00.000Z
              stage   the new version takes the place of the old one, paused
              old     3 of 3 replicas available, 3 there; 400 calls, 1.0 % failed, p99 12.2 ms
              new     1 of 1 replicas available, 1 there"#]],
        );
    }

    #[test]
    fn what_is_over_says_how_it_ended_and_what_changes_by_itself_makes_no_line() {
        let mut over = document();
        over["rollout"] = Value::Null;
        check(over.clone(), &expect!["no rollout of vrf is on its way, and 1.1.0-bbbbbbbb runs"]);
        over["last"] = json!({"from": "1.0.0-aaaaaaaa", "to": "1.1.0-bbbbbbbb", "outcome": "reverted",
            "reason": "vrf/3: exited with code 1", "since": "2026-11-30T17:00:00.000Z", "ended": "2026-11-30T17:00:09.000Z"});
        check(
            over.clone(),
            &expect![
                "no rollout of vrf is on its way; 1.0.0-aaaaaaaa -> 1.1.0-bbbbbbbb ended at 2026-11-30T17:00:09.000Z, reverted: vrf/3: exited with code 1"
            ],
        );
        let history_of = |rollouts: Value| {
            history(&serde_json::from_value(json!({"service": "vrf", "rollouts": rollouts})).unwrap())
        };
        expect![[r#"
             FROM            TO              BEGAN                     ENDED                     OUTCOME
             1.0.0-aaaaaaaa  1.1.0-bbbbbbbb  2026-11-30T17:00:00.000Z  2026-11-30T17:00:09.000Z  reverted: vrf/3: exited with code 1"#]].assert_eq(&history_of(json!([over["last"]])));
        expect!["no rollout of vrf has ended yet"].assert_eq(&history_of(json!([])));
        let entry =
            |document: Value| serde_json::from_value::<RolloutEntry>(document["rollout"].clone()).unwrap();
        let mut later = document();
        later["rollout"]["target"]["requests"] = 5.into();
        later["rollout"]["waits"][0]["said"] = "pause ends in 11 s".into();
        assert_eq!(what_counts(&entry(document())), what_counts(&entry(later.clone())));
        later["rollout"]["pace"] = "paused".into();
        assert_ne!(what_counts(&entry(document())), what_counts(&entry(later)));
    }
}
