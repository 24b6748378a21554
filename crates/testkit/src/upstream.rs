//! Servers behind the gateway, in the test's own process: what a path says is what they do, and they note every request.
//!
//! | path | what it does |
//! |---|---|
//! | `/health` | 200 while healthy, else 500; not noted |
//! | `/echo/…` | says as JSON what it was asked, with the body's size and checksum |
//! | `/mirror` | sends the body back as it comes; `/mirror/late` begins at [`Upstream::say`] (HTTP/1.1) |
//! | `/fixed/N`, `/chunked/N` | N bytes of [`filler`], with a length or in chunks |
//! | `/status/N` | that status and no body; 500 is what `failing` makes of every path |
//! | `/together/N` | answers once N requests for it are open |
//! | `/command` | events, one chunk for each [`Upstream::say`], until [`Upstream::end`] |
//! | `/sink` | begins to read the body at [`Upstream::say`], and says how much came; `/sink/early` begins to answer first |
//! | `/trailers` | a body with trailers that are declared, undeclared and forbidden |
//! | `/wait` | never answers, and notices when the connection ends; `/wait/begun` begins to (HTTP/1.1) |
//!
//! HTTP/1.1 alone also has `/limited` (says that limits of its own are used up), `/late` (`/echo` at [`Upstream::say`]), `/refuse` (413 before the body), `/break/fixed` and `/break/chunked` (ends in the middle), `/break/before` (no answer), `/bare`
//! (a body without a length), `/unchanged` (304 with a length), `/empty` (204 with one), `/upgrade` (echoes whatever comes) and `/bad-accept` (a
//! WebSocket's handshake that proves nothing). HTTP/2 alone has `/grpc/N`: 200 with the status N of gRPC behind the body
//! while failing, else 0; `/reset/N`: the stream is reset with the code N while failing, else 200; and `/end-apart/N`: that
//! status and no body, which an empty frame of its own says.
//!
//! One that is dropped ends as a process does that is killed: all of its sockets at once, and without a word.

mod http1;
mod http2;

use std::collections::BTreeMap;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{Certificate, LIMIT};

/// A server; it ends when this is dropped.
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    book: Arc<Book>,
    commands: Sender<Option<String>>,
    thread: Option<JoinHandle<()>>,
}

/// A request as the server got it.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The number of its connection, from 1.
    pub connection: u64,
    /// The method.
    pub method: String,
    /// The target.
    pub target: String,
    /// The fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// What stood behind the body.
    pub trailers: Vec<(String, String)>,
    /// How much of the body came.
    pub body_bytes: u64,
    /// Its [`checksum`].
    pub checksum: u64,
    /// Whether all of it came.
    pub whole: bool,
    /// Whether the connection, or the stream, ended while it waited.
    pub gone: bool,
}

/// What the threads of a server share.
struct Book {
    seen: Mutex<Vec<Seen>>,
    changed: Condvar,
    connections: AtomicU64,
    /// The sockets that are open, to be ended with the server.
    open: Mutex<BTreeMap<u64, TcpStream>>,
    unhealthy: AtomicBool,
    failing: AtomicBool,
    /// How often it was told to take leave of its connections.
    leaves: watch::Sender<u64>,
    commands: Mutex<Receiver<Option<String>>>,
    stops: AtomicBool,
}

impl Upstream {
    /// A server that speaks HTTP/1.1.
    pub fn new() -> Self {
        Self::start(|listener, book| serve_connections(&listener, &book, http1::serve))
    }

    /// A server that speaks HTTP/1.1 under TLS.
    pub fn tls(certificate: &Certificate) -> Self {
        let config = certificate.server(&["http/1.1"]);
        Self::start(move |listener, book| {
            serve_connections(&listener, &book, move |stream, book, number| {
                let tls = rustls::ServerConnection::new(Arc::clone(&config)).expect("TLS");
                http1::serve(rustls::StreamOwned::new(tls, stream), book, number)
            });
        })
    }

