//! Bytes in both directions between a client and a replica that have changed the protocol, until both have ended or nothing
//! moves.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use service_router::{Timer, Wire};
use tokio::time::Instant;

/// One direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Open,
    /// The sender has ended; the receiver is about to be told.
    Ending,
    Ended,
}

/// Why a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By one of its sides.
    Closed,
    /// Nothing moved any more.
    Idle,
}

/// Passes bytes on; returns how many the client was sent, and why that ended.
pub(crate) async fn run(
    client: &mut Wire,
    upstream: &mut Wire,
    timer: &mut Timer,
    idle: Duration,
) -> (u64, Ended) {
    let (mut up, mut down, mut sent) = (Direction::Open, Direction::Open, 0);
    let mut deadline = Instant::now() + idle;
    let ended = poll_fn(|context| {
        let mut moved = 0;
        let upward = pass(context, client, upstream, &mut up, &mut moved);
        let mut moved_down = 0;
        let downward = pass(context, upstream, client, &mut down, &mut moved_down);
        sent += moved_down;
        match (upward, downward) {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => return Poll::Ready(Ended::Closed),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(Ended::Closed),
            _ => {}
        }
        if moved + moved_down > 0 {
            deadline = Instant::now() + idle;
        }
        if timer.poll_reached(context, deadline) { Poll::Ready(Ended::Idle) } else { Poll::Pending }
    })
    .await;
    (sent, ended)
}

/// Passes on what there is; ready when this direction has ended.
fn pass(
    context: &mut Context<'_>,
    from: &mut Wire,
    to: &mut Wire,
    direction: &mut Direction,
    moved: &mut u64,
) -> Poll<std::io::Result<()>> {
    loop {
        while !from.peek().is_empty() {
            let written = ready!(to.poll_write(context, from.peek().data()))?;
            from.input().consume(written);
            *moved += written as u64;
        }
        match direction {
            Direction::Ended => return Poll::Ready(Ok(())),
            Direction::Ending => {
                ready!(to.poll_shutdown(context))?;
                *direction = Direction::Ended;
            }
            Direction::Open => {
                let filled = from.poll_fill(context);
                if filled.is_pending() {
                    ready!(to.poll_flush(context))?;
                    return Poll::Pending;
                }
                if let Poll::Ready(Ok(0)) = filled {
                    *direction = Direction::Ending;
                }
                let _more = ready!(filled)?;
            }
        }
    }
}
