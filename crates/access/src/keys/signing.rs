//! Whose signature it is.

use std::sync::Arc;

use jiff::Timestamp;

use super::{KeyTable, Refusal};
use crate::Caller;

impl KeyTable {
    /// The caller whose public key, of that id and for that algorithm if one is named, has signed the message; `Malformed` where
    /// it has not.
    pub(crate) fn signer(
        &self,
        id: &str,
        algorithm: Option<&str>,
        message: &[u8],
        signature: &[u8],
        now: Timestamp,
    ) -> Result<Arc<Caller>, Refusal> {
        let known = self.signers.get(id).ok_or(Refusal::Unknown)?;
        // At most two, the one before the last rotation and the one since.
        for signer in known {
            let is_meant = algorithm.is_none_or(|name| name == signer.key.algorithm().as_str());
            if is_meant && signer.key.has_signed(message, signature) {
                return signer.entry.at(now);
            }
        }
        Err(Refusal::Malformed)
    }
}
