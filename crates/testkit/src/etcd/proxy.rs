//! A TCP port in front of a member's socket, which can be cut, stalled, and kept from passing answers on.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket, sockopt};

/// What passes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Everything,
    /// What clients send, and no answer.
    Requests,
    Nothing,
}

struct State {
    flow: Flow,
    /// Both ends of each connection, for as long as the proxy takes connections.
    open: Vec<(TcpStream, UnixStream)>,
    /// Requests and parts of requests that went to the member.
    passed: u64,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The proxy of one member.
pub(super) struct Proxy {
    /// The port is this one's for as long as it lives, whether somebody listens there or not.
    _reservation: OwnedFd,
    address: SocketAddr,
    target: PathBuf,
    shared: Arc<Shared>,
    listening: Option<(TcpListener, JoinHandle<()>)>,
}

impl Proxy {
    /// A port that the system chooses; nobody listens there yet.
    pub(super) fn new(host: Ipv4Addr, target: PathBuf) -> Self {
        let reservation = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        sockopt::set_socket_reuseaddr(&reservation, true).expect("sharing an address");
        bind(&reservation, &SocketAddr::from((host, 0))).expect("a port");
        let address = getsockname(&reservation).expect("an address").try_into().expect("that of a port");
        let state = State { flow: Flow::Everything, open: Vec::new(), passed: 0 };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        Self { _reservation: reservation, address, target, shared, listening: None }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes connections, and lets everything through.
    pub(super) fn open(&mut self) {
        self.flow(Flow::Everything);
        if self.listening.is_some() {
            return;
        }
        let listener = TcpListener::bind(self.address).expect("the port that is reserved");
        let (accepting, target, shared) =
            (listener.try_clone().expect("a listener"), self.target.clone(), Arc::clone(&self.shared));
        let thread = std::thread::spawn(move || {
            for client in accepting.incoming() {
                let Ok(client) = client else { return };
                // Without a member the connection ends.
                if let Ok(member) = UnixStream::connect(&target) {
                    pass(client, member, &shared);
                }
            }
        });
        self.listening = Some((listener, thread));
    }

    /// Ends every connection and refuses new ones.
    pub(super) fn cut(&mut self) {
        if let Some((listener, thread)) = self.listening.take() {
            rustix::net::shutdown(&listener, rustix::net::Shutdown::Both).expect("closing a listener");
            drop(listener);
            thread.join().expect("the thread that accepts");
        }
        for (client, member) in self.shared.state().open.drain(..) {
            let _gone_already = client.shutdown(Shutdown::Both);
            let _gone_already = member.shutdown(Shutdown::Both);
        }
        self.flow(Flow::Everything);
    }

    /// Keeps connections, and takes new ones, but lets nothing through.
    pub(super) fn stall(&mut self) {
        self.flow(Flow::Nothing);
    }

    /// Lets requests through and holds their answers back.
    pub(super) fn hold_answers(&mut self) {
        self.flow(Flow::Requests);
    }

    /// How often something went to the member so far.
    pub(super) fn passed(&self) -> u64 {
        self.shared.state().passed
    }

    fn flow(&self, flow: Flow) {
        self.shared.state().flow = flow;
        self.shared.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
    }
}

/// Begins to pass both directions on.
fn pass(client: TcpStream, member: UnixStream, shared: &Arc<Shared>) {
    let clone = || Some((client.try_clone().ok()?, member.try_clone().ok()?));
    let (Some(kept), Some((client2, member2))) = (clone(), clone()) else { return };
    shared.state().open.push(kept);
    let (up, down) = (Arc::clone(shared), Arc::clone(shared));
    std::thread::spawn(move || {
        pump(client, &member, &up, |flow| flow != Flow::Nothing, |state| state.passed += 1);
        let _gone_already = member.shutdown(Shutdown::Both);
    });
    std::thread::spawn(move || {
        pump(member2, &client2, &down, |flow| flow == Flow::Everything, |_state| {});
        let _gone_already = client2.shutdown(Shutdown::Both);
    });
}

fn pump(
    mut from: impl Read,
    mut to: impl Write,
    shared: &Shared,
    passes: fn(Flow) -> bool,
    passed: fn(&mut State),
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let mut state = shared.state();
        while !passes(state.flow) {
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        passed(&mut state);
        drop(state);
        if to.write_all(&buffer[..read]).is_err() {
            return;
        }
    }
}
