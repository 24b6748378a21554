//! One call on one replica, and on another when the first fails in a way that may be hidden.

use std::rc::Rc;
use std::time::Duration;

use http::{HeaderMap, Method, Request, Response, Uri, Version};
use observability::ServiceIndex;
use thiserror::Error;
use tokio::time::{Instant, timeout_at};
use types::ReplicaId;

use crate::body::Progress;
use crate::connection::{Connection, SendError, is_local};
use crate::endpoint::Endpoint;
use crate::limit::Limit;
use crate::spare::Spare;
use crate::worker::{Excluded, ServiceView};
use crate::{BodyError, RequestBody, SuspicionKind, UpstreamBody, WorkerRouter};

/// What a failed call counts as for the latency estimate, so that a replica that fails fast does not look cheap.
pub(crate) const FAILURE_PENALTY: Duration = Duration::from_secs(1);

/// A call to a service: what the replica will be sent.
pub struct Call {
    /// When the request came.
    pub began: Instant,
    /// The method.
    pub method: Method,
    /// The target in origin form.
    pub uri: Uri,
    /// The headers, already those of the gateway.
    pub headers: HeaderMap,
    /// The body.
    pub body: RequestBody,
    /// Whether it may be sent a second time.
    pub replay: Replay,
    /// Until the head of the answer; pauses while a streamed body makes progress.
    pub timeout: Duration,
    /// Between two bytes of the answer's body.
    pub idle_timeout: Duration,
}

/// Whether a call that may have been executed may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// Executing it twice has the effect of executing it once (RFC 9110 section 9.2.2), and its body is at hand.
    Safe,
    /// It might be executed twice.
    Unsafe,
}

/// A replica's answer.
pub struct Answer {
    /// The answer.
    pub response: Response<UpstreamBody>,
    /// Who gave it.
    pub replica: ReplicaId,
    /// How often the call was sent, at least 1.
    pub attempts: u32,
    /// From the last sending to the head of the answer.
    pub first_byte: Duration,
}

