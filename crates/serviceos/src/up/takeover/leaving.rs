//! The old process once it has let go of everything but its clients: it hands over, goes by what the new one sees, and finishes what
//! is in flight.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use access::Nonces;
use anyhow::{Context, Result, bail};
use edge_gateway::Gateway;
use mesh_protocol::{MAX_DESCRIPTORS, send_with_descriptors};
use observability::AccessLog;
use service_registry::{Change, Channel, LifecycleState, MeshPeer, Registry, Replica};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::timeout;
use types::ReplicaId;

use super::asking::TakenOver;
use super::message::{Certificates, Handed, NoncesPart, Seen, SeenReplica, ToNew, ToOld, receive, send};
use super::sockets::{Listening, Taken};
use super::standing::Asker;
use super::{ON_ITS_WAY, SERVING};
use crate::signals::Orders;
use crate::up::LAST_LINES;
use crate::up::background::Background;
use crate::up::data_dir::DataDir;

/// How often the new one is told how many requests replicas have of this one.
const TOLD_EVERY: Duration = Duration::from_millis(200);
/// Messages of the new one that wait to be looked at.
const QUEUED: usize = 4;

/// What serves on until the last request has ended.
pub(in super::super) struct Leaving {
    pub(in super::super) gateway: Gateway,
    /// What runs beside it.
    pub(in super::super) beside: Background,
    pub(in super::super) access_log: Option<AccessLog>,
    pub(in super::super) registry: Registry,
    pub(in super::super) nonces: Arc<Nonces>,
    /// How long what is in flight may take.
    pub(in super::super) drain: Duration,
}

/// What is handed over, and what is kept to go on with where nobody takes it.
pub(in super::super) struct HandingOver {
    pub(in super::super) listening: Listening,
    pub(in super::super) data_dir: DataDir,
    pub(in super::super) read: BTreeMap<ReplicaId, u64>,
    pub(in super::super) manager: Option<(String, Option<Duration>)>,
    pub(in super::super) began: Instant,
}

/// The one that serves now.
pub(in super::super) struct Successor {
    said: mpsc::Receiver<ToOld>,
    writing: OwnedWriteHalf,
}

impl HandingOver {
    /// Hands everything over to whoever has asked, and waits until it serves.
    ///
    /// # Errors
    /// It does not; it has ended by then.
    pub(in super::super) async fn to(
        &self,
        connection: UnixStream,
        process: &Asker,
        leaving: &Leaving,
    ) -> Result<Successor> {
        let proven = async {
            let connection = self.give(connection, &leaving.registry).await?;
            let mut successor = Successor::of(connection);
            successor.is_proven().await?;
            Ok(successor)
        };
        let served = async {
            let mut successor = process.within(SERVING, proven).await?;
            process.within(ON_ITS_WAY, successor.serves(&leaving.nonces)).await?;
            Ok(successor)
        };
        let served = served.await;
        if served.is_err() {
            process.end().await;
        }
        served
    }

    async fn give(&self, mut connection: UnixStream, registry: &Registry) -> Result<UnixStream> {
        let (handed, descriptors) = self.handed(registry)?;
        timeout(ON_ITS_WAY, send(&mut connection, &ToNew::Handed(Box::new(handed))))
            .await
            .context("it does not listen")??;
        let connection = connection.into_std()?;
        let sending = tokio::task::spawn_blocking(move || -> Result<StdUnixStream> {
            let mut connection = connection;
            connection.set_nonblocking(false)?;
            connection.set_write_timeout(Some(ON_ITS_WAY))?;
            for some in descriptors.chunks(MAX_DESCRIPTORS) {
                let some: Vec<BorrowedFd<'_>> = some.iter().map(AsFd::as_fd).collect();
                send_with_descriptors(&mut connection, b"", &some)?;
            }
            connection.set_write_timeout(None)?;
            connection.set_nonblocking(true)?;
            Ok(connection)
        });
        let connection = sending.await.context("failed to hand over")?.context("failed to hand over")?;
        Ok(UnixStream::from_std(connection)?)
    }

