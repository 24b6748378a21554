//! `serviceos rollout`: where a rollout is, how others ended, and how one goes on.

mod text;

use std::ops::ControlFlow;

use control::{AdminClient, RolloutEnded, RolloutEntry, RolloutHistory, RolloutStarted, ServiceRollout};
use types::ServiceName;

use super::following::{End, follow_until};
use crate::cli::{RolloutCommand, RolloutOf};
use crate::commands::block_on;
use crate::failure::Failure;
use crate::output::{harmless, print, print_json};

/// How a rollout that was followed is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    Done,
    GivenUp,
}

pub(crate) fn run(command: &RolloutCommand) -> Result<(), Failure> {
    match command {
        RolloutCommand::Status { of, follow: false } => status(of),
        RolloutCommand::Status { of, follow: true } => follow(of),
        RolloutCommand::Start(of) => start(of),
        RolloutCommand::Pause(of) => steer(of, "pause"),
        RolloutCommand::Resume(of) => steer(of, "resume"),
        RolloutCommand::Promote(of) => steer(of, "promote"),
        RolloutCommand::Undo(of) => steer(of, "undo"),
        RolloutCommand::History(of) => history(of),
    }
}

fn path(service: &ServiceName) -> String {
    format!("/v1/services/{service}/rollout")
}

fn status(of: &RolloutOf) -> Result<(), Failure> {
    let client = AdminClient::new(&of.place.data_dir());
    let document: ServiceRollout = block_on(async { Ok(client.get(&path(&of.service)).await?) })?;
    if of.json { print_json(&document) } else { print(text::status(&document)) }
}

fn start(of: &RolloutOf) -> Result<(), Failure> {
    let client = AdminClient::new(&of.place.data_dir());
    let path = format!("{}/start", path(&of.service));
    let begun: RolloutStarted =
        block_on(async { Ok(client.change(&path, ("application/json", Vec::new()), None).await?) })?;
    if of.json { print_json(&begun) } else { print(text::begun(&begun)) }
}

fn steer(of: &RolloutOf, verb: &str) -> Result<(), Failure> {
    let client = AdminClient::new(&of.place.data_dir());
    let path = format!("{}/{verb}", path(&of.service));
    let document: ServiceRollout =
        block_on(async { Ok(client.change(&path, ("application/json", Vec::new()), None).await?) })?;
    if of.json { print_json(&document) } else { print(text::status(&document)) }
}

fn history(of: &RolloutOf) -> Result<(), Failure> {
    let client = AdminClient::new(&of.place.data_dir());
    let path = format!("{}/history", path(&of.service));
    let document: RolloutHistory = block_on(async { Ok(client.get(&path).await?) })?;
    if of.json { print_json(&document) } else { print(text::history(&document)) }
}

/// A line for each change, until none is on its way. What is over already is said as such, since who asks just after a change may
/// come too late for the way.
fn follow(of: &RolloutOf) -> Result<(), Failure> {
    let client = AdminClient::new(&of.place.data_dir());
    let path = format!("{}?follow=true", path(&of.service));
    let mut told: Option<String> = None;
    let mut followed: Option<Followed> = None;
    let over = block_on(follow_until(&client, &path, |document: &ServiceRollout| {
        let Some(rollout) = &document.rollout else {
            let said = if of.json { json(document)? } else { harmless(&text::over(document)) };
            return Ok((Some(said), ControlFlow::Break(outcome(document, followed.as_ref()))));
        };
        let now = Followed { since: rollout.since.clone(), is_restart: rollout.from == rollout.to };
        if followed.get_or_insert_with(|| now.clone()) != &now {
            let said =
                format!("{}: {} -> {} has taken its place", document.service, rollout.from, rollout.to);
            let said = if of.json { json(document)? } else { harmless(&said) };
            return Ok((Some(said), ControlFlow::Break(Over::GivenUp)));
        }
        let known = text::what_counts(rollout);
        let is_news = of.json || told.as_ref() != Some(&known);
        told = Some(known);
        let said = || if of.json { json(document) } else { Ok(harmless(&line(&document.service, rollout))) };
        Ok((is_news.then(said).transpose()?, ControlFlow::Continue(())))
    }))?;
    match over {
        End::Reached(Over::GivenUp) => Err(Failure::NotPassed),
        End::OfUp => Err(Failure::NotRunning(
            "serviceos has ended while it was on its way, or another one has taken its place: ask again"
                .to_owned(),
        )),
        End::Reached(Over::Done) | End::Told => Ok(()),
    }
}

fn line(service: &str, rollout: &RolloutEntry) -> String {
    format!("{service} {}", text::line(rollout))
}

fn json(document: &ServiceRollout) -> Result<String, Failure> {
    Ok(serde_json::to_string(document).map_err(anyhow::Error::from)?)
}

/// By what a rollout is known again.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Followed {
    since: String,
    /// It leads to what runs already, and leaves nothing behind.
    is_restart: bool,
}

/// How the one has ended that was followed, which was replaced by another one where it is not the last; else the last one, which has
/// ended just before it was asked. A service of which no rollout was ever begun runs what it is to run.
fn outcome(document: &ServiceRollout, followed: Option<&Followed>) -> Over {
    let done = |last: &RolloutEnded| if last.outcome == "done" { Over::Done } else { Over::GivenUp };
    match (followed, &document.last) {
        (Some(Followed { is_restart: true, .. }), _) => Over::Done,
        (Some(followed), Some(last)) if last.since == followed.since => done(last),
        (Some(_), _) => Over::GivenUp,
        (None, last) => last.as_ref().map_or(Over::Done, done),
    }
}
