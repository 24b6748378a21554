//! Asks one source again and again and hands on what it says. It judges nothing.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use crate::source::{Reading, Source};

/// One source among those of its feed.
pub(crate) struct Poller {
    pub(crate) pair: String,
    pub(crate) id: String,
    /// Its place among the sources of the feed.
    pub(crate) place: usize,
    pub(crate) every: Duration,
    pub(crate) source: Box<dyn Source>,
}

impl Poller {
    /// Runs until nobody takes the readings any more.
    pub(crate) async fn run(self, readings: mpsc::Sender<(usize, Reading)>) {
        let mut ticks = interval(self.every);
        // A slow source is asked less often, never several times in a row.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        while !readings.is_closed() {
            ticks.tick().await;
            match self.source.read().await {
                Ok(reading) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!(pair = self.pair, source = self.id, "the source gives prices again");
                    }
                    // A closed channel ends the loop.
                    let _closed = readings.send((self.place, reading)).await;
                }
                // Once per run of failures: a source that is away for an hour fails 3,600 times.
                Err(error) if !std::mem::replace(&mut failing, true) => {
                    tracing::warn!(pair = self.pair, source = self.id, %error, "the source gives no price");
                }
                Err(_) => {}
            }
        }
    }
}
