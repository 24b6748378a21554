//! Serving the admin API over HTTP/1.1.

mod reader;

use std::future::Future;
use std::time::Duration;

use axum::Router;
use axum::extract::Extension;
use axum::serve::Listener;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::admin::{AdminState, Stopping, on_port, on_socket};
use crate::auth::AdminToken;
use reader::Read;

/// Open connections of one listener.
const MAX_CONNECTIONS: usize = 256;
/// Until a request's head must be complete.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long open requests may take once the server is told to stop.
const DRAIN: Duration = Duration::from_secs(2);

/// A server to be awaited; it ends when it is told to.
pub trait Serving: Future<Output = ()> + Send {}
impl<F: Future<Output = ()> + Send> Serving for F {}

/// Serves the admin port until told to stop.
pub fn serve_tcp(
    listener: TcpListener,
    state: AdminState,
    token: AdminToken,
    stop: watch::Receiver<bool>,
) -> impl Serving {
    serve(listener, on_port(state, token), stop)
}

/// Serves the data directory's socket until told to stop.
pub fn serve_socket(listener: UnixListener, state: AdminState, stop: watch::Receiver<bool>) -> impl Serving {
    serve(listener, on_socket(state), stop)
}

async fn serve(mut listener: impl Listener, router: Router, mut stop: watch::Receiver<bool>) {
    let router = router.layer(Extension(Stopping(stop.clone())));
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            (stream, _peer) = listener.accept(), if open.len() < MAX_CONNECTIONS => {
                open.spawn(connection(stream, router.clone(), stop.clone()));
            }
            Some(_ended) = open.join_next(), if !open.is_empty() => {}
            () = told(&mut stop) => break,
        }
    }
    let finished = async { while open.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, finished).await.is_err() {
        tracing::warn!("an admin connection was closed with its request open");
    }
}

/// Serves one connection, until it ends, its reader stops reading, or it is told to stop.
pub(crate) async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(Read::new(stream)), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an admin connection ended with an error");
    }
}

/// Returns once `stop` says so.
pub(crate) async fn told(stop: &mut watch::Receiver<bool>) {
    let _told_or_nobody_left = stop.wait_for(|stop| *stop).await.is_ok();
}
