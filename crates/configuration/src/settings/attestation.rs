//! Which evidence a service is admitted with.

use std::fmt;
use std::time::Duration;

/// Which evidence a service is admitted with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestationSettings {
    /// What may run.
    pub releases: Releases,
    /// How current a platform must be.
    pub tcb: TcbSettings,
    /// Which platforms.
    pub platform: PlatformSettings,
    /// The longest life of an identity, 5 seconds to a day.
    pub identity_ttl: Duration,
}

/// What of a service may run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Releases {
    /// What its own program is measured as when it is started; in development only.
    Measured,
    /// These; at least one, and no two services of the file have one and the same.
    Listed(Vec<ReleaseSettings>),
}

/// One version of a service, as each kind of evidence measures it; at least one of them does. In production no release has
/// `simulated`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseSettings {
    /// Its label, at most 40 visible ASCII characters.
    pub version: String,
    /// The workload digest W, for simulated evidence.
    pub simulated: Option<Measurement>,
    /// What SGX measures.
    pub sgx: Option<SgxRelease>,
}

/// What SGX measures of an enclave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SgxRelease {
    /// Exactly the enclave of this MRENCLAVE.
    Enclave(Measurement),
    /// Any enclave of a signer with a product id, from a security version on.
    Signer {
        /// MRSIGNER.
        signer: Measurement,
        /// ISVPRODID; never 0, and in no other service beside the same signer.
        product: u16,
        /// The least ISVSVN.
        least_version: u16,
    },
}

/// A digest of 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Measurement(pub [u8; 32]);

impl fmt::Display for Measurement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for Measurement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// How current a platform must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcbSettings {
    /// The statuses that are accepted; at least one, each once.
    pub accept: Vec<TcbStatus>,
    /// For how many days, 0 to 365, a platform that is out of date is accepted all the same.
    pub grace_days: u32,
    /// Advisories that must not apply, such as `INTEL-SA-00615`.
    pub reject_advisories: Vec<String>,
}

/// How current a platform is, in the words of Intel's TCB information. A revoked one is never accepted, so it has no word here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TcbStatus {
    /// Nothing is missing.
    UpToDate,
    /// The software must defend itself against something.
    SwHardeningNeeded,
    /// The machine must be configured otherwise.
    ConfigurationNeeded,
    /// Both.
    ConfigurationAndSwHardeningNeeded,
    /// An update is missing.
    OutOfDate,
    /// An update is missing, and the machine must be configured otherwise.
    OutOfDateConfigurationNeeded,
}

impl TcbStatus {
    /// Every one of them.
    pub const ALL: [Self; 6] = [
        Self::UpToDate,
        Self::SwHardeningNeeded,
        Self::ConfigurationNeeded,
        Self::ConfigurationAndSwHardeningNeeded,
        Self::OutOfDate,
        Self::OutOfDateConfigurationNeeded,
    ];

    /// Its word in TCB information and in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::UpToDate => "UpToDate",
            Self::SwHardeningNeeded => "SWHardeningNeeded",
            Self::ConfigurationNeeded => "ConfigurationNeeded",
            Self::ConfigurationAndSwHardeningNeeded => "ConfigurationAndSWHardeningNeeded",
            Self::OutOfDate => "OutOfDate",
            Self::OutOfDateConfigurationNeeded => "OutOfDateConfigurationNeeded",
        }
    }
}

/// Which platforms are allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformSettings {
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlatformAllow {
    /// Each one, whoever has it; in production this is written out.
    Any,
    /// Those with one of these hardware ids, lower-case hexadecimal; at least one.
    Only(Vec<String>),
}
