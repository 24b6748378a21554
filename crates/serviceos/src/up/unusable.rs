//! What the configuration names and cannot be used: files and secrets, each with the line that names it, of whatever kind it is.

use std::fmt;

use thiserror::Error;

use crate::failure::Failure;

/// What cannot be used, each with its line; 0 where it stands in none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Error)]
pub(crate) struct Unusable(Vec<(usize, String)>);

impl Unusable {
    /// One thing that cannot be used.
    pub(crate) fn one(line: usize, message: String) -> Self {
        Self(vec![(line, message)])
    }

    /// What was made, unless something for it cannot be used, which is noted.
    pub(crate) fn note<T>(&mut self, made: Result<T, Self>) -> Option<T> {
        made.map_err(|Self(more)| self.0.extend(more)).ok()
    }

    /// Nothing, where nothing was noted.
    ///
    /// # Errors
    /// What was noted.
    pub(crate) fn or<T>(self, made: T) -> Result<T, Self> {
        if self.0.is_empty() { Ok(made) } else { Err(self) }
    }

    /// The failure of a command, in which the configuration has this name.
    pub(crate) fn in_file(&self, name: &str) -> Failure {
        let line = |(line, message): &(usize, String)| match line {
            0 => format!("{name}: {message}\n"),
            line => format!("{name}:{line}: {message}\n"),
        };
        Failure::Configuration(self.0.iter().map(line).collect())
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |(line, message): &(usize, String)| match line {
            0 => message.clone(),
            line => format!("line {line}: {message}"),
        };
        formatter.write_str(&self.0.iter().map(line).collect::<Vec<_>>().join("\n"))
    }
}
