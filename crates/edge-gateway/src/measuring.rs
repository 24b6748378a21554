//! What is measured of the request flow without a network: everything that is decided before a replica is chosen. Nothing of it is
//! part of a build without the feature `measuring`.

use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::task::{Context, Poll};

use http1::{Framing, Limits, RequestHead, Trailers, parse_request};
use service_router::{BodyError, RequestBody, Timer};
use tokio::time::Instant;

use crate::client::{Client, Scheme};
use crate::drain_signal::DrainSignal;
use crate::exchange::Exchange;
use crate::held::Held;
use crate::request_flow::{ClientBody, admit};
use crate::worker::{RequestCount, Worker, WorkerSeed};
use crate::{FlowError, GatewayParts};

/// A worker without sockets, and one client of it.
pub struct Bench {
    worker: Rc<Worker>,
    client: Rc<Client>,
    timer: Timer,
    limits: Limits,
}

impl Bench {
    /// A worker of these parts; needs a runtime.
    pub fn new(parts: GatewayParts) -> Self {
        let GatewayParts { plan, shared, random } = parts;
        let (plan, requests) = (plan.into(), RequestCount::default());
        let seed = WorkerSeed { plan, shared, requests, random, number: 0 };
        let (worker, _following) = seed.worker();
        let limits = worker.plan().head_limits;
        let client = Client::new(IpAddr::V4(Ipv4Addr::LOCALHOST), Scheme::Http, None, DrainSignal::default());
        Self { worker, client, timer: Timer::new(Instant::now()), limits }
    }

    fn begin(&self, head: &[u8]) -> Exchange {
        let mut read: Box<RequestHead> = self.worker.take_head();
        parse_request(head, &self.limits, &mut read).expect("the head of a request");
        Exchange::begin(&self.worker, &self.client, read)
    }

    /// Reads a head, begins the request, and ends it.
    pub fn begin_and_end(&self, head: &[u8]) {
        drop(self.begin(head));
    }

    /// The same, and between both everything that is decided before a replica is chosen.
    ///
    /// # Errors
    /// Why the request is refused.
    pub async fn admit(&mut self, head: &[u8], body: &[u8]) -> Result<(), FlowError> {
        let mut exchange = self.begin(head);
        let plan = Rc::clone(&exchange.plan);
        let mut body = AtHand { bytes: body.to_vec(), sent: 0, held: None };
        admit(&mut exchange, &plan, &mut body, &mut self.timer).await.map(drop)
    }
}

/// A body that has come.
struct AtHand {
    bytes: Vec<u8>,
    sent: usize,
    held: Option<Box<Held>>,
}

impl RequestBody for AtHand {
    fn framing(&self) -> Framing {
        Framing::Length(self.bytes.len() as u64)
    }

    fn poll_data(&mut self, _context: &mut Context<'_>) -> Poll<Result<bool, BodyError>> {
        Poll::Ready(Ok(self.sent < self.bytes.len()))
    }

    fn data(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    fn consume(&mut self, bytes: usize) {
        self.sent += bytes;
    }

    fn poll_gone(&mut self, _context: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn take_trailers(&mut self) -> Option<Box<Trailers>> {
        None
    }
}

impl ClientBody for AtHand {
    fn set_limit(&mut self, _bytes: u64) {}

    fn held(&mut self) -> &mut Option<Box<Held>> {
        &mut self.held
    }
}
