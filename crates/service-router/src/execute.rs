//! One call on one replica, and on another when the first fails in a way that may be hidden.

use std::future::{self, Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use observability::UpstreamFailure;
use tokio::time::Instant;

use crate::answer::{Answer, Carrier};
use crate::balance::Request;
use crate::call::{CallError, CallHead, CallOptions, Failure, Replay};
use crate::circuit::CallPlace;
use crate::endpoint::{Endpoint, Pending};
use crate::grpc::{self, Outcome};
use crate::http1_call::SendError;
use crate::policy::RouterPolicy;
use crate::request_body::RequestBody;
use crate::timer::Timer;
use crate::tries::{Ended, Tries, Try};
use crate::upload::Upload;
use crate::view::ServiceView;
use crate::{SuspicionKind, WorkerRouter};

/// What is waited for before a call is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitsFor {
    /// A turn, or room within a limit. Nothing of it is held against the replica.
    Turn,
    /// The replica.
    Replica,
    /// The replica, for all of the calls that will share what comes of it: it goes on when the client goes away.
    ReplicaForAll,
}

/// Why something was waited for no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitError {
    /// The time is over.
    Late,
    /// The client has gone away.
    Gone,
}

/// One call, over all of its tries.
pub(crate) struct Execution<'a, H, B> {
    pub(crate) router: &'a WorkerRouter,
    pub(crate) view: &'a Rc<ServiceView>,
    pub(crate) policy: Rc<RouterPolicy>,
    pub(crate) options: CallOptions,
    pub(crate) request: Request,
    pub(crate) head: &'a H,
    body: &'a mut B,
    pub(crate) timer: &'a mut Timer,
    pub(crate) upload: Upload,
    pub(crate) tries: Tries,
    /// The clock as it was last read.
    pub(crate) now: Instant,
    /// Since when the replica of the running try is waited for.
    pub(crate) asked: Instant,
    /// How long the running try has waited for what is not the replica's.
    waited: Duration,
    /// Whether it was counted that the call met the limit of connections.
    pub(crate) met_limit: bool,
}

impl WorkerRouter {
    /// Executes a call.
    ///
    /// # Errors
    /// A connection that cannot be made is hidden by another replica whatever the method; a connection that ends before
    /// the answer only for calls that may be repeated, at most as often as the service's policy and budget say.
    pub async fn execute<H: CallHead, B: RequestBody>(
        &self,
        view: &Rc<ServiceView>,
        options: CallOptions,
        head: &H,
        body: &mut B,
        timer: &mut Timer,
    ) -> Result<Answer, Failure> {
        let policy = Rc::clone(&view.policy.borrow());
        let left = if options.replay == Replay::Safe { policy.attempts } else { 0 };
        let request = Request { hash: options.hash, version: options.version, sticky_hash: options.sticky };
        let upload = Upload::new(body);
        let (tries, now) = (Tries::new(view, left), options.began);
        let mut execution = Execution {
            router: self,
            view,
            policy,
            options,
            request,
            head,
            body,
            timer,
            upload,
            tries,
            now,
            asked: now,
            waited: Duration::ZERO,
            met_limit: false,
        };
        let place = view.circuit.borrow().call();
        let place = match place {
            Ok(place) => place,
            Err(limit) => {
                view.shard.circuit_open.add_one(limit);
                return Err(execution.tries.into_failure(CallError::Shed("calls in flight")));
            }
        };
        match execution.until_answered().await {
            Ok((pending, carrier, began)) => Ok(execution.into_answer(pending, carrier, place, began)),
            Err(error) => Err(execution.tries.into_failure(error)),
        }
    }
}