    fn handed(&self, registry: &Registry) -> Result<(Handed, Vec<OwnedFd>)> {
        let (groups, descriptors) = self.listening.groups(self.data_dir.lock());
        let descriptors = descriptors.iter().map(BorrowedFd::try_clone_to_owned).collect::<Result<_, _>>();
        let snapshot = registry.snapshot();
        let replicas = snapshot.services.iter().flat_map(|service| &service.replicas);
        let serving = replicas.filter(|replica| replica.selectable().is_ok());
        let (notify, watchdog) = self.manager.clone().unzip();
        let watchdog_usec = watchdog.flatten().and_then(|time| u64::try_from(time.as_micros()).ok());
        let handed = Handed {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            groups,
            selectable: serving.map(|replica| replica.id.clone()).collect(),
            read: self.read.clone(),
            notify,
            watchdog_usec,
        };
        Ok((handed, descriptors.context("failed to hand over")?))
    }

    /// Has this process take its own place, since nobody else did: what it begins with, and who asks.
    pub(in super::super) fn to_itself(&self, registry: &Registry) -> Result<(TakenOver, UnixStream)> {
        let (ours, theirs) = StdUnixStream::pair().context("failed to take the place back")?;
        for end in [&ours, &theirs] {
            end.set_nonblocking(true)?;
        }
        let (handed, descriptors) = self.handed(registry)?;
        let sockets = Taken::of(&handed.groups, descriptors)?;
        let taken = TakenOver::of(theirs, handed, sockets, self.data_dir.root(), self.began)?;
        Ok((taken, UnixStream::from_std(ours)?))
    }
}

impl Successor {
    fn of(connection: UnixStream) -> Self {
        let (reading, writing) = connection.into_split();
        let (heard, said) = mpsc::channel(QUEUED);
        tokio::spawn(listen(reading, heard));
        Self { said, writing }
    }

    /// Waits until its replicas are proven.
    async fn is_proven(&mut self) -> Result<()> {
        self.says(&ToOld::Proven).await
    }

    /// Hands over what it needs to serve, and waits until it does. From here on it may have requests.
    async fn serves(&mut self, nonces: &Nonces) -> Result<()> {
        for part in NoncesPart::of(&nonces.hand_over()) {
            let part = ToNew::Nonces(Box::new(part));
            timeout(ON_ITS_WAY, send(&mut self.writing, &part)).await.context("it does not listen")??;
        }
        self.says(&ToOld::Serving).await
    }

    async fn says(&mut self, expected: &ToOld) -> Result<()> {
        match self.said.recv().await {
            Some(said) if said == *expected => Ok(()),
            Some(_other) => bail!("it said something else than was expected"),
            None => bail!("it ended before it served"),
        }
    }
}

/// Reads to the end; what is heard ends with it, or when nobody wants to hear it any more.
async fn listen(mut reading: OwnedReadHalf, heard: mpsc::Sender<ToOld>) {
    loop {
        tokio::select! {
            message = receive::<ToOld>(&mut reading) => match message {
                Ok(message) => if heard.send(message).await.is_err() {
                    return;
                },
                Err(_ended) => return,
            },
            () = heard.closed() => return,
        }
    }
}

impl Leaving {
    /// Waits until this process has taken its own place, and finishes.
    pub(in super::super) async fn finish_here(self, connection: UnixStream) {
        let mut successor = Successor::of(connection);
        let served = async {
            successor.is_proven().await?;
            successor.serves(&self.nonces).await
        };
        match served.await {
            Ok(()) => self.finish_unless(successor, None).await,
            Err(error) => tracing::error!("the place that nobody has taken was not taken back: {error:#}"),
        }
    }

    /// Accepts nobody any more, and returns when all that was in flight is over, or what is left of it was cut off: nobody comes to
    /// serve in the place of this one.
    pub(in super::super) async fn end(mut self, orders: &mut Orders) {
        self.gateway.drain(self.drain);
        loop {
            tokio::select! {
                () = self.gateway.ended() => break,
                () = orders.again() => self.gateway.drain(Duration::ZERO),
            }
        }
        self.close().await;
    }

    /// Accepts nobody any more, and returns when all that was in flight is over. A second order means that somebody does not want to
    /// wait for that; the first is what is done already.
    pub(in super::super) async fn finish(self, successor: Successor, orders: &mut Orders) {
        self.finish_unless(successor, Some(orders)).await;
    }

