//! How often a caller may ask: the bucket of its key, one number that all workers share.

use std::sync::LazyLock;

use access::Caller;
use tokio::time::Instant;

use crate::FlowError;

/// What the buckets count their time from.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The present moment as the buckets count it, in nanoseconds.
pub fn nanoseconds_now() -> u64 {
    nanoseconds(Instant::now())
}

/// A moment as the buckets count it, in nanoseconds.
fn nanoseconds(now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(*EPOCH).as_nanos()).unwrap_or(u64::MAX)
}

/// Takes one request from the caller's bucket. A refusal takes nothing.
pub(crate) fn limit(caller: Option<&Caller>, now: Instant) -> Result<(), FlowError> {
    let Some((caller, limiter)) = caller.and_then(|caller| Some((caller, caller.limiter()?))) else {
        return Ok(());
    };
    match limiter.check(nanoseconds(now)) {
        Ok(_) => Ok(()),
        Err(denied) => Err(FlowError::RateLimited {
            tier: caller.tier().to_owned(),
            retry_after: denied.retry_after.as_secs() + 1,
        }),
    }
}
