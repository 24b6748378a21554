//! Evidence in, verdict out. The steps have one order, and the first that fails names the code of the refusal.
//!
//! Pure: no IO and no clock of its own. It trusts the roots that it is given and nothing that evidence says of itself. It must
//! not know who asks, what a nonce is, or what follows from a verdict.

mod certificates;
mod checks;
mod code;
mod dcap;
mod policy;
mod roots;

pub use checks::{Check, CheckResult, Checks, Fault, Step};
pub use code::Code;
pub use dcap_qvl::TcbStatus;
pub use policy::{PlatformAllow, PlatformPolicy, Policy, Release, SgxMeasurement, TcbPolicy};
pub use roots::Roots;

use mesh_protocol::{Evidence, EvidenceKind};

/// What evidence proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appraised {
    /// From which environment it is.
    pub kind: EvidenceKind,
    /// What runs: MRENCLAVE, which is W for simulated evidence; lower-case hexadecimal.
    pub measurement: String,
    /// The version of the release that it is.
    pub release: String,
    /// How current the platform is.
    pub tcb: TcbStatus,
    /// The advisories that apply to it.
    pub advisories: Vec<String>,
    /// The hardware ids of the platform, lower-case hexadecimal.
    pub platform: Vec<String>,
    /// The number of the evaluation that the vendor's word on the platform is from (`tcbEvaluationDataNumber`).
    pub evaluation: u32,
    /// Until when what the vendor says of the platform holds, certificates included; Unix seconds.
    pub expires: u64,
}

/// What is held against evidence that does not come from the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor<'a> {
    /// The root that it must lead to, DER.
    pub root: &'a [u8],
    /// Unix seconds.
    pub now: u64,
}

impl Appraised {
    /// Whether what the vendor says of the platform is of the highest evaluation that was seen of its word (0 where none was), or
    /// of a newer one: an older one may not know yet what is wrong with the platform. Whoever remembers what was seen asks this
    /// last, of evidence that everything else holds of.
    ///
    /// # Errors
    /// It is older: [`Code::CollateralOutdated`].
    pub fn is_no_older(&self, seen: u32) -> Result<(), Fault> {
        let found = self.evaluation;
        if found < seen {
            let detail =
                format!("the collateral is of the vendor's evaluation {found}, and {seen} was seen already");
            return Err(Fault::new(Code::CollateralOutdated, detail));
        }
        Ok(())
    }
}

/// Appraises evidence: kind → chain, revocation and collateral at `now` → binding → debug → TCB → platform → release. Each step
/// is added to `checks`.
///
/// `now` is in Unix seconds. `report_data` is what the evidence must be bound to.
///
/// # Errors
/// The first step that fails.
pub fn appraise(
    evidence: &Evidence,
    report_data: &[u8; 64],
    policy: &Policy,
    roots: &Roots,
    now: u64,
    checks: &mut Checks,
) -> Result<Appraised, Fault> {
    let root = checks.add(Step::Kind, roots.of(evidence.kind))?;
    let anchor = Anchor { root, now };
    verify(evidence, report_data, policy, anchor, checks, |_measurement| Ok(()))
}

/// The steps behind the kind. The authority's challenge has its nonce checked between the two.
///
/// `bound` is what else must hold with this measurement for the evidence to be bound to whoever shows it; it belongs to the
/// same step.
///
/// # Errors
/// The first step that fails.
pub fn verify(
    evidence: &Evidence,
    report_data: &[u8; 64],
    policy: &Policy,
    anchor: Anchor<'_>,
    checks: &mut Checks,
    bound: impl FnOnce(&[u8; 32]) -> Result<(), Fault>,
) -> Result<Appraised, Fault> {
    let quote = checks.add(Step::Chain, dcap::verify(evidence, anchor))?;
    let is_bound = quote.bound_to(report_data).and_then(|()| bound(&quote.enclave));
    checks.add(Step::Binding, is_bound)?;
    checks.add(Step::Debug, quote.not_debugged())?;
    checks.add(Step::Tcb, policy.tcb.accepts(&quote, anchor.now))?;
    checks.add(Step::Platform, policy.platform.accepts(&quote))?;
    let release = checks.add(Step::Release, policy.release_of(evidence.kind, &quote))?;
    Ok(quote.appraised(evidence.kind, release))
}

#[cfg(test)]
mod tests;
