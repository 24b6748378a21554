//! `serviceos config`: the file without starting anything, the revisions of a running serviceos, and what became of them.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use configuration::{Document, MAX_FILE_BYTES, Meaning, Overrides, ServiceSettings};
use control::{AdminClient, ConfigChanged, ConfigRevision, RollbackRequest};
use serde_json::json;

use super::config_status;
use crate::cli::{ChangeArgs, ConfigCommand, PlaceArgs};
use crate::commands::block_on;
use crate::failure::Failure;
use crate::output::{print, print_json, print_on};
use crate::up::{FromFiles, check_service_config, counted};

/// So much of a digest tells two apart in a listing, in hex digits.
const SHOWN_DIGEST: usize = 12;
/// So much of a line of a diff is shown in a listing, in characters.
const SHOWN_CHANGE: usize = 80;
/// What stands for standard input.
const STANDARD_INPUT: &str = "-";

pub(crate) fn run(command: ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::Validate(place) => validate(place),
        ConfigCommand::Diff { place, before, after, exit_code, json } => {
            diff(&place, (before, after), exit_code, json)
        }
        ConfigCommand::Apply { place, file, change } => apply(&place, file, change),
        ConfigCommand::Show { place, revision, json } => show(&place, revision, json),
        ConfigCommand::History { place, json } => {
            let revisions: Vec<ConfigRevision> = ask(&place, "/v1/config/revisions")?;
            if json { print_json(&revisions) } else { print(table(&revisions)) }
        }
        ConfigCommand::Rollback { place, revision, change } => roll_back(&place, revision, change),
        ConfigCommand::Schema => print(format_args!("{:#}", configuration::schema())),
        ConfigCommand::Status(args) => config_status::run(&args),
    }
}

fn validate(place: PlaceArgs) -> Result<(), Failure> {
    let overrides = Overrides { data_dir: place.data_dir, ..Overrides::default() };
    let settings = configuration::load(&place.config, &overrides, check_service_config)?;
    let name = place.config.display().to_string();
    block_on(async {
        FromFiles::default().of(&settings).await.map(drop).map_err(|wrong| wrong.in_file(&name))
    })?;
    let replicas = settings.services.iter().map(ServiceSettings::replicas).sum();
    let (services, replicas) = (counted(settings.services.len(), "service"), counted(replicas, "replica"));
    print(format_args!("{} is valid: {services}, {replicas}", place.config.display()))
}

/// Of the file only what it means is asked, so that one with a wrong value can be compared as well.
fn diff(
    place: &PlaceArgs,
    revisions: (Option<u64>, Option<u64>),
    exit_code: bool,
    json: bool,
) -> Result<(), Failure> {
    let differences = match revisions {
        (None, _) => in_force(place, None)?.differences(&of_file(&place.config)?),
        (Some(before), after) => in_force(place, Some(before))?.differences(&in_force(place, after)?),
    };
    if json {
        print_json(&differences)?;
    } else {
        differences.iter().try_for_each(print)?;
    }
    if exit_code && !differences.is_empty() { Err(Failure::NotPassed) } else { Ok(()) }
}

fn of_file(path: &Path) -> Result<Meaning, Failure> {
    let bytes = configuration::read(path)?;
    let text = String::from_utf8(bytes).with_context(|| format!("{} is not UTF-8", path.display()))?;
    Ok(configuration::meaning(&text, &path.display().to_string())?)
}

/// What a revision means, or what is in force.
fn in_force(place: &PlaceArgs, revision: Option<u64>) -> Result<Meaning, Failure> {
    let found: ConfigRevision = ask(place, &path(revision))?;
    let text = found.text.unwrap_or_default();
    Ok(configuration::meaning(&text, &format!("revision {}", found.revision))?)
}

fn apply(place: &PlaceArgs, file: Option<PathBuf>, change: ChangeArgs) -> Result<(), Failure> {
    let file = file.unwrap_or_else(|| place.config.clone());
    let (name, bytes) = if file == Path::new(STANDARD_INPUT) {
        ("standard input".to_owned(), standard_input()?)
    } else {
        (file.display().to_string(), configuration::read(&file)?)
    };
    // Whoever applies it calls it otherwise in its errors.
    let document = check(&bytes, &name, &place.config)?;
    let text = ("application/yaml", document.text.into_bytes());
    changed(place, "/v1/config", text, change)
}

fn standard_input() -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = std::io::stdin().take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes);
    read.context("failed to read standard input")?;
    Ok(bytes)
}

fn check(bytes: &[u8], name: &str, place: &Path) -> Result<Document, Failure> {
    let (cores, overrides) = (configuration::cores(), Overrides::default());
    Ok(configuration::from_bytes(bytes, name, place, cores, &overrides, check_service_config)?)
}

