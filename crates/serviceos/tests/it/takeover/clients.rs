//! Clients that ask all the time, each as its protocol wants it: over one connection for as long as that is not said to end.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::json;
use testkit::{Client, Http2, Request, Running, eventually};

/// Over HTTP/1.1, of which every second one has something written; and over HTTP/2.
const HTTP1: usize = 4;
const HTTP2: usize = 2;

/// The clients while they ask.
pub(crate) struct Clients {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    /// Answers to each of the clients, so that none is left behind.
    answered: [AtomicU64; HTTP1 + HTTP2],
    connections: AtomicU64,
    lost: Mutex<BTreeSet<String>>,
}

/// How they fared.
#[derive(Debug)]
pub(crate) struct Fared {
    pub(crate) lost: BTreeSet<String>,
    #[expect(dead_code, reason = "for whoever reads what a test prints")]
    answered: u64,
    #[expect(dead_code, reason = "for whoever reads what a test prints")]
    connections: u64,
}

impl Clients {
    /// They begin.
    pub(crate) fn begin(mesh: &Running) -> Self {
        let shared = Arc::new(Shared::default());
        let (gateway, key) = (mesh.gateway, mesh.key.clone());
        let threads = (0..HTTP1 + HTTP2).map(|client| {
            let (shared, key) = (Arc::clone(&shared), key.clone());
            std::thread::spawn(move || match client {
                0..HTTP1 => shared.ask_http1(client, gateway, &key),
                _ => shared.ask_http2(client, gateway, &key),
            })
        });
        Self { threads: threads.collect(), shared }
    }

    /// Waits until each of them has got so many more answers.
    pub(crate) fn until_more(&self, answers: u64) {
        let now: Vec<_> =
            self.shared.answered.iter().map(|answered| answered.load(Ordering::Relaxed)).collect();
        eventually("more answers", || {
            let lost = self.shared.lost.lock().unwrap();
            assert!(lost.is_empty(), "{lost:?}");
            let mut all = self.shared.answered.iter().zip(&now);
            all.all(|(answered, before)| answered.load(Ordering::Relaxed) >= before + answers).then_some(())
        });
    }

    /// They end.
    pub(crate) fn end(mut self) -> Fared {
        self.stop();
        let (lost, answered) = (self.shared.lost.lock().unwrap().clone(), &self.shared.answered);
        let answered = answered.iter().map(|answered| answered.load(Ordering::Relaxed)).sum();
        Fared { lost, answered, connections: self.shared.connections.load(Ordering::Relaxed) }
    }

    fn stop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn connected(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    fn answered(&self, client: usize) {
        self.answered[client].fetch_add(1, Ordering::Relaxed);
    }

    fn lost(&self, client: usize, why: impl std::fmt::Display) {
        self.lost.lock().unwrap().insert(format!("client {client}: {why}"));
    }

    fn ask_http1(&self, client: usize, gateway: SocketAddr, key: &str) {
        let request = match client % 2 {
            0 => Request::new("GET", "/v1/random/keys").key(key),
            _ => Request::new("POST", "/v1/random").key(key).json(&json!({"min": 1, "max": 6})),
        };
        while !self.is_over() {
            let mut connection = match Client::connect(gateway) {
                Ok(connection) => connection,
                Err(error) => return self.lost(client, format!("no connection: {error}")),
            };
            self.connected();
            while !self.is_over() {
                match connection.send(&request) {
                    Ok(answer) if answer.status == 200 => {
                        self.answered(client);
                        if answer.header("connection") == Some("close") {
                            break;
                        }
                    }
                    Ok(answer) => return self.lost(client, answer.text()),
                    Err(error) => return self.lost(client, error),
                }
            }
        }
    }

    fn ask_http2(&self, client: usize, gateway: SocketAddr, key: &str) {
        let bearer = format!("Bearer {key}");
        while !self.is_over() {
            let connection = Http2::connect(gateway);
            self.connected();
            while !self.is_over() {
                let request = Http2::request("GET", "/v1/random/keys", &[("authorization", &bearer)]);
                match connection.try_send(request) {
                    Ok(Some(answer)) if answer.status == 200 => self.answered(client),
                    Ok(Some(answer)) => return self.lost(client, answer.text()),
                    // The connection takes no request any more, so this one was not sent.
                    Ok(None) => break,
                    Err(error) => return self.lost(client, error),
                }
            }
        }
    }
}
