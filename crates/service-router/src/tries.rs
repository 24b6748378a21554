//! What a failed try means: for the replica, and for the call.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use observability::{RetryDenied, UpstreamFailure};
use service_registry::Instance;
use tokio::time::Instant;

use crate::SuspicionKind;
use crate::answer::LiveCall;
use crate::balance::Request;
use crate::call::{CallError, CallHead, Failure};
use crate::endpoint::{Endpoint, Pending};
use crate::execute::{Execution, backoff};
use crate::request_body::{BodyError, RequestBody};
use crate::view::{Excluded, ServiceView};

/// One try that failed.
pub(crate) enum Try {
    /// No connection, or one of which nothing was taken: nothing was sent.
    NotConnected(String),
    /// TLS failed: nothing was sent.
    NotTrusted(String),
    /// A connection that was there turned out to be closed; nothing was sent.
    Stale(String),
    /// The replica did not begin to process the call, and says so.
    Declined(String),
    /// It had no room for the call for as long as a try takes; nothing was sent.
    Full,
    /// The call ended after something was sent, or what came is no answer.
    Reset {
        ended: Ended,
        reason: String,
        failure: UpstreamFailure,
    },
    /// Neither answer nor failure within the time of one try.
    TimedOut,
    /// This machine has no room for another connection; the replica has nothing to do with it.
    Exhausted(String),
    /// The service has as many of these as it may.
    Shed(&'static str),
    Body(BodyError),
    /// The client has gone away.
    Cancelled,
}

/// What ended with a call that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// A connection that was there before the call.
    UsedConnection,
    /// A connection that was made for it.
    FreshConnection,
    /// The call alone.
    Call,
}

/// The state of one call over its tries.
pub(crate) struct Tries {
    pub(crate) excluded: Excluded,
    /// Additional tries that are left.
    pub(crate) left: u32,
    /// Whether the call's one repeat that counts as none was taken: a pooled connection may have been closed by the replica
    /// in the very moment of sending, which is no failure of the call. More than one would let a call that kills whoever
    /// executes it go from replica to replica.
    repeated: bool,
    /// Whether a connection that was there has failed the call, which from then on is sent over fresh ones.
    pub(crate) fresh_only: bool,
    /// Whether a connection ended under the call before: it may be the call that ends them.
    was_reset: bool,
    /// Whether a replica has declined the call before: others may be as busy.
    was_declined: bool,
    pub(crate) attempts: u32,
    instance: Option<Arc<Instance>>,
    /// How the last try failed whose failure is the replica's.
    pub(crate) last_error: Option<CallError>,
    pub(crate) live: LiveCall,
}

impl Tries {
    pub(crate) fn new(view: &Rc<ServiceView>, left: u32) -> Self {
        Self {
            excluded: Excluded::default(),
            left,
            repeated: false,
            fresh_only: false,
            was_reset: false,
            was_declined: false,
            attempts: 0,
            instance: None,
            last_error: None,
            live: LiveCall::begin(view),
        }
    }

    pub(crate) fn begins(&mut self, endpoint: &Endpoint, view: &ServiceView) {
        self.attempts += 1;
        self.instance = Some(Arc::clone(&endpoint.instance));
        if self.attempts > 1 {
            view.shard.retries.add_one();
        }
    }

    /// Whether another endpoint than this one could be asked now.
    pub(crate) fn has_another(
        &self,
        view: &ServiceView,
        request: &Request,
        endpoint: &Endpoint,
        now: Instant,
    ) -> bool {
        let mut tried = self.excluded.tried.clone();
        tried.push(endpoint.instance.incarnation);
        view.has_candidate(request, &Excluded { tried, rather_not: Vec::new() }, now)
    }

    /// Leaves an endpoint to others, and at the second time alone.
    fn rather_not(&mut self, incarnation: u64) {
        let Excluded { tried, rather_not } = &mut self.excluded;
        let list = if rather_not.contains(&incarnation) { tried } else { rather_not };
        list.push(incarnation);
    }

