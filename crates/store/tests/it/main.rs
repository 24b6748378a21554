//! What both stores promise, held against each of them, what concurrent clients see of them, and what a crash
//! leaves of the one in a file.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

mod conformance;
mod crash;
mod embedded;
mod etcd;
mod history;
