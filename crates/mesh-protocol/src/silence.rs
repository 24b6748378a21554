//! Connections that stay open while nothing is said.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::sockopt;

/// How long a connection may be silent until the other end is asked whether it is there.
const IDLE: Duration = Duration::from_secs(15);
/// How long it is given to answer, and how often it is asked.
const ANSWER: Duration = Duration::from_secs(5);
const QUESTIONS: u32 = 3;

/// Has the kernel notice a machine or a network that is gone, within half a minute (tcp(7), `TCP_KEEPIDLE`).
///
/// # Errors
/// The kernel's; the connection can be used all the same.
pub fn notice_silence(stream: &impl AsFd) -> io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, IDLE)?;
    sockopt::set_tcp_keepintvl(stream, ANSWER)?;
    sockopt::set_tcp_keepcnt(stream, QUESTIONS)?;
    // What was sent and is not acknowledged keeps it from being asked.
    let longest = IDLE + ANSWER * QUESTIONS;
    sockopt::set_tcp_user_timeout(stream, u32::try_from(longest.as_millis()).unwrap_or(u32::MAX))?;
    Ok(())
}
