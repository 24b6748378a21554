//! A place on the data directory: taken at the start, and given to another process that asks for it.

use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use configuration::Settings;
use rustix::process::Signal;
use tokio::time::timeout;

use super::claims::Sockets;
use super::data_dir::{self, DataDir};
use super::measuring::Measurements;
use super::takeover::asking::{TakenOver, ask, is_there};
use super::takeover::leaving::{HandingOver, Leaving};
use super::takeover::standing::Asking;
use super::takeover::succeeding::Predecessor;
use super::{LAST_LINES, Process, Running, Untaken, Whose};
use crate::failure::Failure;
use crate::hold::Hold;
use crate::signals::SIGTERM;

/// How long a drain takes at the most where no service says how long one may.
const NO_DRAIN: Duration = Duration::from_secs(30);

/// What a start has before it opens the store.
pub(super) struct Place {
    pub(super) data_dir: DataDir,
    pub(super) sockets: Sockets,
    /// Whose place it is.
    pub(super) predecessor: Option<Predecessor>,
    /// What was measured while another one still served.
    pub(super) measured: Option<(Settings, Measurements)>,
    pub(super) hold: Hold,
}

impl Place {
    /// Takes it. Where another process has it, everything that takes time is done before that is asked.
    ///
    /// # Errors
    /// Somebody has the data directory and is not asked, or nobody has it that could be.
    pub(super) async fn take(settings: &Settings, place: Whose) -> Result<Self, Failure> {
        let root = &settings.data_dir;
        let hold = Hold::default();
        let (taken, measured) = match place {
            Whose::Nobodys(sockets) => {
                let (data_dir, sockets) = (DataDir::open(root)?, Sockets::Given(sockets));
                return Ok(Self { data_dir, sockets, predecessor: None, measured: None, hold });
            }
            Whose::Anothers => {
                is_there(root)?;
                data_dir::has_room(root)?;
                let measured = Measurements::take(settings, &root.join("run")).await?;
                (ask(root).await?, Some((settings.clone(), measured)))
            }
            Whose::Own(taken) => (*taken, None),
        };
        // Until this one serves, the replicas are those of whoever is left.
        hold.loosen();
        let TakenOver { data_dir, sockets, predecessor } = taken;
        let (sockets, predecessor) = (Sockets::Taken(sockets), Some(predecessor));
        Ok(Self { data_dir, sockets, predecessor, measured, hold })
    }
}

impl Running {
    /// Gives the place to whoever asks, finishes what is in flight, and ends. Where nobody takes it, the place is given back.
    pub(super) async fn hand_over(
        self,
        asking: Asking,
        process: &mut Process,
    ) -> Result<Option<Untaken>, Failure> {
        let began = Instant::now();
        let Asking { connection, process: asker, version } = asking;
        let asks = format!("serviceos {version} with pid {}", asker.pid);
        process.screen.say(&format!("{asks} takes over; requests are served on"));
        tracing::info!("{asks} takes over: control ends here, and the gateway serves on");
        let Self { gateway, mut fleets, beside, mut background, output, access_log, mut live, .. } = self;
        let Self { hold, orders, manager, listening, stores, data_dir, quoter, nonces, .. } = self;
        hold.loosen();
        fleets.kill().await;
        // Whoever waits for another configuration is told that there is none.
        drop(orders);
        background.leave().await;
        live.resolving.end();
        let output = tokio::task::spawn_blocking(move || output.finish());
        let read = timeout(LAST_LINES, output).await.ok().and_then(Result::ok).unwrap_or_default();
        let drains = live.settings.services.iter().map(|service| service.drain_timeout);
        let (drain, registry) = (drains.max().unwrap_or(NO_DRAIN), live.registry.clone());
        // A start goes by what the file says, and by a revision of the command line as long as the file says the same.
        let text = match timeout(LAST_LINES, live.revisions.file_text()).await {
            Ok(Ok(text)) => text,
            Ok(Err(_)) | Err(_) => live.revisions.in_force().text.clone(),
        };
        let reader = live.files.reader();
        drop((live, quoter));
        let closing = tokio::task::spawn_blocking(move || {
            stores.mesh.let_go();
            stores.services.let_go();
        });
        closing.await.context("failed to close the store")?;
        let let_go_ms = began.elapsed().as_millis();
        tracing::info!(let_go_ms, "control has ended, and everything is handed over");
        let handing = HandingOver { listening, data_dir, read, manager: manager.handed(), began };
        let leaving = Leaving { gateway, beside, access_log, registry, nonces, drain };
        let mut order = None;
        let served = {
            let mut serving = pin!(handing.to(connection, &asker, &leaving));
            loop {
                tokio::select! {
                    served = &mut serving => break served,
                    given = process.orders.first() => {
                        process.screen.say(&format!("{given}: waits until it is certain who serves"));
                        // Whoever is tired of waiting takes back nothing of it.
                        order = order.filter(|order| *order == SIGTERM).or(Some(given));
                    }
                }
            }
        };
        match served {
            Ok(successor) => {
                drop(handing);
                let (pid, elapsed_ms) = (asker.pid, began.elapsed().as_millis());
                process.signs_of_life.shutdown().await;
                manager.main_process(pid);
                tracing::info!(pid, elapsed_ms, "{asks} serves: what is in flight here is finished");
                process.screen.say(&format!("{asks} serves; finishing what is in flight"));
                if order == Some(SIGTERM) {
                    // It was meant for whoever serves.
                    tracing::info!(pid, "the SIGTERM that came meanwhile is passed on");
                    asker.signal(Signal::TERM);
                }
                leaving.finish(successor, &mut process.orders).await;
                process.screen.say(&format!("taken over by pid {pid}"));
                Ok(None)
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(error, "{asks} has not taken over: this one takes its place back");
                process.screen.say(&format!("{asks} has not taken over ({error}); this one goes on"));
                if let Some(order) = order {
                    process.orders.keep(order);
                }
                Ok(Some(Untaken { handing, leaving, reader, text }))
            }
        }
    }
}
