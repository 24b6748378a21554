//! Durations as people write them: `500ms`, `10s`, `1m30s`.

use std::time::Duration;

/// Units from the largest to the smallest, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads whole numbers with the units `d`, `h`, `m`, `s` and `ms`, the larger unit first and each at most once; `None` for
/// anything else.
pub fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut allowed = &UNITS[..];
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        let position = allowed.iter().position(|(name, _)| *name == unit)?;
        let part = number.parse::<u64>().ok()?.checked_mul(allowed[position].1)?;
        total = total.checked_add(part)?;
        allowed = &allowed[position + 1..];
        rest = after;
    }
    (!text.is_empty()).then(|| Duration::from_millis(total))
}

/// Writes a duration as [`parse`] reads it, in whole milliseconds.
pub fn text(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, factor) in UNITS {
        if rest >= factor {
            text.push_str(&format!("{}{unit}", rest / factor));
            rest %= factor;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_read_as_written() {
        for (text, milliseconds) in [
            ("0s", 0),
            ("500ms", 500),
            ("10s", 10_000),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
            ("1m30s", 90_000),
            ("1d2h3m4s5ms", 93_784_005),
            ("90s", 90_000),
        ] {
            assert_eq!(parse(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_no_duration() {
        for bad in [
            "",
            "10",
            "s",
            "10 s",
            " 10s",
            "10s ",
            "10S",
            "10sec",
            "1.5s",
            "-1s",
            "+1s",
            "30s1m",
            "1s1s",
            "1m30",
            "m1",
            "10µs",
            "99999999999999999999s",
            "999999999999999999d",
            "１s",
            "1min",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_written_duration_reads_back(milliseconds in 0u64..=u64::MAX) {
            let duration = Duration::from_millis(milliseconds);
            prop_assert_eq!(parse(&text(duration)), Some(duration));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = parse(&text);
        }
    }
}
