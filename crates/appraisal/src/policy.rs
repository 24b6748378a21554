//! What a service accepts: releases, platforms, and how current these are.

use std::time::Duration;

use dcap_qvl::TcbStatus;
use mesh_protocol::{EvidenceKind, to_hex};
use serde::Serialize;

use crate::dcap::Quote;
use crate::{Code, Fault};

const SECONDS_A_DAY: u64 = 86_400;
/// The longest life of an identity where nothing else is said.
const DEFAULT_TTL: Duration = Duration::from_secs(3600);

/// What evidence must show to be accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// What may run; never empty where anything is to be accepted.
    pub releases: Vec<Release>,
    /// How current a platform must be.
    pub tcb: TcbPolicy,
    /// Which platforms.
    pub platform: PlatformPolicy,
    /// The longest life of an identity.
    pub identity_ttl: Duration,
}

/// One version of a service, as each kind of evidence measures it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    /// Its label.
    pub version: String,
    /// The workload digest W, for simulated evidence.
    #[serde(serialize_with = "hex_or_none", skip_serializing_if = "Option::is_none")]
    pub simulated: Option<[u8; 32]>,
    /// What SGX measures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sgx: Option<SgxMeasurement>,
}

/// What SGX measures of an enclave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum SgxMeasurement {
    /// MRENCLAVE: exactly this enclave.
    Enclave(#[serde(serialize_with = "hex")] [u8; 32]),
    /// Any enclave of a signer with a product id, from a security version on.
    #[serde(rename_all = "camelCase")]
    Signer {
        /// MRSIGNER.
        #[serde(serialize_with = "hex")]
        signer: [u8; 32],
        /// ISVPRODID.
        product: u16,
        /// The least ISVSVN.
        least_version: u16,
    },
}

/// How current a platform must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TcbPolicy {
    /// The statuses that are accepted.
    pub accept: Vec<TcbStatus>,
    /// For how many days after the date of its TCB level a platform that is out of date is accepted all the same.
    pub grace_days: u32,
    /// Advisories that must not apply.
    pub reject_advisories: Vec<String>,
}

/// Which platforms are allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlatformPolicy {
    /// Whether hyper-threading may be on.
    pub smt: bool,
    /// Whether packages may be added to a platform while it runs.
    pub dynamic_platform: bool,
    /// Whether the vendor may keep a platform's root keys.
    pub cached_keys: bool,
    /// Which machines.
    pub allow: PlatformAllow,
}

/// Which machines are allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum PlatformAllow {
    /// Each one, whoever has it.
    Any,
    /// Those with one of these hardware ids, lower-case hexadecimal.
    Only(Vec<String>),
}

impl Default for TcbPolicy {
    fn default() -> Self {
        Self { accept: vec![TcbStatus::UpToDate], grace_days: 0, reject_advisories: Vec::new() }
    }
}

impl Default for PlatformPolicy {
    fn default() -> Self {
        Self { smt: true, dynamic_platform: true, cached_keys: true, allow: PlatformAllow::Any }
    }
}

impl Policy {
    /// The defaults with these releases: platforms that are up to date, whichever, and identities of an hour.
    pub fn of_releases(releases: Vec<Release>) -> Self {
        Self {
            releases,
            tcb: TcbPolicy::default(),
            platform: PlatformPolicy::default(),
            identity_ttl: DEFAULT_TTL,
        }
    }

    pub(crate) fn release_of(&self, kind: EvidenceKind, quote: &Quote) -> Result<String, Fault> {
        let found = self.releases.iter().find(|release| release.is(kind, quote));
        found.map(|release| release.version.clone()).ok_or_else(|| self.not_allowed(kind, quote))
    }

    fn not_allowed(&self, kind: EvidenceKind, quote: &Quote) -> Fault {
        let allowed: Vec<_> = self.releases.iter().filter_map(|release| release.shown(kind)).collect();
        let allowed = match &allowed[..] {
            [] => format!("the policy names no release for {kind}"),
            some => format!("expected {}", some.join(" or ")),
        };
        let found = to_hex(&quote.enclave);
        Fault::new(Code::ReleaseNotAllowed, format!("{allowed}, found {found}"))
    }
}

