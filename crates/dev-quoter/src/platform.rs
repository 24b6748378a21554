//! A development platform: its root, its keys and its certificates, and the folder that they live in.
//!
//! They stand in one file, `platform.keys`, so that there are always all of them or none:
//! TAG ‖ (lp(PKCS #8 key) ‖ lp(certificate)) of the root, the PCK Platform CA, the platform and the TCB signer ‖ SHA-256 of
//! all that stands before it.

use std::path::Path;

use mesh_protocol::sha256;
use rcgen::PublicKeyData;
use types::wire::{Message, Reader};
use x509_cert::der::pem::{LineEnding, encode_string};
use zeroize::Zeroizing;

use crate::certificates::{Role, certificate};
use crate::key::Key;
use crate::sgx_extension::PlatformDescription;
use crate::{DevQuoterError, file};

/// The kind of platform (family, model, stepping and package, with real hardware): "SOSDEV" in ASCII.
pub const FMSPC: [u8; 6] = *b"SOSDEV";
/// The security version of each of its components.
pub(crate) const CPU_SVN: u8 = 1;
pub(crate) const PCE_SVN: u8 = 1;
pub(crate) const PCE_ID: [u8; 2] = [0, 0];

const FILE: &str = "platform.keys";
const TAG: &[u8] = b"serviceos/dev-platform/v1\0";

/// A key with its certificate.
pub(crate) struct Certified {
    pub(crate) key: Key,
    /// DER.
    pub(crate) certificate: Vec<u8>,
}

pub(crate) struct Platform {
    pub(crate) root: Certified,
    pub(crate) platform_ca: Certified,
    pub(crate) pck: Certified,
    pub(crate) tcb_signing: Certified,
}

impl Platform {
    /// Reads the platform of a folder, or makes it.
    pub(crate) fn open(folder: &Path, now: u64) -> Result<Self, DevQuoterError> {
        let path = folder.join(FILE);
        if let Some(bytes) = file::read(&path)? {
            return Self::decode(&bytes).ok_or_else(|| {
                file::unusable(
                    &path,
                    "it is damaged; restore it from a backup, or remove it: another development root is made then, and \
                     every replica joins anew",
                )
            });
        }
        file::make_folder(folder)?;
        let platform = Self::generate(now)?;
        file::write(&path, &platform.encode()?)?;
        Ok(platform)
    }

    pub(crate) fn generate(now: u64) -> Result<Self, DevQuoterError> {
        let root = Key::generate()?;
        let (platform_ca, pck, tcb_signing) = (Key::generate()?, Key::generate()?, Key::generate()?);
        let extension = description(&root).der();
        let by_root = (Role::Root, &root);
        let certificates = [
            certificate(Role::Root, &root, by_root, None, now)?,
            certificate(Role::PlatformCa, &platform_ca, by_root, None, now)?,
            certificate(Role::Pck, &pck, (Role::PlatformCa, &platform_ca), Some(extension), now)?,
            certificate(Role::TcbSigning, &tcb_signing, by_root, None, now)?,
        ];
        let mut certificates = certificates.into_iter();
        let mut certified =
            |key| Certified { key, certificate: certificates.next().expect("there is one for each key") };
        Ok(Self {
            root: certified(root),
            platform_ca: certified(platform_ca),
            pck: certified(pck),
            tcb_signing: certified(tcb_signing),
        })
    }

    /// The platform's identifier, as its certificate has it.
    pub(crate) fn ppid(&self) -> [u8; 16] {
        description(&self.root.key).ppid
    }

    fn encode(&self) -> Result<Zeroizing<Vec<u8>>, DevQuoterError> {
        let parts = [&self.root, &self.platform_ca, &self.pck, &self.tcb_signing];
        let room: usize = parts.iter().map(|part| 512 + part.certificate.len()).sum();
        let mut message = Message::tagged(TAG).with_room(room);
        for part in parts {
            message = message.lp(part.key.to_pkcs8()?.as_slice()).lp(&part.certificate);
        }
        let mut bytes = Zeroizing::new(message.finish());
        let digest = sha256(&bytes);
        bytes.extend_from_slice(&digest);
        Ok(bytes)
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (content, digest) = bytes.split_last_chunk()?;
        if sha256(content) != *digest {
            return None;
        }
        let mut reader = Reader::new(content.strip_prefix(TAG)?);
        let mut next = || {
            let key = Key::from_pkcs8(reader.lp()?)?;
            Some(Certified { key, certificate: reader.lp()?.to_vec() })
        };
        let platform = Self { root: next()?, platform_ca: next()?, pck: next()?, tcb_signing: next()? };
        reader.is_empty().then_some(platform)
    }
}

/// What the platform's certificate says of it. Its identifiers follow from the root, so that each data directory is a
/// platform of its own, and the same one for ever.
fn description(root: &Key) -> PlatformDescription {
    let identifier = |of: &[u8]| {
        let message = Message::tagged(b"serviceos/dev-platform/identifier/v1\0").lp(of).lp(root.der_bytes());
        sha256(&message.finish())[..16].try_into().expect("16 bytes of 32")
    };
    PlatformDescription {
        ppid: identifier(b"ppid"),
        cpu_svn: [CPU_SVN; 16],
        pce_svn: PCE_SVN,
        pce_id: PCE_ID,
        fmspc: FMSPC,
        instance: identifier(b"instance"),
    }
}

/// Certificates as PEM, one after the other.
pub(crate) fn pem_chain(certificates: &[&Certified]) -> String {
    let pem = |certified: &&Certified| {
        encode_string("CERTIFICATE", LineEnding::LF, &certified.certificate)
            .expect("a certificate has some KB")
    };
    certificates.iter().map(pem).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn reason(folder: &Path) -> String {
        Platform::open(folder, NOW).map(drop).unwrap_err().to_string()
    }

    #[test]
    fn a_platform_survives_a_restart_in_files_of_its_owner_alone() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("deep/quoter");
        let made = Platform::open(&folder, NOW).unwrap();
        let again = Platform::open(&folder, NOW + 1_000_000).unwrap();
        for (made, again) in [(&made.root, &again.root), (&made.pck, &again.pck)] {
            assert_eq!(made.certificate, again.certificate);
            assert_eq!(made.key.coordinates(), again.key.coordinates());
        }
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&folder.join(FILE))), (0o700, 0o600));
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn two_folders_are_two_platforms() {
        let (one, other) = (Platform::generate(NOW).unwrap(), Platform::generate(NOW).unwrap());
        assert_ne!(one.root.certificate, other.root.certificate);
        assert_ne!(one.ppid(), other.ppid());
    }

    #[test]
    fn a_file_that_others_can_read_or_that_is_damaged_anywhere_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        Platform::open(folder.path(), NOW).unwrap();
        let path = folder.path().join(FILE);
        set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(reason(folder.path()).ends_with("others can read it; chmod 600 it"));
        set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for place in (0..whole.len()).step_by(97) {
            let mut damaged = whole.clone();
            damaged[place] ^= 1;
            std::fs::write(&path, damaged).unwrap();
            assert!(reason(folder.path()).contains("it is damaged; restore it"), "byte {place}");
            std::fs::write(&path, &whole[..place]).unwrap();
            assert!(reason(folder.path()).contains("it is damaged; restore it"), "{place} bytes");
        }
        std::fs::write(&path, vec![0; 20_000]).unwrap();
        assert!(reason(folder.path()).contains("more than 16384 bytes"));
    }
}
