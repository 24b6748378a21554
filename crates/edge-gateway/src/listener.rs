//! The listening sockets: one for each worker on each address, so that the kernel spreads connections over the workers. A socket
//! that somebody else holds is shared by all of them: what waits in its queue is answered by whoever accepts next, and a socket
//! beside it would take connections along that nobody answers once this process is gone.

use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
use thiserror::Error;

/// Connections that wait for a worker to accept them, per socket.
const BACKLOG: i32 = 1024;

/// An address that cannot be listened on.
#[derive(Debug, Error)]
pub enum BindError {
    /// Somebody else listens there.
    #[error(
        "{address} is in use by another process; stop that one (`ss -ltnp` shows it) or choose another address"
    )]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// It belongs to another machine.
    #[error("{address} is not an address of this machine; choose one that is")]
    Elsewhere {
        /// The address.
        address: SocketAddr,
    },
    /// The machine refuses for another reason.
    #[error("{address} cannot be listened on: {reason}")]
    Refused {
        /// The address.
        address: SocketAddr,
        /// What the machine said.
        reason: String,
    },
    /// A socket that was handed over is of no use.
    #[error("a socket that was handed over cannot be used: {reason}")]
    Held {
        /// What the machine said.
        reason: String,
    },
}

/// Where the gateway listens.
#[derive(Debug)]
pub enum Place {
    /// At an address that nobody listens on yet.
    Address(SocketAddr),
    /// On a socket that listens already, and goes on to when this process has ended.
    Held(TcpListener),
    /// On the sockets of a gateway whose place this one takes. None of them may be closed while somebody waits in its queue, so
    /// all of them are taken, however many workers there are.
    Taken(Vec<TcpListener>),
}

/// The sockets of one address, for a gateway that takes the place of this one.
#[derive(Debug)]
pub struct Given {
    /// Where they listen.
    pub address: SocketAddr,
    /// They.
    pub sockets: GivenSockets,
}

/// How the workers of a gateway listen at an address.
#[derive(Debug)]
pub enum GivenSockets {
    /// All on one socket, which somebody else holds.
    Shared(TcpListener),
    /// Each on one of its own.
    Own(Vec<TcpListener>),
}

/// The sockets of all workers.
#[derive(Debug)]
pub struct Listeners {
    by_worker: Vec<Vec<TcpListener>>,
    addresses: Vec<SocketAddr>,
    given: Vec<Given>,
}

impl Listeners {
    /// Listens on every address, once for each worker.
    ///
    /// The first socket of an address is bound without SO_REUSEPORT, since with it a second process of the same user would
    /// silently share the port; only then the option is set, and the other workers join.
    ///
    /// # Errors
    /// [`BindError`]; nothing is left listening.
    pub fn bind(addresses: &[SocketAddr], workers: NonZeroUsize) -> Result<Self, BindError> {
        Self::open(addresses.iter().map(|address| Place::Address(*address)).collect(), workers)
    }

    /// The same, with sockets that somebody else holds.
    ///
    /// # Errors
    /// [`BindError`]; nothing is left listening but what did before.
    pub fn open(places: Vec<Place>, workers: NonZeroUsize) -> Result<Self, BindError> {
        let mut by_worker: Vec<Vec<TcpListener>> = (0..workers.get()).map(|_| Vec::new()).collect();
        let (mut addresses, mut given) = (Vec::new(), Vec::new());
        for place in places {
            let is_shared = matches!(place, Place::Held(_));
            let (address, sockets) = match place {
                Place::Address(address) => bind_all(address, workers)?,
                Place::Held(socket) => share(&socket, workers)?,
                Place::Taken(sockets) => take(sockets, workers)?,
            };
            given.push(duplicates(address, &sockets, is_shared).map_err(unusable)?);
            for (number, socket) in sockets.into_iter().enumerate() {
                by_worker[number % workers.get()].push(socket);
            }
            addresses.push(address);
        }
        Ok(Self { by_worker, addresses, given })
    }

    /// Duplicates of all sockets. They have to go before the gateway drains for good, since who connects waits as long as one is
    /// open.
    pub fn give(&mut self) -> Vec<Given> {
        std::mem::take(&mut self.given)
    }

    /// The addresses really bound.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub(crate) fn into_workers(self) -> Vec<Vec<TcpListener>> {
        self.by_worker
    }
}

fn duplicates(address: SocketAddr, sockets: &[TcpListener], is_shared: bool) -> std::io::Result<Given> {
    let sockets = match sockets.first() {
        Some(one) if is_shared => GivenSockets::Shared(one.try_clone()?),
        _ => GivenSockets::Own(sockets.iter().map(TcpListener::try_clone).collect::<Result<_, _>>()?),
    };
    Ok(Given { address, sockets })
}

fn unusable(error: std::io::Error) -> BindError {
    BindError::Held { reason: error.to_string() }
}

/// The sockets that were taken, and as many more as there are workers without one.
fn take(
    mut taken: Vec<TcpListener>,
    workers: NonZeroUsize,
) -> Result<(SocketAddr, Vec<TcpListener>), BindError> {
    let none = || BindError::Held { reason: "there is none".to_owned() };
    let address = taken.first().ok_or_else(none)?.local_addr().map_err(unusable)?;
    for socket in &taken {
        socket.set_nonblocking(true).map_err(unusable)?;
    }
    for _ in taken.len()..workers.get() {
        let more = bind_one(address, Sharing::Shared)?;
        listen(&more, BACKLOG).map_err(|error| unusable(error.into()))?;
        taken.push(more);
    }
    Ok((address, taken))
}