    async fn finish_unless(mut self, successor: Successor, mut orders: Option<&mut Orders>) {
        self.gateway.leave(self.drain);
        let Successor { mut said, mut writing } = successor;
        let mut seen = Seen::default();
        let mut ticks = tokio::time::interval(TOLD_EVERY);
        let (mut is_there, mut given) = (true, 0);
        loop {
            tokio::select! {
                () = self.gateway.ended() => break,
                () = ordered(&mut orders) => {
                    given += 1;
                    if given > 1 {
                        self.gateway.drain(Duration::ZERO);
                    } else {
                        tracing::info!("what is in flight is finished already; once more stops at once");
                    }
                }
                message = said.recv(), if is_there => match message {
                    Some(ToOld::Seen(part)) => {
                        seen.replicas.extend(part.replicas);
                        if !part.more {
                            go_by(&self.registry, std::mem::take(&mut seen.replicas));
                        }
                    }
                    Some(_other) => {}
                    None => {
                        is_there = false;
                        tracing::warn!("the serviceos that has taken over says nothing any more; what is in flight is finished");
                    }
                },
                _ = ticks.tick(), if is_there => {
                    let counts = ToNew::InFlight(in_flight(&self.registry));
                    is_there = timeout(ON_ITS_WAY, send(&mut writing, &counts)).await.is_ok_and(|sent| sent.is_ok());
                }
            }
        }
        self.close().await;
    }

    /// Ends what ran beside the gateway.
    async fn close(mut self) {
        self.beside.stop().await;
        if let Some(log) = self.access_log {
            let written = tokio::task::spawn_blocking(move || log.finish());
            if timeout(LAST_LINES, written).await.is_err() {
                tracing::warn!("the access log's last lines could not be written in time");
            }
        }
    }
}

async fn ordered(orders: &mut Option<&mut Orders>) {
    match orders {
        Some(orders) => {
            orders.first().await;
        }
        None => std::future::pending().await,
    }
}

fn in_flight(registry: &Registry) -> Vec<(ReplicaId, SocketAddr, usize)> {
    let snapshot = registry.snapshot();
    let replicas = snapshot.services.iter().flat_map(|service| &service.replicas);
    let counts = replicas.filter_map(|replica| {
        let instance = replica.instance.as_ref()?;
        let count = instance.in_flight.count();
        (count > 0).then(|| (replica.id.clone(), instance.address, count))
    });
    counts.collect()
}

/// What the new one sees counts here too: its drivers and its authority write the facts now. What has ceased to serve once does not
/// come back here.
fn go_by(registry: &Registry, seen: Vec<SeenReplica>) {
    let seen: BTreeMap<_, _> = seen.into_iter().map(|seen| (seen.replica.clone(), seen)).collect();
    for service in &registry.snapshot().services {
        for replica in &service.replicas {
            go_by_one(registry, replica, seen.get(&replica.id));
        }
    }
}

fn go_by_one(registry: &Registry, replica: &Replica, seen: Option<&SeenReplica>) {
    let Some(instance) = &replica.instance else { return };
    // At another address it is another run.
    let is_the_same = seen.is_some_and(|seen| seen.address == Some(instance.address));
    if !(is_the_same && seen.is_some_and(|seen| seen.serves)) {
        registry.update(&replica.id, |replica| match replica.state {
            LifecycleState::Ready => {
                replica.state = LifecycleState::Draining;
                Change::Made
            }
            LifecycleState::Starting | LifecycleState::Draining | LifecycleState::Stopped => Change::None,
        });
    }
    // One that the new one does not want is ended by it once it has no request of this one.
    if let (Channel::Mesh(peer), Some(seen)) = (&instance.channel, seen) {
        match seen.certificates.as_ref().filter(|_| is_the_same) {
            Some(certificates) => renew(peer, certificates),
            None => peer.end(),
        }
    }
}

fn renew(peer: &MeshPeer, certificates: &Certificates) {
    let digest = |bytes: &mesh_protocol::Bytes| <[u8; 32]>::try_from(bytes.0.as_slice()).ok();
    let former = certificates.former.as_ref().and_then(|(leaf, until)| Some((digest(leaf)?, *until)));
    if let (Some(leaf), Some(former)) = (digest(&certificates.leaf), former) {
        peer.renewed(leaf, former);
    }
}
