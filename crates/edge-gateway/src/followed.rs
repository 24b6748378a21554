//! What is published by its owner, as one worker knows it.

use std::cell::{Ref, RefCell};
use std::sync::Arc;

use tokio::sync::watch;

/// A published value. Whether there is a newer one is looked at each time it is asked for, one atomic load, so that what was
/// revoked counts no more from the moment in which the revocation is answered.
pub(crate) struct Followed<T> {
    published: RefCell<watch::Receiver<Arc<T>>>,
    known: RefCell<Arc<T>>,
}

impl<T> Followed<T> {
    pub(crate) fn new(mut published: watch::Receiver<Arc<T>>) -> Self {
        let known = Arc::clone(&published.borrow_and_update()).into();
        Self { published: published.into(), known }
    }

    /// The one in force.
    pub(crate) fn current(&self) -> Ref<'_, T> {
        // An error means that there will be no newer one.
        if self.published.borrow().has_changed().unwrap_or(false) {
            *self.known.borrow_mut() = Arc::clone(&self.published.borrow_mut().borrow_and_update());
        }
        Ref::map(self.known.borrow(), |known| &**known)
    }
}
