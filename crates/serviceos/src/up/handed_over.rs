//! Sockets that listen already when this process starts, held by whoever started it: `LISTEN_FDS`, `LISTEN_PID` and
//! `LISTEN_FDNAMES` of sd_listen_fds(3). They listen on while this process is started anew, and who connects then waits.

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;

use anyhow::{Context, Result, bail};
use edge_gateway::Place;
use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;

use crate::failure::Failure;

/// More than anybody hands over; each is a descriptor.
const MAX_SOCKETS: usize = 64;

/// What was handed over.
#[derive(Debug, Default)]
pub(crate) struct HandedOver(Vec<Socket>);

#[derive(Debug)]
struct Socket {
    /// What systemd calls it: `FileDescriptorName=`, else the name of the unit.
    name: String,
    address: SocketAddr,
    listener: TcpListener,
}

/// Where each part listens.
#[derive(Debug)]
pub(crate) struct Assigned {
    pub(crate) gateway: Vec<Place>,
    /// Whether the gateway has one that was handed over.
    pub(crate) gateway_is_held: bool,
    pub(crate) admin: Option<TcpListener>,
    pub(crate) mesh: Option<TcpListener>,
    /// That of the command line.
    pub(crate) admin_socket: Option<UnixListener>,
    /// That of whoever takes over.
    pub(crate) takeover: Option<UnixListener>,
}

impl HandedOver {
    /// Whether there is anything.
    pub(crate) fn is_something(&self) -> bool {
        !self.0.is_empty()
    }

    /// Takes what the environment names. To be called before anything else runs, since the variables go and the descriptors are
    /// taken by their numbers.
    ///
    /// # Errors
    /// What was handed over is of no use.
    pub(crate) fn take() -> Result<Self, Failure> {
        let variable = |name| std::env::var(name).ok();
        let Some(count) = variable("LISTEN_FDS") else { return Ok(Self::default()) };
        // They are for another process, which has started this one.
        if variable("LISTEN_PID").and_then(|pid| pid.parse().ok()) != Some(std::process::id()) {
            return Ok(Self::default());
        }
        let names = variable("LISTEN_FDNAMES").unwrap_or_default();
        Ok(Self::take_named(&count, &names).context("failed to take the sockets that were handed over")?)
    }

    fn take_named(count: &str, names: &str) -> Result<Self> {
        match count.parse::<usize>() {
            Ok(count) if count <= MAX_SOCKETS => {}
            Ok(count) => bail!("LISTEN_FDS={count} is more than {MAX_SOCKETS}"),
            Err(_) => bail!("LISTEN_FDS={count} is no number"),
        }
        let (mut taken, mut names) = (ListenFd::from_env(), names.split(':'));
        let sockets = (0..taken.len()).map(|number| {
            let (name, descriptor) = (names.next().unwrap_or_default().to_owned(), number + 3);
            let what = || format!("descriptor {descriptor} ({name:?}) is no TCP socket that listens: ListenStream= with a port and without Accept=yes makes one");
            let listener = taken.take_tcp_listener(number).with_context(what)?.with_context(what)?;
            if !socket_acceptconn(&listener).with_context(what)? {
                bail!(what());
            }
            let address = listener.local_addr().with_context(what)?;
            Ok(Socket { name: name.clone(), address, listener })
        });
        Ok(Self(sockets.collect::<Result<_>>()?))
    }

    /// Gives each to the part that has its name, or listens at its address.
    ///
    /// # Errors
    /// One is for nothing, or two are for the same.
    pub(crate) fn assign(
        self,
        gateway: &[SocketAddr],
        admin: SocketAddr,
        mesh: SocketAddr,
    ) -> Result<Assigned, Failure> {
        let (mut of_gateway, mut of_admin, mut of_mesh) = (Vec::new(), None, None);
        for socket in self.0 {
            let address = socket.address;
            let place = match socket.name.as_str() {
                "admin" => &mut of_admin,
                "mesh" => &mut of_mesh,
                "gateway" => {
                    of_gateway.push(socket);
                    continue;
                }
                _ if gateway.contains(&address) => {
                    of_gateway.push(socket);
                    continue;
                }
                _ if admin == address => &mut of_admin,
                _ if mesh == address => &mut of_mesh,
                _ => return Err(for_nothing(&socket, gateway, admin, mesh)),
            };
            if let Some(other) = place.replace(socket) {
                return Err(wrong(format_args!(
                    "{other} and {address} were handed over for the same: one is enough"
                )));
            }
        }
        Ok(Assigned {
            gateway_is_held: !of_gateway.is_empty(),
            gateway: places(gateway, of_gateway)?,
            admin: of_admin.map(|socket| socket.listener),
            mesh: of_mesh.map(|socket| socket.listener),
            admin_socket: None,
            takeover: None,
        })
    }
}

