//! What listens: held twice, so that it can be handed to whoever takes the place of this process while it is served on.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;

use anyhow::{Context, Result, bail};
use edge_gateway::{Given, GivenSockets, Place};
use rustix::net::sockopt::socket_acceptconn;

use super::super::handed_over::Assigned;
use super::message::{Group, What};

/// More than there are: each worker has one at each address.
pub(super) const MAX_DESCRIPTORS: usize = 16_384;

/// Duplicates of everything that listens here. They must be gone before it is closed for good, or who connects would wait for
/// nobody.
pub(in super::super) struct Listening {
    /// With what the configuration says of the address.
    pub(in super::super) gateway: Vec<(SocketAddr, Given)>,
    pub(in super::super) admin: (SocketAddr, OwnedFd),
    pub(in super::super) mesh: (SocketAddr, OwnedFd),
    pub(in super::super) admin_socket: OwnedFd,
    pub(in super::super) takeover: OwnedFd,
}

impl Listening {
    /// What is handed over, the lock first.
    pub(super) fn groups<'a>(&'a self, lock: &'a File) -> (Vec<Group>, Vec<BorrowedFd<'a>>) {
        let (mut groups, mut descriptors) = (Vec::new(), Vec::new());
        let mut add = |what, wanted, of: Vec<BorrowedFd<'a>>| {
            groups.push(Group { what, wanted, count: of.len() });
            descriptors.extend(of);
        };
        add(What::Lock, None, vec![lock.as_fd()]);
        for (wanted, given) in &self.gateway {
            match &given.sockets {
                GivenSockets::Shared(socket) => add(What::GatewayShared, Some(*wanted), vec![socket.as_fd()]),
                GivenSockets::Own(sockets) => {
                    add(What::Gateway, Some(*wanted), sockets.iter().map(AsFd::as_fd).collect());
                }
            }
        }
        add(What::Admin, Some(self.admin.0), vec![self.admin.1.as_fd()]);
        add(What::Mesh, Some(self.mesh.0), vec![self.mesh.1.as_fd()]);
        add(What::AdminSocket, None, vec![self.admin_socket.as_fd()]);
        add(What::Takeover, None, vec![self.takeover.as_fd()]);
        (groups, descriptors)
    }
}

/// What was handed over.
#[derive(Default)]
pub(in super::super) struct Taken {
    pub(super) lock: Option<File>,
    gateway: Vec<OfGateway>,
    admin: Option<(SocketAddr, TcpListener)>,
    mesh: Option<(SocketAddr, TcpListener)>,
    admin_socket: Option<UnixListener>,
    takeover: Option<UnixListener>,
}

struct OfGateway {
    wanted: SocketAddr,
    place: Place,
    bound: SocketAddr,
}

impl Taken {
    /// Sorts descriptors by what was said of them.
    pub(super) fn of(groups: &[Group], descriptors: Vec<OwnedFd>) -> Result<Self> {
        let (mut taken, mut descriptors) = (Self::default(), descriptors.into_iter());
        for group in groups {
            let mut of: Vec<_> = descriptors.by_ref().take(group.count).collect();
            if of.len() != group.count || of.is_empty() {
                bail!("descriptors are missing of what the other serviceos hands over");
            }
            match group.what {
                What::Gateway => {
                    let sockets: Vec<_> = of.into_iter().map(tcp).collect::<Result<_>>()?;
                    taken.add_gateway(group.wanted, sockets)?;
                    continue;
                }
                What::GatewayShared => {
                    let socket = tcp(of.remove(0))?;
                    let bound = socket.local_addr()?;
                    let wanted = group.wanted.unwrap_or(bound);
                    taken.gateway.push(OfGateway { wanted, place: Place::Held(socket), bound });
                    continue;
                }
                _ if group.count != 1 => bail!("the other serviceos hands more over than there is"),
                _ => {}
            }
            let one = of.remove(0);
            match group.what {
                What::Lock => taken.lock = Some(File::from(one)),
                What::Admin => taken.admin = Some(with_wanted(group.wanted, tcp(one)?)?),
                What::Mesh => taken.mesh = Some(with_wanted(group.wanted, tcp(one)?)?),
                What::AdminSocket => taken.admin_socket = Some(unix(one)?),
                What::Takeover => taken.takeover = Some(unix(one)?),
                What::Gateway | What::GatewayShared => {}
            }
        }
        Ok(taken)
    }

    fn add_gateway(&mut self, wanted: Option<SocketAddr>, sockets: Vec<TcpListener>) -> Result<()> {
        let bound = sockets[0].local_addr()?;
        for socket in &sockets {
            if socket.local_addr()? != bound {
                bail!("the other serviceos hands sockets of several addresses over as those of one");
            }
        }
        self.gateway.push(OfGateway { wanted: wanted.unwrap_or(bound), place: Place::Taken(sockets), bound });
        Ok(())
    }

    /// What listens where these settings say goes on with it. The rest is opened anew, and what is wanted no more is closed.
    pub(in super::super) fn assign(
        mut self,
        gateway: &[SocketAddr],
        admin: SocketAddr,
        mesh: SocketAddr,
    ) -> Assigned {
        let mut of_gateway = |address: &SocketAddr| {
            let as_wanted = self.gateway.iter().position(|one| one.wanted == *address);
            let found = as_wanted.or_else(|| self.gateway.iter().position(|one| one.bound == *address));
            found.map_or(Place::Address(*address), |found| self.gateway.remove(found).place)
        };
        let fits = |address: SocketAddr, taken: Option<(SocketAddr, TcpListener)>| {
            let (wanted, socket) = taken?;
            let is_it = wanted == address || socket.local_addr().is_ok_and(|bound| bound == address);
            is_it.then_some(socket)
        };
        Assigned {
            gateway: gateway.iter().map(&mut of_gateway).collect(),
            gateway_is_held: false,
            admin: fits(admin, self.admin),
            mesh: fits(mesh, self.mesh),
            admin_socket: self.admin_socket,
            takeover: self.takeover,
        }
    }
}

fn with_wanted(wanted: Option<SocketAddr>, socket: TcpListener) -> Result<(SocketAddr, TcpListener)> {
    Ok((wanted.map_or_else(|| socket.local_addr(), Ok)?, socket))
}

fn tcp(descriptor: OwnedFd) -> Result<TcpListener> {
    listens(&descriptor)?;
    Ok(TcpListener::from(descriptor))
}

fn unix(descriptor: OwnedFd) -> Result<UnixListener> {
    listens(&descriptor)?;
    Ok(UnixListener::from(descriptor))
}

fn listens(descriptor: &OwnedFd) -> Result<()> {
    let listens =
        socket_acceptconn(descriptor).context("what the other serviceos hands over is no socket")?;
    if !listens {
        bail!("the other serviceos hands a socket over that does not listen");
    }
    Ok(())
}
