//! Leaving a replica alone whose calls fail although its checks pass: for longer each time, never too many of a service at
//! once, and never the last one.

use std::time::Duration;

use service_registry::{Service, Verdict};
use tokio::time::Instant;
use types::ReplicaId;

/// The longest ejection.
const LONGEST: Duration = Duration::from_secs(300);

/// The ejections of one instance.
#[derive(Debug, Default)]
pub(super) struct Ejections {
    count: u32,
    until: Option<Instant>,
    returned: Option<Instant>,
}

impl Ejections {
    /// Begins another one: the first lasts `base`, the second twice as long.
    pub(super) fn begin(&mut self, base: Duration, now: Instant) -> Duration {
        // A row of ejections ends once the replica has served long enough.
        if self.returned.is_some_and(|returned| now - returned > LONGEST) {
            self.count = 0;
        }
        self.count += 1;
        let length = base.saturating_mul(self.count).min(LONGEST.max(base));
        self.until = Some(now + length);
        length
    }

    /// When the running one ends.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Whether the running one has just ended.
    pub(super) fn end_if_over(&mut self, now: Instant) -> bool {
        let over = self.until.is_some_and(|until| now >= until);
        if over {
            (self.until, self.returned) = (None, Some(now));
        }
        over
    }
}

/// Whether one more replica of a service may be left alone.
pub(super) fn may_eject(service: &Service, candidate: &ReplicaId, max_percent: u8) -> bool {
    let (mut ejected, mut serving_others, mut all) = (0_usize, 0, 0);
    for replica in service.replicas.iter().filter(|replica| replica.instance.is_some()) {
        all += 1;
        ejected += usize::from(replica.health.verdict == Verdict::Ejected);
        serving_others += usize::from(replica.id != *candidate && replica.selectable().is_ok());
    }
    (ejected + 1) * 100 <= all * usize::from(max_percent) && serving_others > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_ejection_is_longer_until_the_replica_has_served_long_enough() {
        let (mut ejections, base, start) = (Ejections::default(), Duration::from_secs(30), Instant::now());
        let mut now = start;
        let mut lengths = Vec::new();
        for _ in 0..12 {
            let length = ejections.begin(base, now);
            lengths.push(length.as_secs());
            assert!(!ejections.end_if_over(now));
            now += length;
            assert!(ejections.end_if_over(now) && ejections.until().is_none());
        }
        assert_eq!(lengths, [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]);
        assert_eq!(ejections.begin(base, now + LONGEST + base), base);
    }
}
