//! `serviceos status`: services and replicas as they are now.

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use control::{AdminClient, Status};

use crate::cli::StatusArgs;
use crate::commands::block_on;
use crate::failure::Failure;
use crate::output::{print, print_json};

const COLUMNS: [&str; 9] =
    ["REPLICA", "STATE", "HEALTH", "ATTESTATION", "SELECTABLE", "PID", "ADDRESS", "RESTARTS", "REASON"];
/// The place of `ATTESTATION` among them.
const ATTESTATION: usize = 3;

pub(crate) fn run(args: &StatusArgs) -> Result<(), Failure> {
    let client = AdminClient::new(&args.place.data_dir());
    let status: Status = block_on(async { Ok(client.get("/v1/status").await?) })?;
    if args.json {
        return print_json(&status);
    }
    print(format_args!(
        "{}   gateway http://{}   admin http://{}   pid {}\n",
        status.status, status.gateway, status.admin, status.pid
    ))?;
    print(table(&status))?;
    Ok(())
}

fn table(status: &Status) -> Table {
    let replicas = || status.services.iter().flat_map(|service| &service.replicas);
    // A column that says nothing of any replica is left out.
    let attested = replicas().any(|replica| replica.attestation.is_some());
    let shown = |cells: [String; 9]| {
        let cells = cells.into_iter().enumerate();
        cells.filter(move |(place, _)| *place != ATTESTATION || attested).map(|(_, cell)| cell)
    };
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(shown(COLUMNS.map(str::to_owned)));
    for replica in replicas() {
        table.add_row(shown([
            replica.id.clone(),
            replica.state.clone(),
            replica.health.clone(),
            replica.attestation.clone().unwrap_or_else(|| "-".to_owned()),
            if replica.selectable { "yes" } else { "no" }.to_owned(),
            replica.pid.map_or("-".to_owned(), |pid| pid.to_string()),
            replica.address.map_or("-".to_owned(), |address| address.to_string()),
            replica.restarts.to_string(),
            replica.reason.clone().unwrap_or_default(),
        ]));
    }
    table
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    fn check(replicas: &[Value], expected: Expect) {
        let status = json!({
            "status": "healthy", "gateway": "127.0.0.1:8080", "admin": "127.0.0.1:7070", "pid": 1,
            "services": [{"name": "a", "version": "1", "desired": 1, "ready": 1, "replicas": replicas}],
        });
        let table = table(&serde_json::from_value(status).unwrap()).to_string();
        let lines: Vec<_> = table.lines().map(str::trim).collect();
        expected.assert_eq(&lines.join("\n"));
    }

    #[test]
    fn whoever_is_exempt_from_attestation_is_marked_in_a_column_that_is_left_out_otherwise() {
        let process = json!({
            "id": "vrf/0", "pid": 4711, "state": "Ready", "reason": null, "since": "", "address": "127.0.0.1:41233",
            "health": "healthy", "gate": "open", "selectable": true, "restarts": 0, "inFlight": 0,
        });
        let mut endpoint = process.clone();
        endpoint["id"] = "legacy/0".into();
        endpoint["pid"] = Value::Null;
        endpoint["attestation"] = "exempt".into();
        check(
            std::slice::from_ref(&process),
            expect![[r#"
            REPLICA  STATE  HEALTH   SELECTABLE  PID   ADDRESS          RESTARTS  REASON
            vrf/0    Ready  healthy  yes         4711  127.0.0.1:41233  0"#]],
        );
        check(
            &[process, endpoint],
            expect![[r#"
            REPLICA   STATE  HEALTH   ATTESTATION  SELECTABLE  PID   ADDRESS          RESTARTS  REASON
            vrf/0     Ready  healthy  -            yes         4711  127.0.0.1:41233  0
            legacy/0  Ready  healthy  exempt       yes         -     127.0.0.1:41233  0"#]],
        );
    }
}
