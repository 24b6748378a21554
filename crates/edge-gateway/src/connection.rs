//! One client connection, spoken in HTTP/1.1. The only place that knows which HTTP library serves clients.

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use access::RememberedKey;
use http::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use observability::WorkerShard;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client_io::{ClientIo, IoLimits, Progress};
use crate::drain_signal::DrainSignal;
use crate::forward::address_value;
use crate::request_flow::answer;
use crate::worker::Worker;

/// What the library may read before its own limits bite; the flow's limits are lower and answer in words.
const SLACK_BYTES: usize = 64 << 10;
const SLACK_HEADERS: usize = 100;
/// How long a connection that never carried a request is waited for once the gateway drains: its request may be on its way.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// What the requests of one connection share.
pub(crate) struct Client {
    /// The peer's address as text.
    pub(crate) address: HeaderValue,
    /// The API key that it presented last.
    pub(crate) remembered_key: RefCell<Option<RememberedKey>>,
    /// How far the connection is.
    pub(crate) progress: Rc<Progress>,
    /// Whether its next answer is its last.
    pub(crate) draining: DrainSignal,
}

/// Serves a connection until either side ends it, or until `draining` is said, after which the open request is finished.
pub(crate) async fn serve(worker: Rc<Worker>, stream: TcpStream, peer: IpAddr, draining: DrainSignal) {
    let _delayed = stream.set_nodelay(true);
    let _open = Open::new(&worker.shard);
    let limits = &worker.plan.limits;
    let progress = Progress::new();
    let io_limits = IoLimits { head: limits.header_timeout, idle: limits.idle_timeout };
    let io = ClientIo::new(stream, Rc::clone(&progress), io_limits);
    let mut builder = http1::Builder::new();
    builder
        .max_headers(limits.headers + SLACK_HEADERS)
        // Most answers are small, and gathering head and body costs the kernel more than copying them together.
        .writev(false)
        .max_buf_size(limits.header_bytes.as_usize() + limits.url_bytes.as_usize() + SLACK_BYTES);
    let client = Rc::new(Client {
        address: address_value(peer),
        remembered_key: RefCell::new(None),
        progress: Rc::clone(&progress),
        draining: draining.clone(),
    });
    let service = service_fn(move |request| {
        // Boxed, since the flow's state is large and the library moves the future about before it runs it.
        let answered = Box::pin(answer(Rc::clone(&worker), Rc::clone(&client), request));
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let connection = builder.serve_connection(io, service);
    let draining = draining.said();
    tokio::pin!(connection, draining);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = &mut draining => {
            // The library would close an unused connection at once, whatever the kernel has received already.
            let waited = if progress.was_used() { None } else { timeout(FIRST_REQUEST, connection.as_mut()).await.ok() };
            match waited {
                Some(ended) => ended,
                None => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, %peer, "a client connection ended with an error");
    }
}

/// Counts a connection for as long as it lives, however it ends.
struct Open(Arc<WorkerShard>);

impl Open {
    fn new(shard: &Arc<WorkerShard>) -> Self {
        shard.client_connections.add_one();
        Self(Arc::clone(shard))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.client_connections.take_one();
    }
}
