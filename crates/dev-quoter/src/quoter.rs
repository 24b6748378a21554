//! The quoter: one development platform with what it pretends to be, and its collateral, made anew in time.

use std::path::Path;

use mesh_protocol::{Evidence, EvidenceKind};

use crate::collateral::collateral;
use crate::platform::Platform;
use crate::quote::QuotingEnclave;
use crate::{DevQuoterError, Profile, Validity};

/// Makes evidence. Times are Unix seconds, and the caller's.
pub struct Quoter {
    platform: Platform,
    enclave: QuotingEnclave,
    profile: Profile,
    collateral: Option<Collateral>,
}

struct Collateral {
    validity: Validity,
    json: Vec<u8>,
}

impl Quoter {
    /// The platform of a folder, which is made where it is not there. The attestation key is another at each start.
    ///
    /// # Errors
    /// A file that others may read, or that is damaged, is refused.
    pub fn open(folder: &Path, now: u64) -> Result<Self, DevQuoterError> {
        Self::of(Platform::open(folder, now)?)
    }

    /// A platform that nobody remembers.
    ///
    /// # Errors
    /// The operating system has no randomness.
    pub fn generate(now: u64) -> Result<Self, DevQuoterError> {
        Self::of(Platform::generate(now)?)
    }

    fn of(platform: Platform) -> Result<Self, DevQuoterError> {
        let enclave = QuotingEnclave::new(&platform)?;
        Ok(Self { platform, enclave, profile: Profile::default(), collateral: None })
    }

    /// Lets the platform pretend something from now on.
    pub fn pretend(&mut self, profile: Profile) {
        self.profile = profile;
        self.collateral = None;
    }

    /// The development root's certificate, DER.
    pub fn root(&self) -> &[u8] {
        &self.platform.root.certificate
    }

    /// The platform's identifier, which is a hash of the root's key.
    pub fn ppid(&self) -> [u8; 16] {
        self.platform.ppid()
    }

    /// Evidence that code with the workload digest `workload` runs here and says `report_data`.
    ///
    /// # Errors
    /// The operating system has no randomness.
    pub fn evidence(
        &mut self,
        report_data: [u8; 64],
        workload: [u8; 32],
        now: u64,
    ) -> Result<Evidence, DevQuoterError> {
        let quote = self.enclave.quote(workload, report_data, self.profile.debug)?;
        Ok(Evidence { kind: EvidenceKind::Simulated, quote, collateral: self.collateral(now)? })
    }

    fn collateral(&mut self, now: u64) -> Result<Vec<u8>, DevQuoterError> {
        let fixed = self.profile.validity;
        if let Some(made) = &self.collateral
            && (fixed.is_some() || made.validity.is_fresh(now))
        {
            return Ok(made.json.clone());
        }
        let validity = fixed.unwrap_or_else(|| Validity::beginning(now));
        let collateral = collateral(&self.platform, &self.profile, validity)?;
        let json = serde_json::to_vec(&collateral).expect("collateral is strings");
        self.collateral = Some(Collateral { validity, json: json.clone() });
        Ok(json)
    }
}

#[cfg(test)]
mod tests;
