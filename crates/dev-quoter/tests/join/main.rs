//! Joins against a real authority, with real simulated evidence: what is admitted and what it is given, and every way in which
//! it is refused. They live here because nobody else may depend on whoever makes such evidence. One binary, so that it is linked
//! once.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

mod admission;
mod applicant;
mod audit_trail;
mod binding;
mod configuring;
mod evidence;
mod expiry;
mod mesh;
mod nodes;
mod nonces;
mod quota;
mod records;
mod renewal;
mod restart;
mod revocation;
mod secrets_release;
mod tickets;
