//! Whether processes end with what holds them. They do, since whatever is dropped half-started must end; but not while it is open
//! which of two `up` looks after them: then whoever is left finds them as one finds what a killed `up` has left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How processes are held; clones are the same one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hold {
    is_loose: Arc<AtomicBool>,
}

impl Hold {
    /// From now on they outlive what holds them.
    pub(crate) fn loosen(&self) {
        self.is_loose.store(true, Ordering::SeqCst);
    }

    /// From now on they end with it.
    pub(crate) fn tighten(&self) {
        self.is_loose.store(false, Ordering::SeqCst);
    }

    /// Whether they outlive it.
    pub(crate) fn is_loose(&self) -> bool {
        self.is_loose.load(Ordering::SeqCst)
    }
}
