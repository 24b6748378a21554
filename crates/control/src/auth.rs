//! The token of the admin port.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

/// A token that is made at each start and lies in a file that only its owner can read.
#[derive(Clone)]
pub struct AdminToken(Arc<str>);

impl AdminToken {
    /// Makes a token and writes it to a file with mode 0600.
    ///
    /// # Errors
    /// The machine's, when the file cannot be written or there is no randomness.
    pub fn create(path: &Path) -> std::io::Result<Self> {
        let mut bits = [0; 32];
        aws_lc_rs::rand::fill(&mut bits)
            .map_err(|_| std::io::Error::other("no randomness for the admin token"))?;
        let token: String = bits.iter().map(|byte| format!("{byte:02x}")).collect();
        let _left_by_an_earlier_run = std::fs::remove_file(path);
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(token.as_bytes())?;
        Ok(Self(token.into()))
    }

    /// Whether this `Authorization` header carries the token; takes the same time wherever they differ.
    pub(crate) fn allows(&self, authorization: Option<&str>) -> bool {
        let presented = authorization.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        aws_lc_rs::constant_time::verify_slices_are_equal(presented.as_bytes(), self.0.as_bytes()).is_ok()
    }
}

#[cfg(test)]
impl AdminToken {
    pub(crate) fn of_test() -> Self {
        Self("token".into())
    }
}
