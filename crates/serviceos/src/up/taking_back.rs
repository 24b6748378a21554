//! A place that was given away, and that nobody has come to take: the gateway serves on in it, and this process starts once more, by
//! the same way, in the place of itself. Whatever is in the way of that, it tries again: who has requests must not end for it.

use std::time::{Duration, Instant};

use anyhow::Context;
use observability::Lines;
use tokio::net::UnixStream;
use tokio::time::sleep;

use super::source::Reader;
use super::systemd::Manager;
use super::takeover::leaving::{HandingOver, Leaving};
use super::{Given, Process, Running, Source, Whose, adoption, quoter};
use crate::failure::Failure;

/// How long it waits before it tries again; each time twice as long, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The place, and what serves in it.
pub(super) struct Untaken {
    pub(super) handing: HandingOver,
    pub(super) leaving: Leaving,
    pub(super) reader: Reader,
    /// What the file said last.
    pub(super) text: String,
}

impl Untaken {
    /// Takes it back, and serves until the end, or until it is given away once more and nobody takes it. An order that comes while it
    /// cannot be taken back ends everything without that.
    pub(super) async fn take_back(self, process: &mut Process) -> Result<Option<Self>, Failure> {
        let mut pause = FIRST_PAUSE;
        loop {
            let began = Instant::now();
            let started = tokio::select! {
                biased;
                order = process.orders.first() => {
                    self.end(process, order).await;
                    return Ok(None);
                }
                // What was begun of it is dropped where an order comes, as at any start.
                started = self.start(process.log.clone(), process.manager.clone()) => started,
            };
            match started {
                Ok((running, connection)) => {
                    process.leaving.spawn(self.leaving.finish_here(connection));
                    // Its sockets are the new start's.
                    drop(self.handing);
                    return Box::pin(running.serve(process, began)).await;
                }
                Err(failure) => {
                    let error = failure.to_string();
                    let error = error.trim_start_matches("serviceos: ");
                    tracing::error!(
                        "this one cannot take its place back: {error}; requests are served on, but nobody looks after the \
                         replicas; it is tried again in {pause:?}"
                    );
                    process
                        .screen
                        .say(&format!("the place cannot be taken back: {error}; trying again in {pause:?}"));
                }
            }
            tokio::select! {
                () = sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                order = process.orders.first() => process.orders.keep(order),
            }
        }
    }

    async fn start(&self, log: Lines, manager: Manager) -> Result<(Running, UnixStream), Failure> {
        let (taken, connection) = self.handing.to_itself(&self.leaving.registry)?;
        let (reader, text) = (self.reader.clone(), self.text.clone());
        let reading = tokio::task::spawn_blocking(move || Source::again(reader, &text));
        let (source, document) = reading
            .await
            .context("failed to read the configuration")?
            .context("failed to read what was in force")?;
        let given = Given { document, source, place: Whose::Own(Box::new(taken)) };
        let starting = Box::pin(Running::start(given, log, manager));
        Ok((starting.await?, connection))
    }

    /// The gateway first, then the replicas, as always.
    async fn end(self, process: &mut Process, order: &str) {
        process.manager.stopping(None);
        process.screen.say(&format!("{order}: draining; once more stops at once"));
        let Self { handing, leaving, .. } = self;
        leaving.end(&mut process.orders).await;
        let run = handing.data_dir.run();
        adoption::end_all_until(run, process.orders.again()).await;
        quoter::end_what_is_left(run).await;
        process.screen.say("stopped: no replica is left");
    }
}
