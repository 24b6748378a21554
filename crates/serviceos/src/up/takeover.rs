//! Another process takes the place of this one on the data directory, and no request is lost (`serviceos up --takeover`).
//!
//! ```text
//! new: everything that can be refused without the store
//! new ─ Hello ──────────────────────▶ old: control ends, replicas are let go of, the store is closed; the gateway serves on
//! new ◀─ Handed, all sockets, lock ── old
//! new: starts; its drivers take the replicas over as they do from an `up` that was killed
//! new ─ Proven ─────────────────────▶ old: takes no signed request any more
//! new ◀─ Nonces ───────────────────── old
//! new: its workers accept
//! new ─ Serving ────────────────────▶ old: accepts nobody any more, finishes what is in flight, ends
//! new ─ Seen, again and again ──────▶ old: goes by it for as long as it has requests
//! new ◀─ InFlight, again and again ── old: the new one's drains wait for these too
//! ```
//!
//! Until it has said that it serves, the new one holds the replicas loosely, as the old one does from the moment in which it hands
//! over: whoever of them ends, the other finds them as one finds what a killed `up` has left. If the new one ends before that,
//! the old one starts once more, by the same way, in the place of itself. If the old one ends, the new one has all that it needs.

pub(super) mod asking;
pub(super) mod leaving;
mod message;
pub(super) mod sockets;
pub(super) mod standing;
pub(super) mod succeeding;
pub(super) mod upgrade;

use std::time::Duration;

/// The name of the socket in `run/`.
const SOCKET: &str = "handover.sock";
/// Which form of the messages this program speaks.
const PROTOCOL: u32 = 2;
/// How long whoever connects may take to say what it wants, and how long it waits for a first answer.
const HELLO: Duration = Duration::from_secs(2);
/// How long the old one may take to hand over.
const HANDING: Duration = Duration::from_secs(30);
/// How long the new one may take until it serves; then it is ended, and the old one goes on.
const SERVING: Duration = Duration::from_secs(30);
/// How long the replicas that served may take to serve the new one.
const PROVEN: Duration = Duration::from_secs(15);
/// How long one message may take on its way, where the other end waits for it.
const ON_ITS_WAY: Duration = Duration::from_secs(5);
