//! What this process, and everything that it executes, may not do.

use std::io;
use std::sync::{Mutex, PoisonError};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How many open files a program of anybody's may have unless it asks for more. The kernel begins with as many, and programs
/// count on it: select(2) knows no descriptor beyond, and some close every one that there could be when they start.
const ORDINARY_DESCRIPTORS: u64 = 1024;

/// The limit is the process's, and is one of two while something is started.
static LIMIT: Mutex<()> = Mutex::new(());

/// Forbids core dumps for this process and whatever it executes or starts, for good: they would hold its secrets. Gives
/// back the huge pages that `serviceos up` refuses for itself, since a program may well gain by them.
pub fn confine() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    // A kernel that cannot be told has none.
    let _has_none = rustix::thread::disable_transparent_huge_pages(false);
    Ok(())
}

/// Starts a program that inherits an ordinary limit of open files. `serviceos up` raises its own as far as it may, which the
/// launcher, with its connections, and every service that is built in keep.
pub(crate) fn with_ordinary_descriptors<T>(start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let _alone = LIMIT.lock().unwrap_or_else(PoisonError::into_inner);
    let before = getrlimit(Resource::Nofile);
    let current = before.current.map_or(ORDINARY_DESCRIPTORS, |soft| soft.min(ORDINARY_DESCRIPTORS));
    setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum: before.maximum })?;
    let started = start();
    setrlimit(Resource::Nofile, before)?;
    started
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_started_may_have_as_many_files_as_programs_count_on_and_can_ask_for_more() {
        let before = getrlimit(Resource::Nofile);
        let told = with_ordinary_descriptors(|| {
            std::process::Command::new("/bin/sh").args(["-c", "ulimit -Sn; ulimit -Hn"]).output()
        });
        let told = String::from_utf8(told.unwrap().stdout).unwrap();
        let text = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |limit| limit.to_string());
        let soft = before.current.map_or(1024, |soft| soft.min(1024));
        assert_eq!(told, format!("{soft}\n{}\n", text(before.maximum)));
        assert_eq!(text(getrlimit(Resource::Nofile).current), text(before.current));
        assert!(with_ordinary_descriptors(|| Err::<(), _>(io::Error::other("x"))).is_err());
        assert_eq!(text(getrlimit(Resource::Nofile).current), text(before.current));
    }
}
