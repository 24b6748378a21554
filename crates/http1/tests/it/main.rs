//! What the crate promises of whole connections, on generated inputs that are almost valid: pieces make no difference, what is
//! sent on means the same, and so does what hyper takes as well.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

mod differential;
mod generator;
mod hyper_reader;
mod properties;
mod reader;
