//! The script as a command, and its answer as what is left of limits.

use std::time::Duration;

use access::{Allowed, Denied, Limit};
use redis::{Cmd, Value};

/// Counts one request. `count.lua` says how.
pub(crate) const COUNT: &str = include_str!("count.lua");

/// No time is longer in it, so that no sum goes over what Redis answers with: 146 years.
const HORIZON_NS: u64 = 1 << 62;

/// Whether a request is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Take,
    Look,
}

/// A limit as the script counts by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bound {
    key: String,
    each: u64,
    depth: u64,
}

impl Bound {
    /// A rate, which stands under this key.
    pub(crate) fn rate(key: String, limit: &Limit) -> Self {
        let nanoseconds =
            |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(HORIZON_NS).min(HORIZON_NS);
        Self { key, each: nanoseconds(limit.emission()), depth: nanoseconds(limit.window()) }
    }

    /// A quota of a day, which stands under this key.
    pub(crate) fn daily(key: String, quota: u32) -> Self {
        Self { key, each: 0, depth: quota.into() }
    }
}

/// What came of one request.
pub(crate) type Counted = Result<Vec<Allowed>, (usize, Denied)>;

/// The command that counts by these limits.
pub(crate) fn command(sha: &str, mode: Mode, bounds: &[Bound]) -> Cmd {
    let mut command = redis::cmd("EVALSHA");
    command.arg(sha).arg(bounds.len());
    for bound in bounds {
        command.arg(&bound.key);
    }
    command.arg(match mode {
        Mode::Take => "take",
        Mode::Look => "look",
    });
    for bound in bounds {
        command.arg(bound.each).arg(bound.depth);
    }
    command
}

/// Its answer: what is left of each limit, in their order, or the place of the one that refuses. `None` where it is none.
pub(crate) fn answer(value: &Value, limits: usize) -> Option<Counted> {
    let Value::Array(numbers) = value else { return None };
    let number = |value: &Value| match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    };
    let (refusing, rest) = numbers.split_first()?;
    let refusing = usize::try_from(number(refusing)?).ok()?;
    if refusing == 0 {
        let left = |pair: &[Value]| {
            let remaining = u32::try_from(number(&pair[0])?).unwrap_or(u32::MAX);
            Some(Allowed { remaining, reset: Duration::from_nanos(number(&pair[1])?) })
        };
        let left: Vec<_> = rest.chunks_exact(2).map(left).collect::<Option<_>>()?;
        return (left.len() == limits).then_some(Ok(left));
    }
    let retry_after = Duration::from_nanos(number(rest.first()?)?.max(1));
    (refusing <= limits).then_some(Err((refusing - 1, Denied { retry_after })))
}

#[cfg(test)]
mod tests;
