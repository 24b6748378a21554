//! One call on one replica, and on another when the first fails in a way that may be hidden.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use observability::{CircuitLimit, UpstreamFailure};
use tokio::time::Instant;

use crate::answer::{Answer, Carrier};
use crate::balance::Request;
use crate::call::{CallError, CallHead, CallOptions, Failure, Replay};
use crate::circuit::{CallPlace, Permit};
use crate::connect::{ConnectError, connect};
use crate::endpoint::{Endpoint, Pending};
use crate::grpc::{self, Outcome};
use crate::http1_connection::{Http1Connection, SendError};
use crate::http2_connection::Http2Connection;
use crate::policy::{RouterPolicy, UpstreamProtocol};
use crate::request_body::{BodyError, RequestBody};
use crate::timer::Timer;
use crate::tries::{Tries, Try};
use crate::upload::Upload;
use crate::view::ServiceView;
use crate::{SuspicionKind, WorkerRouter};

/// One call, over all of its tries.
pub(crate) struct Execution<'a, H, B> {
    pub(crate) router: &'a WorkerRouter,
    pub(crate) view: &'a Rc<ServiceView>,
    pub(crate) policy: Rc<RouterPolicy>,
    options: CallOptions,
    request: Request,
    head: &'a H,
    body: &'a mut B,
    timer: &'a mut Timer,
    pub(crate) upload: Upload,
    pub(crate) tries: Tries,
    /// When the running try, or what comes after it, began.
    pub(crate) now: Instant,
    /// When the running try had made a connection, where it had to.
    connected: Option<Instant>,
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
            connected: None,
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
            Ok((endpoint, pending, carrier, began)) => {
                Ok(execution.into_answer(&endpoint, pending, carrier, place, began))
            }
            Err(error) => Err(execution.tries.into_failure(error)),
        }
    }
}