/// What has the address of a socket is that socket. What has none gets those that are left, in their order, since a socket that
/// is named is meant whatever its address; and is opened here when none is left.
fn places(wanted: &[SocketAddr], mut sockets: Vec<Socket>) -> Result<Vec<Place>, Failure> {
    let mut places: Vec<Option<Place>> = Vec::new();
    for address in wanted {
        let found = sockets.iter().position(|socket| socket.address == *address);
        places.push(found.map(|found| Place::Held(sockets.remove(found).listener)));
    }
    let mut left = sockets.into_iter();
    let places = places.into_iter().zip(wanted).map(|(place, address)| {
        let held = place.or_else(|| left.next().map(|socket| Place::Held(socket.listener)));
        held.unwrap_or(Place::Address(*address))
    });
    let places = places.collect();
    match left.next() {
        None => Ok(places),
        Some(socket) => Err(wrong(format_args!(
            "{socket} was handed over for the gateway, and gateway.listen has not so many addresses: add it there"
        ))),
    }
}

fn for_nothing(socket: &Socket, gateway: &[SocketAddr], admin: SocketAddr, mesh: SocketAddr) -> Failure {
    let gateway: Vec<_> = gateway.iter().map(SocketAddr::to_string).collect();
    wrong(format_args!(
        "{socket} was handed over and is for nothing: gateway.listen is {}, admin.listen {admin}, mesh.listen {mesh}. Let its \
         ListenStream= be one of them, or name it with FileDescriptorName=gateway, admin or mesh",
        gateway.join(" and ")
    ))
}

/// The configuration and the units of systemd do not fit together, which no further start changes.
fn wrong(what: fmt::Arguments<'_>) -> Failure {
    Failure::Configuration(format!("serviceos: {what}"))
}

impl fmt::Display for Socket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the socket {} ({:?})", self.address, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// Sockets of these names at ports of their own.
    fn handed_over(names: &[&str]) -> (HandedOver, Vec<SocketAddr>) {
        let sockets = names.iter().map(|&name| {
            let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
            Socket { name: name.to_owned(), address: listener.local_addr().unwrap(), listener }
        });
        let sockets: Vec<_> = sockets.collect();
        let addresses = sockets.iter().map(|socket| socket.address).collect();
        (HandedOver(sockets), addresses)
    }

    fn shown(places: &[Place]) -> Vec<String> {
        let shown = places.iter().map(|place| match place {
            Place::Address(address) => format!("open {address}"),
            Place::Held(socket) => format!("held {}", socket.local_addr().unwrap()),
            Place::Taken(sockets) => format!("taken {}", sockets[0].local_addr().unwrap()),
        });
        shown.collect()
    }

    const ADMIN: &str = "127.0.0.1:2";
    const MESH: &str = "127.0.0.1:3";

    #[test]
    fn a_socket_is_for_what_has_its_name_or_its_address() {
        let (sockets, at) = handed_over(&["mesh", "serviceos.socket", "gateway", "admin"]);
        let listen = [address("0.0.0.0:80"), at[1], address("0.0.0.0:81")];
        let assigned = sockets.assign(&listen, address(ADMIN), address(MESH)).unwrap();
        let expected = [format!("held {}", at[2]), format!("held {}", at[1]), "open 0.0.0.0:81".into()];
        assert_eq!(shown(&assigned.gateway), expected);
        assert!(assigned.gateway_is_held);
        let of = |socket: &Option<TcpListener>| socket.as_ref().unwrap().local_addr().unwrap();
        assert_eq!((of(&assigned.admin), of(&assigned.mesh)), (at[3], at[0]));
        let (sockets, at) = handed_over(&["", "unknown"]);
        let assigned = sockets.assign(&[address("0.0.0.0:80")], at[0], at[1]).unwrap();
        assert!(assigned.admin.is_some() && assigned.mesh.is_some() && !assigned.gateway_is_held);
    }

    #[test]
    fn what_matches_nothing_or_comes_twice_is_told() {
        let said = |names: &[&str]| {
            let (sockets, at) = handed_over(names);
            let error = sockets.assign(&[address("0.0.0.0:80")], address(ADMIN), address(MESH)).unwrap_err();
            let error = error.to_string();
            at.iter()
                .enumerate()
                .fold(error, |said, (number, at)| said.replace(&at.to_string(), &format!("#{number}")))
        };
        assert_eq!(
            said(&["web"]),
            "serviceos: the socket #0 (\"web\") was handed over and is for nothing: gateway.listen is 0.0.0.0:80, admin.listen \
             127.0.0.1:2, mesh.listen 127.0.0.1:3. Let its ListenStream= be one of them, or name it with \
             FileDescriptorName=gateway, admin or mesh"
        );
        assert!(
            said(&["admin", "admin"])
                .contains("the socket #0 (\"admin\") and #1 were handed over for the same")
        );
        assert!(
            said(&["gateway", "gateway"])
                .contains("the socket #1 (\"gateway\") was handed over for the gateway")
        );
    }

    #[test]
    fn a_number_of_sockets_that_nobody_means_is_told() {
        for count in ["65", "18446744073709551615", "-1", "x"] {
            let error = HandedOver::take_named(count, "").unwrap_err().to_string();
            assert!(error.starts_with(&format!("LISTEN_FDS={count} is ")), "{error}");
        }
    }
}
