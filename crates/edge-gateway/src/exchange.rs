//! What is known of one request while it is handled; when it is dropped, the request is counted and logged, however it
//! ended.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use access::{Caller, ContentDigest, Nonce};
use http::StatusCode;
use http1::{Known, RequestHead};
use jiff::Timestamp;
use observability::{MethodLabel, Served};
use service_router::{Answer, Instance};
use tokio::time::Instant;

use crate::client::{Client, forwarded_for};
use crate::clock::{RequestId, Traceparent};
use crate::plan::WorkerPlan;
use crate::rate_limit::Standing;
use crate::worker::Worker;

/// The status of a request whose client went away before it was answered; nginx's number for the same.
const CLIENT_WENT_AWAY: u16 = 499;

/// One request and its answer.
pub(crate) struct Exchange {
    pub(crate) worker: Rc<Worker>,
    /// The configuration that it is handled by, to its end.
    pub(crate) plan: Rc<WorkerPlan>,
    pub(crate) client: Rc<Client>,
    /// For whom the request was made, where a trusted proxy says so.
    pub(crate) forwarded_for: Option<IpAddr>,
    pub(crate) head: Box<RequestHead>,
    pub(crate) began: Instant,
    pub(crate) time: SystemTime,
    pub(crate) request_id: RequestId,
    pub(crate) traceparent: Traceparent,
    /// The number of the route; `None` until one matched.
    pub(crate) route: Option<usize>,
    pub(crate) caller: Option<Arc<Caller>>,
    pub(crate) signed: Signed,
    /// What is left of the limits that it was counted by.
    pub(crate) standing: Standing,
    /// The last one that was tried.
    pub(crate) instance: Option<Arc<Instance>>,
    pub(crate) attempts: u32,
    pub(crate) before: Option<Duration>,
    pub(crate) connect: Option<Duration>,
    pub(crate) first_byte: Option<Duration>,
    pub(crate) status: u16,
    pub(crate) served: Served,
    pub(crate) code: Option<&'static str>,
    /// What only the operator is told.
    pub(crate) error: Option<String>,
    pub(crate) bytes: u64,
    counted: Counted,
}

/// Whether it is its signature that says who calls.
pub(crate) enum Signed {
    No,
    /// It is.
    Yes {
        /// What its body has to be, if it is signed that there is one.
        digest: Option<ContentDigest>,
        nonce: Nonce,
    },
}

/// Whether the request appears in metrics and access log; health end points do not.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counted {
    Yes,
    No,
}

impl Exchange {
    pub(crate) fn begin(worker: &Rc<Worker>, client: &Rc<Client>, head: Box<RequestHead>) -> Self {
        let (began, plan) = (Instant::now(), worker.plan());
        let time = worker.clock.time(began);
        worker.requests.begin();
        let proxies = &plan.plan.trusted_proxies;
        let trusted = !proxies.is_empty() && client.is_trusted(proxies);
        let given = head.only_value(Known::XRequestId).filter(|_| trusted).and_then(RequestId::given);
        let request_id = given.unwrap_or_else(|| worker.clock.request_id(time));
        let traceparent = worker.clock.traceparent(head.only_value(Known::Traceparent), &request_id);
        Self {
            began,
            time,
            request_id,
            traceparent,
            forwarded_for: if trusted { forwarded_for(&head, proxies) } else { None },
            worker: Rc::clone(worker),
            plan,
            client: Rc::clone(client),
            head,
            route: None,
            caller: None,
            signed: Signed::No,
            standing: Standing::default(),
            instance: None,
            attempts: 0,
            before: None,
            connect: None,
            first_byte: None,
            status: CLIENT_WENT_AWAY,
            served: Served::AsAnswered,
            code: None,
            error: None,
            bytes: 0,
            counted: Counted::Yes,
        }
    }

    /// Whether a trusted proxy has brought the request.
    pub(crate) fn is_from_proxy(&self) -> bool {
        let proxies = &self.plan.plan.trusted_proxies;
        !proxies.is_empty() && self.client.is_trusted(proxies)
    }

    /// The time that credentials are judged by.
    pub(crate) fn now(&self) -> Timestamp {
        judged_at(self.time)
    }

    /// Who limits of addresses are for.
    pub(crate) fn address(&self) -> IpAddr {
        self.forwarded_for.unwrap_or(self.client.address)
    }

    /// Whether the trace that the client named goes on.
    pub(crate) fn continues_trace(&self) -> bool {
        let given = self.head.only_value(Known::Traceparent);
        given.is_some_and(|given| given.get(3..35) == Some(&self.traceparent[3..35]))
    }

    pub(crate) fn own_page(&mut self) {
        self.counted = Counted::No;
    }

    /// A replica's answer is over, whole or not.
    pub(crate) fn passed(&mut self, answer: &Answer) {
        if answer.has_failed() {
            self.served = Served::Failed;
        }
    }

    pub(crate) fn answered(&mut self, status: StatusCode) {
        self.status = status.as_u16();
    }
}

/// A clock that stands before 1970 is not set: nobody knows what is over, so everything that ends is.
fn judged_at(time: SystemTime) -> Timestamp {
    let time = Timestamp::try_from(time).ok();
    time.filter(|time| *time >= Timestamp::UNIX_EPOCH).unwrap_or(Timestamp::MAX)
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.worker.requests.end();
        let now = Instant::now();
        self.client.last_ended.set(now);
        if self.counted == Counted::Yes {
            let total = now - self.began;
            let method = MethodLabel::of(self.head.method().as_str());
            self.plan.shard(self.route).request(method, self.status, self.served, total);
            self.worker.log(self, total);
        }
        self.worker.give_back_head(std::mem::take(&mut self.head));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_not_set_makes_nothing_good_that_has_an_end() {
        let second = Duration::from_secs(1);
        let epoch = SystemTime::UNIX_EPOCH;
        assert_eq!(judged_at(epoch + second), Timestamp::from_second(1).unwrap());
        assert_eq!(judged_at(epoch), Timestamp::UNIX_EPOCH);
        assert_eq!(judged_at(epoch - second), Timestamp::MAX);
        assert_eq!(judged_at(epoch + Duration::from_secs(1 << 40)), Timestamp::MAX);
    }
}
