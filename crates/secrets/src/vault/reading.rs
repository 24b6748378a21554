//! What the store holds, read again where it may have changed.

use super::{Vault, rows};
use crate::SecretsError;
use crate::genesis::RootKey;

impl Vault {
    /// Reads and verifies everything that the store holds.
    pub(super) async fn load(&mut self) -> Result<(), SecretsError> {
        let found = rows::read(&self.store, &self.keys).await?;
        (self.records, self.generation, self.root_revision) =
            (found.records, found.generation, Some(found.root_revision));
        if RootKey::matches(&self.root_key()?, &self.root_spki) {
            Ok(())
        } else {
            Err(SecretsError::Tampered("the mesh root key".into()))
        }
    }

    /// Reads again what the store holds, where another node has changed it; says whether one had.
    ///
    /// # Errors
    /// The store fails, or what it holds does not verify.
    pub async fn refresh(&mut self) -> Result<bool, SecretsError> {
        let root = self.store.get(rows::STORE_ROOT).await?.map(|row| row.mod_revision);
        if root == self.root_revision && !self.unsettled {
            return Ok(false);
        }
        self.unsettled = true;
        self.settle().await?;
        Ok(true)
    }

    /// Where the rows of the secrets are, for whoever watches for changes by other nodes.
    pub const PREFIX: &str = rows::SECRETS;

    /// Reads again what the store holds, where that is not known.
    pub(super) async fn settle(&mut self) -> Result<(), SecretsError> {
        if self.unsettled {
            self.load().await?;
            self.unsettled = false;
        }
        Ok(())
    }
}
