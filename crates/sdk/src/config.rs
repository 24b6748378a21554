//! The service's configuration while a replica runs: it is offered another one, and answers whether it works with it.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::watch;

use crate::StartError;

/// Which configuration, by its number and its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Which {
    pub(crate) revision: u64,
    pub(crate) digest: [u8; 32],
}

/// A configuration that a replica is to work with from now on.
#[derive(Debug, Clone)]
pub struct Offer {
    pub(crate) which: Which,
    pub(crate) config: Arc<Value>,
}

/// What a service has made of an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) to: Which,
    pub(crate) outcome: Result<(), StartError>,
}

/// The service's end; a clone sees the same offers. A service that drops it takes no configuration while it runs, which is said for it.
#[derive(Clone)]
pub struct Configs {
    offers: watch::Receiver<Option<Offer>>,
    answers: watch::Sender<Option<Answer>>,
}

/// The member's end.
pub(crate) struct Offering {
    offers: watch::Sender<Option<Offer>>,
    answers: watch::Sender<Option<Answer>>,
}

impl Offer {
    /// The configuration, an object.
    pub fn value(&self) -> &Value {
        &self.config
    }

    /// The same as the service's own type.
    ///
    /// # Errors
    /// It has another shape.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T, StartError> {
        crate::start::config(&self.config)
    }
}

impl Configs {
    /// Of a replica that nobody offers anything.
    #[cfg(any(test, feature = "fakes"))]
    pub fn none() -> Self {
        Offering::new().configs()
    }

    /// Waits for another configuration; none where nobody is a member any more. Of several that came meanwhile it is the last one.
    pub async fn changed(&mut self) -> Option<Offer> {
        loop {
            self.offers.changed().await.ok()?;
            if let Some(offer) = self.offers.borrow_and_update().clone() {
                return Some(offer);
            }
        }
    }

    /// Says that the service works with an offer from now on, or why it cannot and goes on as before.
    pub fn answer(&self, offer: &Offer, outcome: Result<(), StartError>) {
        self.answers.send_replace(Some(Answer { to: offer.which, outcome }));
    }

    /// Answers every offer with what becomes of it, until nobody makes one any more. `apply` takes one over whole or not at all.
    pub async fn follow(mut self, mut apply: impl FnMut(&Offer) -> Result<(), StartError>) {
        while let Some(offer) = self.changed().await {
            let outcome = apply(&offer);
            self.answer(&offer, outcome);
        }
    }
}

impl Offering {
    pub(crate) fn new() -> Self {
        Self { offers: watch::Sender::new(None), answers: watch::Sender::new(None) }
    }

    /// The other end. What was offered before counts as seen.
    pub(crate) fn configs(&self) -> Configs {
        Configs { offers: self.offers.subscribe(), answers: self.answers.clone() }
    }

    /// Offers it, unless that was done already.
    pub(crate) fn offer(&self, offer: Offer) {
        self.offers.send_if_modified(|last| {
            let is_other = last.as_ref().is_none_or(|last| last.which != offer.which);
            if is_other {
                *last = Some(offer);
            }
            is_other
        });
    }

    /// What the service has said last, as it says more.
    pub(crate) fn answers(&self) -> watch::Receiver<Option<Answer>> {
        self.answers.subscribe()
    }

    /// Waits for the answer to an offer.
    pub(crate) async fn answered(&self, which: Which) -> Result<(), StartError> {
        let mut answers = self.answers();
        let is_it = |answer: &Option<Answer>| answer.as_ref().is_some_and(|answer| answer.to == which);
        match answers.wait_for(is_it).await.as_deref() {
            Ok(Some(answer)) => answer.outcome.clone(),
            Ok(None) | Err(_) => unreachable!("this holds the sender, and one of them was waited for"),
        }
    }

    /// Returns once nobody takes offers.
    pub(crate) async fn nobody_takes_them(&self) {
        self.offers.closed().await;
    }
}
