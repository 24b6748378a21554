//! What a driver is told, and by whom.

use service_registry::Actor;
use tokio::sync::watch;

/// What is wanted of a replica; what comes later here is stronger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Wanted {
    /// That it runs.
    #[default]
    Running,
    /// That it finishes what is in flight, and stays stopped until it is wanted again.
    Drained,
    /// That it finishes what is in flight, and is gone; its driver ends too.
    Gone,
    /// The same at once, whatever is in flight.
    GoneAtOnce,
}

/// The order in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// What is wanted.
    pub wanted: Wanted,
    /// How often it was wanted that it begins anew.
    pub restarts: u64,
    /// Who wants it.
    pub actor: Actor,
    /// Why, as the operator is told.
    pub cause: Option<String>,
}

impl Order {
    /// It is to run; nothing else was ever wanted.
    pub fn run(actor: Actor, cause: Option<String>) -> Self {
        Self { wanted: Wanted::Running, restarts: 0, actor, cause }
    }

    /// Something else is wanted now.
    pub fn becomes(&mut self, wanted: Wanted, actor: Actor, cause: String) {
        (self.wanted, self.actor, self.cause) = (wanted, actor, Some(cause));
    }

    /// It is to begin anew.
    pub fn restart(&mut self, actor: Actor, cause: String) {
        self.restarts += 1;
        self.becomes(Wanted::Running, actor, cause);
    }
}

/// A driver's end of its orders. A lost sender is an order to be gone at once.
#[derive(Clone)]
pub(crate) struct Orders(watch::Receiver<Order>);

impl Orders {
    pub(crate) fn new(orders: watch::Receiver<Order>) -> Self {
        Self(orders)
    }

    /// The order in force.
    pub(crate) fn now(&self) -> Order {
        let mut order = self.0.borrow().clone();
        if self.0.has_changed().is_err() {
            order.wanted = Wanted::GoneAtOnce;
        }
        order
    }

    /// Returns once at least this is wanted.
    pub(crate) async fn until(&mut self, least: Wanted) {
        let _told_or_nobody_left = self.0.wait_for(|order| order.wanted >= least).await.is_ok();
    }

    /// Returns once the life that began under this order is to end.
    pub(crate) async fn end_of_life(&mut self, begun: &Order) {
        let ends = |order: &Order| order.wanted > Wanted::Running || order.restarts != begun.restarts;
        let _told_or_nobody_left = self.0.wait_for(ends).await.is_ok();
    }

    /// Waits while the replica is to stay stopped; gives the order that its next life begins under, or nothing once it is to be
    /// gone.
    pub(crate) async fn next_life(&mut self) -> Option<Order> {
        let told = self.0.wait_for(|order| order.wanted != Wanted::Drained).await.ok()?;
        (told.wanted == Wanted::Running).then(|| told.clone())
    }
}
