//! Who is still trusted, as far as the authority has said it lately.

use std::sync::Arc;
use std::time::Duration;

use mesh_protocol::tls::{Admits, Peer};
use mesh_protocol::{Revocations, Subject};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use types::ServiceName;

/// A list that is older than this counts as one on which everybody stands.
const MAX_STALE: Duration = Duration::from_secs(300);
/// The same for a replica that has just joined and has no list yet.
const FIRST_STALE: Duration = Duration::from_secs(60);

/// What is known of who may no longer call.
#[derive(Debug, Clone)]
pub struct Trusted {
    list: Option<Arc<Revocations>>,
    /// Until when it counts.
    until: Instant,
    /// When the last list that was news was issued, in Unix seconds of the authority, and when it came.
    heard: Option<(u64, Instant)>,
}

impl Trusted {
    pub(crate) fn begun() -> Self {
        Self { list: None, until: Instant::now() + FIRST_STALE, heard: None }
    }

    /// With a list of the authority. It counts for longer only if it is news: one that was issued before the last, or that
    /// should have been followed by another by now, says nothing of what was revoked since.
    pub(crate) fn with(&self, list: &Revocations) -> Self {
        let now = Instant::now();
        let is_news = self.heard.is_none_or(|(issued, came)| {
            list.issued_at >= issued && issued.saturating_add((now - came).as_secs()) <= list.next_at
        });
        let heard = Some((list.issued_at, now));
        let list = Some(Arc::new(list.clone()));
        if is_news {
            return Self { list, until: now + MAX_STALE, heard };
        }
        tracing::warn!("the authority says no more than an old list of what is revoked");
        Self { list, ..self.clone() }
    }

    /// The epoch of the list, once there is one.
    pub(crate) fn epoch(&self) -> Option<u64> {
        self.list.as_ref().map(|list| list.epoch)
    }

    /// Whether a peer with a certificate that verifies is still trusted.
    pub(crate) fn allows(&self, peer: &Peer) -> Result<(), String> {
        if Instant::now() > self.until {
            return Err("what is revoked is not known any more".into());
        }
        match &self.list {
            Some(list) if list.revokes(&peer.id, &peer.leaf) => Err(format!("{} is revoked", peer.id)),
            _ => Ok(()),
        }
    }
}

/// Who may call a replica: gateways, and the services that are named.
pub(crate) fn admits(allow: Vec<ServiceName>, trusted: watch::Receiver<Trusted>) -> Admits {
    Arc::new(move |peer| {
        trusted.borrow().allows(peer)?;
        match &peer.id.subject {
            Subject::Gateway(_) => Ok(()),
            Subject::Service { service, .. } if allow.contains(service) => Ok(()),
            _ => Err(format!("{} may not call this service", peer.id)),
        }
    })
}

/// Returns once a peer is no longer trusted, or the certificate that it has shown has ended.
pub async fn distrusted(peer: Peer, mut trusted: watch::Receiver<Trusted>) {
    // Fixed now: a clock that is set back afterwards gives nobody more time.
    let ends = Instant::now() + peer.remaining();
    loop {
        let until = {
            let known = trusted.borrow_and_update();
            if known.allows(&peer).is_err() {
                return;
            }
            known.until
        };
        tokio::select! {
            changed = trusted.changed() => if changed.is_err() {
                // Nobody watches any more: the process ends.
                std::future::pending::<()>().await;
            },
            () = sleep_until(until + Duration::from_millis(1)) => {}
            () = sleep_until(ends) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use mesh_protocol::{Revoked, RevokedType};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_list_that_is_no_news_gives_nobody_more_time() {
        let list = |issued| Revocations::none([0; 32], issued);
        let first = Trusted::begun().with(&list(1_000));
        assert_eq!(first.until, Instant::now() + MAX_STALE);
        assert_eq!(first.with(&list(999)).until, first.until, "it is older");
        tokio::time::advance(Duration::from_secs(60)).await;
        let again = first.with(&list(1_000));
        assert_eq!(again.until, Instant::now() + MAX_STALE, "nothing newer is due yet");
        let newer = again.with(&list(1_060));
        tokio::time::advance(Duration::from_secs(61)).await;
        let stuck = newer.with(&list(1_060));
        assert_eq!(stuck.until, newer.until, "the authority has not said it again in time");
        assert_eq!(stuck.with(&list(1_121)).until, Instant::now() + MAX_STALE);
        // What it says counts in either case.
        let revoked = Revoked { about: RevokedType::Leaf, value: "09".repeat(32), at: 0 };
        let late = Revocations { epoch: 1, entries: vec![revoked], ..list(999) };
        let id = "spiffe://test.dev.invalid/service/vrf/0".parse().unwrap();
        let peer = Peer { id, leaf: [9; 32], not_after: u64::MAX };
        assert!(stuck.allows(&peer).is_ok() && stuck.with(&late).allows(&peer).is_err());
    }
}
