//! What was checked, in which order, and how it ended: the heart of an appraisal's record.

use serde::{Serialize, Serializer};
use thiserror::Error;

use crate::Code;

/// A step of an appraisal, in the order in which they are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// The sizes are within their limits, and everything can be read.
    Size,
    /// The kind of evidence is taken in this mode.
    Kind,
    /// The ticket and the nonce are fresh and this authority's own.
    Nonce,
    /// Signatures, certificates, revocation and collateral hold at the checked clock.
    Chain,
    /// The evidence is bound to this very join, and the certificate request to the evidence.
    Binding,
    /// Nobody can look into the environment, or move it.
    Debug,
    /// The platform is as current as the policy wants.
    Tcb,
    /// The policy allows the platform.
    Platform,
    /// What runs is a release of the service.
    Release,
    /// The service is expected to have this replica.
    Budget,
    /// What the vendor says of the platform is no older than what was seen of it before.
    Evaluation,
}

/// One step and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The step.
    pub step: Step,
    /// How it ended.
    pub result: CheckResult,
    /// Why it failed.
    #[serde(serialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckResult {
    /// It held.
    Passed,
    /// It did not, and nothing behind it was looked at.
    Failed,
}

/// Why something was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{code}: {detail}")]
pub struct Fault {
    /// The stable code.
    pub code: Code,
    /// What happened this time.
    pub detail: String,
    retry: Retry,
}

/// Who says whether another try is worth it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Retry {
    /// The code.
    AsItsCode,
    /// Whoever refused it, since the code alone does not tell.
    Worth,
}

impl Fault {
    /// A refusal.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), retry: Retry::AsItsCode }
    }

    /// The same refusal, after which whoever asked may try again, whatever others are told with its code.
    #[must_use]
    pub fn worth_another_try(self) -> Self {
        Self { retry: Retry::Worth, ..self }
    }

    /// Whether the same join may succeed later, and decides nothing until then.
    pub fn is_retryable(&self) -> bool {
        self.retry == Retry::Worth || self.code.is_retryable()
    }
}

/// The steps so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checks(Vec<Check>);

impl Checks {
    /// Notes how a step ended, and gives on what it gave.
    ///
    /// # Errors
    /// The step's own.
    pub fn add<T>(&mut self, step: Step, outcome: Result<T, Fault>) -> Result<T, Fault> {
        let (result, code) = match &outcome {
            Ok(_) => (CheckResult::Passed, None),
            Err(fault) => (CheckResult::Failed, Some(fault.code)),
        };
        self.0.push(Check { step, result, code });
        outcome
    }

    /// The steps in their order.
    pub fn steps(&self) -> &[Check] {
        &self.0
    }
}

fn word<S: Serializer>(code: &Option<Code>, serializer: S) -> Result<S::Ok, S::Error> {
    match code {
        Some(code) => serializer.serialize_str(code.as_str()),
        None => serializer.serialize_none(),
    }
}
