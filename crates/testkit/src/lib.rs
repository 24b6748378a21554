//! The integration language of the tests: `Mesh::new().service("vrf", 3).up()` is the real binary with real child
//! processes in a temporary folder, on ports that the system chooses.
//!
//! Nothing here waits by sleeping for a guess: a mesh is up when its `status` says so, a process is gone when the kernel
//! says so. Whatever a test leaves running is killed with its whole process group when the mesh is dropped.

mod connection;
mod etcd;
mod http;
mod http2;
mod mesh;
mod namespaces;
mod process;
mod program;
mod redis;
mod takeover;
mod tls;
mod tokens;
mod upstream;

pub use connection::Connection;
pub use etcd::Etcd;
pub use http::{Answer, Client, Request};
pub use http2::Http2;
pub use mesh::{Finished, Mesh, Running, kill};
pub use namespaces::{Host, Network};
pub use process::{exists, memory_kib, processes_of, reset_peak, wait_until_gone};
pub use program::{GRPC, JWT, PYTHON, Script, WEBSOCKETS, has_program};
pub use redis::Redis;
pub use takeover::Former;
pub use tls::{Authority, Certificate, Holder, Tls, TlsSide, TlsVersion};
pub use tokens::{KeyServer, TokenIssuer, hs256, now, unsigned};
pub use upstream::{Seen, Upstream, checksum, filler};

use std::time::{Duration, Instant};

/// No step of a test takes longer than this on the slowest machine; reaching it is a failure, never a pass.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Asks again and again, with a short pause, until there is an answer; panics after [`LIMIT`].
///
/// For facts about other processes that nothing announces.
///
/// # Panics
/// When there is no answer in time; `what` says what was waited for.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {LIMIT:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