fn roll_back(place: &PlaceArgs, revision: u64, change: ChangeArgs) -> Result<(), Failure> {
    let request = json!(RollbackRequest { revision }).to_string();
    changed(place, "/v1/config/rollback", ("application/json", request.into_bytes()), change)
}

/// Asks for another configuration, and says what has become of it.
fn changed(
    place: &PlaceArgs,
    path: &str,
    body: (&'static str, Vec<u8>),
    change: ChangeArgs,
) -> Result<(), Failure> {
    let ChangeArgs { dry_run, if_revision, json } = change;
    let path = format!("{path}?dryRun={dry_run}");
    let client = AdminClient::new(&place.data_dir());
    let changed: ConfigChanged = block_on(async { Ok(client.change(&path, body, if_revision).await?) })?;
    if json {
        return print_json(&changed);
    }
    changed.diff.iter().try_for_each(print)?;
    if changed.more > 0 {
        print(format_args!("and {} more", counted(changed.more, "key")))?;
    }
    if !changed.restart_needed.is_empty() {
        print(format_args!("refused until a new start: {}", changed.restart_needed.join(", ")))?;
    }
    let revision = changed.revision;
    match (changed.changed, changed.dry_run) {
        (false, _) => {
            print(format_args!("nothing changes: it means what revision {revision} means, which is in force"))
        }
        (true, true) => print(format_args!("nothing was changed; revision {revision} is in force")),
        (true, false) => print(format_args!("revision {revision} is in force")),
    }
}

fn show(place: &PlaceArgs, revision: Option<u64>, json: bool) -> Result<(), Failure> {
    let found: ConfigRevision = ask(place, &path(revision))?;
    if json {
        return print_json(&found);
    }
    // As it was given, so that it can be given again.
    print_on(found.text.unwrap_or_default().trim_end_matches('\n')).map(|_| ())
}

fn path(revision: Option<u64>) -> String {
    match revision {
        Some(revision) => format!("/v1/config/revisions/{revision}"),
        None => "/v1/config".to_owned(),
    }
}

fn ask<T: serde::de::DeserializeOwned>(place: &PlaceArgs, path: &str) -> Result<T, Failure> {
    let client = AdminClient::new(&place.data_dir());
    block_on(async { Ok(client.get(path).await?) })
}

fn table(revisions: &[ConfigRevision]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["REVISION", "TIME", "ORIGIN", "AUTHOR", "DIGEST", "IN FORCE", "CHANGES"]);
    for revision in revisions {
        table.add_row([
            revision.revision.to_string(),
            revision.time.clone(),
            revision.origin.clone(),
            revision.author.clone(),
            revision.digest.chars().take(SHOWN_DIGEST).collect(),
            if revision.in_force { "yes" } else { "" }.to_owned(),
            first_change(revision),
        ]);
    }
    table
}

/// The first line of its diff, and how many keys more.
fn first_change(revision: &ConfigRevision) -> String {
    let Some(line) = revision.changes.first() else { return "-".to_owned() };
    let short = match line.char_indices().nth(SHOWN_CHANGE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.clone(),
    };
    match revision.changed_keys.saturating_sub(1) {
        0 => short,
        more => format!("{short} (and {more} more)"),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn each_revision_has_a_line_with_the_first_of_its_changes() {
        let digest = "0123456789abcdef".repeat(4);
        let changes: Vec<_> =
            (0..2).map(|number| format!("services.vrf.routes[{number}]: a -> {}", "b".repeat(90))).collect();
        let revisions = json!([
            {"revision": 12, "author": "admin socket", "origin": "cli", "time": "2027-01-15T08:00:01.000Z", "digest": digest,
             "inForce": true, "changes": changes, "changedKeys": 2},
            {"revision": 11, "author": "configuration file", "origin": "file", "time": "2027-01-15T08:00:00.000Z",
             "digest": digest, "inForce": false, "changes": ["services.vrf.circuit.pending: 1 -> 2"], "changedKeys": 1},
            {"revision": 1, "author": "configuration file", "origin": "file", "time": "2027-01-14T08:00:00.000Z",
             "digest": digest, "inForce": false, "changes": [], "changedKeys": 0},
        ]);
        let table = table(&serde_json::from_value::<Vec<_>>(revisions).unwrap()).to_string();
        let lines: String = table.lines().map(|line| format!("{}\n", line.trim())).collect();
        expect![[r#"
            REVISION  TIME                      ORIGIN  AUTHOR              DIGEST        IN FORCE  CHANGES
            12        2027-01-15T08:00:01.000Z  cli     admin socket        0123456789ab  yes       services.vrf.routes[0]: a -> bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb… (and 1 more)
            11        2027-01-15T08:00:00.000Z  file    configuration file  0123456789ab            services.vrf.circuit.pending: 1 -> 2
            1         2027-01-14T08:00:00.000Z  file    configuration file  0123456789ab            -
        "#]].assert_eq(&lines);
    }
}
