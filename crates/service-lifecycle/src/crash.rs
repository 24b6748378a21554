//! A replica that ends again and again.

use std::sync::Arc;

use jiff::Timestamp;
use service_registry::{CrashLoop, LastExit};

/// From so many ends in a row on it is called a crash loop.
const CRASH_LOOP: u32 = 3;

/// The ends in a row, none of them after the replica had served for a while.
#[derive(Debug, Default)]
pub(crate) struct Crashes {
    ended: u32,
    since: Option<Timestamp>,
}

impl Crashes {
    /// It ended once more; gives what is to be shown of that.
    pub(crate) fn ended(&mut self, last: LastExit, now: Timestamp) -> Option<Arc<CrashLoop>> {
        self.ended = self.ended.saturating_add(1);
        let since = *self.since.get_or_insert(now);
        (self.ended >= CRASH_LOOP).then(|| Arc::new(CrashLoop { ended: self.ended, since, last }))
    }

    /// It has served for long enough, or is to begin anew.
    pub(crate) fn over(&mut self) {
        *self = Self::default();
    }

    /// Whether it has just become one.
    pub(crate) fn is_new(&self) -> bool {
        self.ended == CRASH_LOOP
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_ends_in_a_row_are_a_crash_loop_until_it_has_served() {
        let mut crashes = Crashes::default();
        let ends = |crashes: &mut Crashes, second: i64| {
            let last = LastExit { code: Some(1), ..LastExit::default() };
            crashes.ended(last, Timestamp::from_second(second).unwrap())
        };
        assert_eq!((ends(&mut crashes, 1), ends(&mut crashes, 2)), (None, None));
        let shown = ends(&mut crashes, 3).unwrap();
        assert_eq!((shown.ended, shown.since.as_second(), shown.last.code), (3, 1, Some(1)));
        assert!(crashes.is_new());
        assert_eq!(ends(&mut crashes, 4).unwrap().ended, 4);
        assert!(!crashes.is_new());
        crashes.over();
        assert_eq!(ends(&mut crashes, 5), None);
    }
}
