//! `serviceos events`: what has happened to replicas and services, and with `-f` what happens.

use control::{AdminClient, EventEntries, EventEntry, ToldEvent};
use serde_json::json;

use super::following::follow;
use crate::cli::EventsArgs;
use crate::commands::block_on;
use crate::failure::Failure;
use crate::output::{Reader, harmless, note, print_on};

/// What is printed of each event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A line of JSON.
    Json,
    /// A line for people.
    Text,
}

pub(crate) fn run(args: &EventsArgs) -> Result<(), Failure> {
    let client = AdminClient::new(&args.place.data_dir());
    let form = if args.json { Form::Json } else { Form::Text };
    let of_service = args.service.as_ref().map(|service| format!("service={service}&")).unwrap_or_default();
    let path = format!("/v1/events?{of_service}follow={}", args.follow);
    if args.follow {
        return block_on(follow(&client, &path, |event| told(event, form)));
    }
    let document: EventEntries = block_on(async { Ok(client.get(&path).await?) })?;
    if document.events.is_empty() {
        note("serviceos: nothing has happened yet of what was asked for");
    }
    for event in &document.events {
        if print_on(shown(event, form)?)? == Reader::Gone {
            break;
        }
    }
    Ok(())
}

fn told(event: &ToldEvent, form: Form) -> Result<String, Failure> {
    match (event, form) {
        (ToldEvent::Happened(event), form) => shown(event, form),
        (ToldEvent::Missed(events), Form::Json) => Ok(json!({"missed": events}).to_string()),
        (ToldEvent::Missed(events), Form::Text) => {
            Ok(format!("({events} events are missing here: they came faster than they were read)"))
        }
    }
}

fn shown(event: &EventEntry, form: Form) -> Result<String, Failure> {
    match form {
        Form::Json => Ok(serde_json::to_string(event).map_err(anyhow::Error::from)?),
        Form::Text => Ok(harmless(&text(event))),
    }
}

fn text(event: &EventEntry) -> String {
    let subject = event.replica.as_deref().or(event.service.as_deref()).unwrap_or("serviceos");
    let (from, to) = (event.from.as_deref().unwrap_or_default(), event.to.as_deref().unwrap_or_default());
    let what = match event.kind.as_str() {
        "state" => format!("{from} -> {to}"),
        "scaled" => format!("replicas {from} -> {to}"),
        "crashLoop" => "crash loop".to_owned(),
        "takeover" => format!("takeover {from} -> {to}"),
        other => format!("{other} {to}"),
    };
    let (time, actor) = (format!("{:.3}", event.time), &event.actor);
    let cause = event.cause.as_deref().unwrap_or_default();
    format!("{time}  {subject:<12}  {what:<21}  {actor:<13}  {cause}").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_line_for_people_says_what_became_of_whom_and_who_wanted_it() {
        let event = |kind: &str, replica: Option<&str>, from: Option<&str>, to: &str| EventEntry {
            id: "abc-1".into(),
            time: "2026-11-30T17:00:00.5Z".parse().unwrap(),
            service: (kind != "takeover").then(|| "vrf".into()),
            replica: replica.map(str::to_owned),
            kind: kind.into(),
            from: from.map(str::to_owned),
            to: Some(to.to_owned()),
            cause: replica.map(|_| "exited with code 1".to_owned()),
            actor: "replica".into(),
        };
        let lines = [
            event("state", Some("vrf/0"), Some("Ready"), "Stopped"),
            event("scaled", None, Some("3"), "5"),
            event("crashLoop", Some("vrf/0"), None, ""),
            event("rollout", None, None, "done"),
            event("takeover", None, Some("4711"), "4812"),
        ];
        expect![[r#"
            2026-11-30T17:00:00.500Z  vrf/0         Ready -> Stopped       replica        exited with code 1
            2026-11-30T17:00:00.500Z  vrf           replicas 3 -> 5        replica
            2026-11-30T17:00:00.500Z  vrf/0         crash loop             replica        exited with code 1
            2026-11-30T17:00:00.500Z  vrf           rollout done           replica
            2026-11-30T17:00:00.500Z  serviceos     takeover 4711 -> 4812  replica"#]]
        .assert_eq(&lines.iter().map(text).collect::<Vec<_>>().join("\n"));
        let missed = |form| told(&ToldEvent::Missed(3), form).unwrap();
        expect!["(3 events are missing here: they came faster than they were read)"]
            .assert_eq(&missed(Form::Text));
        expect![[r#"{"missed":3}"#]].assert_eq(&missed(Form::Json));
    }
}
