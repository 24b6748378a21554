//! Exact decimal prices. A text becomes a price digit by digit or not at all: no float, no rounding.

use std::fmt::Write;

use thiserror::Error;

/// Decimals that a price can hold. With [`MAX_WHOLE`], a price times 10,000 (basis points) still fits an `i128`.
const SCALE: u32 = 22;
/// A price is below this, in either direction.
const MAX_WHOLE: i128 = 1_000_000_000_000;
/// The longest text that is read as a price, in bytes.
const MAX_TEXT_BYTES: usize = 64;

/// A price in units of 10⁻²², below 10¹² in absolute value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Price(pub(crate) i128);

/// The text is not a price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum PriceError {
    #[error("not a decimal number")]
    NotANumber,
    #[error("not exact within {SCALE} decimals")]
    TooFine,
    #[error("not below 10^12")]
    TooLarge,
}

impl Price {
    /// Reads a decimal number in the grammar of JSON (RFC 8259, section 6), with or without an exponent.
    pub(crate) fn parse(text: &str) -> Result<Self, PriceError> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(PriceError::NotANumber);
        }
        let (negative, unsigned) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
            Some(_) => return Err(PriceError::NotANumber),
            None => (mantissa, ""),
        };
        let leading_zero = whole.len() > 1 && whole.starts_with('0');
        let digits = [whole, fraction].concat();
        if whole.is_empty() || leading_zero || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(PriceError::NotANumber);
        }
        let decimals = i64::try_from(fraction.len()).map_err(|_| PriceError::NotANumber)?;
        let units = scale(&digits, i64::from(SCALE) + exponent - decimals)?;
        Ok(Self(if negative { -units } else { units }))
    }

    /// The price with exactly so many decimals, at most 22, rounded towards negative infinity.
    pub(crate) fn floor(self, decimals: u32) -> Self {
        let step = 10_i128.pow(SCALE - decimals);
        Self(self.0.div_euclid(step) * step)
    }

    /// The price with exactly so many decimals, at most 22, rounded towards positive infinity.
    pub(crate) fn ceil(self, decimals: u32) -> Self {
        Self(-Self(-self.0).floor(decimals).0)
    }

    /// The text with exactly so many decimals, at most 22; further digits are cut off.
    pub(crate) fn text(self, decimals: u32) -> String {
        let one = 10_u128.pow(SCALE);
        let (whole, fraction) = (self.0.unsigned_abs() / one, self.0.unsigned_abs() % one);
        let mut text = format!("{}{whole}", if self.0 < 0 { "-" } else { "" });
        if decimals > 0 {
            let width = decimals as usize;
            write!(text, ".{:0width$}", fraction / 10_u128.pow(SCALE - decimals))
                .expect("a String takes every text");
        }
        text
    }

    /// Whether the distance from `self` to `other` is at least so many basis points (at most 10,000) of `self`.
    pub(crate) fn moved(self, other: Self, basis_points: u32) -> bool {
        other != self && (other.0 - self.0).abs() * 10_000 >= self.0.abs() * i128::from(basis_points)
    }
}

fn parse_exponent(text: &str) -> Result<i64, PriceError> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(PriceError::NotANumber);
    }
    // A longer exponent cannot be made good by the digits of so short a text.
    text.parse::<i16>().map(i64::from).map_err(|_| PriceError::TooLarge)
}

