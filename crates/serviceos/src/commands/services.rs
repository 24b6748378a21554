//! `serviceos services`: which services there are.

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use control::{AdminClient, Services};

use crate::cli::ServicesArgs;
use crate::commands::block_on;
use crate::failure::Failure;
use crate::output::{print, print_json};

const COLUMNS: [&str; 8] =
    ["SERVICE", "VERSION", "KIND", "REQUIRED", "DESIRED", "READY", "SELECTABLE", "ROUTES"];

pub(crate) fn run(args: &ServicesArgs) -> Result<(), Failure> {
    let client = AdminClient::new(&args.place.data_dir());
    let services: Services = block_on(async { Ok(client.get("/v1/services").await?) })?;
    if args.json { print_json(&services) } else { print(table(&services)) }
}

fn table(services: &Services) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(COLUMNS);
    for service in &services.services {
        table.add_row([
            service.name.clone(),
            service.version_id.clone(),
            service.kind.clone().unwrap_or_else(|| "-".to_owned()),
            if service.required { "yes" } else { "no" }.to_owned(),
            service.desired.to_string(),
            service.ready.to_string(),
            service.selectable.to_string(),
            service.routes.to_string(),
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
    fn each_service_has_a_line() {
        let services = json!({"services": [
            {"name": "vrf", "version": "1.0.0", "versionId": "1.0.0-3fa9c1d2", "kind": "builtin", "required": true, "desired": 3, "ready": 3,
             "selectable": 2, "routes": 2},
            {"name": "legacy", "version": "2", "versionId": "2", "kind": null, "required": false, "desired": 1, "ready": 0,
             "selectable": 0, "routes": 0},
        ]});
        let table = table(&serde_json::from_value(services).unwrap()).to_string();
        let lines: Vec<_> = table.lines().map(str::trim).collect();
        expect![[r#"
            SERVICE  VERSION         KIND     REQUIRED  DESIRED  READY  SELECTABLE  ROUTES
            vrf      1.0.0-3fa9c1d2  builtin  yes       3        3      2           2
            legacy   2               -        no        1        0      0           0"#]]
        .assert_eq(&lines.join("\n"));
    }
}
