//! What a failed try means: for the replica, and for the call.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use observability::{CircuitLimit, RetryDenied, UpstreamFailure};
use service_registry::Instance;
use tokio::time::Instant;

use crate::answer::LiveCall;
use crate::balance::Request;
use crate::call::{CallError, CallHead, Failure};
use crate::endpoint::{Endpoint, Pending};
use crate::execute::{Execution, backoff};
use crate::request_body::{BodyError, RequestBody};
use crate::view::{Excluded, ServiceView};
use crate::{SuspicionKind, WorkerRouter};

/// One try that failed.
pub(crate) enum Try {
    /// No connection, or one of which nothing was taken: nothing was sent.
    NotConnected(String),
    /// TLS failed: nothing was sent.
    NotTrusted(String),
    /// A pooled connection turned out to be closed; nothing was sent.
    Stale,
    /// The connection ended after something was sent, or what came is no answer.
    Reset {
        reused: bool,
        reason: String,
        failure: UpstreamFailure,
    },
    /// Neither answer nor failure within the time of one try.
    TimedOut,
    /// An answer of a status that another replica, chosen already, may do better.
    Status(u16),
    /// This machine has no room for another connection; the replica has nothing to do with it.
    Exhausted(String),
    /// The service has as many connections as it may, or as many that wait for one.
    Shed(CircuitLimit),
    Body(BodyError),
    /// The client has gone away.
    Cancelled,
}

/// The state of one call over its tries.
pub(crate) struct Tries {
    pub(crate) excluded: Excluded,
    /// Additional tries that are left.
    pub(crate) left: u32,
    /// Whether the call's one repeat that counts as none was taken: a pooled connection may have been closed by the replica
    /// in the very moment of sending, which is no failure of the call. More than one would let a call that kills whoever
    /// executes it go from replica to replica.
    pub(crate) repeated: bool,
    pub(crate) attempts: u32,
    instance: Option<Arc<Instance>>,
    /// How the last try failed that had sent something.
    last_error: Option<CallError>,
    pub(crate) live: LiveCall,
}

impl Tries {
    pub(crate) fn new(view: &Rc<ServiceView>, left: u32) -> Self {
        Self {
            excluded: Excluded::default(),
            left,
            repeated: false,
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

    /// A pooled connection has failed this call already, at this endpoint or more than once.
    pub(crate) fn needs_fresh_connection(&self, incarnation: u64) -> bool {
        self.repeated || self.excluded.rather_not.contains(&incarnation)
    }

    /// Whether another endpoint than this one could be asked now.
    pub(crate) fn has_another(
        &self,
        view: &ServiceView,
        request: &Request,
        endpoint: &Endpoint,
        router: &WorkerRouter,
        now: Instant,
    ) -> bool {
        let mut tried = self.excluded.tried.clone();
        tried.push(endpoint.instance.incarnation);
        let excluded = Excluded { tried, rather_not: Vec::new() };
        view.select(request, &excluded, &mut router.random.borrow_mut(), now).is_some()
    }

    pub(crate) fn give_back_retry(&mut self) {
        self.left += 1;
        self.live.give_back_retry();
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
        let incarnation = endpoint.instance.incarnation;
        let failures = &self.view.shard.upstream_failures;
        match failed {
            Try::Body(error) => Err(CallError::Body(error)),
            Try::Cancelled => Err(CallError::Cancelled),
            Try::Exhausted(reason) => Err(CallError::Exhausted(reason)),
            Try::Shed(limit) => {
                self.view.shard.circuit_open.add_one(limit);
                Err(CallError::Shed("calls that wait for a connection"))
            }
            Try::Stale => {
                // The connection was closed while it idled, which says nothing of the replica.
                self.tries.excluded.rather_not.push(incarnation);
                Ok(Duration::ZERO)
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
            Try::Reset { reused: true, reason, failure } => {
                failures.add_one(failure);
                // One crafted request can end a connection that many share in turn, so only a check may judge.
                self.router.report(endpoint, SuspicionKind::Reset);
                if self.tries.repeated {
                    return self.again(pending, CallError::Upstream(reason));
                }
                if !self.is_replayable() {
                    return Err(CallError::Upstream(reason));
                }
                self.tries.repeated = true;
                self.tries.excluded.rather_not.push(incarnation);
                self.tries.last_error = Some(CallError::Upstream(reason));
                Ok(Duration::ZERO)
            }
            Try::Reset { reused: false, reason, failure } => {
                failures.add_one(failure);
                self.count_failure(pending);
                self.router.suspect(endpoint, SuspicionKind::Reset);
                self.again(pending, CallError::Upstream(reason))
            }
            Try::TimedOut if self.upload.waits_for_client() => Err(CallError::Body(BodyError::ClientIdle)),
            Try::TimedOut => {
                failures.add_one(UpstreamFailure::Timeout);
                self.count_failure(pending);
                self.router.report(endpoint, SuspicionKind::Reset);
                if self.now >= self.deadline() {
                    return Err(CallError::Timeout);
                }
                self.again(pending, CallError::Timeout)
            }
            // It was counted when it was judged, and the retry was taken when another endpoint was chosen.
            Try::Status(status) => {
                self.tries.last_error = Some(CallError::Upstream(format!("it answered {status}")));
                self.pause()
            }
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
        if !self.policy.retry_on.reset || self.tries.left == 0 || !self.may_send_again() {
            return Err(error);
        }
        self.tries.last_error = Some(error);
        self.pause()
    }

    fn is_replayable(&self) -> bool {
        self.upload.can_restart() && self.policy.attempts > 0 && self.replay_is_safe()
    }

    /// Takes a retry of the call and of the service's budget, where both have one.
    pub(crate) fn may_send_again(&mut self) -> bool {
        let denied = &self.view.shard.retries_denied;
        if !self.upload.can_restart() {
            denied.add_one(RetryDenied::NotReplayable);
            return false;
        }
        if !self.view.budget.take(self.policy.budget_percent, self.now) {
            denied.add_one(RetryDenied::Budget);
            return false;
        }
        self.tries.left -= 1;
        self.tries.live.retried();
        true
    }

    /// The wait before a retry that was taken, where there is time for it.
    fn pause(&self) -> Result<Duration, CallError> {
        let wait = backoff(self.tries.live.retries(), &mut self.router.random.borrow_mut());
        if self.now + wait >= self.deadline() { Err(CallError::Timeout) } else { Ok(wait) }
    }
}
