//! `serviceos rollout`: where a rollout is, how others ended, and how one goes on.

mod text;

use std::ops::ControlFlow;

use control::{AdminClient, RolloutEntry, RolloutHistory, RolloutStarted, ServiceRollout};
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

/// A line for each change, until the one that is on its way is over. Where none is, that is said, whatever became of others before.
fn follow(of: &RolloutOf) -> Result<(), Failure> {
    let client = AdminClient::new(&of.place.data_dir());
    let path = format!("{}?follow=true", path(&of.service));
    let mut told: Option<String> = None;
    // By when it began one is known again.
    let mut followed: Option<String> = None;
    let over = block_on(follow_until(&client, &path, |document: &ServiceRollout| {
        let Some(rollout) = &document.rollout else {
            let (said, over) = match &followed {
                Some(since) => (text::over(document), outcome(document, since)),
                None => (text::idle(document), Over::Done),
            };
            let said = if of.json { json(document)? } else { harmless(&said) };
            return Ok((Some(said), ControlFlow::Break(over)));
        };
        if *followed.get_or_insert_with(|| rollout.since.clone()) != rollout.since {
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

/// How the one has ended that began then; one that is not the last was replaced.
fn outcome(document: &ServiceRollout, since: &str) -> Over {
    match &document.last {
        Some(last) if last.since == since && last.outcome == "done" => Over::Done,
        _ => Over::GivenUp,
    }
}
