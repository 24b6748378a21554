//! What the authority does without being asked: identities end, secrets are rotated, heads of the audit trail are signed, and the
//! watermark of the clock is written down.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::Future;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;
use store::{MAX_OPERATIONS, Transaction};
use tokio::time::sleep;
use types::ServiceName;

use super::opening::{USED, watermark};
use super::{Authority, admissions, extend};
use crate::audit::{AuditError, Entry, Outcome};
use crate::{Standing, TrustError, revocations};

/// How often what was recorded is signed, and the list of revocations said again.
const ROUND: Duration = Duration::from_secs(10);

impl Authority {
    /// Runs until it is told to end.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        // Beside each other: a disk that hangs must not give anybody more time, nor make what is revoked unknown.
        tokio::select! {
            never = self.end_in_time() => match never {},
            never = self.look_after_again_and_again() => match never {},
            never = self.say_the_revoked_again() => match never {},
            never = self.follow_others() => match never {},
            () = shutdown => {}
        }
        self.say_refusals().await;
        if let Err(error) = self.sign_head().await {
            tracing::warn!(%error, "the last head of the audit trail could not be signed");
        }
    }

    async fn end_in_time(&self) -> Infallible {
        let mut standings = self.standings();
        loop {
            standings.borrow_and_update();
            let next = self.end_identities();
            tokio::select! {
                () = sleep(next.unwrap_or(ROUND).min(ROUND)) => {}
                // This holds the sender.
                _ = standings.changed() => {}
            }
        }
    }

    async fn look_after_again_and_again(&self) -> Infallible {
        let mut is_late = false;
        loop {
            sleep(ROUND).await;
            self.look_after(&mut is_late).await;
        }
    }

    async fn look_after(&self, is_late: &mut bool) {
        self.say_refusals().await;
        if let Err(error) = self.sign_head().await {
            tracing::warn!(%error, "the head of the audit trail could not be signed");
        }
        match self.write_down().await {
            Ok(()) => *is_late = false,
            // Once, and not in every round for as long as the store is away.
            Err(error) if !std::mem::replace(is_late, true) => {
                tracing::warn!(%error, "the authority could not write down its clock; it is tried every 10 s");
            }
            Err(_) => {}
        }
        self.forget_the_dismissed().await;
        self.rotate_due().await;
    }

    /// What is not forgotten now is tried again in the next round.
    async fn forget_the_dismissed(&self) {
        let keys: Vec<_> = self.dismissed().iter().take(MAX_OPERATIONS).cloned().collect();
        // One of which another launch was asked for has a row of that, or will have.
        let standings = Arc::clone(&self.0.standings.borrow());
        let gone = keys.iter().filter(|key| !standings.contains_key(*key));
        let rows: Vec<_> = gone.map(|(service, instance)| admissions::key(service, instance)).collect();
        if !rows.is_empty() {
            let forget = rows.into_iter().fold(Transaction::new(), Transaction::delete);
            if let Err(error) = self.0.store.commit(forget).await {
                tracing::debug!(%error, "admissions of replicas that are gone stay in the store for now");
                return;
            }
        }
        let mut dismissed = self.dismissed();
        keys.iter().for_each(|key| _ = dismissed.remove(key));
    }

    fn dismissed(&self) -> MutexGuard<'_, BTreeSet<(ServiceName, String)>> {
        self.0.dismissed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn say_the_revoked_again(&self) -> Infallible {
        loop {
            sleep(ROUND).await;
            let _alone = self.0.revoking.lock().await;
            let now = self.0.clock.latest() / 1000;
            let list = self.0.revocations.borrow().revocations.renewed(self.transition().1, now);
            match revocations::sign(list, &self.0.signer) {
                Ok(signed) => drop(self.0.revocations.send_replace(Arc::new(signed))),
                Err(error) => tracing::warn!(%error, "the list of revocations could not be signed again"),
            }
        }
    }

    /// Identities that are not renewed in time are said to be expired, early enough for their requests to finish. Gives how long
    /// it is until the next one.
    fn end_identities(&self) -> Option<Duration> {
        let now_ms = self.0.clock.latest();
        let mut next = None;
        self.0.standings.send_if_modified(|standings| {
            let mut ended = Vec::new();
            for (key, standing) in standings.iter() {
                let Standing::Valid(admission) = standing else { continue };
                match (admission.drains_at * 1000).checked_sub(now_ms).filter(|wait| *wait > 0) {
                    Some(wait) => next = Some(next.map_or(wait, |least: u64| least.min(wait))),
                    None => ended.push((key.clone(), Standing::Expired(Arc::clone(admission)))),
                }
            }
            extend(standings, ended)
        });
        next.map(Duration::from_millis)
    }

    /// One line for all that were refused without one since the last time.
    async fn say_refusals(&self) {
        let counted = std::mem::take(&mut *self.refusals());
        if counted.is_empty() {
            return;
        }
        let entry = Entry {
            kind: "join-refusals".into(),
            actor: "authority".into(),
            subject: self.0.domain.trust_domain.clone(),
            outcome: Outcome::Refused,
            reason: None,
            data: json!(counted),
        };
        if let Err(error) = self.audit(entry, self.0.clock.latest() / 1000).await {
            tracing::warn!(%error, "refused joins could not be recorded; they are counted on");
            let mut refusals = self.refusals();
            counted.into_iter().for_each(|(code, count)| *refusals.entry(code).or_default() += count);
        }
    }

    async fn sign_head(&self) -> Result<(), TrustError> {
        let (audit, now) = (Arc::clone(&self.0.audit), self.0.clock.latest() / 1000);
        let signed = tokio::task::spawn_blocking(move || -> Result<(), AuditError> {
            let mut audit = audit.lock().unwrap_or_else(PoisonError::into_inner);
            if audit.unsigned() > 0 { audit.sign_head(now) } else { Ok(()) }
        });
        Ok(signed.await.map_err(|_| TrustError::Failed)??)
    }

    async fn write_down(&self) -> Result<(), TrustError> {
        let now = self.0.clock.latest();
        self.0
            .store
            .commit(Transaction::new().put(watermark(self.0.node.as_ref()), now.to_be_bytes()))
            .await?;
        let forgotten = self.state().used.take_forgotten(now);
        let mut transactions = forgotten.chunks(MAX_OPERATIONS);
        while let Some(marks) = transactions.next() {
            let delete = |all: Transaction, mark: &[u8; 32]| all.delete([USED.as_bytes(), mark].concat());
            if let Err(error) = self.0.store.commit(marks.iter().fold(Transaction::new(), delete)).await {
                let left = std::iter::once(marks).chain(transactions).flatten().copied().collect::<Vec<_>>();
                self.state().used.not_taken_out(&left);
                return Err(error.into());
            }
        }
        Ok(())
    }
}
