//! Sizes in bytes as people write them: `64KiB`.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A number of bytes, written with a binary unit: `512B`, `64KiB`, `1MiB`, `2GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

/// The text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("a size is a whole number and a unit, such as 512B, 64KiB, 1MiB or 2GiB")]
pub struct SizeError;

const UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl ByteSize {
    /// The size in bytes, for a buffer of this machine.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for ByteSize {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        for (unit, factor) in UNITS {
            if let Some(number) = text.strip_suffix(unit) {
                if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err(SizeError);
                }
                let number: u64 = number.parse().map_err(|_| SizeError)?;
                return number.checked_mul(factor).map(Self).ok_or(SizeError);
            }
        }
        Err(SizeError)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, factor) in UNITS {
            if self.0 >= factor && self.0.is_multiple_of(factor) {
                return write!(formatter, "{}{unit}", self.0 / factor);
            }
        }
        write!(formatter, "{}B", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_back_as_they_are_written() {
        for text in ["0B", "512B", "64KiB", "1MiB", "3GiB", "1025B"] {
            assert_eq!(text.parse::<ByteSize>().unwrap().to_string(), text);
        }
        for bad in ["", "64", "64KB", "64 KiB", "-1B", "1.5MiB", "KiB", "+1B", "99999999999GiB"] {
            assert_eq!(bad.parse::<ByteSize>(), Err(SizeError), "{bad}");
        }
    }
}
