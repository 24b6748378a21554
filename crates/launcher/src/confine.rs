//! What this process, and everything that it executes, may not do.

use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};

/// Forbids core dumps for this process and whatever it executes or starts, for good: they would hold its secrets. Gives
/// back the huge pages that `serviceos up` refuses for itself, since a program may well gain by them.
pub fn confine() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    // A kernel that cannot be told has none.
    let _has_none = rustix::thread::disable_transparent_huge_pages(false);
    Ok(())
}
