//! The integration tests: the real binary with real child processes. One binary, so that it is linked once.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

mod ambiguity;
mod bodies;
mod cli;
mod client_address;
mod configuration;
mod connections;
mod docs;
mod failover;
mod gateway;
mod health;
mod http2;
mod memory;
mod output;
mod refusals;
mod reload;
mod services;
mod shutdown;
mod tls;
