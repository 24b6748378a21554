//! The end of everything, in the opposite order of its beginning.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::anyhow;
use service_lifecycle::Wanted;
use tokio::time::timeout;

use super::patience::Patience;
use super::screen::Screen;
use super::{LAST_LINES, Running, adoption};
use crate::failure::Failure;
use crate::signals::Orders;

impl Running {
    /// The gateway first, so that requests in flight still have their replicas; then the replicas; then the rest. A second
    /// order stops at once, a third does not even wait for that.
    pub(super) async fn stop(mut self, screen: &Screen, orders: &mut Orders) -> Result<(), Failure> {
        // Whoever connects from now on is refused.
        drop(self.listening);
        self.live.draining.store(true, Ordering::Relaxed);
        self.live.resolving.end();
        // Whoever waits for another configuration is told that there is none.
        drop(self.orders);
        let drain_limits = self.live.settings.services.iter().map(|service| service.drain_timeout);
        self.gateway.drain(drain_limits.max().unwrap_or_default());
        let mut patience = Patience::Has;
        let (registry, requests) = (self.live.registry.clone(), self.gateway.requests_in_flight());
        loop {
            tokio::select! {
                () = self.gateway.ended() => break,
                () = screen.say_what_is_awaited(&registry, self.facts.expected.node.as_ref(), &requests) => {}
                () = orders.again() => {
                    patience = patience.lose(&self.quoter, &mut self.fleets).await;
                    self.gateway.drain(Duration::ZERO);
                }
            }
        }
        self.fleets.stop(if patience == Patience::Lost { Wanted::GoneAtOnce } else { Wanted::Gone });
        loop {
            tokio::select! {
                ended = self.fleets.next_end() => match ended {
                    None => break,
                    Some(Ok(())) => {}
                    Some(Err(error)) => tracing::error!(%error, "the replicas of a service are not looked after any more"),
                },
                () = screen.say_what_is_awaited(&registry, self.facts.expected.node.as_ref(), &requests) => {}
                () = orders.again() => {
                    patience = patience.lose(&self.quoter, &mut self.fleets).await;
                    self.fleets.stop(Wanted::GoneAtOnce);
                }
            }
        }
        // Whoever follows the logs is told the last words of the replicas before the admin API ends.
        let output = tokio::task::spawn_blocking(move || self.output.finish());
        if timeout(LAST_LINES, output).await.is_err() {
            tracing::warn!("the last lines of the replicas could not be read in time");
        }
        let (beside, background) = (&mut self.beside, &mut self.background);
        let ended = async {
            beside.stop().await;
            background.stop().await;
        };
        tokio::select! {
            () = ended => {}
            () = orders.again() => patience = patience.lose(&self.quoter, &mut self.fleets).await,
        }
        // What an earlier one has left, and this one has not come to look at.
        match patience {
            Patience::Has => adoption::end_all_until(self.data_dir.run(), orders.again()).await,
            Patience::Lost => adoption::end_all_until(self.data_dir.run(), std::future::ready(())).await,
        }
        self.quoter.stop().await;
        if let Some(log) = self.access_log {
            let written = tokio::task::spawn_blocking(move || log.finish());
            if timeout(LAST_LINES, written).await.is_err() {
                tracing::warn!("the access log's last lines could not be written in time");
            }
        }
        match patience {
            Patience::Has => {
                screen.say("stopped: no replica is left");
                Ok(())
            }
            Patience::Lost => {
                Err(anyhow!("stopped at once; requests in flight may have been cut off").into())
            }
        }
    }
}
