//! Connections that asked once and then only stay.

use std::net::SocketAddr;

use anyhow::{Context, bail};
use tokio::net::TcpStream;

use crate::client::{Connection, get};
use crate::subject::Running;

/// Opens `count` connections, one after the other, each with one request. They are open until the value is dropped.
///
/// # Errors
///
/// A connection fails or is not answered with 200.
pub(crate) async fn open(running: &Running, count: usize) -> anyhow::Result<Vec<TcpStream>> {
    let request = get(running.path, &running.key);
    let mut open = Vec::with_capacity(count);
    for number in 0..count {
        let stream =
            ask_once(running.address, &request).await.with_context(|| format!("connection {number}"))?;
        open.push(stream);
    }
    Ok(open)
}

async fn ask_once(address: SocketAddr, request: &[u8]) -> anyhow::Result<TcpStream> {
    let mut connection = Connection::new(TcpStream::connect(address).await?);
    let status = connection.exchange(request).await?;
    if status != 200 {
        bail!("answered {status}");
    }
    Ok(connection.stream)
}

/// How many of them the proxy has closed meanwhile.
pub(crate) fn closed(open: &[TcpStream]) -> usize {
    let is_closed = |stream: &&TcpStream| {
        let read = stream.try_read(&mut [0; 1]);
        !matches!(read, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    };
    open.iter().filter(is_closed).count()
}
