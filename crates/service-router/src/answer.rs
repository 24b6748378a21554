//! A replica's answer: its head, and its body on the way to the client.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http1::{Framing, ResponseHead, Trailers};
use observability::{ServiceShard, UpstreamFailure};
use service_registry::Instance;
use tokio::time::Instant;

use crate::circuit::CallPlace;
use crate::endpoint::Pending;
use crate::grpc::{self, Outcome};
use crate::http1_call::{Http1Call, SendError};
use crate::http2_connection::Http2Call;
use crate::request_body::{BodyError, RequestBody};
use crate::upload::Upload;
use crate::view::ServiceView;
use crate::wire::Wire;

/// What carries a call.
pub(crate) enum Carrier {
    Http1(Http1Call),
    Http2(Box<Http2Call>),
}

/// A replica's answer. When it has been read to its end, the connection goes back to where it came from; dropped before,
/// the call is cancelled.
pub struct Answer {
    /// How often the call was sent, at least 1.
    pub attempts: u32,
    /// When its head had come.
    pub at: Instant,
    /// From the beginning of the call to its last try.
    pub before: Duration,
    /// How long the last try waited for a connection, where there was none for it.
    pub connect: Option<Duration>,
    /// From the last sending to the head of the answer.
    pub first_byte: Duration,
    pub(crate) carrier: Option<Carrier>,
    /// What stands behind the body, once that was looked at.
    pub(crate) trailers: Option<Box<Trailers>>,
    /// Whether the end of the answer has yet to show how the call ended.
    pub(crate) undecided: bool,
    pub(crate) failed: bool,
    pub(crate) upload: Upload,
    pub(crate) pending: Pending,
    pub(crate) view: Rc<ServiceView>,
    #[expect(dead_code, reason = "held for its drop")]
    pub(crate) place: CallPlace,
    #[expect(dead_code, reason = "held for its drop")]
    pub(crate) live: LiveCall,
}

/// A call in its service's retry budget.
pub(crate) struct LiveCall {
    view: Rc<ServiceView>,
    retries: u32,
}

impl LiveCall {
    pub(crate) fn begin(view: &Rc<ServiceView>) -> Self {
        view.budget.call_begins();
        Self { view: Rc::clone(view), retries: 0 }
    }

    pub(crate) fn retried(&mut self) {
        self.retries += 1;
    }

    pub(crate) fn retries(&self) -> u32 {
        self.retries
    }
}

impl Drop for LiveCall {
    fn drop(&mut self) {
        self.view.budget.call_ends(self.retries);
    }
}

impl Carrier {
    pub(crate) fn head(&self) -> &ResponseHead {
        match self {
            Self::Http1(call) => call.head(),
            Self::Http2(call) => &call.head,
        }
    }

    pub(crate) fn poll_head(
        &mut self,
        context: &mut Context<'_>,
        method: &http::Method,
        upload: &mut Upload,
        body: &mut impl RequestBody,
    ) -> Poll<Result<(), SendError>> {
        match self {
            Self::Http1(call) => call.poll_head(context, method, upload, body),
            Self::Http2(call) => call.poll_head(context, method, upload, body),
        }
    }

    /// Whether the call may have been executed already, as far as is known now. Over HTTP/2 only what ends a call shows that,
    /// so until then it is kept as one that was not.
    pub(crate) fn may_be_executed(&self) -> bool {
        match self {
            Self::Http1(call) => call.was_written(),
            Self::Http2(_) => false,
        }
    }

    /// There was no answer in time.
    pub(crate) fn timed_out(&self) {
        if let Self::Http2(call) = self {
            call.timed_out();
        }
    }
}

impl Answer {
    /// Which run of the replica gave it.
    pub fn instance(&self) -> &Arc<Instance> {
        &self.pending.endpoint().instance
    }

    fn carrier(&self) -> &Carrier {
        self.carrier.as_ref().expect("only what consumes the answer takes the carrier")
    }

    fn carrier_mut(&mut self) -> &mut Carrier {
        self.carrier.as_mut().expect("only what consumes the answer takes the carrier")
    }

    /// Its head.
    pub fn head(&self) -> &ResponseHead {
        self.carrier().head()
    }

    /// Looks for data of the body, and goes on sending the request's: true when [`Self::data`] has some, false at the end.
    pub fn poll_data(
        &mut self,
        context: &mut Context<'_>,
        body: &mut impl RequestBody,
    ) -> Poll<Result<bool, BodyError>> {
        let carrier = self.carrier.as_mut().expect("only what consumes the answer takes the carrier");
        let polled = match carrier {
            Carrier::Http1(call) => call.poll_data(context, &mut self.upload, body),
            Carrier::Http2(call) => call.poll_data(context, &mut self.upload, body),
        };
        match &polled {
            Poll::Ready(Ok(false)) => self.judge(),
            Poll::Ready(Err(BodyError::Upstream(_))) => self.failed(UpstreamFailure::Reset),
            _ => {}
        }
        polled
    }

