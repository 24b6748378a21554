//! Whose roots judge evidence.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Whether evidence is judged under a root that is made in each data directory, or under the vendors' roots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The development root, made in each data directory.
    Development,
    /// The roots of the vendors, compiled in.
    Production,
}

impl Mode {
    /// The word in hashed and signed messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Production => "production",
        }
    }

    /// The number in sealed records and certificates.
    pub fn number(self) -> u8 {
        match self {
            Self::Development => 0,
            Self::Production => 1,
        }
    }

    /// The mode of a number.
    pub fn of_number(number: u8) -> Option<Self> {
        [Self::Development, Self::Production].into_iter().find(|mode| mode.number() == number)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
