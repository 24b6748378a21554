//! `serviceos instances`: where the instances are, and with `--watch` what becomes of them.

use std::io::IsTerminal;

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use control::{AdminClient, InstanceEntry, InstanceEvent, Instances};
use jiff::Timestamp;

use super::following::follow;
use crate::cli::InstancesArgs;
use crate::commands::block_on;
use crate::failure::Failure;
use crate::output::{harmless, print, print_json};

const COLUMNS: [&str; 13] = [
    "INSTANCE",
    "VERSION",
    "ADDRESS",
    "PROTOCOL",
    "ZONE",
    "WEIGHT",
    "METADATA",
    "LEASE",
    "TOKEN",
    "STATE",
    "HEALTH",
    "SELECTABLE",
    "REASON",
];

/// What is printed of each event of a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// The event as one line of JSON.
    Json,
    /// A table at first, then a line for each change.
    Text,
}

pub(crate) fn run(args: &InstancesArgs) -> Result<(), Failure> {
    let client = AdminClient::new(&args.place.data_dir());
    let path = match &args.service {
        Some(service) => format!("/v1/services/{service}/instances"),
        None => "/v1/instances".to_owned(),
    };
    if args.watch {
        let form = if args.json || !std::io::stdout().is_terminal() { Form::Json } else { Form::Text };
        let path = format!("{path}?watch=0");
        return block_on(follow(&client, &path, |event| shown(event, form)));
    }
    let instances: Instances = block_on(async { Ok(client.get(&path).await?) })?;
    if args.json { print_json(&instances) } else { print(table(&instances)) }
}

fn shown(event: &InstanceEvent, form: Form) -> Result<String, Failure> {
    Ok(match (form, event) {
        (Form::Json, event) => serde_json::to_string(event).map_err(anyhow::Error::from)?,
        (Form::Text, InstanceEvent::Snapshot(all)) => harmless(&format!("{}\n", table(all))),
        (Form::Text, InstanceEvent::Changes(changes)) => {
            let now = format!("{:.0}", Timestamp::now());
            let changed = changes.changed.iter().map(|entry| line(&now, entry));
            let removed = changes.removed.iter().map(|id| format!("{now}  {id:<16}  gone"));
            harmless(&changed.chain(removed).collect::<Vec<_>>().join("\n"))
        }
    })
}

/// What one instance is now.
fn line(now: &str, entry: &InstanceEntry) -> String {
    let selectable = if entry.selectable { "selectable" } else { "not selectable" };
    let address = entry.address.map_or("-".to_owned(), |address| address.to_string());
    let InstanceEntry { id, state, health, attestation, .. } = entry;
    let reason = entry.reason.as_deref().unwrap_or_default();
    let line = format!(
        "{now}  {id:<16}  {state:<8}  {health:<9}  {attestation:<7}  {selectable:<14}  {address:<21}  {reason}"
    );
    line.trim_end().to_owned()
}

fn table(instances: &Instances) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(COLUMNS);
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    for entry in &instances.instances {
        table.add_row([
            entry.id.clone(),
            entry.version_id.clone(),
            or_dash(entry.address.map(|address| address.to_string())),
            or_dash(entry.protocol.clone()),
            or_dash(entry.zone.clone()),
            entry.weight.to_string(),
            or_dash(metadata(entry)),
            or_dash(entry.lease.clone()),
            or_dash(entry.fencing_token.map(|token| token.to_string())),
            entry.state.clone(),
            entry.health.clone(),
            if entry.selectable { "yes" } else { "no" }.to_owned(),
            entry.reason.clone().unwrap_or_default(),
        ]);
    }
    table
}

fn metadata(entry: &InstanceEntry) -> Option<String> {
    let texts: Vec<_> = entry.metadata.iter().map(|(name, text)| format!("{name}={text}")).collect();
    (!texts.is_empty()).then(|| texts.join(" "))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::{Value, json};

    use super::*;

    fn entries() -> [InstanceEntry; 2] {
        let vrf = json!({
            "id": "vrf/0", "instance": "abc.7", "service": "vrf", "version": "1.0.0", "versionId": "1.0.0-3fa9c1d2", "address": "127.0.0.1:41233",
            "protocol": "http1", "zone": "eu-1b", "weight": 1, "priority": 0, "metadata": {"rack": "7"}, "identity": null,
            "state": "Ready", "reason": null, "since": "", "health": "healthy", "attestation": "valid",
            "attested": true, "gate": "open", "selectable": true, "inFlight": 0, "lease": "5f3a9c0b1d2e4f60", "fencingToken": 42,
        });
        let mut stopped = vrf.clone();
        for key in ["instance", "address", "protocol", "zone", "lease", "fencingToken"] {
            stopped[key] = Value::Null;
        }
        stopped["metadata"] = json!({});
        (stopped["id"], stopped["state"], stopped["health"]) =
            ("vrf/1".into(), "Stopped".into(), "unknown".into());
        (stopped["selectable"], stopped["reason"]) = (false.into(), "killed by SIGKILL".into());
        [vrf, stopped].map(|entry| serde_json::from_value(entry).unwrap())
    }

    #[test]
    fn each_instance_has_a_line() {
        let table = table(&Instances { revision: "abc-1".into(), instances: entries().into() }).to_string();
        let lines: Vec<_> = table.lines().map(str::trim).collect();
        expect![[r#"
            INSTANCE  VERSION         ADDRESS          PROTOCOL  ZONE   WEIGHT  METADATA  LEASE             TOKEN  STATE    HEALTH   SELECTABLE  REASON
            vrf/0     1.0.0-3fa9c1d2  127.0.0.1:41233  http1     eu-1b  1       rack=7    5f3a9c0b1d2e4f60  42     Ready    healthy  yes
            vrf/1     1.0.0-3fa9c1d2  -                -         -      1       -         -                 -      Stopped  unknown  no          killed by SIGKILL"#]].assert_eq(&lines.join("\n"));
    }

    #[test]
    fn each_change_has_a_line() {
        let lines = entries().map(|entry| line("2026-01-01T00:00:00Z", &entry));
        expect![[r#"
            2026-01-01T00:00:00Z  vrf/0             Ready     healthy    valid    selectable      127.0.0.1:41233
            2026-01-01T00:00:00Z  vrf/1             Stopped   unknown    valid    not selectable  -                      killed by SIGKILL"#]].assert_eq(&lines.join("\n"));
    }
}
