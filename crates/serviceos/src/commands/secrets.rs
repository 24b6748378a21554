//! `serviceos secrets`: a value goes in sealed to the authority, and none comes out.

mod authority;
mod value;

use anyhow::Context;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use control::{AdminClient, ClientError, SecretInfo, SecretRemoved, SecretRotated, SecretSet, SecretVersion};
use serde::de::DeserializeOwned;

use crate::cli::{PlaceArgs, SecretsCommand};
use crate::commands::{block_on, percent_encoded};
use crate::failure::Failure;
use crate::output::{print, print_json};

/// When replicas have what is new of a secret.
const WHEN_USED: &str = "replicas that are given it have it within seconds";

pub(crate) fn run(command: SecretsCommand) -> Result<(), Failure> {
    match command {
        SecretsCommand::Set { place, name, file } => {
            let data_dir = place.data_dir();
            let client = AdminClient::new(&data_dir);
            let set: SecretSet = block_on(async {
                may_be_set(&client, &name).await?;
                let value = value::read(&name, file.as_deref()).await?;
                let key = authority::verified_key(&client, &data_dir).await?;
                let sealed = key.seal(&name, &value).context("failed to seal the value")?;
                Ok(client.put(&path(&name), &sealed).await?)
            })?;
            print(format_args!("{} has version {} now; {WHEN_USED}", set.name, set.version))
        }
        SecretsCommand::List { place, json } => {
            let secrets: Vec<SecretInfo> = ask(&place, "/v1/secrets")?;
            if json { print_json(&secrets) } else { print(table(&secrets)) }
        }
        SecretsCommand::Versions { place, name, json } => {
            let secret: SecretInfo = ask(&place, &path(&name))?;
            if json { print_json(&secret) } else { print(versions(&secret)) }
        }
        SecretsCommand::Rotate { place, name } => {
            let client = AdminClient::new(&place.data_dir());
            let path = format!("{}/rotate", path(&name));
            let rotated: SecretRotated = block_on(async { Ok(client.post(&path, &()).await?) })?;
            print(format_args!("{} has epoch {} now; {WHEN_USED}", rotated.name, rotated.epoch))
        }
        SecretsCommand::Rm { place, name } => {
            let client = AdminClient::new(&place.data_dir());
            let removed: SecretRemoved = block_on(async { Ok(client.delete(&path(&name)).await?) })?;
            print(format_args!("{} is removed, with all of its versions", removed.name))
        }
    }
}

/// Whoever types a value shall not have done so for nothing.
async fn may_be_set(client: &AdminClient, name: &str) -> Result<(), ClientError> {
    match client.get::<SecretInfo>(&path(name)).await {
        Err(ClientError::Problem(problem)) if problem.code == "SECRET_UNKNOWN" => Ok(()),
        asked => asked.map(|_there_is_one| ()),
    }
}

fn ask<T: DeserializeOwned>(place: &PlaceArgs, path: &str) -> Result<T, Failure> {
    let client = AdminClient::new(&place.data_dir());
    block_on(async { Ok(client.get(path).await?) })
}

fn path(name: &str) -> String {
    format!("/v1/secrets/{}", percent_encoded(name))
}

fn table(secrets: &[SecretInfo]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["NAME", "ORIGIN", "KIND", "VERSIONS", "NEWEST", "EPOCH", "MADE", "SERVICES"]);
    for secret in secrets {
        let newest = secret.versions.last();
        table.add_row([
            secret.name.clone(),
            secret.origin.clone(),
            secret.generate.clone().unwrap_or_else(|| "-".to_owned()),
            secret.versions.len().to_string(),
            newest.map_or_else(|| "-".to_owned(), |newest| newest.version.to_string()),
            newest.map_or_else(|| "-".to_owned(), |newest| newest.epoch.to_string()),
            newest.map_or_else(|| "-".to_owned(), made),
            secret.services.join(","),
        ]);
    }
    table
}

fn versions(secret: &SecretInfo) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["VERSION", "EPOCH", "MADE"]);
    for version in &secret.versions {
        table.add_row([version.version.to_string(), version.epoch.to_string(), made(version)]);
    }
    table
}

fn made(version: &SecretVersion) -> String {
    version.made_at.clone().unwrap_or_else(|| "-".to_owned())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[test]
    fn each_secret_has_a_line_with_its_newest_version_and_who_is_given_it() {
        let secrets = json!([
            {"name": "db-password", "origin": "set", "generate": null, "services": ["api", "worker"], "versions": [
                {"version": 3, "epoch": 1, "madeAt": "2026-01-01T00:00:00.000Z"},
                {"version": 4, "epoch": 1, "madeAt": "2026-01-02T00:00:00.000Z"},
            ]},
            {"name": "vrf-key", "origin": "generated", "generate": "ed25519", "services": [], "versions": [
                {"version": 1, "epoch": 1, "madeAt": null},
            ]},
        ]);
        let secrets: Vec<SecretInfo> = serde_json::from_value(secrets).unwrap();
        let lines = |table: Table| -> String {
            table.to_string().lines().map(|line| format!("{}\n", line.trim())).collect()
        };
        expect![[r#"
            NAME         ORIGIN     KIND     VERSIONS  NEWEST  EPOCH  MADE                      SERVICES
            db-password  set        -        2         4       1      2026-01-02T00:00:00.000Z  api,worker
            vrf-key      generated  ed25519  1         1       1      -
            VERSION  EPOCH  MADE
            3        1      2026-01-01T00:00:00.000Z
            4        1      2026-01-02T00:00:00.000Z
        "#]]
        .assert_eq(&(lines(table(&secrets)) + &lines(versions(&secrets[0]))));
    }
}
