//! Everything that can be in the way of a start: claimed before the first replica is launched, so that a start that is refused
//! leaves nothing behind.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use access::ApiKeys;
use anyhow::{Context, anyhow};
use configuration::Settings;
use control::AdminToken;
use edge_gateway::Listeners;
use observability::{AccessLog, AccessLogHandle};
use service_registry::Node;
use tokio::net::{TcpListener, UnixListener};
use types::Mode;

use super::adoption;
use super::data_dir::DataDir;
use super::handed_over::{Assigned, HandedOver};
use super::joining;
use super::provisioning::{self, Provisions};
use super::store::Stores;
use super::takeover::sockets::{Listening, Taken};
use super::takeover::standing;
use crate::failure::Failure;

/// Sockets that listen already.
pub(super) enum Sockets {
    /// Those that whoever has started this process holds.
    Given(HandedOver),
    /// Those of the process whose place this one takes.
    Taken(Taken),
}

/// What must be this process's alone, or can be in the way in another manner.
pub(super) struct Claims {
    pub(super) data_dir: DataDir,
    pub(super) listeners: Listeners,
    /// Whether clients find a socket of the gateway that is not this process's own, and wait there until it is answered.
    pub(super) gateway_is_held: bool,
    pub(super) admin_port: TcpListener,
    pub(super) admin: SocketAddr,
    pub(super) keys: ApiKeys,
    pub(super) mesh: joining::Claimed,
    pub(super) access_log: Option<(AccessLog, AccessLogHandle)>,
    pub(super) token: AdminToken,
    pub(super) socket: UnixListener,
    /// Where whoever takes over asks for it.
    pub(super) takeover: UnixListener,
    /// Everything that listens, once more.
    pub(super) listening: Listening,
}

impl Claims {
    /// Claims all of it, beside the data directory and the store, which say what is to be in force.
    ///
    /// # Errors
    /// The first thing that is in the way, and what to do about it.
    pub(super) async fn make(
        settings: &Settings,
        data_dir: DataDir,
        stores: Stores,
        node: Option<Node>,
        sockets: Sockets,
    ) -> Result<Self, Failure> {
        let gateway = &settings.gateway;
        let assigned = match sockets {
            Sockets::Given(sockets) => sockets.assign(&gateway.listen, settings.admin, settings.mesh)?,
            Sockets::Taken(sockets) => sockets.assign(&gateway.listen, settings.admin, settings.mesh),
        };
        let Assigned { gateway: places, gateway_is_held, admin, mesh, admin_socket, takeover } = assigned;
        let mut listeners = Listeners::open(places, gateway.workers).context("failed to open the gateway")?;
        let admin_port = match admin {
            Some(held) => taken(held).context("failed to open the admin port")?,
            None => bind(settings.admin, "the admin port").await?,
        };
        let admin = admin_port.local_addr().context("failed to open the admin port")?;
        let mesh_port = bind_mesh(settings.mesh, mesh, data_dir.run()).await?;
        let Provisions { keys, vault, grants } =
            provisioning::open(&data_dir, &stores.mesh, settings).await?;
        let mesh = joining::Claimed { stores, node, vault, grants, listener: mesh_port };
        let access_log = open_access_log(settings).await?;
        let token = AdminToken::create(&data_dir.run().join("admin.token"))
            .context("failed to write the admin token")?;
        let socket = unix(admin_socket, || control::bind_socket(data_dir.run()));
        let socket = socket.context("failed to open the admin socket")?;
        let takeover = unix(takeover, || standing::listen(data_dir.run()));
        let takeover = takeover.context("failed to open the socket for a takeover")?;
        let listening = Listening {
            gateway: gateway.listen.iter().copied().zip(listeners.give()).collect(),
            admin: (settings.admin, duplicate(&admin_port)?),
            mesh: (settings.mesh, duplicate(&mesh.listener)?),
            admin_socket: duplicate(&socket)?,
            takeover: duplicate(&takeover)?,
        };
        Ok(Self {
            data_dir,
            listeners,
            gateway_is_held,
            admin_port,
            admin,
            keys,
            mesh,
            access_log,
            token,
            socket,
            takeover,
            listening,
        })
    }
}

fn duplicate(socket: &impl AsFd) -> Result<OwnedFd, Failure> {
    let duplicate = socket.as_fd().try_clone_to_owned();
    Ok(duplicate.context("failed to hold a socket for whoever takes over")?)
}

/// One that was taken, else one that is opened.
fn unix(
    taken: Option<std::os::unix::net::UnixListener>,
    open: impl FnOnce() -> std::io::Result<UnixListener>,
) -> std::io::Result<UnixListener> {
    let Some(taken) = taken else { return open() };
    taken.set_nonblocking(true)?;
    UnixListener::from_std(taken)
}

/// On a thread of its own: the path may be a pipe that nobody reads, or on a disk that does not answer.
async fn open_access_log(settings: &Settings) -> Result<Option<(AccessLog, AccessLogHandle)>, Failure> {
    let Some(path) = settings.telemetry.access_log.clone() else { return Ok(None) };
    let opened = tokio::task::spawn_blocking(move || AccessLog::open(&path)).await;
    Ok(Some(opened.context("failed to open the access log")?.context("failed to open the access log")?))
}

/// A port that the system chooses is chosen once: replicas that an `up` has left know the mesh by it. Where it is somebody
/// else's by now, it is another one, and they are ended.
async fn bind_mesh(
    address: SocketAddr,
    held: Option<std::net::TcpListener>,
    run: &Path,
) -> Result<TcpListener, Failure> {
    let before = adoption::mesh_address_before(run);
    let before = before.filter(|before| address.port() == 0 && before.ip() == address.ip());
    let listener = match (held, before) {
        (Some(held), _) => Ok(taken(held).context("failed to open the mesh port")?),
        (None, Some(before)) => match TcpListener::bind(before).await {
            Ok(listener) => Ok(listener),
            Err(error) => {
                tracing::info!(%before, %error, "the mesh port of the last start is not free: another is taken");
                bind(address, "the mesh port").await
            }
        },
        (None, None) => bind(address, "the mesh port").await,
    }?;
    let bound = listener.local_addr().context("failed to open the mesh port")?;
    adoption::keep_mesh_address(run, bound).context("failed to write down the mesh port")?;
    Ok(listener)
}

/// A socket that was handed over.
fn taken(held: std::net::TcpListener) -> std::io::Result<TcpListener> {
    held.set_nonblocking(true)?;
    TcpListener::from_std(held)
}

async fn bind(address: SocketAddr, what: &str) -> Result<TcpListener, Failure> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|error| {
        let advice = match error.kind() {
            ErrorKind::AddrInUse => {
                "is in use by another process; stop that one (`ss -ltnp` shows it) or choose another address"
                    .to_owned()
            }
            ErrorKind::AddrNotAvailable => "is not an address of this machine; choose one that is".to_owned(),
            _ => format!("cannot be listened on: {error}"),
        };
        anyhow!("failed to open {what}: {address} {advice}").into()
    })
}

/// In production nobody may believe an authority that has nothing to show for itself.
pub(super) fn attested_authority(mode: Mode) -> Result<(), Failure> {
    match mode {
        Mode::Development => Ok(()),
        Mode::Production => Err(Failure::Configuration(
            "serviceos: AUTHORITY_NOT_ATTESTED: in production the authority itself runs in a trusted execution environment and \
             shows evidence of that; there is none here that this version of serviceos can get evidence from. Nothing was \
             started. For development leave `mode` out; `serviceos config validate` checks the file for production"
                .into(),
        )),
    }
}