impl<H: CallHead, B: RequestBody> Execution<'_, H, B> {
    async fn until_answered(&mut self) -> Result<(Pending, Carrier, Instant), CallError> {
        loop {
            let Some(endpoint) = self.select() else {
                return Err(self.tries.none_left(self.view));
            };
            let Some(pending) = endpoint.begin() else {
                self.tries.excluded.tried.push(endpoint.instance.incarnation);
                continue;
            };
            self.tries.begins(&endpoint, self.view);
            let began = self.now;
            (self.asked, self.waited) = (began, Duration::ZERO);
            let outcome = self.attempt(&endpoint).await;
            // The clock is read once for each try, since reading it costs as much as choosing an endpoint.
            self.now = Instant::now();
            let wait = match outcome {
                Ok(carrier) => {
                    self.judge(&pending, &carrier, began);
                    match self.wait_to_hide(&endpoint, &carrier) {
                        Some(wait) => wait,
                        None => return Ok((pending, carrier, began)),
                    }
                }
                Err(failed) => self.after(&pending, failed)?,
            };
            drop(pending);
            self.upload.restart();
            if !wait.is_zero() {
                let until = self.now + wait;
                let waited = self.wait(until, WaitsFor::Turn, future::pending::<()>()).await;
                if waited == Err(WaitError::Gone) {
                    return Err(CallError::Cancelled);
                }
            }
            if self.now >= self.deadline() {
                return Err(CallError::Timeout);
            }
        }
    }

    /// Waits for what comes before the call is sent, as long as there is somebody to send it for. What is told to the replica,
    /// and how long it may take, begins afterwards.
    pub(crate) async fn wait<T>(
        &mut self,
        until: Instant,
        what: WaitsFor,
        work: impl Future<Output = T>,
    ) -> Result<T, WaitError> {
        let mut work = pin!(work);
        let Self { body, timer, .. } = self;
        let waited = poll_fn(|context| {
            if what != WaitsFor::ReplicaForAll && body.poll_gone(context).is_ready() {
                return Poll::Ready(Err(WaitError::Gone));
            }
            match work.as_mut().poll(context) {
                Poll::Ready(done) => Poll::Ready(Ok(done)),
                Poll::Pending if timer.poll_reached(context, until) => Poll::Ready(Err(WaitError::Late)),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        let now = Instant::now();
        if what == WaitsFor::Turn {
            self.waited += now.saturating_duration_since(self.now);
        }
        (self.now, self.asked) = (now, now);
        waited
    }

    /// Whether the client has gone away.
    pub(crate) async fn client_is_gone(&mut self) -> bool {
        poll_fn(|context| Poll::Ready(self.body.poll_gone(context).is_ready())).await
    }

    fn select(&self) -> Option<Rc<Endpoint>> {
        let mut random = self.router.random.borrow_mut();
        self.view.select(&self.request, &self.tries.excluded, &mut random, self.now)
    }

    /// Whether another endpoint than this one could be asked.
    pub(crate) fn has_another(&self, endpoint: &Endpoint, now: Instant) -> bool {
        self.tries.has_another(self.view, &self.request, endpoint, now)
    }

    /// One try: a connection, the request, the head of the answer.
    async fn attempt(&mut self, endpoint: &Rc<Endpoint>) -> Result<Carrier, Try> {
        let (mut carrier, reused) = self.open(endpoint).await?;
        let timeout = self.options.timeout;
        let may_go_on = self.tries.left > 0 && self.policy.retry_on.reset;
        let mut patience = if may_go_on { timeout.min(self.policy.per_try_timeout) } else { timeout };
        let mut deadline = self.deadline().min(self.asked + patience);
        let Self { head, body, upload, timer, options, router, view, request, tries, .. } = self;
        let sent = poll_fn(|context| {
            let polled = carrier.poll_head(context, head.method(), upload, *body);
            if options.replay == Replay::Unsafe && carrier.may_be_executed() {
                upload.keep_no_more();
            }
            if let Poll::Ready(sent) = polled {
                return Poll::Ready(Some(sent));
            }
            if upload.has_ended() && body.poll_gone(context).is_ready() {
                return Poll::Ready(Some(Err(SendError::Cancelled)));
            }
            while timer.poll_reached(context, deadline) {
                // The time pauses while the body makes progress.
                let now = Instant::now();
                let moved = upload.moved().map(|moved| moved + patience).filter(|later| *later > now);
                if let Some(later) = moved {
                    deadline = later;
                } else if patience < timeout
                    && (upload.waits_for_client()
                        || !(upload.can_restart() && tries.has_another(view, request, endpoint, now)))
                {
                    // Nobody else could do better, so this answer is waited for. Where the client is not who keeps it
                    // waiting, a check shows whether the replica hangs.
                    if !upload.waits_for_client() {
                        router.report(endpoint, SuspicionKind::Reset);
                    }
                    let since = upload.moved().map_or(options.began, |moved| moved.max(options.began));
                    (patience, deadline) = (timeout, since + timeout);
                } else {
                    return Poll::Ready(None);
                }
            }
            Poll::Pending
        })
        .await;
        match sent {
            Some(Ok(())) => Ok(carrier),
            Some(Err(error)) => Err(Try::of(error, reused)),
            None => {
                carrier.timed_out();
                Err(Try::TimedOut)
            }
        }
    }

    pub(crate) fn replay_is_safe(&self) -> bool {
        self.options.replay == Replay::Safe
    }

    /// When the whole call must be answered; it moves while the body does.
    pub(crate) fn deadline(&self) -> Instant {
        let moved = self.upload.moved().unwrap_or(self.options.began);
        self.options.began.max(moved) + self.options.timeout
    }

    pub(crate) fn time_left_ms(&self) -> u64 {
        let left = self.deadline().saturating_duration_since(self.now).as_millis();
        u64::try_from(left).unwrap_or(u64::MAX)
    }

    /// What an answer says about the replica that gave it.
    fn judge(&self, pending: &Pending, carrier: &Carrier, began: Instant) {
        match grpc::of_head(carrier.head()) {
            Outcome::Failed => {
                self.view.shard.upstream_failures.add_one(UpstreamFailure::Status);
                self.count_failure(pending);
                return;
            }
            // Its end will show whether it is one.
            Outcome::Succeeded | Outcome::Open => pending.answers(),
        }
        // From when on the replica is who was waited for; never when it answered before it had the whole request.
        let began = began + self.waited;
        let since = match self.upload.moved() {
            None => Some(began),
            Some(moved) => self.upload.has_ended().then(|| began.max(moved)),
        };
        if let Some(since) = since {
            pending.endpoint().answered_after(self.now.saturating_duration_since(since), self.now);
        }
    }

    /// Counts a failed call against the replica, and tells the health owner when there were too many in a row.
    pub(crate) fn count_failure(&self, pending: &Pending) {
        self.view.count_failure(pending, self.now);
    }

    /// How long to wait before another replica is asked, where the answer's status may be hidden; `None` when it stands.
    fn wait_to_hide(&mut self, endpoint: &Endpoint, carrier: &Carrier) -> Option<Duration> {
        let (head, tried) = (carrier.head(), &mut self.tries.excluded.tried);
        let status = head.status().as_u16();
        let hidden = self.policy.retry_on.statuses.contains(&status) && !asks_to_wait(head);
        if !hidden || self.options.replay == Replay::Unsafe {
            return None;
        }
        tried.push(endpoint.instance.incarnation);
        let wait = self.take_retry()?;
        self.tries.last_error = Some(CallError::Upstream(format!("it answered {status}")));
        Some(wait)
    }

    fn into_answer(mut self, pending: Pending, carrier: Carrier, place: CallPlace, began: Instant) -> Answer {
        self.upload.keep_no_more();
        let failed = grpc::of_head(carrier.head()) == Outcome::Failed;
        Answer {
            attempts: self.tries.attempts,
            at: self.now,
            before: began - self.options.began,
            connect: (self.asked > began).then(|| self.asked - began),
            first_byte: self.now - self.asked,
            carrier: Some(carrier),
            trailers: None,
            undecided: !failed,
            failed,
            upload: self.upload,
            pending,
            view: Rc::clone(self.view),
            place,
            live: self.tries.live,
        }
    }
}

/// Whether the replica says when to come back, which is for the client to decide (RFC 9110 section 10.2.3, and gRPC's push-back).
fn asks_to_wait(head: &http1::ResponseHead) -> bool {
    head.has(http1::Known::RetryAfter) || head.has(http1::Known::GrpcRetryPushbackMs)
}

impl Try {
    fn of(error: SendError, reused: bool) -> Self {
        match error {
            SendError::NotSent(reason) if reused => Self::Stale(reason),
            SendError::NotSent(reason) => Self::NotConnected(reason),
            SendError::Declined(reason) => Self::Declined(reason),
            SendError::Reset(reason) => {
                let ended = if reused { Ended::UsedConnection } else { Ended::FreshConnection };
                Self::Reset { ended, reason, failure: UpstreamFailure::Reset }
            }
            SendError::StreamReset(reason) => {
                Self::Reset { ended: Ended::Call, reason, failure: UpstreamFailure::Reset }
            }
            SendError::Protocol(reason) => {
                Self::Reset { ended: Ended::FreshConnection, reason, failure: UpstreamFailure::Protocol }
            }
            SendError::Body(error) => Self::Body(error),
            SendError::Cancelled => Self::Cancelled,
        }
    }
}

/// The first wait before a counted retry; doubled for each further one, up to [`MAX_BACKOFF`], and shortened at random.
const BACKOFF: Duration = Duration::from_millis(25);
const MAX_BACKOFF: Duration = Duration::from_millis(250);

/// Exponential back-off with full jitter before the retry of that number, from 1.
pub(crate) fn backoff(retry: u32, random: &mut fastrand::Rng) -> Duration {
    let longest = BACKOFF.saturating_mul(1 << (retry - 1).min(8)).min(MAX_BACKOFF);
    longest.mul_f64(random.f64())
}

#[cfg(test)]
mod tests;