    /// A server that speaks HTTP/2 in the clear.
    pub fn http2() -> Self {
        Self::http2_at(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// The same where one was before.
    ///
    /// # Panics
    /// When the port is taken.
    pub fn http2_at(address: SocketAddr) -> Self {
        Self::start_at(address, |listener, book| http2::serve(listener, &book, None))
    }

    /// A server that speaks HTTP/2 under TLS.
    pub fn http2_tls(certificate: &Certificate) -> Self {
        let config = certificate.server(&["h2"]);
        Self::start(move |listener, book| http2::serve(listener, &book, Some(config)))
    }

    fn start(serve: impl FnOnce(TcpListener, Arc<Book>) + Send + 'static) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), serve)
    }

    fn start_at(address: SocketAddr, serve: impl FnOnce(TcpListener, Arc<Book>) + Send + 'static) -> Self {
        let listener = TcpListener::bind(address).expect("a port");
        // A server that does not read is to be felt soon; by itself the kernel takes megabytes on its behalf.
        rustix::net::sockopt::set_socket_recv_buffer_size(&listener, 128 << 10).expect("setting an option");
        let address = listener.local_addr().expect("an address");
        let (commands, received) = channel();
        let book = Arc::new(Book {
            seen: Mutex::default(),
            changed: Condvar::new(),
            connections: AtomicU64::new(0),
            open: Mutex::default(),
            unhealthy: AtomicBool::new(false),
            failing: AtomicBool::new(false),
            leaves: watch::Sender::new(0),
            commands: Mutex::new(received),
            stops: AtomicBool::new(false),
        });
        let shared = Arc::clone(&book);
        let thread = std::thread::spawn(move || serve(listener, shared));
        Self { address, book, commands, thread: Some(thread) }
    }

    /// The requests so far, health checks left out.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.book.seen).clone()
    }

    /// How many requests there were so far.
    pub fn count(&self) -> usize {
        lock(&self.book.seen).len()
    }

    /// Waits for a request of which something is true.
    ///
    /// # Panics
    /// When there is none in time.
    pub fn until_seen(&self, what: &str, wanted: impl Fn(&Seen) -> bool) -> Seen {
        self.book.wait(what, |seen| seen.iter().find(|seen| wanted(seen)).cloned())
    }

    /// Makes it pass or fail its health checks.
    pub fn set_healthy(&self, healthy: bool) {
        self.book.unhealthy.store(!healthy, Ordering::SeqCst);
    }

    /// Makes it answer every request with 500, health checks left out.
    pub fn set_failing(&self, failing: bool) {
        self.book.failing.store(failing, Ordering::SeqCst);
    }

    /// Makes it take leave of every connection over HTTP/2 that is open (GOAWAY): what runs on it goes on to its end, and
    /// nothing else is begun on it.
    pub fn take_leave(&self) {
        self.book.leaves.send_modify(|times| *times += 1);
    }

    /// Gives one open `/command` or `/sink` its next word.
    ///
    /// # Panics
    /// When the server is gone.
    pub fn say(&self, word: &str) {
        self.commands.send(Some(word.to_owned())).expect("a server that listens");
    }

    /// Ends one open `/command`.
    ///
    /// # Panics
    /// When the server is gone.
    pub fn end(&self) {
        self.commands.send(None).expect("a server that listens");
    }
}

impl Default for Upstream {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.book.stops.store(true, Ordering::SeqCst);
        self.book.changed.notify_all();
        for stream in lock(&self.book.open).values() {
            let _ended_already = stream.shutdown(Shutdown::Both).is_err();
        }
        // Whoever waits for a command is told that there will be none.
        self.commands = channel().0;
        let _ends_the_wait_for_another = TcpStream::connect(self.address).is_err();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("a server of the test has panicked");
        }
    }
}

impl Book {
    fn begin(&self, seen: Seen) -> usize {
        let mut all = lock(&self.seen);
        all.push(seen);
        self.changed.notify_all();
        all.len() - 1
    }

    fn note(&self, number: usize, change: impl FnOnce(&mut Seen)) {
        change(&mut lock(&self.seen)[number]);
        self.changed.notify_all();
    }

    fn wait<T>(&self, what: &str, look: impl Fn(&[Seen]) -> Option<T>) -> T {
        let mut seen = lock(&self.seen);
        loop {
            if let Some(found) = look(&seen) {
                return found;
            }
            assert!(!self.stops(), "the server ends while something waits for {what}");
            let waited = self.changed.wait_timeout(seen, LIMIT).unwrap_or_else(PoisonError::into_inner);
            assert!(!waited.1.timed_out(), "waited {LIMIT:?} for {what}");
            seen = waited.0;
        }
    }

    /// The next word of the test; `None` when it says that it is over, or is itself.
    fn command(&self) -> Option<String> {
        lock(&self.commands).recv().ok().flatten()
    }

    fn stops(&self) -> bool {
        self.stops.load(Ordering::SeqCst)
    }

    fn health_status(&self) -> u16 {
        if self.unhealthy.load(Ordering::SeqCst) { 500 } else { 200 }
    }

    fn is_failing(&self) -> bool {
        self.failing.load(Ordering::SeqCst)
    }

    /// How many requests for a path are noted.
    fn count_of(&self, target: &str) -> usize {
        lock(&self.seen).iter().filter(|seen| seen.target == target).count()
    }
}

impl Seen {
    /// The first field of a name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// Every field of a name.
    pub fn headers_of(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(own, _)| own == name).map(|(_, value)| value.as_str()).collect()
    }

    fn json(&self) -> Value {
        json!({
            "method": self.method,
            "target": self.target,
            "headers": self.headers,
            "trailers": self.trailers,
            "bodyBytes": self.body_bytes,
            "checksum": self.checksum,
        })
    }

    fn take(&mut self, piece: &[u8]) {
        self.body_bytes += piece.len() as u64;
        self.checksum = add_to_checksum(self.checksum, piece);
    }
}

/// A number that two different bodies hardly have in common (FNV-1a, begun at zero).
pub fn checksum(bytes: &[u8]) -> u64 {
    add_to_checksum(0, bytes)
}

fn add_to_checksum(sum: u64, bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(sum, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3).wrapping_add(1))
}

/// Bytes that are the same every time, and whose order shows.
pub fn filler(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|place| (place.wrapping_mul(31) ^ (place >> 8)).to_le_bytes()[0]).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A thread for each connection.
fn serve_connections(
    listener: &TcpListener,
    book: &Arc<Book>,
    serve: impl Fn(TcpStream, &Book, u64) -> std::io::Result<()> + Sync,
) {
    std::thread::scope(|scope| {
        for stream in listener.incoming() {
            if book.stops() {
                return;
            }
            let Ok(stream) = stream else { continue };
            let number = book.connections.fetch_add(1, Ordering::SeqCst) + 1;
            let _delayed = stream.set_nodelay(true);
            if let Ok(same) = stream.try_clone() {
                lock(&book.open).insert(number, same);
            }
            let serve = &serve;
            scope.spawn(move || {
                // Clients that break off are what is tested.
                let _how_it_ended = serve(stream, book, number);
                if let Some(stream) = lock(&book.open).remove(&number) {
                    let _ended_already = stream.shutdown(Shutdown::Both).is_err();
                }
            });
        }
    });
}
