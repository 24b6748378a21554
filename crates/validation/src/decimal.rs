//! Numbers by their digits: what is compared as binary floating point is compared with something else than what was written.

use std::cmp::Ordering;

use serde_json::Number;

/// `0.digits × 10^scale`: the digits begin and end with another one than zero, and there are none for zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decimal {
    is_negative: bool,
    digits: Vec<u8>,
    scale: i64,
}

impl Decimal {
    pub(crate) fn of(number: &Number) -> Self {
        let text = number.as_str();
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        // One that long is beyond anything that it could be compared with.
        let is_small = exponent.starts_with('-');
        let exponent: i64 = exponent.parse().unwrap_or(if is_small { -MAX_EXPONENT } else { MAX_EXPONENT });
        let (is_negative, mantissa) = match mantissa.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, mantissa),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).map(|digit| digit - b'0').collect();
        let leading = digits.iter().take_while(|digit| **digit == 0).count();
        digits.drain(..leading);
        while digits.last() == Some(&0) {
            digits.pop();
        }
        if digits.is_empty() {
            return Self { is_negative: false, digits, scale: 0 };
        }
        let length = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let scale = length(whole.len()) - length(leading) + exponent.clamp(-MAX_EXPONENT, MAX_EXPONENT);
        Self { is_negative, digits, scale }
    }

    fn magnitude(&self, other: &Self) -> Ordering {
        match (self.digits.is_empty(), other.digits.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            // Digits that are missing behind are zeros.
            (false, false) => self.scale.cmp(&other.scale).then_with(|| self.digits.cmp(&other.digits)),
        }
    }

    /// Whether a whole number times `divisor` makes this one. A divisor of more than 18 digits divides nothing but zero.
    pub(crate) fn is_multiple_of(&self, divisor: &Self) -> bool {
        if self.digits.is_empty() {
            return true;
        }
        let lowest = |number: &Self| number.scale - i64::try_from(number.digits.len()).unwrap_or(i64::MAX);
        let zeros = lowest(self) - lowest(divisor);
        // The last digit is none that ten divides.
        if zeros < 0 || divisor.digits.is_empty() || divisor.digits.len() > MAX_DIVISOR_DIGITS {
            return false;
        }
        let divisor = divisor.digits.iter().fold(0, |number: u128, digit| number * 10 + u128::from(*digit));
        let step = |rest: u128, digit: u8| (rest * 10 + u128::from(digit)) % divisor;
        let mut rest = self.digits.iter().fold(0, |rest, digit| step(rest, *digit));
        for _ in 0..zeros {
            if rest == 0 {
                break;
            }
            rest = step(rest, 0);
        }
        rest == 0
    }

    /// Whether [`Self::is_multiple_of`] can divide by it.
    pub(crate) fn is_usable_divisor(&self) -> bool {
        !self.is_negative && (1..=MAX_DIVISOR_DIGITS).contains(&self.digits.len())
    }

    /// The same text for the same number.
    pub(crate) fn write(&self, out: &mut String) {
        out.push(if self.is_negative { '-' } else { '+' });
        out.extend(self.digits.iter().map(|digit| char::from(digit + b'0')));
        out.push('e');
        out.push_str(&self.scale.to_string());
    }
}

/// The digits of a divisor.
pub(crate) const MAX_DIVISOR_DIGITS: usize = 18;
/// Exponents beyond are taken for this one: what is judged has none of more than three digits.
const MAX_EXPONENT: i64 = 100_000;

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.is_negative, other.is_negative) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, false) => self.magnitude(other),
            (true, true) => other.magnitude(self),
        }
    }
}

/// Which of two numbers is larger.
pub(crate) fn compare(left: &Number, right: &Number) -> Ordering {
    match (left.as_i64(), right.as_i64()) {
        (Some(left), Some(right)) => left.cmp(&right),
        _ => Decimal::of(left).cmp(&Decimal::of(right)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number(text: &str) -> Number {
        text.parse().unwrap()
    }

    #[test]
    fn numbers_are_compared_by_their_digits() {
        for (left, right, ordering) in [
            ("1", "1.0", Ordering::Equal),
            ("0", "-0.0e5", Ordering::Equal),
            ("100", "1e2", Ordering::Equal),
            ("0.1e1", "1", Ordering::Equal),
            ("9007199254740993", "9007199254740992", Ordering::Greater),
            ("9007199254740993.0", "9007199254740992", Ordering::Greater),
            ("0.30000000000000001", "0.3", Ordering::Greater),
            ("18446744073709551617", "18446744073709551616", Ordering::Greater),
            ("-2", "-10", Ordering::Greater),
            ("-0.5", "0", Ordering::Less),
            ("1e400", "1e399", Ordering::Greater),
            ("-1e400", "1e-400", Ordering::Less),
            ("1e-400", "0", Ordering::Greater),
            ("12", "123", Ordering::Less),
            ("12", "1.23", Ordering::Greater),
        ] {
            assert_eq!(compare(&number(left), &number(right)), ordering, "{left} {right}");
            assert_eq!(compare(&number(right), &number(left)), ordering.reverse(), "{right} {left}");
        }
    }

    #[test]
    fn multiples_are_found_by_digits() {
        for (value, divisor, is_multiple) in [
            ("0", "7", true),
            ("19.99", "0.01", true),
            ("19.995", "0.01", false),
            ("1234567890123456.789", "0.01", false),
            ("1234567890123456.78", "0.01", true),
            ("9007199254740993", "2", false),
            ("1e308", "0.123456789", false),
            ("1e999", "3", false),
            ("3e999", "3", true),
            ("7", "0.5", true),
            ("-4.5", "1.5", true),
            ("0.0075", "0.0001", true),
            ("0.00751", "0.0001", false),
            ("1e-10", "1", false),
        ] {
            let is = Decimal::of(&number(value)).is_multiple_of(&Decimal::of(&number(divisor)));
            assert_eq!(is, is_multiple, "{value} {divisor}");
        }
    }

    proptest! {
        #[test]
        fn whole_numbers_are_what_they_are(left: i64, right: i64, divisor in 1..1_000_000_i64, zeros in 0..9_usize) {
            let write = |number: i64| format!("{number}.{}", "0".repeat(zeros + 1));
            let (long, short) = (Decimal::of(&number(&write(left))), Decimal::of(&number(&right.to_string())));
            prop_assert_eq!(long.cmp(&short), left.cmp(&right));
            prop_assert_eq!(long.is_multiple_of(&Decimal::of(&divisor.into())), left % divisor == 0);
        }
    }
}
