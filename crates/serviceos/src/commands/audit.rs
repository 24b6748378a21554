//! `serviceos audit`: the trail of what was decided, verified and shown.

mod anchor;
mod verdict;

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::Context;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use jiff::Timestamp;
use trust::audit::{FILE_NAME, Recorded, last_records};

use crate::cli::AuditCommand;
use crate::commands::block_on;
use crate::failure::Failure;
use crate::output::{print, print_json};
use verdict::Verdict;

pub(crate) fn run(command: AuditCommand) -> Result<(), Failure> {
    match command {
        AuditCommand::Verify { place, json } => verify(&place.data_dir(), json),
        AuditCommand::Tail { place, count, json } => {
            let (_path, trail) = open(&place.data_dir())?;
            let records =
                last_records(trail, usize::from(count)).context("failed to read the audit trail")?;
            if json { print_json(&records) } else { print(table(&records)) }
        }
    }
}

/// What it is verified with comes first: whatever has been recorded by then is in the file that is read afterwards.
fn verify(data_dir: &Path, json: bool) -> Result<(), Failure> {
    let anchor = block_on(anchor::of(data_dir))?;
    let (path, trail) = open(data_dir)?;
    let verdict = Verdict::of(&path, &anchor, trail);
    if json {
        print_json(&verdict)?;
    } else {
        print(&verdict)?;
    }
    if verdict.verified { Ok(()) } else { Err(Failure::NotPassed) }
}

fn open(data_dir: &Path) -> Result<(PathBuf, BufReader<File>), Failure> {
    let path = data_dir.join(FILE_NAME);
    let file = File::open(&path).with_context(|| {
        format!("failed to open the audit trail {}; `serviceos up` begins one", path.display())
    })?;
    Ok((path, BufReader::new(file)))
}

fn table(records: &[Recorded]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["SEQ", "TIME", "KIND", "SUBJECT", "OUTCOME", "ACTOR", "REASON"]);
    for record in records {
        let time = i64::try_from(record.time).ok().and_then(|time| Timestamp::from_second(time).ok());
        let outcome = serde_json::to_value(record.outcome).unwrap_or_default();
        table.add_row([
            record.seq.to_string(),
            time.map_or_else(|| record.time.to_string(), |time| format!("{time:.0}")),
            record.kind.clone(),
            record.subject.clone(),
            outcome.as_str().unwrap_or_default().to_owned(),
            record.actor.clone(),
            record.reason.clone().unwrap_or_default(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[test]
    fn each_record_has_a_line() {
        let records = json!([
            {"seq": 7, "time": 1_800_000_000, "kind": "join", "actor": "spiffe://test.dev.invalid/service/vrf/0",
             "subject": "spiffe://test.dev.invalid/service/vrf/0", "outcome": "refused", "reason": "REVOKED", "data": {}},
            {"seq": 8, "time": 1_800_000_001, "kind": "secret-set", "actor": "admin socket", "subject": "token",
             "outcome": "done", "reason": null, "data": {"version": 1}},
        ]);
        let records: Vec<Recorded> = serde_json::from_value(records).unwrap();
        let lines: String =
            table(&records).to_string().lines().map(|line| format!("{}\n", line.trim())).collect();
        expect![[r#"
            SEQ  TIME                  KIND        SUBJECT                                  OUTCOME  ACTOR                                    REASON
            7    2027-01-15T08:00:00Z  join        spiffe://test.dev.invalid/service/vrf/0  refused  spiffe://test.dev.invalid/service/vrf/0  REVOKED
            8    2027-01-15T08:00:01Z  secret-set  token                                    done     admin socket
        "#]].assert_eq(&lines);
    }
}