    /// Goes on sending the request's body where the answer's is not looked for, since the client does not take it.
    ///
    /// # Errors
    /// Those of the body.
    pub fn send_on(
        &mut self,
        context: &mut Context<'_>,
        body: &mut impl RequestBody,
    ) -> Result<(), BodyError> {
        match self.carrier.as_mut().expect("only what consumes the answer takes the carrier") {
            Carrier::Http1(call) => call.send_on(context, &mut self.upload, body),
            Carrier::Http2(call) => call.send_on(context, &mut self.upload, body),
        }
    }

    /// What the end of an answer says of the replica that gave it. Not before: one that breaks all of its answers off would
    /// never have failed twice in a row.
    fn judge(&mut self) {
        if !self.undecided {
            return;
        }
        self.trailers = self.take_trailers();
        match grpc::of_trailers(self.trailers.as_deref()) {
            Outcome::Failed if self.is_open() => self.failed(UpstreamFailure::Status),
            _ => {
                self.undecided = false;
                self.pending.succeeded();
            }
        }
    }

    /// Nothing more of it came in time, which is the replica's failure.
    pub fn stalled(&mut self) {
        self.failed(UpstreamFailure::Timeout);
    }

    fn failed(&mut self, failure: UpstreamFailure) {
        if std::mem::replace(&mut self.undecided, false) {
            self.failed = true;
            self.view.shard.upstream_failures.add_one(failure);
            self.view.count_failure(&self.pending, Instant::now());
        }
    }

    /// Whether the head left open how the call ends.
    fn is_open(&self) -> bool {
        grpc::of_head(self.head()) == Outcome::Open
    }

    /// The data at hand.
    pub fn data(&self) -> &[u8] {
        match self.carrier() {
            Carrier::Http1(call) => call.data(),
            Carrier::Http2(call) => call.data(),
        }
    }

    /// So much of it was used.
    pub fn consume(&mut self, bytes: usize) {
        match self.carrier_mut() {
            Carrier::Http1(call) => call.consume(bytes),
            Carrier::Http2(call) => call.consume(bytes),
        }
    }

    /// Whether the data at hand is the last.
    pub fn has_all(&self) -> bool {
        match self.carrier() {
            Carrier::Http1(call) => call.has_all(),
            Carrier::Http2(call) => call.has_all(),
        }
    }

    /// Whether something may stand behind the body.
    pub fn may_have_trailers(&self) -> bool {
        self.head().framing() == Framing::Chunked
    }

    /// What stands behind the body, once it has ended.
    pub fn take_trailers(&mut self) -> Option<Box<Trailers>> {
        let known = self.trailers.take();
        known.or_else(|| match self.carrier_mut() {
            Carrier::Http1(call) => call.take_trailers(),
            Carrier::Http2(call) => call.take_trailers(),
        })
    }

    /// Whether the rest of the request is what is waited for.
    pub fn waits_for_client(&self) -> bool {
        self.upload.waits_for_client()
    }

    /// Whether the replica has failed the call, as far as is known: by its status, by that of gRPC, or because the answer broke
    /// off.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// When the request's body last moved; `None` before it did.
    pub fn request_moved(&self) -> Option<Instant> {
        self.upload.moved()
    }

    /// Gives the connection back where it can be used again.
    pub fn finish(mut self) {
        self.judge();
        // A replica may answer before it has the whole request; that connection still carries the rest and is of no use.
        let whole = self.upload.has_ended();
        let (carrier, endpoint) = (self.carrier.take(), self.pending.endpoint());
        if self.view.circuit.borrow().is_awaited() {
            // Somebody waits for a place among the connections, maybe on another worker.
            drop(carrier);
            endpoint.close_idle();
        } else if let Some(Carrier::Http1(call)) = carrier
            && whole
            && let Some(connection) = call.end()
        {
            endpoint.give_back(connection);
        }
    }

    /// The socket to the replica, once both sides speak another protocol. The call counts as in flight for as long as what
    /// is returned beside it lives.
    pub fn into_tunnel(mut self) -> Option<(Wire, TunnelGuard)> {
        self.judge();
        match self.carrier.take() {
            Some(Carrier::Http1(call)) => {
                let (wire, permit, open) = call.into_connection().into_parts();
                Some((wire, TunnelGuard { _answer: self, _permit: permit, _open: open }))
            }
            _ => None,
        }
    }
}

impl Drop for Answer {
    /// Whoever asked has gone away or does not play its part, which is no reason to think ill of an answer that was good as far
    /// as it came. One that the replica has broken off, or left unfinished, is decided by then.
    fn drop(&mut self) {
        if self.carrier.is_some() && self.undecided && !self.is_open() {
            self.pending.succeeded();
        }
    }
}

/// What counts a tunnel as a call.
pub struct TunnelGuard {
    _answer: Answer,
    _permit: crate::circuit::Permit,
    _open: Open,
}

/// The connections gauge of a service, for as long as a connection lives.
#[derive(Debug)]
pub(crate) struct Open(Arc<ServiceShard>);

impl Open {
    pub(crate) fn new(shard: &Arc<ServiceShard>) -> Self {
        shard.connections.add_one();
        Self(Arc::clone(shard))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.take_one();
    }
}
