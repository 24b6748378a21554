//! An open loop over HTTP/1.1: requests are due at a fixed rate, whether earlier ones were answered or not.
//!
//! A latency counts from when the request was due, so a proxy that stalls does not look better for being asked less
//! (coordinated omission). Requests wait for a free connection where there is none.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::bail;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::client::Connection;
use crate::metric::{Metric, Sample, percentile};

/// Below, the timer itself would be the load.
const SHORTEST_TICK: Duration = Duration::from_micros(50);
/// A loop that falls behind by more has not kept its rate.
const KEPT_AT_LEAST: f64 = 0.98;

/// What is sent, and how often.
#[derive(Debug, Clone)]
pub(crate) struct OpenLoop {
    pub(crate) address: SocketAddr,
    pub(crate) request: Vec<u8>,
    pub(crate) per_second: f64,
    pub(crate) connections: usize,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct OpenLoopOutcome {
    /// In microseconds, sorted.
    latencies: Vec<u32>,
    elapsed: Duration,
}

impl OpenLoopOutcome {
    pub(crate) fn requests(&self) -> u64 {
        self.latencies.len() as u64
    }

    pub(crate) fn sample(&self) -> Sample {
        Sample::from([
            (Metric::RequestsPerSecond, self.latencies.len() as f64 / self.elapsed.as_secs_f64()),
            (Metric::P50Micros, percentile(&self.latencies, 0.5)),
            (Metric::P99Micros, percentile(&self.latencies, 0.99)),
            (Metric::P999Micros, percentile(&self.latencies, 0.999)),
        ])
    }
}

/// Shared by the clock and the connections.
#[derive(Default)]
struct Queue {
    /// Connections without work, the last used first.
    idle: Vec<oneshot::Sender<Instant>>,
    /// When requests were due that nobody has taken.
    due: VecDeque<Instant>,
    /// Nothing more will be due.
    over: bool,
    latencies: Vec<u32>,
}

impl OpenLoop {
    /// Sends for `length`, then waits for the answers.
    ///
    /// # Errors
    ///
    /// A request fails or is not answered with 200, or the rate is not kept.
    pub(crate) async fn run(&self, length: Duration) -> anyhow::Result<OpenLoopOutcome> {
        let queue = Rc::new(RefCell::new(Queue::default()));
        let mut clients = JoinSet::new();
        for _ in 0..self.connections {
            let stream = TcpStream::connect(self.address).await?;
            stream.set_nodelay(true)?;
            let client = Client {
                connection: Connection::new(stream),
                request: self.request.clone(),
                queue: Rc::clone(&queue),
            };
            clients.spawn_local(client.serve());
        }
        let began = Instant::now();
        let sent = self.send(&queue, began, length).await?;
        queue.borrow_mut().finish();
        while let Some(ended) = clients.join_next().await {
            ended??;
        }
        let mut latencies = std::mem::take(&mut queue.borrow_mut().latencies);
        let elapsed = began.elapsed();
        latencies.sort_unstable();
        let kept = latencies.len() as f64 / (self.per_second * elapsed.as_secs_f64());
        if latencies.len() as u64 != sent || kept < KEPT_AT_LEAST {
            bail!("only {:.0} % of {:.0} requests a second were answered", kept * 100.0, self.per_second);
        }
        Ok(OpenLoopOutcome { latencies, elapsed })
    }

    /// Hands out requests when they are due: how many.
    async fn send(&self, queue: &RefCell<Queue>, began: Instant, length: Duration) -> anyhow::Result<u64> {
        let tick = Duration::from_secs_f64(1.0 / self.per_second).max(SHORTEST_TICK);
        #[expect(
            deprecated,
            reason = "what replaces it is unsafe to call; an OwnedFd keeps what that demands"
        )]
        let timer = AsyncFd::new(ticks(tick)?)?;
        let mut sent = 0;
        while began.elapsed() < length {
            let mut ready = timer.readable().await?;
            // How often it expired does not matter, the clock says what is due.
            let _expirations = ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut [0_u8; 8])?));
            let due = (began.elapsed().as_secs_f64() * self.per_second) as u64;
            let mut queue = queue.borrow_mut();
            while sent < due {
                queue.hand_out(began + Duration::from_secs_f64(sent as f64 / self.per_second));
                sent += 1;
            }
        }
        Ok(sent)
    }
}

impl Queue {
    fn hand_out(&mut self, due: Instant) {
        let Some(client) = self.idle.pop() else {
            self.due.push_back(due);
            return;
        };
        // Refused only by a client that failed, whose error ends the run.
        let _failed = client.send(due);
    }

    /// Clients without work end.
    fn finish(&mut self) {
        self.over = true;
        self.idle.clear();
    }
}

struct Client {
    connection: Connection<TcpStream>,
    request: Vec<u8>,
    queue: Rc<RefCell<Queue>>,
}

impl Client {
    async fn serve(mut self) -> anyhow::Result<()> {
        while let Some(due) = self.next().await {
            let status = self.connection.exchange(&self.request).await?;
            if status != 200 {
                bail!("answered {status}");
            }
            let micros = u32::try_from(due.elapsed().as_micros()).unwrap_or(u32::MAX);
            self.queue.borrow_mut().latencies.push(micros);
        }
        Ok(())
    }

    /// When the next request was due. None when there will be no more.
    async fn next(&self) -> Option<Instant> {
        let handed_out = {
            let mut queue = self.queue.borrow_mut();
            if let Some(due) = queue.due.pop_front() {
                return Some(due);
            }
            if queue.over {
                return None;
            }
            let (sender, receiver) = oneshot::channel();
            queue.idle.push(sender);
            receiver
        };
        handed_out.await.ok()
    }
}

fn ticks(every: Duration) -> anyhow::Result<OwnedFd> {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
    let every = Timespec::try_from(every)?;
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: every, it_value: every })?;
    Ok(timer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_goes_to_a_free_connection_and_else_waits_with_its_time() {
        let mut queue = Queue::default();
        let (sender, mut free) = oneshot::channel();
        queue.idle.push(sender);
        let first = Instant::now();
        let second = first + Duration::from_micros(50);
        queue.hand_out(first);
        queue.hand_out(second);
        assert_eq!(free.try_recv(), Ok(first));
        assert_eq!(queue.due, [second]);
    }

    #[test]
    fn connections_without_work_end_with_the_run() {
        let mut queue = Queue::default();
        let (sender, mut free) = oneshot::channel();
        queue.idle.push(sender);
        queue.finish();
        assert!(free.try_recv().is_err());
        assert!(queue.over);
    }
}