    pub(crate) fn into_failure(self, error: CallError) -> Failure {
        Failure { error, instance: self.instance, attempts: self.attempts }
    }

    /// Nobody is left to try. Where something had been sent, the replica's failure is what the caller must know.
    pub(crate) fn none_left(&mut self, view: &ServiceView) -> CallError {
        self.last_error.take().unwrap_or_else(|| CallError::NoReplica(view.why_none()))
    }
}

impl<H: CallHead, B: RequestBody> Execution<'_, H, B> {
    /// How long to wait before the next try, or the call's error.
    pub(crate) fn after(&mut self, pending: &Pending, failed: Try) -> Result<Duration, CallError> {
        let endpoint = pending.endpoint();
        let failures = &self.view.shard.upstream_failures;
        match failed {
            Try::Body(error) => Err(CallError::Body(error)),
            Try::Cancelled => Err(CallError::Cancelled),
            Try::Exhausted(reason) => Err(CallError::Exhausted(reason)),
            Try::Shed(what) => Err(CallError::Shed(what)),
            Try::Stale(reason) => {
                self.tries.fresh_only = true;
                self.send_elsewhere(pending, reason)
            }
            Try::Full => self.send_elsewhere(pending, "it has as many calls as it takes".into()),
            Try::Declined(reason) => {
                failures.add_one(UpstreamFailure::Declined);
                self.declined(pending, reason)
            }
            Try::NotConnected(reason) => {
                failures.add_one(UpstreamFailure::Refused);
                self.router.suspect(endpoint, SuspicionKind::Refused);
                self.next_replica(pending, reason)
            }
            Try::NotTrusted(reason) => {
                failures.add_one(UpstreamFailure::Tls);
                self.router.suspect(endpoint, SuspicionKind::Reset);
                self.next_replica(pending, reason)
            }
            Try::Reset { ended, reason, failure } => {
                failures.add_one(failure);
                self.reset(pending, ended, CallError::Upstream(reason))
            }
            Try::TimedOut if self.upload.waits_for_client() => Err(CallError::Body(BodyError::ClientIdle)),
            Try::TimedOut if self.was_in_haste() => Err(CallError::Timeout),
            Try::TimedOut => {
                failures.add_one(UpstreamFailure::Timeout);
                self.count_failure(pending);
                self.router.report(endpoint, SuspicionKind::Reset);
                if self.now >= self.deadline() {
                    return Err(CallError::Timeout);
                }
                self.again(pending, CallError::Timeout)
            }
        }
    }

    /// Whether the call ran out of its own time before the replica had as long as any call gives it: a client that has no
    /// patience says nothing of the replica.
    fn was_in_haste(&self) -> bool {
        let patience = self.policy.per_try_timeout.min(self.options.allowed);
        let short =
            self.options.timeout < patience || self.tries.attempts > 1 && self.now - self.asked < patience;
        short && self.now >= self.deadline()
    }

    /// What it means when a call ended after something was sent.
    fn reset(&mut self, pending: &Pending, ended: Ended, error: CallError) -> Result<Duration, CallError> {
        let endpoint = pending.endpoint();
        if ended == Ended::Call {
            self.count_failure(pending);
            self.router.report(endpoint, SuspicionKind::Reset);
            return self.again(pending, error);
        }
        let was_reset = std::mem::replace(&mut self.tries.was_reset, true);
        let repeated = self.tries.repeated;
        if ended == Ended::UsedConnection && !repeated {
            // One crafted request can end a connection that many share in turn, so only a check may judge.
            self.router.report(endpoint, SuspicionKind::Reset);
            return self.repeat(pending, error);
        }
        self.count_failure(pending);
        // What ends every connection that it comes over would leave nobody for the others.
        if was_reset {
            self.router.report(endpoint, SuspicionKind::Reset);
        } else {
            self.router.suspect(endpoint, SuspicionKind::Reset);
        }
        self.again(pending, error)
    }

    /// Takes the one repeat that counts as none, or ends the call with `error`.
    fn repeat(&mut self, pending: &Pending, error: CallError) -> Result<Duration, CallError> {
        if !self.is_replayable() {
            return Err(error);
        }
        (self.tries.repeated, self.tries.fresh_only) = (true, true);
        self.tries.rather_not(pending.endpoint().instance.incarnation);
        self.tries.last_error = Some(error);
        Ok(Duration::ZERO)
    }

    /// Nothing was executed, and it says nothing of the replica: any call may go on, rather elsewhere, else there once more.
    fn send_elsewhere(&mut self, pending: &Pending, reason: String) -> Result<Duration, CallError> {
        let error = CallError::Upstream(reason);
        if !self.upload.can_restart() {
            self.view.shard.retries_denied.add_one(RetryDenied::NotReplayable);
            return Err(error);
        }
        self.tries.rather_not(pending.endpoint().instance.incarnation);
        self.tries.last_error = Some(error);
        Ok(Duration::ZERO)
    }

    /// The replica has not begun to process the call, so any call may go on. The first time at once; where replicas decline
    /// one after the other, each is asked for more than it can do, and the call goes on as a retry does.
    fn declined(&mut self, pending: &Pending, reason: String) -> Result<Duration, CallError> {
        let again = std::mem::replace(&mut self.tries.was_declined, true);
        let wait = self.send_elsewhere(pending, reason)?;
        if !again {
            return Ok(wait);
        }
        match self.budgeted() {
            Some(wait) => Ok(wait),
            None => Err(self.tries.none_left(self.view)),
        }
    }

    /// Nothing was sent, so any call may go on, to a replica that was not tried yet.
    fn next_replica(&mut self, pending: &Pending, reason: String) -> Result<Duration, CallError> {
        self.count_failure(pending);
        self.tries.excluded.tried.push(pending.endpoint().instance.incarnation);
        if self.policy.retry_on.connect && self.upload.can_restart() {
            Ok(Duration::ZERO)
        } else {
            Err(CallError::Upstream(reason))
        }
    }

    /// Takes one of the additional tries, or ends the call with `error`.
    fn again(&mut self, pending: &Pending, error: CallError) -> Result<Duration, CallError> {
        self.tries.excluded.tried.push(pending.endpoint().instance.incarnation);
        let wait = if self.policy.retry_on.reset { self.take_retry() } else { None };
        let Some(wait) = wait else { return Err(error) };
        self.tries.last_error = Some(error);
        Ok(wait)
    }

    fn is_replayable(&self) -> bool {
        self.upload.can_restart() && self.policy.attempts > 0 && self.replay_is_safe()
    }

    /// The wait before another try, which is taken from the call and from the service's budget; `None` where there is none,
    /// or nobody to ask, or no time.
    pub(crate) fn take_retry(&mut self) -> Option<Duration> {
        let denied = &self.view.shard.retries_denied;
        if self.tries.left == 0 {
            return None;
        }
        if !self.upload.can_restart() {
            denied.add_one(RetryDenied::NotReplayable);
            return None;
        }
        let wait = self.budgeted()?;
        self.tries.left -= 1;
        Some(wait)
    }

    /// The wait before another try, which is taken from the service's budget.
    fn budgeted(&mut self) -> Option<Duration> {
        let wait = backoff(self.tries.live.retries() + 1, &mut self.router.random.borrow_mut());
        let in_time = self.now + wait < self.deadline();
        if !in_time || !self.view.has_candidate(&self.request, &self.tries.excluded, self.now) {
            return None;
        }
        if !self.view.budget.take(self.policy.budget_percent, self.now) {
            self.view.shard.retries_denied.add_one(RetryDenied::Budget);
            return None;
        }
        self.tries.live.retried();
        Some(wait)
    }
}
