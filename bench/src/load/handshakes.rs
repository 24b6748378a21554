//! A closed loop of connections: TCP, TLS, one small answer, goodbye.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use rustls::{ClientConfig, HandshakeKind};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::certificate::{Certificate, Sessions, server_name};
use crate::client::{Connection, get};
use crate::subject::Running;

const CLIENTS: usize = 16;
/// The first connections of a run have nothing to resume.
const RESUMED_AT_LEAST: f64 = 0.98;

/// A connection with TLS.
///
/// # Errors
///
/// The connection or the handshake fails.
pub(crate) async fn connect(
    address: SocketAddr,
    client: &Arc<ClientConfig>,
) -> anyhow::Result<Connection<TlsStream<TcpStream>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let connector = TlsConnector::from(Arc::clone(client));
    Ok(Connection::new(connector.connect(server_name()?, stream).await?))
}

/// Connects again and again for `length`: how many connections were answered.
///
/// # Errors
///
/// A connection fails, is not answered with 200, or the handshakes are not of the kind that was wanted.
pub(crate) async fn run(
    running: &Running,
    certificate: &Certificate,
    sessions: Sessions,
    length: Duration,
) -> anyhow::Result<u64> {
    let request: Arc<[u8]> = get(running.path, &running.key).into();
    let deadline = Instant::now() + length;
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        // Each with tickets of its own: one that all share would run out of them when all connect at once.
        let client = certificate.client(sessions)?;
        clients.spawn_local(repeat(running.address, client, Arc::clone(&request), deadline));
    }
    let (mut all, mut resumed) = (0, 0);
    while let Some(counts) = clients.join_next().await {
        let (of_one, resumed_of_one) = counts??;
        all += of_one;
        resumed += resumed_of_one;
    }
    let share = resumed as f64 / all as f64;
    match sessions {
        Sessions::Remembered if share < RESUMED_AT_LEAST => {
            bail!("only {resumed} of {all} handshakes were resumed");
        }
        Sessions::Forgotten if resumed > 0 => bail!("{resumed} of {all} handshakes were resumed"),
        _ => Ok(all),
    }
}

/// How many connections, and how many of them resumed a session.
async fn repeat(
    address: SocketAddr,
    client: Arc<ClientConfig>,
    request: Arc<[u8]>,
    deadline: Instant,
) -> anyhow::Result<(u64, u64)> {
    let (mut all, mut resumed) = (0, 0);
    while Instant::now() < deadline {
        let mut connection = connect(address, &client).await?;
        let status = connection.exchange(&request).await?;
        if status != 200 {
            bail!("answered {status}");
        }
        all += 1;
        // Known only now: a session ticket of TLS 1.3 comes after the handshake.
        if connection.stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed) {
            resumed += 1;
        }
    }
    Ok((all, resumed))
}
