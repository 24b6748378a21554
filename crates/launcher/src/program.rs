//! What is to be run, as it is written before `$SERVICEOS_…` is expanded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Variables whose names begin like this are read by the loader of shared libraries.
const LOADER_PREFIX: &str = "LD_";
/// Decides, among other things, for which processor the C library chooses libraries.
const LIBRARY_TUNABLES: &str = "GLIBC_TUNABLES";

/// A program, and everything that decides what it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The service that it is run for.
    pub service: String,
    /// SHA-256 of the launcher's executable; [`Measurer::own_digest`](crate::Measurer::own_digest) in the launcher itself.
    pub launcher: [u8; 32],
    /// The arguments, the program first: a path, taken from the working directory if it is relative, or a name that is
    /// searched in the `PATH` of `environment`.
    pub arguments: Vec<String>,
    /// The whole environment; nothing is inherited.
    pub environment: BTreeMap<String, String>,
    /// The working directory.
    pub directory: Directory,
}

/// A working directory: where it is, and what the workload calls it, so that the same program in another place is the
/// same workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    /// The absolute path.
    pub path: PathBuf,
    /// The text that is hashed; files that are named relative to the directory are hashed under it too. A relative path, or
    /// the same as `path`.
    pub hashed: String,
}

/// Why an environment cannot be given to a program.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EnvironmentError {
    /// The variable decides what the loader loads.
    #[error(
        "the variable {0} chooses code that no measurement would show, and is refused: remove it from the environment, and \
         install libraries where the loader looks for them"
    )]
    Refused(String),
    /// The system cannot pass a variable like this on.
    #[error(
        "{0:?} cannot be a variable of the environment: its name must not be empty or hold \"=\", and neither name nor \
         value a zero byte"
    )]
    Malformed(String),
}

/// A file as somebody named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// What the workload calls it.
    pub(crate) name: String,
}

impl Program {
    /// The file of that name for a process in the working directory.
    pub(crate) fn place(&self, written: &str) -> Place {
        let name = join(Path::new(&self.directory.hashed), written);
        let name = name.into_os_string().into_string().expect("two texts joined are a text");
        Place { path: join(&self.directory.path, written), name }
    }
}

/// Without any `.` in between, so that `model` and `./model` are the same file.
fn join(directory: &Path, written: &str) -> PathBuf {
    directory.join(written).components().collect()
}

pub(crate) fn check_environment(environment: &BTreeMap<String, String>) -> Result<(), EnvironmentError> {
    for (name, value) in environment {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(EnvironmentError::Malformed(name.clone()));
        }
        if name.starts_with(LOADER_PREFIX) || name == LIBRARY_TUNABLES {
            return Err(EnvironmentError::Refused(name.clone()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, value: &str) -> Result<(), EnvironmentError> {
        check_environment(&BTreeMap::from([(name.to_owned(), value.to_owned())]))
    }

    #[test]
    fn variables_that_choose_code_are_refused_by_name() {
        for name in ["LD_PRELOAD", "LD_LIBRARY_PATH", "LD_", "GLIBC_TUNABLES"] {
            assert_eq!(check(name, ""), Err(EnvironmentError::Refused(name.into())));
        }
        for name in ["LD", "OLD_PATH", "ld_preload", "GLIBC_TUNABLES_"] {
            assert_eq!(check(name, ""), Ok(()));
        }
    }

    #[test]
    fn variables_that_cannot_be_passed_on_are_refused() {
        for (name, value) in [("", "x"), ("A=B", "x"), ("A\0", "x"), ("A", "x\0")] {
            assert_eq!(check(name, value), Err(EnvironmentError::Malformed(name.into())));
        }
        assert_eq!(check("A", "x=y"), Ok(()));
    }
}
