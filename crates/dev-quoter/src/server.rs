//! The quoter as a process: who may ask for what, over which socket.
//!
//! Evidence is given over sockets that were handed over, and over nothing else. A control connection is either the stream
//! that the parent started the quoter with, or one over the named socket that begins with the control key. It hands over
//! registration sockets, each for one launcher; a launcher's one message hands over the evidence socket of its process, which
//! is served while that process lives. What is in `/proc` is never asked: it is the word of whoever it is about.

mod control;
mod process;

use std::future::Future;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use mesh_protocol::{
    CONTROL_KEY_BYTES, QuoterAnswer, QuoterRefusal, decode_control_key, socket_path, write_frame,
};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use crate::{DevQuoterError, Quoter, file};
use process::Process;

/// Processes that are registered, or may still be over a registration socket that was handed over. Each takes two
/// descriptors.
pub const MAX_PROCESSES: usize = 4096;
/// Control connections, with those that have not shown the key yet.
pub const MAX_CONTROL_CONNECTIONS: usize = 16;
/// Until a connection over the named socket must have shown the key.
const KEY_LIMIT: Duration = Duration::from_secs(5);
/// How long a client may take to read its answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Tasks that wait to be begun.
const MAX_ORDERS: usize = 64;
/// Once there is no descriptor left for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where the quoter can be found by whoever did not start it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The named socket; one left by an earlier run is replaced.
    pub socket: PathBuf,
    /// The file of the control key, which is another at each start.
    pub control_key: PathBuf,
}

/// Who started the quoter.
#[derive(Debug)]
pub struct Parent {
    /// The first control connection, which needs no key since it was handed over.
    pub stream: StdUnixStream,
    /// Whether the quoter ends when the parent hangs up, as it does when it is killed; else whoever comes next may find it.
    pub takes_it_along: bool,
}

/// What all tasks share.
struct Shared {
    quoter: Mutex<Quoter>,
    control_key: Zeroizing<[u8; CONTROL_KEY_BYTES]>,
    processes: Arc<Semaphore>,
    control_connections: Arc<Semaphore>,
    orders: mpsc::Sender<Order>,
}

/// What a task wants of the one that owns them all.
enum Order {
    /// Wait for the message of a launcher.
    Await(UnixStream, OwnedSemaphorePermit),
    /// Serve a registered process.
    Serve(Process, OwnedSemaphorePermit),
    /// End.
    Stop,
}

/// Serves until `shutdown` completes, a control connection says stop, or a parent hangs up that takes it along.
///
/// # Errors
/// The socket or the control key's file cannot be made.
pub async fn run(
    quoter: Quoter,
    place: &Place,
    parent: Option<Parent>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), DevQuoterError> {
    serve(quoter, place, parent, shutdown, MAX_PROCESSES).await
}

async fn serve(
    quoter: Quoter,
    place: &Place,
    parent: Option<Parent>,
    shutdown: impl Future<Output = ()>,
    processes: usize,
) -> Result<(), DevQuoterError> {
    let (shared, mut orders) = Shared::new(quoter, processes)?;
    file::write(&place.control_key, &*shared.control_key)?;
    let listener =
        bind(&place.socket).map_err(|error| DevQuoterError::Socket { path: place.socket.clone(), error })?;
    let mut tasks = JoinSet::new();
    if let Some(Parent { stream, takes_it_along }) = parent {
        let stream = from_std(stream)
            .map_err(|error| DevQuoterError::Socket { path: "standard input".into(), error })?;
        let permit = Arc::clone(&shared.control_connections).try_acquire_owned();
        let permit = permit.expect("it is the first connection");
        let shared = Arc::clone(&shared);
        tasks.spawn(async move {
            control::serve(stream, Arc::clone(&shared), permit).await;
            if takes_it_along {
                shared.order(Order::Stop).await;
            }
        });
    }
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            order = orders.recv() => match order {
                Some(Order::Await(stream, permit)) => {
                    tasks.spawn(process::registration(stream, Arc::clone(&shared), permit));
                }
                Some(Order::Serve(process, permit)) => {
                    tasks.spawn(process::serve(process, Arc::clone(&shared), permit));
                }
                Some(Order::Stop) | None => break,
            },
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => accept(stream, &shared, &mut tasks),
                // Out of descriptors, most likely: something must end before another can begin.
                Err(error) => {
                    tracing::warn!(%error, "accepting a control connection failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_ended) = tasks.join_next(), if !tasks.is_empty() => {}
        }
    }
    tasks.shutdown().await;
    // Whoever finds them there would only learn that nobody listens.
    let _gone_already = (std::fs::remove_file(&place.socket), std::fs::remove_file(&place.control_key));
    Ok(())
}

fn accept(stream: UnixStream, shared: &Arc<Shared>, tasks: &mut JoinSet<()>) {
    match Arc::clone(&shared.control_connections).try_acquire_owned() {
        Ok(permit) => {
            tasks.spawn(control::connection(stream, Arc::clone(shared), permit));
        }
        Err(_) => {
            tracing::warn!("a control connection was refused: there are {MAX_CONTROL_CONNECTIONS}");
            let answer = QuoterAnswer::refused(QuoterRefusal::Full, "too many control connections").encode();
            let length = u32::try_from(answer.len()).expect("a refusal is short").to_be_bytes();
            // It is the first thing on a new connection, so there is room for it.
            let _said_or_not = stream.try_write(&[&length, answer.as_slice()].concat());
        }
    }
}

impl Shared {
    fn new(quoter: Quoter, processes: usize) -> Result<(Arc<Self>, mpsc::Receiver<Order>), DevQuoterError> {
        let mut control_key = Zeroizing::new([0; CONTROL_KEY_BYTES]);
        aws_lc_rs::rand::fill(&mut *control_key)
            .map_err(|_| DevQuoterError::Crypto("making the control key"))?;
        let (orders, received) = mpsc::channel(MAX_ORDERS);
        let shared = Self {
            quoter: Mutex::new(quoter),
            control_key,
            processes: Arc::new(Semaphore::new(processes)),
            control_connections: Arc::new(Semaphore::new(MAX_CONTROL_CONNECTIONS)),
            orders,
        };
        Ok((Arc::new(shared), received))
    }

    fn is_control_key(&self, payload: &[u8]) -> bool {
        decode_control_key(payload)
            .is_some_and(|key| verify_slices_are_equal(key, &*self.control_key).is_ok())
    }

    fn root(&self) -> Vec<u8> {
        self.quoter.lock().unwrap_or_else(PoisonError::into_inner).root().to_vec()
    }

    fn evidence(&self, report_data: [u8; 64], workload: [u8; 32]) -> QuoterAnswer {
        let mut quoter = self.quoter.lock().unwrap_or_else(PoisonError::into_inner);
        match quoter.evidence(report_data, workload, unix_now()) {
            Ok(evidence) => QuoterAnswer::evidence(&evidence),
            Err(error) => QuoterAnswer::refused(QuoterRefusal::Failed, error.to_string()),
        }
    }

    async fn order(&self, order: Order) {
        // Nobody takes orders any more once the quoter ends.
        let _taken = self.orders.send(order).await.is_ok();
    }
}

/// Whether the answer was taken.
async fn answer(stream: &mut UnixStream, answer: &QuoterAnswer) -> bool {
    matches!(tokio::time::timeout(ANSWER_LIMIT, write_frame(stream, &answer.encode())).await, Ok(Ok(())))
}

fn bind(socket: &Path) -> io::Result<UnixListener> {
    let (_held, path) = socket_path(socket)?;
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

fn from_std(stream: StdUnixStream) -> io::Result<UnixStream> {
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
