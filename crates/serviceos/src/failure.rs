//! Why a command failed, and with which exit code: 1 failed, 2 usage or configuration, 3 cannot reach the running serviceos,
//! 4 a check was not passed.

use std::fmt;
use std::process::ExitCode;

use configuration::LoadError;
use control::ClientError;

/// A command's failure.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It could not be done.
    Failed(anyhow::Error),
    /// The configuration is wrong: a report that names file, line and column.
    Configuration(String),
    /// Nobody answers.
    NotRunning(String),
    /// A check was not passed, as the command has said already.
    NotPassed,
}

impl Failure {
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Failed(_) => 1,
            Self::Configuration(_) => LoadError::EXIT_CODE,
            Self::NotRunning(_) => 3,
            Self::NotPassed => 4,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => write!(formatter, "serviceos: {error:#}"),
            Self::Configuration(report) => formatter.write_str(report.trim_end()),
            Self::NotRunning(reason) => write!(formatter, "serviceos: {reason}"),
            Self::NotPassed => formatter.write_str("serviceos: the check was not passed"),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        Self::Configuration(error.to_string())
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::NotRunning { .. }
            | ClientError::NotAllowed { .. }
            | ClientError::CutOff { .. }
            | ClientError::NoAnswer { .. } => Self::NotRunning(error.to_string()),
            ClientError::Problem(problem) if problem.code == "CONFIG_INVALID" => {
                Self::Configuration(problem.detail)
            }
            ClientError::Problem(_) | ClientError::Unexpected(_) => Self::Failed(error.into()),
        }
    }
}
