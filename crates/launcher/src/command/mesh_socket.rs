//! The socket over which the command calls other services: HTTP/1.1 in the clear, for whoever may open it, which is this user.

use std::convert::Infallible;
use std::fs::Permissions;
use std::future::Future;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::Service;
use sdk::{Body, Cut, Protocol, Tunnels};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use types::headers::REQUEST_ID;

use super::calls::{Calls, Mesh};

/// Connections of the command at the same time.
const MAX_CONNECTIONS: usize = 1024;

/// Makes the socket. The folder around it lets nobody in meanwhile.
pub(super) fn bind(path: &Path) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o700))?;
    Ok(listener)
}

/// Answers the command's calls for as long as it is polled.
pub(super) async fn serve<M: Mesh>(listener: UnixListener, calls: Arc<Calls<M>>) -> Infallible {
    let (_never, not_stopped) = watch::channel(Cut::No);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    let (tunnels, opened) = Tunnels::new();
                    let call = Call { calls: Arc::clone(&calls), tunnels };
                    connections.spawn(sdk::answer(stream, Protocol::Http1, call, opened, not_stopped.clone()));
                }
                // Out of descriptors, most likely: existing connections must end before another can begin.
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection of the command failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_ended) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

/// What answers one connection.
struct Call<M> {
    calls: Arc<Calls<M>>,
    tunnels: Tunnels,
}

impl<M: Mesh> Service<Request<Incoming>> for Call<M> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (calls, tunnels) = (Arc::clone(&self.calls), self.tunnels.clone());
        Box::pin(async move {
            let id = request.headers().get(REQUEST_ID).cloned();
            let answered = calls.call(request, &tunnels).await;
            Ok(answered.unwrap_or_else(|problem| problem.answer(id.as_ref())))
        })
    }
}
