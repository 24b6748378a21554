//! Whom evidence must lead to.

use mesh_protocol::EvidenceKind;
use types::Mode;

use crate::{Code, Fault};

/// Intel's SGX root, DER; SHA-256 44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3.
static INTEL: &[u8] = include_bytes!("../roots/intel_sgx_root_ca.der");

/// SHA-384 of the uncompressed key in that certificate, written down apart from it.
const INTEL_KEY: &str =
    "46e403bd34f05a3f2817ab9badcaacc7ffc98e0f261008cd30dae936cace18d5dcf58eef31463613de1570d516200993";

/// The digest of the key of a vendor's root; `None` where there is no vendor.
pub(crate) fn vendor_key(kind: EvidenceKind) -> Option<&'static str> {
    (kind == EvidenceKind::Sgx).then_some(INTEL_KEY)
}

/// The roots of a mode. Those of the vendors are compiled in: nothing can be configured about them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// The vendors' alone.
    Vendors,
    /// A development root, DER, and beside it the vendors'.
    Development(Vec<u8>),
}

impl Roots {
    /// The mode.
    pub fn mode(&self) -> Mode {
        match self {
            Self::Vendors => Mode::Production,
            Self::Development(_) => Mode::Development,
        }
    }

    /// The root that evidence of a kind must lead to, DER.
    ///
    /// # Errors
    /// Evidence of that kind is not taken.
    pub fn of(&self, kind: EvidenceKind) -> Result<&[u8], Fault> {
        match (kind, self) {
            (EvidenceKind::Sgx, _) => Ok(INTEL),
            (EvidenceKind::Simulated, Self::Development(root)) => Ok(root),
            (EvidenceKind::Simulated, Self::Vendors) => {
                let detail = "simulated evidence proves nothing, and is taken in development only";
                Err(Fault::new(Code::EvidenceKindForbidden, detail))
            }
            (EvidenceKind::Tdx | EvidenceKind::SevSnp | EvidenceKind::Nitro, _) => {
                let detail = format!("this version of serviceos has no verifier for {kind}");
                Err(Fault::new(Code::EvidenceKindForbidden, detail))
            }
        }
    }
}
