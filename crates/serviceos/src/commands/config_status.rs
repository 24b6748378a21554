//! `serviceos config status`: which configuration each replica is to work with, and what it has made of it.

use std::time::{Duration, Instant};

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use control::{AdminClient, ConfigStatus};

use crate::cli::ConfigStatusArgs;
use crate::commands::block_on;
use crate::failure::Failure;
use crate::output::{note, print, print_json};

/// How long the running serviceos keeps one answer back.
const ONE_ANSWER: Duration = Duration::from_secs(5);
const COLUMNS: [&str; 6] = ["REPLICA", "WANTED", "APPLIED", "OUTCOME", "SINCE", "REASON"];

pub(crate) fn run(args: &ConfigStatusArgs) -> Result<(), Failure> {
    let client = AdminClient::new(&args.place.data_dir());
    let status = block_on(async {
        match args.wait {
            None => Ok(client.get("/v1/config/status").await?),
            Some(wait) => answered(&client, wait).await,
        }
    })?;
    if args.json {
        print_json(&status)?;
    } else {
        print(format_args!("revision {}\n", status.revision))?;
        print(table(&status))?;
    }
    match args.wait {
        Some(wait) if status.is_pending() => {
            note(format_args!(
                "serviceos: not every replica has answered within {}",
                types::duration::text(wait)
            ));
            Err(Failure::NotPassed)
        }
        Some(_) if status.is_rejected() => Err(Failure::NotPassed),
        Some(_) | None => Ok(()),
    }
}

/// Once every replica has answered, or the time is over.
async fn answered(client: &AdminClient, wait: Duration) -> Result<ConfigStatus, Failure> {
    let begun = Instant::now();
    loop {
        let left = wait.saturating_sub(begun.elapsed());
        let milliseconds = left.min(ONE_ANSWER).as_millis();
        let status: ConfigStatus = client.get(&format!("/v1/config/status?wait={milliseconds}")).await?;
        if !status.is_pending() || begun.elapsed() >= wait {
            return Ok(status);
        }
    }
}

fn table(status: &ConfigStatus) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(COLUMNS);
    for service in &status.services {
        for replica in &service.replicas {
            table.add_row([
                replica.id.clone(),
                service.wanted.to_string(),
                replica.applied.map_or("-".to_owned(), |applied| applied.to_string()),
                replica.outcome.clone(),
                replica.since.clone().unwrap_or("-".to_owned()),
                replica.reason.clone().unwrap_or_default(),
            ]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[test]
    fn each_replica_has_a_line_with_what_it_has_made_of_its_configuration() {
        let since = "2026-01-01T00:00:01.000Z";
        let status = json!({"revision": 9, "services": [
            {"name": "oracle", "wanted": 9, "replicas": [
                {"id": "oracle/0", "applied": 9, "outcome": "applied", "reason": null, "since": since},
                {"id": "oracle/1", "applied": 7, "outcome": "rejected", "reason": "the disk is full", "since": since},
                {"id": "oracle/2", "applied": null, "outcome": "pending", "reason": "exited with code 1", "since": null},
            ]},
            {"name": "vrf", "wanted": 3, "replicas": []},
        ]});
        let status: ConfigStatus = serde_json::from_value(status).unwrap();
        let table = table(&status).to_string();
        let lines: Vec<_> = table.lines().map(str::trim).collect();
        expect![[r#"
            REPLICA   WANTED  APPLIED  OUTCOME   SINCE                     REASON
            oracle/0  9       9        applied   2026-01-01T00:00:01.000Z
            oracle/1  9       7        rejected  2026-01-01T00:00:01.000Z  the disk is full
            oracle/2  9       -        pending   -                         exited with code 1"#]]
        .assert_eq(&lines.join("\n"));
        assert!(status.is_pending() && status.is_rejected());
    }
}
