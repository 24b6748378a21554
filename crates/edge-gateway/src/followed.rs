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
        let is_newer = {
            let published = self.published.borrow();
            // Where its owner has gone there will be none any more, but the last one may not have been seen yet.
            published
                .has_changed()
                .unwrap_or_else(|_gone| !Arc::ptr_eq(&published.borrow(), &self.known.borrow()))
        };
        if is_newer {
            *self.known.borrow_mut() = Arc::clone(&self.published.borrow_mut().borrow_and_update());
        }
        Ref::map(self.known.borrow(), |known| &**known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_counts_also_when_its_owner_has_gone_before_it_was_seen() {
        let (owner, published) = watch::channel(Arc::new(1));
        let followed = Followed::new(published);
        assert_eq!(*followed.current(), 1);
        owner.send_replace(Arc::new(2));
        drop(owner);
        assert_eq!((*followed.current(), *followed.current()), (2, 2));
    }
}
