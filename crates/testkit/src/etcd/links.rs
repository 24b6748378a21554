//! What is between the members: sockets in front of those on which they listen for each other, so that two of them can be parted
//! while clients reach both.
//!
//! A link is known by its two ends: the socket says who is called, and the kernel which process calls.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustix::net::sockopt;

/// What is between two members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    Whole,
    /// Connections stay, and nothing passes.
    Silent,
    /// Connections end, and none begins.
    Cut,
}

/// Two members, the lower one first.
type Pair = (usize, usize);

struct State {
    links: HashMap<Pair, Link>,
    /// The process of each member, while it runs.
    processes: Vec<Option<u32>>,
    open: HashMap<u64, (Pair, [UnixStream; 2])>,
    connections: u64,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// All links of a cluster.
pub(super) struct Links {
    shared: Arc<Shared>,
    listening: Vec<(UnixListener, JoinHandle<()>)>,
}

fn pair(one: usize, other: usize) -> Pair {
    (one.min(other), one.max(other))
}

impl State {
    fn link(&self, pair: Pair) -> Link {
        self.links.get(&pair).copied().unwrap_or(Link::Whole)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to pass both directions on, if the link lets it.
    fn connect(self: &Arc<Self>, caller: UnixStream, called: usize, target: &Path) {
        let process = sockopt::socket_peercred(&caller).map(|caller| caller.pid.as_raw_nonzero().get());
        let process = process.ok().and_then(|process| u32::try_from(process).ok());
        let calling = self.state().processes.iter().position(|of| of.is_some() && *of == process);
        // One that is stopped may make this wait, so nobody else waits for it.
        let (Some(calling), Ok(member)) = (calling, UnixStream::connect(target)) else { return };
        let pair = pair(calling, called);
        let clone = || Some([caller.try_clone().ok()?, member.try_clone().ok()?]);
        let (Some(kept), Some([caller2, member2])) = (clone(), clone()) else { return };
        let mut state = self.state();
        if state.link(pair) == Link::Cut {
            return;
        }
        state.connections += 1;
        let number = state.connections;
        state.open.insert(number, (pair, kept));
        drop(state);
        for (from, to) in [(caller, member), (member2, caller2)] {
            let shared = Arc::clone(self);
            std::thread::spawn(move || {
                shared.pump(from, &to, pair);
                let _gone_already = to.shutdown(Shutdown::Both);
                shared.state().open.remove(&number);
            });
        }
    }

    fn pump(&self, mut from: UnixStream, mut to: &UnixStream, pair: Pair) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            let mut state = self.state();
            while state.link(pair) == Link::Silent {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            drop(state);
            if to.write_all(&buffer[..read]).is_err() {
                return;
            }
        }
    }
}

impl Links {
    /// Sockets `peer:0`, `peer:1`, … in front of `member:0`, `member:1`, …
    pub(super) fn new(folder: &Path, members: usize) -> Self {
        let state = State {
            links: HashMap::new(),
            processes: vec![None; members],
            open: HashMap::new(),
            connections: 0,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let listen = |called: usize| {
            let listener = UnixListener::bind(folder.join(format!("peer:{called}"))).expect("a socket");
            let accepting = listener.try_clone().expect("a listener");
            let (shared, target) = (Arc::clone(&shared), folder.join(format!("member:{called}")));
            let thread = std::thread::spawn(move || {
                for caller in accepting.incoming() {
                    let Ok(caller) = caller else { return };
                    shared.connect(caller, called, &target);
                }
            });
            (listener, thread)
        };
        let listening = (0..members).map(listen).collect();
        Self { shared, listening }
    }

    /// A member is this process from now on, or none.
    pub(super) fn runs(&self, member: usize, process: Option<u32>) {
        self.shared.state().processes[member] = process;
    }

    /// Makes a link another one.
    pub(super) fn set(&self, one: usize, other: usize, link: Link) {
        let pair = pair(one, other);
        let mut state = self.shared.state();
        state.links.insert(pair, link);
        if link == Link::Cut {
            for (_, ends) in state.open.values().filter(|(of, _)| *of == pair) {
                end(ends);
            }
        }
        self.shared.changed.notify_all();
    }

    /// Makes all of them whole.
    pub(super) fn mend(&self) {
        self.shared.state().links.clear();
        self.shared.changed.notify_all();
    }
}

fn end(ends: &[UnixStream; 2]) {
    for end in ends {
        let _gone_already = end.shutdown(Shutdown::Both);
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        for (listener, thread) in self.listening.drain(..) {
            rustix::net::shutdown(&listener, rustix::net::Shutdown::Both).expect("closing a listener");
            thread.join().expect("the thread that accepts");
        }
        self.mend();
        self.shared.state().open.values().for_each(|(_, ends)| end(ends));
    }
}
