//! Several machines on one: network namespaces, each with an address of its own, on a switch between them that can be cut.
//!
//! ```text
//!  host 0 ──eth0┐             ┌eth0── host 2
//!             port0 ─ switch ─ port2
//!  host 1 ──eth0─── port1
//! ```
//!
//! Nothing of it has a name outside: each namespace is that of a process which ends with its standard input, all links lie between
//! namespaces, and the kernel takes everything away once nothing runs there any more. The network of the machine is not touched.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::panic::resume_unwind;
use std::process::{Child, Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::has_program;

/// Machines on a switch.
pub struct Network {
    switch: Namespace,
    hosts: Vec<Host>,
}

/// One of them.
pub struct Host {
    namespace: Namespace,
    address: Ipv4Addr,
}

/// A network namespace, for as long as this is there and something runs in it.
struct Namespace {
    holder: Child,
    link: File,
}

/// Why there is none.
enum Refused {
    /// This kernel, or the container around, does not allow it, and no package changes that.
    ByKernel(String),
    /// Something else fails.
    Otherwise(String),
}

impl Network {
    /// So many machines that all reach each other, or `None` where that is not to be had, which is said. In CI that is a failure,
    /// unless it is the kernel that refuses.
    ///
    /// # Panics
    /// When it fails for another reason.
    pub fn start(hosts: u8) -> Option<Self> {
        if !has_program("ip") {
            return None;
        }
        match Self::make(hosts) {
            Ok(network) => Some(network),
            Err(Refused::ByKernel(reason)) => {
                // Past what the test runner keeps back of tests that pass.
                let line = format!("skipped: no network namespaces here: {reason}\n");
                std::io::stderr().write_all(line.as_bytes()).expect("standard error");
                None
            }
            Err(Refused::Otherwise(reason)) => panic!("no network namespaces: {reason}"),
        }
    }

    fn make(count: u8) -> Result<Self, Refused> {
        let switch = Namespace::new()?;
        switch.ip("link add name switch type bridge\nlink set switch up\n")?;
        let mut hosts = Vec::new();
        for index in 0..count {
            let namespace = Namespace::new()?;
            let pid = namespace.holder.id();
            switch.ip(&format!(
                "link add port{index} type veth peer name eth0 netns {pid}\nlink set port{index} master switch up\n"
            ))?;
            namespace.ip(&format!(
                "link set lo up\nlink set eth0 address {}\naddress add {}/24 dev eth0\nlink set eth0 up\n",
                hardware_address(index),
                address(index)
            ))?;
            hosts.push(Host { namespace, address: address(index) });
        }
        for (own, host) in (0..count).zip(&hosts) {
            // Known for ever: who cannot be reached is silent then, as beyond a router, and not reported missing by the neighbours.
            let others = (0..count).filter(|other| *other != own);
            let lines: String = others
                .map(|other| {
                    let (address, lladdr) = (address(other), hardware_address(other));
                    format!("neighbour add {address} lladdr {lladdr} dev eth0 nud permanent\n")
                })
                .collect();
            host.namespace.ip(&lines)?;
        }
        Ok(Self { switch, hosts })
    }

    /// One of the machines.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn host(&self, index: usize) -> &Host {
        &self.hosts[index]
    }

    /// Lets nothing through between two machines from now on, without a word to either; each of them reaches the others as before.
    /// One such cut at a time.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn cut(&self, one: usize, other: usize) {
        self.isolate(&[one, other], "on");
    }

    /// Lets everything through again.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn heal(&self) {
        let all: Vec<_> = (0..self.hosts.len()).collect();
        self.isolate(&all, "off");
    }

    /// Ports that are isolated reach those that are not.
    fn isolate(&self, ports: &[usize], isolated: &str) {
        let lines: String = ports
            .iter()
            .map(|port| format!("link set port{port} type bridge_slave isolated {isolated}\n"))
            .collect();
        if let Err(Refused::ByKernel(reason) | Refused::Otherwise(reason)) = self.switch.ip(&lines) {
            panic!("the switch is not changed: {reason}");
        }
    }
}

impl Host {
    /// Where the others reach it.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Does something on this machine: what listens, connects and starts processes there does so in its network.
    ///
    /// # Panics
    /// When that does.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.namespace.enter(work)
    }
}

impl Namespace {
    fn new() -> Result<Self, Refused> {
        let mut command = Command::new("unshare");
        command.args(["--net", "cat"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut holder = command.spawn().map_err(|error| Refused::Otherwise(format!("unshare: {error}")))?;
        // It answers once it is inside.
        let asked = holder.stdin.as_mut().expect("its input").write_all(b"inside\n");
        let mut answer = String::new();
        let read = BufReader::new(holder.stdout.as_mut().expect("its output")).read_line(&mut answer);
        if asked.is_err() || read.is_err() || answer != "inside\n" {
            let mut reason = String::new();
            let _what_was_said =
                holder.stderr.as_mut().expect("its errors").read_to_string(&mut reason).is_ok();
            let _reaped_already = holder.wait().is_err();
            return Err(refused(&reason));
        }
        let link = File::open(format!("/proc/{}/ns/net", holder.id())).expect("the namespace of a process");
        Ok(Self { holder, link })
    }

    /// On a thread of its own, since a thread that has entered does not come back.
    fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            move_into_link_name_space(self.link.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("entering a namespace");
            work()
        };
        let done = std::thread::scope(|scope| scope.spawn(inside).join());
        done.unwrap_or_else(|panicked| resume_unwind(panicked))
    }

    /// Runs lines of `ip` inside.
    fn ip(&self, lines: &str) -> Result<(), Refused> {
        let output = self.enter(|| {
            let mut command = Command::new("ip");
            command.args(["-batch", "-"]);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().expect("starting ip");
            let mut input = child.stdin.take().expect("its input");
            let _ended_by_an_error = input.write_all(lines.as_bytes()).is_err();
            drop(input);
            child.wait_with_output().expect("the end of ip")
        });
        if output.status.success() { Ok(()) } else { Err(refused(&String::from_utf8_lossy(&output.stderr))) }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ended_already = self.holder.kill().is_err();
        let _reaped_already = self.holder.wait().is_err();
    }
}

fn refused(reason: &str) -> Refused {
    let of_the_kernel = ["Operation not permitted", "Operation not supported", "Unknown device type"];
    let reason = reason.trim().to_owned();
    if of_the_kernel.iter().any(|word| reason.contains(word)) {
        Refused::ByKernel(reason)
    } else {
        Refused::Otherwise(reason)
    }
}

fn address(index: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, index + 1)
}

fn hardware_address(index: u8) -> String {
    format!("02:00:00:00:00:{:02x}", index + 1)
}
