//! The tasks beside the gateway and the replicas, which run until everything else has ended.

use std::sync::Arc;
use std::time::Duration;

use observability::Metrics;
use service_router::HealthOwner;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Tasks that end when they are told to.
#[derive(Default)]
pub(super) struct Background {
    tasks: JoinSet<()>,
    /// Those that undo something when they end.
    abiding: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Background {
    /// Begins those that a gateway needs beside it for as long as it has requests.
    pub(super) fn of_gateway(metrics: &Arc<Metrics>, health: HealthOwner) -> Self {
        let mut begun = Self::default();
        begun.add(|stopped| sample_error_rates(Arc::clone(metrics), stopped));
        begun.add(|stopped| health.run(told(stopped)));
        begun
    }

    /// Begins a task, which is handed what tells it to end.
    pub(super) fn add<F>(&mut self, task: impl FnOnce(watch::Receiver<bool>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks.spawn(task(self.stop.subscribe()));
    }

    /// The same where the end of the task takes something back that another process may want to go on with.
    pub(super) fn add_abiding<F>(&mut self, task: impl FnOnce(watch::Receiver<bool>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.abiding.spawn(task(self.stop.subscribe()));
    }

    /// Returns when a task has ended, which none does before [`Self::stop`] unless something is badly wrong.
    pub(super) async fn one_ended(&mut self) {
        tokio::select! {
            Some(_ended) = self.tasks.join_next() => {}
            Some(_ended) = self.abiding.join_next() => {}
            else => std::future::pending().await,
        }
    }

    /// The same as [`Self::stop`], but nothing is taken back.
    pub(super) async fn leave(&mut self) {
        self.abiding.shutdown().await;
        self.stop().await;
    }

    /// Tells all of them to end, and waits until they have.
    pub(super) async fn stop(&mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
        while self.abiding.join_next().await.is_some() {}
    }
}

async fn sample_error_rates(metrics: Arc<Metrics>, stopped: watch::Receiver<bool>) {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    let stopped = told(stopped);
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            _ = seconds.tick() => metrics.sample_error_rates(),
            () = &mut stopped => return,
        }
    }
}

/// Returns once a task is to end.
pub(super) async fn told(mut stopped: watch::Receiver<bool>) {
    let _told_or_nobody_left = stopped.wait_for(|stopped| *stopped).await.is_ok();
}