impl Release {
    /// A release that only simulated evidence shows.
    pub fn simulated(version: impl Into<String>, workload: [u8; 32]) -> Self {
        Self { version: version.into(), simulated: Some(workload), sgx: None }
    }

    fn is(&self, kind: EvidenceKind, quote: &Quote) -> bool {
        match (kind, &self.simulated, &self.sgx) {
            (EvidenceKind::Simulated, Some(workload), _) => *workload == quote.enclave,
            (EvidenceKind::Sgx, _, Some(SgxMeasurement::Enclave(enclave))) => *enclave == quote.enclave,
            (EvidenceKind::Sgx, _, Some(SgxMeasurement::Signer { signer, product, least_version })) => {
                (*signer, *product) == (quote.signer, quote.product) && quote.version >= *least_version
            }
            _ => false,
        }
    }

    fn shown(&self, kind: EvidenceKind) -> Option<String> {
        let measurement = match (kind, &self.simulated, &self.sgx) {
            (EvidenceKind::Simulated, Some(workload), _) => to_hex(workload),
            (EvidenceKind::Sgx, _, Some(SgxMeasurement::Enclave(enclave))) => to_hex(enclave),
            (EvidenceKind::Sgx, _, Some(SgxMeasurement::Signer { signer, product, least_version })) => {
                format!("product {product} of {} from version {least_version} on", to_hex(signer))
            }
            _ => return None,
        };
        Some(format!("{measurement} ({})", self.version))
    }
}

impl TcbPolicy {
    pub(crate) fn accepts(&self, quote: &Quote, now: u64) -> Result<(), Fault> {
        let grace = u64::from(self.grace_days) * SECONDS_A_DAY;
        let out_of_date = matches!(quote.tcb, TcbStatus::OutOfDate | TcbStatus::OutOfDateConfigurationNeeded);
        let in_grace = out_of_date && grace > 0 && quote.tcb_date.saturating_add(grace) >= now;
        if !self.accept.contains(&quote.tcb) && !in_grace {
            let accepted: Vec<_> = self.accept.iter().map(ToString::to_string).collect();
            let detail =
                format!("the platform is {}, and the policy accepts {}", quote.tcb, accepted.join(", "));
            return Err(Fault::new(Code::TcbNotAccepted, detail));
        }
        let rejected =
            |id: &&String| self.reject_advisories.iter().any(|other| other.eq_ignore_ascii_case(id));
        match quote.advisories.iter().find(rejected) {
            Some(id) => Err(Fault::new(Code::AdvisoryRejected, format!("{id} applies to the platform"))),
            None => Ok(()),
        }
    }
}

impl PlatformPolicy {
    pub(crate) fn accepts(&self, quote: &Quote) -> Result<(), Fault> {
        let flags = [
            (self.smt, quote.smt, "has hyper-threading on"),
            (self.dynamic_platform, quote.dynamic_platform, "can be given further packages"),
            (self.cached_keys, quote.cached_keys, "has its root keys kept by the vendor"),
        ];
        if let Some((_, _, what)) = flags.iter().find(|(allowed, is_so, _)| *is_so && !allowed) {
            return Err(Fault::new(Code::PlatformNotAllowed, format!("the platform {what}")));
        }
        let PlatformAllow::Only(allowed) = &self.allow else { return Ok(()) };
        if quote.platform.is_empty() {
            let detail =
                "the policy allows certain machines, and the evidence does not say which one it is from";
            return Err(Fault::new(Code::PlatformUnidentified, detail));
        }
        if quote.platform.iter().any(|id| allowed.contains(id)) {
            return Ok(());
        }
        let detail = format!("the policy does not name the machine {}", quote.platform.join(" or "));
        Err(Fault::new(Code::PlatformNotAllowed, detail))
    }
}

fn hex<S: serde::Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&to_hex(bytes))
}

fn hex_or_none<S: serde::Serializer>(bytes: &Option<[u8; 32]>, serializer: S) -> Result<S::Ok, S::Error> {
    match bytes {
        Some(bytes) => hex(bytes, serializer),
        None => serializer.serialize_none(),
    }
}
