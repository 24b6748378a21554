//! The end of a connection on which the client may still be sending: closed at once, the kernel would answer what comes with
//! a reset, and the client might never see the answer that it was sent (RFC 9112 section 9.6).

use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use service_router::{Stream, Timer};
use tokio::time::Instant;

use crate::http1_client::Http1Client;

/// How long the client is listened to at the most.
const LONGEST: Duration = Duration::from_secs(2);
/// How much of what it sends is thrown away at the most: 1 MiB.
const MOST_BYTES: usize = 1 << 20;

/// Ends the sending, and reads until the client has ended its own.
pub(crate) async fn close(connection: Http1Client, mut timer: Timer) {
    // All else of the connection is dropped before it is read to its end: what it held is not held for that.
    let mut wire = {
        let connection = connection;
        connection.wire
    };
    let read_to_end = async {
        std::future::poll_fn(|context| wire.poll_shutdown(context)).await?;
        let mut read = 0;
        while read < MOST_BYTES {
            let pending = wire.peek().data().len();
            wire.input().consume(pending);
            match std::future::poll_fn(|context| wire.poll_fill(context)).await? {
                0 => break,
                more => read += more,
            }
        }
        Ok::<_, std::io::Error>(())
    };
    let _ended_or_too_late = timer.limit(Instant::now() + LONGEST, read_to_end).await;
}

/// Ends a connection so that the client sees that something is missing, also where an answer is everything until the end.
pub(crate) fn break_off(connection: Http1Client) {
    if let Stream::Plain(stream) = connection.wire.stream() {
        let _closed_gently_then = set_socket_linger(stream, Some(Duration::ZERO)).is_err();
    }
}
