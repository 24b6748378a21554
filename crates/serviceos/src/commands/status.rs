//! `serviceos status`: services and replicas as they are now.

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use control::{AdminClient, Status};

use crate::cli::StatusArgs;
use crate::commands::block_on;
use crate::failure::Failure;
use crate::output::{print, print_json};

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
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["REPLICA", "STATE", "HEALTH", "SELECTABLE", "PID", "ADDRESS", "RESTARTS", "REASON"]);
    for replica in status.services.iter().flat_map(|service| &service.replicas) {
        table.add_row([
            replica.id.clone(),
            replica.state.clone(),
            replica.health.clone(),
            if replica.selectable { "yes" } else { "no" }.to_owned(),
            replica.pid.map_or("-".to_owned(), |pid| pid.to_string()),
            replica.address.map_or("-".to_owned(), |address| address.to_string()),
            replica.restarts.to_string(),
            replica.reason.clone().unwrap_or_default(),
        ]);
    }
    table
}
