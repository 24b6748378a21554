//! `serviceos why`: whether requests may reach a replica, and what each fact goes by.

use control::{AdminClient, Why, WhyAttested, WhyConfig, WhyHealthy, WhyReady};

use crate::cli::WhyArgs;
use crate::commands::block_on;
use crate::failure::Failure;
use crate::output::{print, print_json};

pub(crate) fn run(args: &WhyArgs) -> Result<(), Failure> {
    let client = AdminClient::new(&args.place.data_dir());
    let path = format!("/v1/replicas/{}/why", args.replica);
    let why: Why = block_on(async { Ok(client.get(&path).await?) })?;
    if args.json {
        print_json(&why)?;
    } else {
        print(text(&why))?;
    }
    if why.selectable { Ok(()) } else { Err(Failure::NotPassed) }
}

/// One fact: whether it holds, its name, and what there is to say of it.
type Fact = (bool, &'static str, Vec<String>);

/// The facts that are false come first, in the order of the rule.
fn text(why: &Why) -> String {
    let mut facts: [Fact; 4] = [
        (why.ready.holds, "ready", ready(&why.ready)),
        (why.attested.holds, "attested", attested(&why.attested)),
        (why.healthy.holds, "healthy", healthy(&why.healthy)),
        (why.not_gated.holds, "not gated", vec![why.not_gated.value.clone()]),
    ];
    facts.sort_by_key(|(holds, ..)| *holds);
    let is = if why.selectable { "is selectable" } else { "is not selectable" };
    let mut lines = vec![format!("{} {is}", why.id)];
    for (holds, name, said) in facts {
        let answer = if holds { "yes" } else { "no" };
        for (place, line) in said.iter().enumerate() {
            let (name, answer) = if place == 0 { (name, answer) } else { ("", "") };
            lines.push(format!("  {name:<9}  {answer:<3}  {line}"));
        }
    }
    let configured = why.config.iter().flat_map(config).enumerate();
    lines.extend(configured.map(|(place, line)| {
        let name = if place == 0 { "config" } else { "" };
        format!("  {name:<9}       {line}")
    }));
    lines.join("\n")
}

/// What there is to say of its configuration: nothing where that is as it is wanted.
fn config(config: &WhyConfig) -> Vec<String> {
    let revision = |number| format!("revision {number}");
    match &config.reason {
        None => Vec::new(),
        Some(reason) => vec![
            format!(
                "{} was {} at {}",
                revision(config.wanted),
                config.outcome,
                config.since.as_deref().unwrap_or("-")
            ),
            format!("reason       {reason}"),
            format!("in force     {}", config.applied.map_or("the one before".to_owned(), revision)),
        ],
    }
}

fn ready(ready: &WhyReady) -> Vec<String> {
    let mut lines = vec![format!("{} since {}", ready.value, ready.since)];
    lines.extend(ready.reason.as_ref().map(|reason| format!("reason       {reason}")));
    lines.extend(ready.pid.map(|pid| format!("process      {pid}")));
    lines.extend(ready.address.map(|address| format!("address      {address}")));
    lines.extend(ready.version_id.as_ref().map(|version| format!("version      {version}")));
    lines.push(format!("restarts     {}", ready.restarts));
    if let Some(found) = &ready.crash_loop {
        lines.push(format!("crash loop   ended {} times since {}", found.ended, found.since));
        lines.push(format!("last end     {}", found.reason));
        lines.extend(found.last_lines.iter().map(|line| format!("             | {line}")));
    }
    lines
}

/// What the authority says of a replica, and what it goes by.
pub(super) fn attested(attested: &WhyAttested) -> Vec<String> {
    let mut lines = vec![format!("{} since {}", attested.value, attested.since)];
    if let Some(refusal) = &attested.refusal {
        lines.push(format!("code         {}", refusal.code));
        lines.push(format!("detail       {}", refusal.detail));
    }
    if let Some(evidence) = &attested.evidence {
        lines.extend([
            format!("evidence     {}, release {}", evidence.kind, evidence.release),
            format!("measurement  {}", evidence.measurement),
            format!("TCB          {}", evidence.tcb),
        ]);
        if !evidence.advisories.is_empty() {
            lines.push(format!("advisories   {}", evidence.advisories.join(", ")));
        }
        lines.extend([
            format!("appraised    {}", evidence.appraised_at),
            format!("expires      {}", evidence.expires),
            format!("identity     {}", evidence.spiffe_id),
            format!("certificate  {} (SHA-256)", evidence.leaf_sha256),
            format!("record       {}", evidence.record),
        ]);
    }
    lines
}

fn healthy(healthy: &WhyHealthy) -> Vec<String> {
    let mut lines = vec![format!("{} since {}", healthy.value, healthy.since)];
    lines.extend(healthy.reason.as_ref().map(|reason| format!("reason       {reason}")));
    lines.extend(healthy.last_check_ms.map(|took| format!("last passed  in {took} ms")));
    lines.extend(healthy.last_error.as_ref().map(|error| format!("last failed  {error}")));
    lines
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    fn why() -> Value {
        json!({
            "id": "vrf/2", "selectable": true, "falseFacts": [],
            "ready": {
                "holds": true, "value": "Ready", "since": "2026-01-01T00:00:02.000Z", "reason": null, "restarts": 0,
                "pid": 4711, "address": "127.0.0.1:41233",
            },
            "attested": {
                "holds": true, "value": "valid", "since": "2026-01-01T00:00:01.000Z", "refusal": null,
                "evidence": {
                    "kind": "simulated", "release": "1.0.0", "measurement": "09".repeat(32), "tcb": "UpToDate",
                    "advisories": [], "appraisedAt": "2026-01-01T00:00:01.000Z", "expires": "2026-01-01T01:00:01.000Z",
                    "spiffeId": "spiffe://test.dev.invalid/service/vrf/2", "leafSha256": "0a".repeat(32),
                    "record": "01JD00000000000000000000AA",
                },
            },
            "healthy": {
                "holds": true, "value": "healthy", "since": "2026-01-01T00:00:02.000Z", "reason": null,
                "lastCheckMs": 1.25, "lastError": null,
            },
            "notGated": {"holds": true, "value": "open"},
            "config": {"wanted": 5, "applied": 5, "outcome": "applied", "reason": null, "since": "2026-01-01T00:00:02.000Z"},
        })
    }

    fn check(why: Value, expected: Expect) {
        let text = text(&serde_json::from_value(why).unwrap());
        assert!(text.lines().all(|line| line.trim_end() == line), "{text}");
        expected.assert_eq(&text);
    }

    #[test]
    fn a_replica_that_serves_shows_what_each_fact_goes_by() {
        check(
            why(),
            expect![[r#"
            vrf/2 is selectable
              ready      yes  Ready since 2026-01-01T00:00:02.000Z
                              process      4711
                              address      127.0.0.1:41233
                              restarts     0
              attested   yes  valid since 2026-01-01T00:00:01.000Z
                              evidence     simulated, release 1.0.0
                              measurement  0909090909090909090909090909090909090909090909090909090909090909
                              TCB          UpToDate
                              appraised    2026-01-01T00:00:01.000Z
                              expires      2026-01-01T01:00:01.000Z
                              identity     spiffe://test.dev.invalid/service/vrf/2
                              certificate  0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a (SHA-256)
                              record       01JD00000000000000000000AA
              healthy    yes  healthy since 2026-01-01T00:00:02.000Z
                              last passed  in 1.25 ms
              not gated  yes  open"#]],
        );
    }

    #[test]
    fn a_configuration_that_was_rejected_is_shown_beside_the_facts() {
        let mut why = why();
        why["config"] = json!({
            "wanted": 6, "applied": 5, "outcome": "rejected", "reason": "the disk is full",
            "since": "2026-01-01T00:00:09.000Z",
        });
        let text = text(&serde_json::from_value(why).unwrap());
        let lines: Vec<_> = text.lines().collect();
        let lines = [&lines[..1], &lines[lines.len() - 4..]].concat();
        expect![[r#"
            vrf/2 is selectable
              not gated  yes  open
              config          revision 6 was rejected at 2026-01-01T00:00:09.000Z
                              reason       the disk is full
                              in force     revision 5"#]]
        .assert_eq(&lines.join("\n"));
    }

    #[test]
    fn facts_that_are_false_come_first() {
        let mut why = why();
        why["selectable"] = false.into();
        why["falseFacts"] = json!(["attested", "healthy"]);
        why["attested"] = json!({
            "holds": false, "value": "refused", "since": "2026-01-01T00:00:01.000Z", "evidence": null,
            "refusal": {"code": "RELEASE_NOT_ALLOWED", "detail": "expected measurement 09, found 0a"},
        });
        why["healthy"] = json!({
            "holds": false, "value": "unhealthy", "since": "2026-01-01T00:00:05.000Z",
            "reason": "GET /health answered 500", "lastCheckMs": 1.25, "lastError": "GET /health answered 500",
        });
        check(
            why,
            expect![[r#"
            vrf/2 is not selectable
              attested   no   refused since 2026-01-01T00:00:01.000Z
                              code         RELEASE_NOT_ALLOWED
                              detail       expected measurement 09, found 0a
              healthy    no   unhealthy since 2026-01-01T00:00:05.000Z
                              reason       GET /health answered 500
                              last passed  in 1.25 ms
                              last failed  GET /health answered 500
              ready      yes  Ready since 2026-01-01T00:00:02.000Z
                              process      4711
                              address      127.0.0.1:41233
                              restarts     0
              not gated  yes  open"#]],
        );
    }
}
