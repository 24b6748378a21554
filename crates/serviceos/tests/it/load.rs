//! Load on the gateway that must not notice what happens behind it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use testkit::{Client, Request, Running, eventually};

/// The load while it goes on.
pub(crate) struct Load {
    stop: AtomicBool,
    answered: AtomicU64,
}

impl Load {
    /// Waits until so many more requests were answered.
    pub(crate) fn until_more(&self, requests: u64) {
        let wanted = self.answered.load(Ordering::Relaxed) + requests;
        eventually("requests under load", || (self.answered.load(Ordering::Relaxed) >= wanted).then_some(()));
    }
}

/// Ends the load however the work ends, since the clients are waited for.
struct Ending<'a>(&'a Load);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// Runs `work` while four clients ask for a path, each over one connection; none of them may see an error or an end.
pub(crate) fn under_load(mesh: &Running, path: &str, work: impl FnOnce(&Load)) {
    let load = Load { stop: AtomicBool::new(false), answered: AtomicU64::new(0) };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = Client::connect(mesh.gateway).unwrap();
                    let request = Request::new("GET", path).key(&mesh.key);
                    while !load.stop.load(Ordering::Relaxed) {
                        let answer = client.send(&request).expect("the connection holds");
                        assert_eq!(
                            (answer.status, answer.header("connection")),
                            (200, None),
                            "{}",
                            answer.text()
                        );
                        load.answered.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let ending = Ending(&load);
        work(&load);
        drop(ending);
        for client in clients {
            client.join().expect("a client without a failure");
        }
    });
}
