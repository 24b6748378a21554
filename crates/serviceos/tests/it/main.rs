//! The integration tests: the real binary with real child processes. One binary, so that it is linked once.

mod cli;
mod configuration;
mod failover;
mod gateway;
mod health;
mod refusals;
mod services;
mod shutdown;
