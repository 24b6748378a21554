//! `serviceos keys`: API keys.

use access::KeyRecord;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use control::{AdminClient, CreatedKey, NewKeyRequest};
use jiff::Timestamp;

use crate::cli::KeysCommand;
use crate::commands::{block_on, percent_encoded};
use crate::failure::Failure;
use crate::output::{print, print_json};

pub(crate) fn run(command: KeysCommand) -> Result<(), Failure> {
    match command {
        KeysCommand::Create { place, name, scopes, tenant, tier, expires, json } => {
            let expires_at = expires.map(|lifetime| Timestamp::now() + lifetime);
            let request = NewKeyRequest { name, scopes, tenant, tier, expires_at };
            let client = AdminClient::new(&place.data_dir());
            let created: CreatedKey = block_on(async { Ok(client.post("/v1/keys", &request).await?) })?;
            if json {
                return print_json(&created);
            }
            print(format_args!("{}  {}", created.id, created.key))?;
            print(format_args!("This is the only time that the key is shown."))?;
            Ok(())
        }
        KeysCommand::List { place, json } => {
            let client = AdminClient::new(&place.data_dir());
            let keys: Vec<KeyRecord> = block_on(async { Ok(client.get("/v1/keys").await?) })?;
            if json {
                return print_json(&keys);
            }
            print(table(&keys))?;
            Ok(())
        }
        KeysCommand::Revoke { place, id } => {
            let client = AdminClient::new(&place.data_dir());
            let path = format!("/v1/keys/{}", percent_encoded(&id));
            let revoked: KeyRecord = block_on(async { Ok(client.delete(&path).await?) })?;
            print(format_args!("{} ({}) is revoked", revoked.id, revoked.name))?;
            Ok(())
        }
    }
}

fn table(keys: &[KeyRecord]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["ID", "NAME", "SCOPES", "TENANT", "TIER", "CREATED", "EXPIRES", "REVOKED"]);
    let time = |time: Option<Timestamp>| time.map_or("-".to_owned(), |time| format!("{time:.0}"));
    for key in keys {
        table.add_row([
            key.id.clone(),
            key.name.clone(),
            key.scopes.join(","),
            key.tenant.clone(),
            key.tier.clone(),
            time(Some(key.created_at)),
            time(key.expires_at),
            time(key.revoked_at),
        ]);
    }
    table
}
