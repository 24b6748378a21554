//! What `up` does from the moment in which everything has begun: it takes over what changes, until it is told to end, or gives its
//! place to another one.

use std::pin::pin;
use std::time::Instant;

use anyhow::anyhow;
use tokio::sync::{mpsc, watch};

use super::reload::Live;
use super::takeover::standing::Asking;
use super::takeover::succeeding::{Stage, given_up, serves};
use super::takeover::upgrade;
use super::{Process, Running, Untaken, desk};
use crate::failure::Failure;

/// How it came to an end.
enum Over {
    /// Somebody has said so.
    Told(&'static str),
    /// A part has ended by itself.
    Ended(&'static str),
    /// Another process asks for its place.
    Asked(Box<Asking>),
    /// It was to take the place of another process, which is to go on.
    GivenUp(String),
}

/// Returns once an operator wants everything to end. While it is open which process looks after it, that waits.
async fn told_to_shut_down(requests: &mut mpsc::Receiver<()>, stage: &watch::Receiver<Stage>) {
    let _told_or_nobody_left = requests.recv().await.is_some();
    if matches!(*stage.borrow(), Stage::Taking { .. }) {
        tracing::info!("serviceos down waits until the takeover is over");
    }
    serves(stage.clone()).await;
}

impl Running {
    /// Serves until it is told to stop, or until a part ends by itself, which is a failure; gives the place that it gave away where
    /// nobody took that.
    pub(super) async fn serve(
        mut self,
        process: &mut Process,
        began: Instant,
    ) -> Result<Option<Untaken>, Failure> {
        let over = Box::pin(self.until_told(process, began)).await;
        let is_taking = self.stage.borrow().is_anothers();
        let (told_by, failed) = match over {
            Over::Asked(asking) => match self.shutdown_requests.try_recv() {
                // It was said before.
                Ok(()) => ("serviceos down".to_owned(), None),
                Err(_) => return Box::pin(self.hand_over(*asking, process)).await,
            },
            Over::GivenUp(reason) => return Err(self.give_up(&reason)),
            Over::Ended(part) if is_taking => return Err(self.give_up(&format!("{part} ended by itself"))),
            Over::Ended(part) => (format!("{part} ended by itself, which is a bug"), Some(part)),
            Over::Told(order) => (order.to_owned(), None),
        };
        self.manager.stopping(Some(&self.live.settings));
        process.screen.say(&format!("{told_by}: draining; once more stops at once"));
        self.stop(&process.screen, &mut process.orders).await?;
        failed.map_or(Ok(None), |part| Err(anyhow!("{part} ended by itself; everything was drained").into()))
    }

    /// Leaves everything as it is to whoever serves.
    fn give_up(self, reason: &str) -> Failure {
        let from = self.stage.borrow().from();
        anyhow!("the takeover is given up: {reason}; the serviceos with pid {from} goes on").into()
    }

    /// Shows the start, takes over what changes in the configuration, and returns when it is over.
    async fn until_told(&mut self, process: &mut Process, began: Instant) -> Over {
        let Self { gateway, fleets, background, beside, live, shutdown_requests, orders: changes, .. } = self;
        let (facts, asked, stage) = (&self.facts, &mut self.asked, &self.stage);
        let (Process { screen, orders, looks, upgrades, .. }, manager) = (process, &self.manager);
        let registry = live.registry.clone();
        let mut shown = pin!(async {
            serves(stage.clone()).await;
            screen.show_start(&registry, facts, began).await;
        });
        let mut is_shown = false;
        let mut stages = stage.clone();
        let mut over = pin!(async {
            tokio::select! {
                signal = orders.first() => if stage.borrow().is_anothers() {
                    Over::GivenUp(signal.to_owned())
                } else {
                    // What was given away and is taken back is ended from here.
                    serves(stage.clone()).await;
                    Over::Told(signal)
                },
                () = told_to_shut_down(shutdown_requests, stage) => Over::Told("serviceos down"),
                Some(asking) = asked.recv() => Over::Asked(Box::new(asking)),
                reason = given_up(&mut stages) => Over::GivenUp(reason),
                () = gateway.worker_ended() => Over::Ended("a gateway worker"),
                () = fleets.one_ended() => Over::Ended("the driver of a replica"),
                () = background.one_ended() => Over::Ended("the mesh or the admin API"),
                () = beside.one_ended() => Over::Ended("the health owner"),
            }
        });
        loop {
            tokio::select! {
                over = &mut over => return over,
                found = live.files.changed() => tokio::select! {
                    () = live.take_over_and_tell(found, manager) => {}
                    // What it has begun need not come to its end: nothing is served by it but what is in flight.
                    over = &mut over => return over,
                },
                () = upgrades.asked() => upgrade::start_the_next(),
                () = looks.asked() => {
                    manager.reloading_as_asked();
                    live.files.ask();
                }
                Some(desk::Order { change, answer }) = changes.recv() => tokio::select! {
                    changed = live.change(change) => {
                        let _nobody_waits = answer.send(changed).is_err();
                    }
                    over = &mut over => {
                        let _nobody_waits = answer.send(Err(desk::cut_off())).is_err();
                        return over;
                    }
                },
                () = live.tokens.secret_changed() => tokio::select! {
                    () = live.renew_secrets_and_tell(manager) => {}
                    over = &mut over => return over,
                },
                Ok(()) = live.rollouts.changed() => tokio::select! {
                    () = live.end_rollouts() => {}
                    over = &mut over => return over,
                },
                () = Live::due(live.slower_nodes.again) => tokio::select! {
                    () = live.end_rollouts() => {}
                    over = &mut over => return over,
                },
                () = Live::due(live.again) => tokio::select! {
                    () = live.try_again_and_tell(manager) => {}
                    over = &mut over => return over,
                },
                () = &mut shown, if !is_shown => {
                    is_shown = true;
                    manager.ready();
                }
            }
        }
    }
}
