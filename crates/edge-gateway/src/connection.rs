//! One client connection, spoken in HTTP/1.1. The only place that knows which HTTP library serves clients.

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::IpAddr;
use std::rc::Rc;

use access::RememberedKey;
use http::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use crate::drain_signal::DrainSignal;
use crate::forward::address_value;
use crate::request_flow::answer;
use crate::worker::Worker;

/// What the library may read before its own limits bite; the flow's limits are lower and answer in words.
const SLACK_BYTES: usize = 64 << 10;
const SLACK_HEADERS: usize = 100;

/// What the requests of one connection share.
pub(crate) struct Client {
    /// The peer's address as text.
    pub(crate) address: HeaderValue,
    /// The API key that it presented last.
    pub(crate) remembered_key: RefCell<Option<RememberedKey>>,
}

/// Serves a connection until either side ends it, or until `draining` is said, after which the open request is finished.
pub(crate) async fn serve(worker: Rc<Worker>, stream: TcpStream, peer: IpAddr, draining: DrainSignal) {
    let _delayed = stream.set_nodelay(true);
    let limits = &worker.plan.limits;
    let builder = {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_timeout)
            .max_headers(limits.headers + SLACK_HEADERS)
            .max_buf_size(limits.header_bytes.as_usize() + limits.url_bytes.as_usize() + SLACK_BYTES);
        builder
    };
    let service = {
        let worker = Rc::clone(&worker);
        let client = Rc::new(Client { address: address_value(peer), remembered_key: RefCell::new(None) });
        service_fn(move |request| {
            // Boxed, since the flow's state is large and the library moves the future about before it runs it.
            let answered = Box::pin(answer(Rc::clone(&worker), Rc::clone(&client), request));
            async move { Ok::<_, Infallible>(answered.await) }
        })
    };
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let draining = draining.said();
    tokio::pin!(connection, draining);
    worker.shard.client_connections.add_one();
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = &mut draining => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    worker.shard.client_connections.take_one();
    if let Err(error) = ended {
        tracing::debug!(%error, %peer, "a client connection ended with an error");
    }
}
