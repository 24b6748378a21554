//! The master key of development mode: 32 random bytes in a file that only its owner can read.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use zeroize::Zeroizing;

use crate::SecretsError;

/// Seals everything else. Wiped when dropped.
pub struct MasterKey(pub(crate) Zeroizing<[u8; 32]>);

impl MasterKey {
    /// Reads the key file; `None` when there is none.
    ///
    /// # Errors
    /// A file that others may read, or that does not hold 32 bytes, is refused.
    pub fn read(path: &Path) -> Result<Option<Self>, SecretsError> {
        let unusable = |reason: String| SecretsError::MasterKey { path: path.to_owned(), reason };
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unusable(error.to_string())),
        };
        let mode = file.metadata().map_err(|error| unusable(error.to_string()))?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(unusable(format!("its mode is {mode:o}, so others can read it; chmod 600 it")));
        }
        let mut key = Zeroizing::new([0; 32]);
        let mut end = [0; 1];
        let whole = file.read_exact(&mut *key).is_ok() && matches!(file.read(&mut end), Ok(0));
        if whole { Ok(Some(Self(key))) } else { Err(unusable("it does not hold exactly 32 bytes".into())) }
    }

    /// Makes a key and its file, which must not exist yet. It is on disk when this returns.
    pub fn create(path: &Path) -> Result<Self, SecretsError> {
        let mut key = Zeroizing::new([0; 32]);
        aws_lc_rs::rand::fill(&mut *key).map_err(|_| SecretsError::Crypto("making the master key"))?;
        write(path, &*key)
            .map_err(|error| SecretsError::MasterKey { path: path.to_owned(), reason: error.to_string() })?;
        Ok(Self(key))
    }
}

/// Written beside and renamed, so that a full disk or a crash never leaves half a key under the real name.
fn write(path: &Path, key: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    let _left_by_a_crash = std::fs::remove_file(&beside);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(key)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        assert!(MasterKey::read(&path).unwrap().is_none());
        let made = MasterKey::create(&path).unwrap();
        assert_eq!(*MasterKey::read(&path).unwrap().unwrap().0, *made.0);
    }

    #[test]
    fn a_key_file_that_others_can_read_or_of_another_length_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        MasterKey::create(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(MasterKey::read(&path), Err(SecretsError::MasterKey { .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        for length in [0, 31, 33] {
            std::fs::write(&path, vec![1; length]).unwrap();
            assert!(matches!(MasterKey::read(&path), Err(SecretsError::MasterKey { .. })), "{length}");
        }
    }
}