/// A socket of its own for each worker.
fn bind_all(wanted: SocketAddr, workers: NonZeroUsize) -> Result<(SocketAddr, Vec<TcpListener>), BindError> {
    let refused = |reason: String| BindError::Refused { address: wanted, reason };
    let first = bind_one(wanted, Sharing::Exclusive)?;
    sockopt::set_socket_reuseport(&first, true).map_err(|error| refused(error.to_string()))?;
    // Port 0 has become a real one, which the other workers share.
    let address = first.local_addr().map_err(|error| refused(error.to_string()))?;
    let mut sockets = vec![first];
    for _ in 1..workers.get() {
        sockets.push(bind_one(address, Sharing::Shared)?);
    }
    for socket in &sockets {
        listen(socket, BACKLOG).map_err(|error| refused(error.to_string()))?;
    }
    Ok((address, sockets))
}

/// One socket for all workers: each is woken by a connection, and the first of them takes it.
fn share(held: &TcpListener, workers: NonZeroUsize) -> Result<(SocketAddr, Vec<TcpListener>), BindError> {
    let address = held.local_addr().map_err(unusable)?;
    held.set_nonblocking(true).map_err(unusable)?;
    let sockets: Result<_, _> = (0..workers.get()).map(|_| held.try_clone()).collect();
    Ok((address, sockets.map_err(unusable)?))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Exclusive,
    Shared,
}

fn bind_one(address: SocketAddr, sharing: Sharing) -> Result<TcpListener, BindError> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let bound = || -> Result<TcpListener, Errno> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::STREAM, flags, None)?;
        // A port whose last connections are still in TIME_WAIT can be bound again at once.
        sockopt::set_socket_reuseaddr(&socket, true)?;
        if sharing == Sharing::Shared {
            sockopt::set_socket_reuseport(&socket, true)?;
        }
        bind(&socket, &address)?;
        Ok(TcpListener::from(socket))
    };
    bound().map_err(|error| match error {
        Errno::ADDRINUSE => BindError::InUse { address },
        Errno::ADDRNOTAVAIL => BindError::Elsewhere { address },
        other => BindError::Refused { address, reason: other.to_string() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workers(count: usize) -> NonZeroUsize {
        NonZeroUsize::new(count).unwrap()
    }

    #[test]
    fn workers_share_one_port_and_a_second_gateway_is_told() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listeners = Listeners::bind(&[any, any], workers(3)).unwrap();
        let taken = listeners.addresses()[0];
        assert_ne!(taken, listeners.addresses()[1]);
        assert!(listeners.by_worker.iter().all(|sockets| sockets.len() == 2));
        let second = Listeners::bind(&[taken], workers(3)).unwrap_err();
        assert!(matches!(second, BindError::InUse { address } if address == taken), "{second}");
        drop(listeners);
        Listeners::bind(&[taken], workers(1)).unwrap();
    }

    #[test]
    fn a_gateway_that_takes_the_place_of_another_has_all_of_its_sockets_and_who_waits_in_them() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        for wanted in [1, 2, 5] {
            let mut before = Listeners::bind(&[any], workers(3)).unwrap();
            let address = before.addresses()[0];
            let given = before.give().into_iter().map(|given| match given.sockets {
                GivenSockets::Own(sockets) => Place::Taken(sockets),
                GivenSockets::Shared(_) => panic!("nobody holds one"),
            });
            let mut after = Listeners::open(given.collect(), workers(wanted)).unwrap();
            let clients: Vec<_> = (0..60).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
            drop(before);
            assert_eq!(after.addresses(), [address]);
            assert_eq!(after.give().len(), 1);
            let workers = after.into_workers();
            assert!(workers.iter().all(|worker| !worker.is_empty()));
            let sockets = workers.iter().flatten();
            let waiting = sockets.map(|socket| std::iter::from_fn(|| socket.accept().ok()).count());
            assert_eq!(waiting.sum::<usize>(), clients.len(), "for {wanted} workers");
        }
    }

    #[test]
    fn an_address_of_another_machine_is_told() {
        let elsewhere: SocketAddr = "192.0.2.1:80".parse().unwrap();
        let error = Listeners::bind(&[elsewhere], workers(1)).unwrap_err();
        assert!(matches!(error, BindError::Elsewhere { .. }), "{error}");
    }

    #[test]
    fn a_socket_that_somebody_else_holds_is_shared_by_all_workers_and_outlives_them() {
        let held = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = held.local_addr().unwrap();
        let places = vec![Place::Held(held.try_clone().unwrap())];
        let listeners = Listeners::open(places, workers(2)).unwrap();
        assert_eq!(listeners.addresses(), [address]);
        let of_workers = listeners.into_workers();
        let client = std::net::TcpStream::connect(address).unwrap();
        // Whether one waits is said by the socket, whichever of its descriptors is asked.
        held.set_nonblocking(false).unwrap();
        let (accepted, _) = of_workers[1][0].accept().unwrap();
        assert_eq!(accepted.peer_addr().unwrap(), client.local_addr().unwrap());
        held.set_nonblocking(true).unwrap();
        let nobody_else = of_workers[0][0].accept().unwrap_err();
        assert_eq!(nobody_else.kind(), std::io::ErrorKind::WouldBlock, "there is one queue");
        let waiting = std::net::TcpStream::connect(address).unwrap();
        drop(of_workers);
        held.set_nonblocking(false).unwrap();
        let (accepted, _) = held.accept().unwrap();
        assert_eq!(
            accepted.peer_addr().unwrap(),
            waiting.local_addr().unwrap(),
            "it has waited in the queue"
        );
    }
}