impl<H: CallHead, B: RequestBody> Execution<'_, H, B> {
    async fn until_answered(&mut self) -> Result<(Rc<Endpoint>, Pending, Carrier, Instant), CallError> {
        let mut chosen = None;
        loop {
            let Some(endpoint) = chosen.take().or_else(|| self.select()) else {
                return Err(self.tries.none_left(self.view));
            };
            let Some(pending) = endpoint.begin() else {
                self.tries.excluded.tried.push(endpoint.instance.incarnation);
                continue;
            };
            self.tries.begins(&endpoint, self.view);
            let began = self.now;
            let outcome = self.attempt(&endpoint).await;
            // The clock is read once for each try, since reading it costs as much as choosing an endpoint.
            self.now = Instant::now();
            let failed = match outcome {
                Ok(carrier) => {
                    self.judge(&pending, &carrier, began);
                    chosen = self.better_than(&endpoint, &carrier);
                    if chosen.is_none() {
                        return Ok((endpoint, pending, carrier, began));
                    }
                    Try::Status(carrier.head().status().as_u16())
                }
                Err(failed) => failed,
            };
            let wait = self.after(&pending, failed)?;
            drop(pending);
            self.upload.restart();
            if !wait.is_zero() {
                self.timer.sleep(wait).await;
                self.now = Instant::now();
            }
        }
    }

    fn select(&self) -> Option<Rc<Endpoint>> {
        let mut random = self.router.random.borrow_mut();
        self.view.select(&self.request, &self.tries.excluded, &mut random, self.now)
    }

    /// One try: a connection, the request, the head of the answer.
    async fn attempt(&mut self, endpoint: &Rc<Endpoint>) -> Result<Carrier, Try> {
        let another = self.tries.left > 0;
        let timeout = self.options.timeout;
        let mut patience = if another { timeout.min(self.policy.per_try_timeout) } else { timeout };
        let mut deadline = self.deadline().min(self.now + patience);
        self.connected = None;
        let (mut carrier, reused) = match self.policy.protocol {
            UpstreamProtocol::Http1 => self.http1(endpoint, deadline).await?,
            UpstreamProtocol::Http2 => self.http2(endpoint, deadline).await?,
        };
        let Self { head, body, upload, timer, options, router, view, request, tries, .. } = self;
        let sent = poll_fn(|context| {
            let polled = carrier.poll_head(context, head.method(), upload, *body);
            if options.replay == Replay::Unsafe && carrier.was_written() {
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
                        || !(upload.can_restart() && tries.has_another(view, request, endpoint, router, now)))
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
            None => Err(Try::TimedOut),
        }
    }

    /// A connection that has the call in front of it, and whether it was used before.
    async fn http1(&mut self, endpoint: &Rc<Endpoint>, deadline: Instant) -> Result<(Carrier, bool), Try> {
        let fresh_only = self.tries.needs_fresh_connection(endpoint.instance.incarnation);
        let idle = if fresh_only { None } else { endpoint.take_idle() };
        let mut connection = match idle {
            Some(connection) => connection,
            // Boxed: connecting is rare, and its state would make every call's larger.
            None => {
                let opened = Box::pin(open_http1(self.router, self.view, &self.policy, endpoint));
                let opened = self.timer.limit(deadline, opened).await.unwrap_or(Err(Try::TimedOut))?;
                self.connected = Some(Instant::now());
                opened
            }
        };
        let reused = connection.reused;
        connection.begin(self.head, self.upload.framing(), self.time_left_ms());
        Ok((Carrier::Http1(connection), reused))
    }

    async fn http2(&mut self, endpoint: &Rc<Endpoint>, deadline: Instant) -> Result<(Carrier, bool), Try> {
        let open = if self.tries.repeated { None } else { endpoint.shared_connection() };
        let (connection, reused) = match open {
            Some(connection) => (connection, true),
            None => {
                let opened = Box::pin(open_http2(self.router, self.view, &self.policy, endpoint));
                let opened = self.timer.limit(deadline, opened).await.unwrap_or(Err(Try::TimedOut))?;
                self.connected = Some(Instant::now());
                (opened, false)
            }
        };
        let call = connection.begin(self.head, &self.upload, self.time_left_ms(), endpoint.prunes());
        let call = call.map_err(|reason| Try::Body(BodyError::Upstream(reason)))?;
        Ok((Carrier::Http2(Box::new(call)), reused))
    }

    pub(crate) fn replay_is_safe(&self) -> bool {
        self.options.replay == Replay::Safe
    }

    /// When the whole call must be answered; it moves while the body does.
    pub(crate) fn deadline(&self) -> Instant {
        let moved = self.upload.moved().unwrap_or(self.options.began);
        self.options.began.max(moved) + self.options.timeout
    }

    fn time_left_ms(&self) -> u64 {
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
            Outcome::Succeeded => pending.succeeded(),
            Outcome::Open => pending.answers(),
        }
        // From when on the replica is who was waited for; never when it answered before it had the whole request.
        let since = match self.upload.moved() {
            None => Some(began),
            Some(moved) => self.upload.has_ended().then(|| began.max(moved)),
        };
        if let Some(since) = since {
            pending.endpoint().latency.observe(self.now.saturating_duration_since(since), self.now);
        }
    }

    /// Counts a failed call against the replica, and tells the health owner when there were too many in a row.
    pub(crate) fn count_failure(&self, pending: &Pending) {
        self.view.count_failure(pending, &self.router.suspicions, self.now);
    }

    /// Another endpoint for a call that was answered with a status which may be hidden; `None` when the answer stands.
    fn better_than(&mut self, endpoint: &Endpoint, carrier: &Carrier) -> Option<Rc<Endpoint>> {
        let head = carrier.head();
        let hidden = self.policy.retry_on.statuses.contains(&head.status().as_u16());
        if !hidden || self.options.replay == Replay::Unsafe || self.tries.left == 0 || asks_to_wait(head) {
            return None;
        }
        if !self.may_send_again() {
            return None;
        }
        self.tries.excluded.tried.push(endpoint.instance.incarnation);
        let better = self.select();
        if better.is_none() {
            self.tries.excluded.tried.pop();
            self.tries.give_back_retry();
        }
        better
    }

    fn into_answer(
        self,
        endpoint: &Endpoint,
        pending: Pending,
        carrier: Carrier,
        place: CallPlace,
        began: Instant,
    ) -> Answer {
        let outcome = grpc::of_head(carrier.head());
        Answer {
            replica: endpoint.instance.replica.clone(),
            attempts: self.tries.attempts,
            at: self.now,
            before: began - self.options.began,
            connect: self.connected.map(|connected| connected - began),
            first_byte: self.now - self.connected.unwrap_or(began),
            carrier: Some(carrier),
            trailers: None,
            judge: (outcome == Outcome::Open).then(|| self.router.suspicions.clone()),
            failed: outcome == Outcome::Failed,
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

async fn open_http1(
    router: &WorkerRouter,
    view: &ServiceView,
    policy: &RouterPolicy,
    endpoint: &Endpoint,
) -> Result<Box<Http1Connection>, Try> {
    let permit = permit(view).await?;
    let wire = connect(&endpoint.instance, policy.tls.as_ref(), Rc::clone(&router.buffers)).await;
    let wire = wire.map_err(Try::not_connected)?;
    view.shard.connects.add_one();
    Ok(Box::new(Http1Connection::new(wire, permit, &view.shard)))
}

/// One connection at a time is made to an endpoint, so that calls that come together share it.
async fn open_http2(
    router: &WorkerRouter,
    view: &ServiceView,
    policy: &RouterPolicy,
    endpoint: &Endpoint,
) -> Result<Http2Connection, Try> {
    let _alone = endpoint.connecting.lock().await;
    if let Some(connection) = endpoint.shared_connection() {
        return Ok(connection);
    }
    let permit = permit(view).await?;
    let wire = connect(&endpoint.instance, policy.tls.as_ref(), Rc::clone(&router.buffers)).await;
    let wire = wire.map_err(Try::not_connected)?;
    let made = Http2Connection::new(wire, permit, &view.shard).await;
    let connection = made.map_err(|reason| Try::not_connected(ConnectError::Refused(reason)))?;
    view.shard.connects.add_one();
    endpoint.share(connection.clone());
    Ok(connection)
}

async fn permit(view: &ServiceView) -> Result<Permit, Try> {
    let circuit = Arc::clone(&view.circuit.borrow());
    if let Some(permit) = circuit.connection() {
        return Ok(permit);
    }
    view.shard.circuit_open.add_one(CircuitLimit::Connections);
    circuit.wait_for_connection().await.map_err(Try::Shed)
}

impl Try {
    fn of(error: SendError, reused: bool) -> Self {
        match error {
            SendError::NotSent(_) if reused => Self::Stale,
            SendError::NotSent(reason) => Self::NotConnected(reason),
            SendError::Reset(reason) => Self::Reset { reused, reason, failure: UpstreamFailure::Reset },
            SendError::Protocol(reason) => {
                Self::Reset { reused: false, reason, failure: UpstreamFailure::Protocol }
            }
            SendError::Body(error) => Self::Body(error),
            SendError::Cancelled => Self::Cancelled,
        }
    }

    fn not_connected(error: ConnectError) -> Self {
        match error {
            ConnectError::Refused(reason) => Self::NotConnected(reason),
            ConnectError::Tls(reason) => Self::NotTrusted(reason),
            ConnectError::Local(reason) => Self::Exhausted(reason),
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
