//! One check over HTTP: a connection of its own, since whether a replica accepts one is part of the question.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use service_registry::Instance;
use tokio::net::TcpStream;

use crate::connection::is_local;

/// Why a check was not passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CheckError {
    /// The replica failed it.
    Failed(String),
    /// This machine had no room for the check, which says nothing of the replica.
    Local(String),
}

impl CheckError {
    pub(crate) fn into_text(self) -> String {
        match self {
            Self::Failed(text) | Self::Local(text) => text,
        }
    }
}

/// Passes when the answer is 2xx. The caller limits the time.
pub(crate) async fn over_http(instance: Arc<Instance>, path: String) -> Result<(), CheckError> {
    let address = instance.address;
    let stream = TcpStream::connect(address).await.map_err(|error| {
        let text = format!("connecting to {address}: {error}");
        if is_local(&error) { CheckError::Local(text) } else { CheckError::Failed(text) }
    })?;
    ask(stream, address, &path).await.map_err(CheckError::Failed)
}

async fn ask(stream: TcpStream, address: SocketAddr, path: &str) -> Result<(), String> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| format!("speaking HTTP to {address}: {error}"))?;
    let request = Request::get(path)
        .header(header::HOST, address.to_string())
        .header(header::CONNECTION, "close")
        .header(header::USER_AGENT, "serviceos-health")
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("the check of {path}: {error}"))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| format!("GET {path}: {error}"))?;
        let status = response.status();
        // Read to its end, so that a replica that answers a head and then hangs does not pass.
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            frame.map_err(|error| format!("GET {path}: {error}"))?;
        }
        if status.is_success() { Ok(()) } else { Err(format!("GET {path} answered {status}")) }
    };
    tokio::pin!(connection, exchange);
    tokio::select! {
        result = &mut exchange => result,
        ended = &mut connection => match ended {
            // The connection may end in the same moment in which the answer is complete.
            Ok(()) => exchange.await,
            Err(error) => Err(format!("GET {path}: {error}")),
        },
    }
}
