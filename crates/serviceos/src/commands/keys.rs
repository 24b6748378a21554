//! `serviceos keys`: API keys.

use std::io::Read;
use std::path::Path;

use access::{KeyRecord, PublicKey};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use control::{AdminClient, CreatedKey, NewKeyRequest, NewRotationRequest, RotatedKey};
use jiff::Timestamp;

use crate::cli::KeysCommand;
use crate::commands::{block_on, percent_encoded};
use crate::failure::Failure;
use crate::output::{print, print_json};

/// A public key is far shorter; whatever else was named by mistake is not read to its end.
const MAX_PUBLIC_KEY_BYTES: u64 = 64 << 10;

pub(crate) fn run(command: KeysCommand) -> Result<(), Failure> {
    match command {
        KeysCommand::Create { place, name, scopes, tenant, tier, expires, public_key, json } => {
            let expires_at = expires.map(|lifetime| Timestamp::now() + lifetime);
            let public_key = public_key.as_deref().map(read_public_key).transpose()?;
            let request = NewKeyRequest { name, scopes, tenant, tier, expires_at, public_key };
            let client = AdminClient::new(&place.data_dir());
            let created: CreatedKey = block_on(async { Ok(client.post("/v1/keys", &request).await?) })?;
            if json {
                return print_json(&created);
            }
            show(&created.id, created.key.as_deref())
        }
        KeysCommand::Rotate { place, id, overlap, public_key, json } => {
            let public_key = public_key.as_deref().map(read_public_key).transpose()?;
            let written = Some(types::duration::text(overlap));
            let request = NewRotationRequest { overlap: written, public_key };
            let client = AdminClient::new(&place.data_dir());
            let path = format!("/v1/keys/{}/rotate", percent_encoded(&id));
            let rotated: RotatedKey = block_on(async { Ok(client.post(&path, &request).await?) })?;
            if json {
                return print_json(&rotated);
            }
            show(&rotated.id, rotated.key.as_deref())?;
            match rotated.previous_ends_at {
                Some(_) if overlap.is_zero() => print("The one before it is good no more."),
                Some(end) => print(format_args!("The one before it is good until {end:.0}.")),
                None => Ok(()),
            }
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

fn show(id: &str, key: Option<&str>) -> Result<(), Failure> {
    let Some(key) = key else {
        print(format_args!("{id}"))?;
        print(format_args!("Requests are signed with its public key, and name it as `keyid`."))?;
        return Ok(());
    };
    print(format_args!("{id}  {key}"))?;
    print(format_args!("This is the only time that the key is shown."))?;
    Ok(())
}

/// Looked at before it is sent to anybody: a private key goes nowhere.
fn read_public_key(file: &Path) -> Result<String, Failure> {
    let wrong = |why: String| Failure::Configuration(format!("serviceos: {}: {why}", file.display()));
    let text = std::fs::File::open(file).and_then(|opened| {
        let mut text = String::new();
        opened.take(MAX_PUBLIC_KEY_BYTES).read_to_string(&mut text)?;
        Ok(text)
    });
    let text = text.map_err(|error| wrong(error.to_string()))?;
    PublicKey::from_pem(&text).map_err(|error| wrong(error.to_string()))?;
    Ok(text)
}

fn table(keys: &[KeyRecord]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    let header =
        ["ID", "NAME", "SCOPES", "TENANT", "TIER", "KIND", "CREATED", "EXPIRES", "OLD ONE ENDS", "REVOKED"];
    table.set_header(header);
    let now = Timestamp::now();
    let time = |time: Option<Timestamp>| time.map_or("-".to_owned(), |time| format!("{time:.0}"));
    for key in keys {
        table.add_row([
            key.id.clone(),
            key.name.clone(),
            key.scopes.join(","),
            key.tenant.clone(),
            key.tier.clone(),
            kind(key),
            time(Some(key.created_at)),
            time(key.expires_at),
            time(key.previous_ends_at.filter(|end| key.revoked_at.is_none() && *end > now)),
            time(key.revoked_at),
        ]);
    }
    table
}

/// A secret, or how requests are signed and the SHA-256 of the public key.
fn kind(key: &KeyRecord) -> String {
    match &key.public_key {
        None => "secret".to_owned(),
        Some(public) => format!("{} {}", public.algorithm.as_str(), public.sha256),
    }
}