/// `digits × 10^shift`, exactly.
fn scale(digits: &str, shift: i64) -> Result<i128, PriceError> {
    let significant = digits.trim_start_matches('0');
    let trimmed = significant.trim_end_matches('0');
    if trimmed.is_empty() {
        return Ok(0);
    }
    let shift =
        shift + i64::try_from(significant.len() - trimmed.len()).map_err(|_| PriceError::NotANumber)?;
    let shift = u32::try_from(shift).map_err(|_| PriceError::TooFine)?;
    let factor = 10_i128.checked_pow(shift).ok_or(PriceError::TooLarge)?;
    let units = trimmed.parse::<i128>().ok().and_then(|units| units.checked_mul(factor));
    units.filter(|units| *units < MAX_WHOLE * 10_i128.pow(SCALE)).ok_or(PriceError::TooLarge)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<String, PriceError> {
        Price::parse(text)
            .map(|price| price.text(SCALE).trim_end_matches('0').trim_end_matches('.').to_owned())
    }

    #[test]
    fn texts_are_read_digit_by_digit() {
        let cases = [
            ("17912.90", "17912.9"),
            ("0", "0"),
            ("-0.0", "0"),
            ("-1.5", "-1.5"),
            ("0.1", "0.1"),
            ("1e3", "1000"),
            ("1E+3", "1000"),
            ("1.2345678901234567e-05", "0.000012345678901234567"),
            ("17912900e-3", "17912.9"),
            ("0e9999", "0"),
            ("999999999999.9999999999999999999999", "999999999999.9999999999999999999999"),
            ("1.10000000000000000000000000000000", "1.1"),
            ("0.0000000000000000000001", "0.0000000000000000000001"),
            ("100000000000000e-10", "10000"),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_exactly_a_price_is_refused() {
        use PriceError::{NotANumber, TooFine, TooLarge};
        let number = [
            "", "-", "+1", ".5", "1.", "01", "1e", "1e+", "1_0", " 1", "1 ", "1,0", "0x1", "NaN", "inf",
            "1.2.3", "--1", "1e1.5", "١",
        ];
        for text in number {
            assert_eq!(Price::parse(text), Err(NotANumber), "{text}");
        }
        for text in ["0.00000000000000000000001", "1e-23", "1.5e-22", "1e-32768"] {
            assert_eq!(Price::parse(text), Err(TooFine), "{text}");
        }
        for text in ["1000000000000", "1e12", "-1e12", "1e99", "1e32767", "1e99999999999"] {
            assert_eq!(Price::parse(text), Err(TooLarge), "{text}");
        }
        assert_eq!(Price::parse(&"1".repeat(65)), Err(NotANumber));
    }

    #[test]
    fn rounding_to_decimals_goes_the_way_it_says() {
        let rounded = |text: &str| {
            let price = Price::parse(text).unwrap();
            (price.floor(2).text(2), price.ceil(2).text(2))
        };
        assert_eq!(rounded("1.239"), ("1.23".to_owned(), "1.24".to_owned()));
        assert_eq!(rounded("1.23"), ("1.23".to_owned(), "1.23".to_owned()));
        assert_eq!(rounded("-1.239"), ("-1.24".to_owned(), "-1.23".to_owned()));
        assert_eq!(Price::parse("7.9").unwrap().floor(0).text(0), "7");
        assert_eq!(Price::parse("0.05").unwrap().text(8), "0.05000000");
    }

    #[test]
    fn a_move_is_measured_in_basis_points_without_rounding() {
        let moved = |from: &str, to: &str| Price::parse(from).unwrap().moved(Price::parse(to).unwrap(), 10);
        assert!(moved("10000", "10010") && moved("10000", "9990"));
        assert!(!moved("10000", "10009.9999999999") && !moved("10000", "9990.0000000001"));
        assert!(moved("999999999999", "1") && moved("1", "999999999999"));
    }

    proptest! {
        #[test]
        fn a_price_reads_back_as_it_is_written(units in -10_i128.pow(34) + 1..10_i128.pow(34)) {
            prop_assert_eq!(Price::parse(&Price(units).text(SCALE)), Ok(Price(units)));
        }

        #[test]
        fn an_exponent_only_moves_the_point(digits in 1_u64..1_000_000_000_000, exponent in 0_usize..22) {
            let text = format!("{digits:0>width$}", width = exponent + 1);
            let (whole, fraction) = text.split_at(text.len() - exponent);
            let plain = if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") };
            let parsed = Price::parse(&format!("{digits}e-{exponent}"));
            prop_assert_eq!(parsed, Price::parse(&plain));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "[-+]?[0-9]{0,40}[.]?[0-9]{0,40}([eE][-+]?[0-9]{0,6})?") {
            let _any = Price::parse(&text);
        }
    }
}
