//! `serviceos status`: services and replicas as they are now.

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use control::{AdminClient, Status};

use crate::cli::StatusArgs;
use crate::commands::block_on;
use crate::failure::Failure;
use crate::output::{print, print_json};

const COLUMNS: [&str; 10] = [
    "REPLICA",
    "STATE",
    "HEALTH",
    "ATTESTATION",
    "SELECTABLE",
    "VERSION",
    "PID",
    "ADDRESS",
    "RESTARTS",
    "REASON",
];

const NODE_COLUMNS: [&str; 5] = ["NODE", "SINCE", "BEHIND", "REPLICAS", "SELECTABLE"];

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
    if let Some(away) = away(&status) {
        print(format_args!("{away}\n"))?;
    }
    if let Some(unenforced) = unenforced(&status) {
        print(format_args!("{unenforced}\n"))?;
    }
    if !status.nodes.is_empty() {
        print(format_args!("{}\n", nodes(&status)))?;
    }
    print(table(&status))?;
    Ok(())
}

/// What is said of a store that does not answer.
fn away(status: &Status) -> Option<String> {
    let store = &status.store;
    let reason = store.reason.as_deref().unwrap_or("it gave no reason");
    let stale = store.stale.map_or_else(String::new, |at| {
        format!("; it was away at the start, and what is known of it is of {at}")
    });
    let said = || {
        format!("the store ({}) does not answer, and every change is refused: {reason}{stale}", store.kind)
    };
    (!store.available).then(said)
}

/// What is said of limits that are not what the configuration says.
fn unenforced(status: &Status) -> Option<String> {
    let limits = &status.limits;
    let reason = limits.reason.as_deref().unwrap_or("no reason is known");
    (!limits.unenforced.is_empty()).then(|| format!("{}: {reason}", limits.unenforced.join("; ")))
}

fn nodes(status: &Status) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(NODE_COLUMNS);
    for node in &status.nodes {
        table.add_row([
            node.name.clone(),
            node.since.clone().unwrap_or_else(|| "-".to_owned()),
            if node.behind { "yes" } else { "no" }.to_owned(),
            node.replicas.to_string(),
            node.selectable.to_string(),
        ]);
    }
    table
}

fn table(status: &Status) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(COLUMNS);
    for replica in status.services.iter().flat_map(|service| &service.replicas) {
        table.add_row([
            replica.id.clone(),
            replica.state.clone(),
            replica.health.clone(),
            replica.attestation.clone(),
            if replica.selectable { "yes" } else { "no" }.to_owned(),
            replica.version_id.clone().unwrap_or_else(|| "-".to_owned()),
            replica.pid.map_or("-".to_owned(), |pid| pid.to_string()),
            replica.address.map_or("-".to_owned(), |address| address.to_string()),
            replica.restarts.to_string(),
            replica.reason.clone().unwrap_or_default(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn each_replica_has_a_line_with_its_facts() {
        let valid = json!({
            "id": "vrf/0", "pid": 4711, "state": "Ready", "reason": null, "since": "", "address": "127.0.0.1:41233",
            "health": "healthy", "attestation": "valid", "attested": true, "gate": "open", "selectable": true,
            "versionId": "1.0.0-3fa9c1d2", "restarts": 0, "inFlight": 0,
        });
        let mut refused = valid.clone();
        (refused["id"], refused["state"], refused["health"]) =
            ("vrf/1".into(), "Stopped".into(), "unknown".into());
        (refused["pid"], refused["address"], refused["versionId"]) = (Value::Null, Value::Null, Value::Null);
        (refused["attestation"], refused["selectable"]) = ("refused".into(), false.into());
        (refused["restarts"], refused["reason"]) =
            (3.into(), "its attestation was refused: REVOKED: a".into());
        let mut endpoint = valid.clone();
        (endpoint["id"], endpoint["pid"], endpoint["attestation"]) =
            ("legacy/0".into(), Value::Null, "exempt".into());
        let status = json!({
            "status": "healthy", "gateway": "127.0.0.1:8080", "admin": "127.0.0.1:7070", "pid": 1,
            "store": {"kind": "etcd", "available": false, "reason": "etcd-1:2379: connection refused", "stale": "2026-01-02T03:04:05Z"},
            "nodes": [
                {"name": "n1", "since": "2026-11-30T07:00:00.000Z", "behind": false, "replicas": 2, "selectable": 2},
                {"name": "n2", "since": null, "behind": true, "replicas": 1, "selectable": 0},
            ],
            "limits": {"memory": "process", "cpus": "off", "processes": "off", "end": "process group", "reason": "there are none",
                "unenforced": ["services.a.resources.cpus is not enforced"]},
            "services": [{"name": "a", "version": "1", "desired": 1, "ready": 1, "replicas": [valid, refused, endpoint]}],
        });
        let status: Status = serde_json::from_value(status).unwrap();
        let said = "the store (etcd) does not answer, and every change is refused: etcd-1:2379: connection refused; it was away at \
                    the start, and what is known of it is of 2026-01-02T03:04:05Z";
        assert_eq!(away(&status).as_deref(), Some(said));
        let said = "services.a.resources.cpus is not enforced: there are none";
        assert_eq!(unenforced(&status).as_deref(), Some(said));
        let lines = |table: Table| table.to_string().lines().map(str::trim).collect::<Vec<_>>().join("\n");
        expect![[r#"
            NODE  SINCE                     BEHIND  REPLICAS  SELECTABLE
            n1    2026-11-30T07:00:00.000Z  no      2         2
            n2    -                         yes     1         0"#]]
        .assert_eq(&lines(nodes(&status)));
        expect![[r#"
            REPLICA   STATE    HEALTH   ATTESTATION  SELECTABLE  VERSION         PID   ADDRESS          RESTARTS  REASON
            vrf/0     Ready    healthy  valid        yes         1.0.0-3fa9c1d2  4711  127.0.0.1:41233  0
            vrf/1     Stopped  unknown  refused      no          -               -     -                3         its attestation was refused: REVOKED: a
            legacy/0  Ready    healthy  exempt       yes         1.0.0-3fa9c1d2  -     127.0.0.1:41233  0"#]].assert_eq(&lines(table(&status)));
    }
}
