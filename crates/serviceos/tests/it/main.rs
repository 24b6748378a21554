//! The integration tests: the real binary with real child processes. One binary, so that it is linked once.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

mod access_log;
mod access_log_calls;
mod ambiguity;
mod attestation;
mod audit;
mod bodies;
mod canaries;
mod cli;
mod client_address;
mod commands;
mod configuration;
mod connections;
mod counters;
mod deadlines;
mod docs;
mod exec;
mod failover;
mod fleet;
mod gateway;
mod grpc;
mod health;
mod health_pages;
mod http2;
mod http2_replicas;
mod identities;
mod joining;
mod limits;
mod load;
mod memory;
mod outliers;
mod output;
mod refusal_counts;
mod refusals;
mod reload;
mod reload_endpoints;
mod reload_under_load;
mod secrets;
mod selection;
mod services;
mod shutdown;
mod tls;
mod tls_versions;
mod versions;
mod websocket;
