//! Single calls over HTTP/2 without TLS, to see that a proxy does what it is then loaded with.

use std::net::SocketAddr;

use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use tokio::net::TcpStream;

/// Where the upstreams' echo is.
pub(crate) const PATH: &str = "/bench.Bench/Echo";

/// One gRPC message: no compression, 16 bytes.
pub(crate) fn message() -> Bytes {
    Bytes::from_static(b"\0\0\0\0\x10sixteen bytes ..")
}

/// Calls the echo, and sees that the message comes back with status 0.
///
/// # Errors
///
/// The call fails, or is answered otherwise.
pub(crate) async fn call(address: SocketAddr, key: &str) -> anyhow::Result<()> {
    let request = Request::post(format!("http://{address}{PATH}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("x-api-key", key)
        .body(())?;
    let (response, body, trailers) = send(address, request, message()).await?;
    // A refusal has its status in the head.
    let status = trailers.get("grpc-status").or_else(|| response.headers().get("grpc-status"));
    if status.is_none_or(|status| status != "0") || body != message() {
        bail!("the call is answered {} with grpc-status {status:?}", response.status());
    }
    Ok(())
}

/// The status of a GET.
///
/// # Errors
///
/// The request fails.
pub(crate) async fn get(address: SocketAddr, path: &str, key: &str) -> anyhow::Result<u16> {
    let request = Request::get(format!("http://{address}{path}")).header("x-api-key", key).body(())?;
    let (response, ..) = send(address, request, Bytes::new()).await?;
    Ok(response.status().as_u16())
}

async fn send(
    address: SocketAddr,
    request: Request<()>,
    body: Bytes,
) -> anyhow::Result<(Response<()>, BytesMut, HeaderMap)> {
    let (client, connection) = h2::client::handshake(TcpStream::connect(address).await?).await?;
    let connection = tokio::spawn(connection);
    let mut client = client.ready().await?;
    let (response, mut sending) = client.send_request(request, body.is_empty())?;
    if !body.is_empty() {
        sending.send_data(body, true)?;
    }
    let (head, mut incoming) = response.await.context("no answer over HTTP/2")?.into_parts();
    let mut body = BytesMut::new();
    while let Some(chunk) = incoming.data().await {
        let chunk = chunk?;
        incoming.flow_control().release_capacity(chunk.len())?;
        body.extend_from_slice(&chunk);
    }
    let trailers = incoming.trailers().await?.unwrap_or_default();
    connection.abort();
    Ok((Response::from_parts(head, ()), body, trailers))
}
