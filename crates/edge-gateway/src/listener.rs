//! The listening sockets: one for each worker on each address, so that the kernel spreads connections over the workers.

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
}

/// The sockets of all workers.
#[derive(Debug)]
pub struct Listeners {
    by_worker: Vec<Vec<TcpListener>>,
    addresses: Vec<SocketAddr>,
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
        let mut by_worker: Vec<Vec<TcpListener>> = (0..workers.get()).map(|_| Vec::new()).collect();
        let mut bound = Vec::new();
        for wanted in addresses {
            let refused = |reason: String| BindError::Refused { address: *wanted, reason };
            let first = bind_one(*wanted, Sharing::Exclusive)?;
            sockopt::set_socket_reuseport(&first, true).map_err(|error| refused(error.to_string()))?;
            // Port 0 has become a real one, which the other workers share.
            let address = first.local_addr().map_err(|error| refused(error.to_string()))?;
            let mut sockets = vec![first];
            for _ in 1..workers.get() {
                sockets.push(bind_one(address, Sharing::Shared)?);
            }
            for (worker, socket) in by_worker.iter_mut().zip(sockets) {
                listen(&socket, BACKLOG).map_err(|error| refused(error.to_string()))?;
                worker.push(socket);
            }
            bound.push(address);
        }
        Ok(Self { by_worker, addresses: bound })
    }

    /// The addresses really bound.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub(crate) fn into_workers(self) -> Vec<Vec<TcpListener>> {
        self.by_worker
    }
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
    fn an_address_of_another_machine_is_told() {
        let elsewhere: SocketAddr = "192.0.2.1:80".parse().unwrap();
        let error = Listeners::bind(&[elsewhere], workers(1)).unwrap_err();
        assert!(matches!(error, BindError::Elsewhere { .. }), "{error}");
    }
}
