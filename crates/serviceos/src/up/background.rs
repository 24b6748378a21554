//! The tasks beside the gateway and the replicas, which run until everything else has ended.

use std::sync::Arc;
use std::time::Duration;

use observability::Metrics;
use service_router::HealthOwner;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Tasks that end when they are told to.
pub(super) struct Background {
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Background {
    /// Begins those that need nothing but what everything has.
    pub(super) fn begin(metrics: &Arc<Metrics>, health: HealthOwner) -> Self {
        let mut begun = Self { tasks: JoinSet::new(), stop: watch::Sender::new(false) };
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

    /// Returns when a task has ended, which none does before [`Self::stop`] unless something is badly wrong.
    pub(super) async fn one_ended(&mut self) {
        let _ended = self.tasks.join_next().await;
    }

    /// Tells all of them to end, and waits until they have.
    pub(super) async fn stop(&mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
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