/// Why there is no answer, and how far the call came.
#[derive(Debug)]
pub struct Failure {
    /// Why.
    pub error: CallError,
    /// The last replica that was tried.
    pub replica: Option<ReplicaId>,
    /// How often the call was tried.
    pub attempts: u32,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum CallError {
    /// No replica may serve.
    #[error("no replica can be selected: {0}")]
    NoReplica(String),
    /// A replica failed before it answered, and the call may have been executed or there was none left to try.
    #[error("the replica failed: {0}")]
    Upstream(String),
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// This machine has no room for another connection.
    #[error("no room for another connection: {0}")]
    Exhausted(String),
    /// The client's body failed.
    #[error(transparent)]
    Body(#[from] BodyError),
}

/// One try that failed.
enum Try {
    /// No connection: nothing was sent.
    NotConnected(String),
    /// A pooled connection turned out to be closed; nothing was sent.
    Stale(Box<Request<RequestBody>>),
    /// The connection ended after something was sent.
    Reset {
        reused: bool,
        reason: String,
    },
    /// Neither answer nor failure within the time of one try.
    TimedOut,
    /// This machine has no room for another connection; the replica has nothing to do with it.
    Exhausted(String),
    Body(BodyError),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeat {
    Unused,
    Used,
}

/// The state of one call over its tries.
struct Tries {
    excluded: Excluded,
    /// Additional tries that are left.
    left: u32,
    /// Whether the call's one repeat that counts as none was taken: a pooled connection may have been closed by the replica
    /// in the very moment of sending, which is no failure of the call. More than one would let a call that kills whoever
    /// executes it go from replica to replica.
    repeat: Repeat,
    attempts: u32,
    replica: Option<ReplicaId>,
    last_reason: Option<String>,
}

impl WorkerRouter {
    /// Executes a call.
    ///
    /// # Errors
    /// A connection that cannot be made is hidden by another replica whatever the method; a connection that ends before
    /// the answer only for calls that may be repeated, at most as often as the service's policy says.
    pub async fn execute(&self, service: ServiceIndex, call: Call) -> Result<Answer, Failure> {
        let view = self.view(service);
        let mut tries = Tries {
            excluded: Excluded::default(),
            repeat: Repeat::Unused,
            left: if call.replay == Replay::Safe { view.policy.attempts } else { 0 },
            attempts: 0,
            replica: None,
            last_reason: None,
        };
        match self.try_until_answered(service, view, call, &mut tries).await {
            Ok(answer) => Ok(answer),
            Err(error) => Err(Failure { error, replica: tries.replica, attempts: tries.attempts }),
        }
    }

    async fn try_until_answered(
        &self,
        service: ServiceIndex,
        view: &ServiceView,
        call: Call,
        tries: &mut Tries,
    ) -> Result<Answer, CallError> {
        let mut now = call.began;
        let deadline = now + call.timeout;
        let progress = call.body.progress();
        let (timeout, idle_timeout, replay) = (call.timeout, call.idle_timeout, call.replay);
        let mut next = Some(call.into_request());
        loop {
            let Some(endpoint) = self.select(service, &tries.excluded, now) else {
                return Err(tries.none_left(view));
            };
            let pending = endpoint.begin();
            tries.attempts += 1;
            tries.replica = Some(endpoint.instance.replica.clone());
            if tries.attempts > 1 {
                self.shard().service(service).retries.add_one();
            }
            let request = next.take().expect("every way back to the top puts a request there");
            let spare = if replay == Replay::Safe { Spare::of(&request) } else { None };
            let limit = Limit { deadline, timeout, progress: progress.as_deref() };
            let limit = if tries.left > 0 && spare.is_some() {
                let timeout = view.policy.per_try_timeout;
                Limit { deadline: deadline.min(now + timeout), timeout, ..limit }
            } else {
                limit
            };
            let began = now;
            let outcome = self.one_try(view, &endpoint, request, limit, &tries.excluded, tries.repeat).await;
            // The clock is read once for each try, since reading it costs as much as choosing an endpoint.
            now = Instant::now();
            match outcome {
                Ok((response, connection)) => {
                    let first_byte = now - began;
                    if response.status().is_server_error() {
                        endpoint.latency.observe(FAILURE_PENALTY, now);
                    } else if let Some(since) = answering_since(began, progress.as_deref()) {
                        endpoint.latency.observe(now.saturating_duration_since(since), now);
                    }
                    let replica = endpoint.instance.replica.clone();
                    let response = response.map(|incoming| {
                        UpstreamBody::new(incoming, connection, progress, endpoint, pending, idle_timeout)
                    });
                    return Ok(Answer { response, replica, attempts: tries.attempts, first_byte });
                }
                Err((failed, unsent)) => {
                    next = self.after(
                        &endpoint,
                        failed,
                        unsent.or_else(|| spare.map(Spare::into_request)),
                        tries,
                        deadline,
                        progress.as_deref(),
                    )?;
                }
            }
        }
    }

    async fn one_try(
        &self,
        view: &ServiceView,
        endpoint: &Rc<Endpoint>,
        request: Request<RequestBody>,
        limit: Limit<'_>,
        excluded: &Excluded,
        repeat: Repeat,
    ) -> Result<(Response<hyper::body::Incoming>, Connection), (Try, Option<Request<RequestBody>>)> {
        let fresh_only =
            repeat == Repeat::Used || excluded.rather_not.contains(&endpoint.instance.incarnation);
        let idle = if fresh_only { None } else { endpoint.take_idle() };
        let mut connection = match idle {
            Some(connection) => connection,
            None => {
                // Boxed: connecting is rare, and its state would make every call's larger.
                let opening = Connection::open(endpoint.instance.address, Rc::clone(&view.counted));
                match Box::pin(timeout_at(limit.deadline, opening)).await {
                    Ok(Ok(connection)) => connection,
                    Ok(Err(error)) if is_local(&error) => {
                        return Err((Try::Exhausted(error.to_string()), None));
                    }
                    Ok(Err(error)) => return Err((Try::NotConnected(error.to_string()), Some(request))),
                    Err(_) => return Err((Try::TimedOut, Some(request))),
                }
            }
        };
        let reused = connection.reused;
        match connection.send(request, limit).await {
            Ok(response) => Ok((response, connection)),
            Err(SendError::NotSent(request)) if reused => Err((Try::Stale(request), None)),
            Err(SendError::NotSent(request)) => {
                Err((Try::NotConnected("it closed the connection".into()), Some(*request)))
            }
            Err(SendError::Reset(reason)) => Err((Try::Reset { reused, reason }, None)),
            Err(SendError::Body(error)) => Err((Try::Body(error), None)),
            Err(SendError::TimedOut) => Err((Try::TimedOut, None)),
        }
    }

    /// What a failed try means for the replica and for the call: the request for the next try, or the call's error.
    fn after(
        &self,
        endpoint: &Endpoint,
        failed: Try,
        request: Option<Request<RequestBody>>,
        tries: &mut Tries,
        deadline: Instant,
        progress: Option<&Progress>,
    ) -> Result<Option<Request<RequestBody>>, CallError> {
        let incarnation = endpoint.instance.incarnation;
        match failed {
            Try::Body(error) => Err(CallError::Body(error)),
            Try::Exhausted(reason) => Err(CallError::Exhausted(reason)),
            Try::Stale(request) => {
                // The connection was closed while it idled, which says nothing of the replica.
                tries.excluded.rather_not.push(incarnation);
                Ok(Some(*request))
            }
            Try::NotConnected(reason) => {
                self.suspect(endpoint, SuspicionKind::Refused);
                tries.excluded.tried.push(incarnation);
                request.map(Some).ok_or(CallError::Upstream(reason))
            }
            Try::Reset { reused: true, reason } => {
                // One crafted request can end a connection that many share in turn, so only a check may judge.
                self.report(endpoint, SuspicionKind::Reset);
                if tries.repeat == Repeat::Used {
                    return tries.again(incarnation, request, CallError::Upstream(reason));
                }
                tries.repeat = Repeat::Used;
                tries.excluded.rather_not.push(incarnation);
                tries.last_reason = Some(reason.clone());
                request.map(Some).ok_or(CallError::Upstream(reason))
            }
            Try::Reset { reused: false, reason } => {
                self.suspect(endpoint, SuspicionKind::Reset);
                tries.again(incarnation, request, CallError::Upstream(reason))
            }
            Try::TimedOut if progress.is_some_and(Progress::waits_for_client) => {
                Err(CallError::Body(BodyError::Idle))
            }
            Try::TimedOut => {
                endpoint.latency.observe(FAILURE_PENALTY, Instant::now());
                self.report(endpoint, SuspicionKind::Reset);
                if Instant::now() >= deadline {
                    return Err(CallError::Timeout);
                }
                tries.again(incarnation, request, CallError::Timeout)
            }
        }
    }
}

/// From when on the replica is who was waited for; `None` when it answered before it had the whole request.
fn answering_since(began: Instant, progress: Option<&Progress>) -> Option<Instant> {
    match progress {
        None => Some(began),
        Some(progress) => progress.has_ended().then(|| began.max(progress.last())),
    }
}

impl Tries {
    /// Takes one of the additional tries, or ends the call with `error`.
    fn again(
        &mut self,
        incarnation: u64,
        request: Option<Request<RequestBody>>,
        error: CallError,
    ) -> Result<Option<Request<RequestBody>>, CallError> {
        self.excluded.tried.push(incarnation);
        match (self.left.checked_sub(1), request) {
            (Some(left), Some(request)) => {
                (self.left, self.last_reason) = (left, Some(error.to_string()));
                Ok(Some(request))
            }
            _ => Err(error),
        }
    }

    /// Nobody is left to try. Where something had been sent, the replica's failure is what the caller must know.
    fn none_left(&mut self, view: &ServiceView) -> CallError {
        match self.last_reason.take() {
            Some(reason) => CallError::Upstream(reason),
            None => CallError::NoReplica(view.why_none()),
        }
    }
}

impl Call {
    fn into_request(self) -> Request<RequestBody> {
        let mut request = Request::new(self.body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = self.headers;
        *request.version_mut() = Version::HTTP_11;
        request
    }
}
