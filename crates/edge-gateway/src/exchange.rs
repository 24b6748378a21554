//! What is known of one request while it is handled; when it is dropped, the request is counted and logged, however it
//! ended.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use access::Caller;
use http::{HeaderValue, Method, StatusCode, Uri};
use jiff::Timestamp;
use observability::{RouteIndex, ServiceIndex};
use tokio::time::Instant;
use types::ReplicaId;

use crate::connection::Client;
use crate::route::Route;
use crate::worker::Worker;

/// The status of a request whose client went away before it was answered; nginx's number for the same.
const CLIENT_WENT_AWAY: u16 = 499;

/// One request and its answer.
pub(crate) struct Exchange {
    pub(crate) worker: Rc<Worker>,
    pub(crate) began: Instant,
    pub(crate) time: Timestamp,
    pub(crate) request_id: HeaderValue,
    pub(crate) client: Rc<Client>,
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    /// The numbers of the route and its service; `None` until a route matched.
    pub(crate) route: Option<(RouteIndex, ServiceIndex)>,
    pub(crate) caller: Option<Arc<Caller>>,
    pub(crate) replica: Option<ReplicaId>,
    pub(crate) attempts: u32,
    pub(crate) first_byte: Option<Duration>,
    pub(crate) status: u16,
    pub(crate) code: Option<&'static str>,
    /// What only the operator is told.
    pub(crate) error: Option<String>,
    pub(crate) bytes: u64,
    counted: Counted,
}

/// Whether the request appears in metrics and access log; health end points do not.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counted {
    Yes,
    No,
}

impl Exchange {
    pub(crate) fn begin(worker: &Rc<Worker>, method: Method, uri: Uri, client: Rc<Client>) -> Self {
        let time = Timestamp::now();
        worker.requests.begin();
        client.progress.request_begins();
        Self {
            worker: Rc::clone(worker),
            began: Instant::now(),
            time,
            request_id: worker.clock.request_id(time),
            client,
            method,
            uri,
            route: None,
            caller: None,
            replica: None,
            attempts: 0,
            first_byte: None,
            status: CLIENT_WENT_AWAY,
            code: None,
            error: None,
            bytes: 0,
            counted: Counted::Yes,
        }
    }

    pub(crate) fn matched(&mut self, route: &Route) {
        self.route = Some((route.index, route.service));
    }

    pub(crate) fn own_page(&mut self) {
        self.counted = Counted::No;
    }

    pub(crate) fn answered(&mut self, status: StatusCode) {
        self.status = status.as_u16();
    }

    pub(crate) fn id(&self) -> &str {
        self.request_id.to_str().unwrap_or_default()
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.worker.requests.end();
        let now = Instant::now();
        self.client.progress.request_ends(now);
        if self.counted == Counted::No {
            return;
        }
        let total = now - self.began;
        let (route, service) = self.route.unwrap_or((RouteIndex(0), ServiceIndex(0)));
        self.worker.shard.request(route, service, self.method.as_str(), self.status, total);
        self.worker.log(self, total);
    }
}
