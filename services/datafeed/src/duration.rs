//! Durations as people write them: a whole number and one unit, `500ms`, `10s`, `5m`, `1h`.

use std::time::Duration;

const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

pub(crate) fn parse(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
    Some(Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(factor)?))
}

/// The shortest text that [`parse`] reads as the same duration, in whole milliseconds.
pub(crate) fn text(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    let fits = |(_, factor): &(&str, u64)| milliseconds.is_multiple_of(u128::from(*factor));
    let (unit, factor) = UNITS.into_iter().rev().find(fits).unwrap_or(UNITS[0]);
    format!("{}{unit}", milliseconds / u128::from(factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_whole_number_and_a_unit() {
        for (written, milliseconds) in [("500ms", 500), ("10s", 10_000), ("5m", 300_000), ("1h", 3_600_000)] {
            let duration = Duration::from_millis(milliseconds);
            assert_eq!((parse(written), text(duration).as_str()), (Some(duration), written));
        }
        for bad in ["", "5", "s", "5 s", "-5s", "+5s", "1.5s", "5S", "5sec", "5d", "99999999999999999999s"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
