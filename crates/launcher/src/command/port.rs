//! A port for a command to listen on, that nobody else takes meanwhile.
//!
//! A port that was free a moment ago is anybody's. Those that the kernel gives out by itself are left alone, so that no outgoing
//! connection and nobody who lets the kernel choose gets this one; and launchers keep it from each other by a socket in the
//! abstract name space, which is the network name space's as the ports are, and ends with its process. Whoever wants the very
//! same port by its number can still be faster, and then the command ends and is started again on another one.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;

/// Below are the ports that people give to their services.
const FIRST: u16 = 20_000;
const GIVEN_BY_KERNEL: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const USUALLY_GIVEN_BY_KERNEL: RangeInclusive<u16> = 32_768..=60_999;
const MAX_TRIES: usize = 64;

/// A port that other launchers leave alone while this is kept.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) number: u16,
    _reservation: Option<UnixListener>,
}

impl Port {
    /// One on which nobody listens.
    pub(super) fn choose(random: &mut fastrand::Rng) -> io::Result<Self> {
        let free = candidates(&given_by_kernel(Path::new(GIVEN_BY_KERNEL)));
        for _ in 0..MAX_TRIES.min(free.len()) {
            if let Some(port) = Self::reserve(free[random.usize(..free.len())]) {
                return Ok(port);
            }
        }
        // All that are left to the kernel: it is the best to ask.
        let number = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        Self::reserve(number)
            .ok_or_else(|| io::Error::new(io::ErrorKind::AddrInUse, "there is no free port on 127.0.0.1"))
    }

    fn reserve(number: u16) -> Option<Self> {
        let name = SocketAddr::from_abstract_name(format!("serviceos/port/{number}")).ok()?;
        let reservation = match UnixListener::bind_addr(&name) {
            Ok(reservation) => Some(reservation),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return None,
            // Without such names it is as good as any other port.
            Err(_) => None,
        };
        TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        Some(Self { number, _reservation: reservation })
    }
}

fn given_by_kernel(file: &Path) -> RangeInclusive<u16> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let mut bounds = text.split_whitespace().map(str::parse);
    match (bounds.next(), bounds.next()) {
        (Some(Ok(first)), Some(Ok(last))) => first..=last,
        _ => USUALLY_GIVEN_BY_KERNEL,
    }
}

fn candidates(given: &RangeInclusive<u16>) -> Vec<u16> {
    (FIRST..=u16::MAX).filter(|port| !given.contains(port)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_kept_is_chosen_by_nobody_else() {
        let port = Port::choose(&mut fastrand::Rng::with_seed(1)).unwrap();
        assert!(Port::reserve(port.number).is_none());
        let another = Port::choose(&mut fastrand::Rng::with_seed(1)).unwrap();
        assert_ne!(another.number, port.number);
        drop(port);
    }

    #[test]
    fn a_port_on_which_somebody_listens_is_not_chosen() {
        let port = Port::choose(&mut fastrand::Rng::new()).unwrap();
        let number = port.number;
        drop(port);
        let _listens = TcpListener::bind((Ipv4Addr::LOCALHOST, number)).unwrap();
        assert!(Port::reserve(number).is_none());
    }

    #[test]
    fn what_the_kernel_gives_out_by_itself_is_left_alone() {
        let free = candidates(&(32_768..=60_999));
        assert!(free.contains(&20_000) && free.contains(&32_767) && free.contains(&61_000));
        assert!(free.iter().all(|port| !USUALLY_GIVEN_BY_KERNEL.contains(port)));
        assert!(candidates(&(1024..=65_535)).is_empty());
    }

    #[test]
    fn the_range_is_read_as_the_kernel_writes_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("range");
        assert_eq!(given_by_kernel(&file), USUALLY_GIVEN_BY_KERNEL);
        std::fs::write(&file, "1024\t65535\n").unwrap();
        assert_eq!(given_by_kernel(&file), 1024..=65_535);
    }
}
