//! What is made of the files that settings name, before anything else is made. All of them are looked at, so that whoever mends one
//! hears of the others as well. The store is opened and the keys of issuers are read later, with the secrets: of their files is only
//! seen here whether they can be used.

use configuration::Settings;

use super::client_tls::ClientTls;
use super::made::Broken;
use super::request_rules::RequestRules;
use super::shared_limits::SharedFiles;
use super::unusable::Unusable;
use super::{store, tokens};

/// What was made; nothing before the first time.
#[derive(Default)]
pub(crate) struct FromFiles {
    pub(super) client_tls: ClientTls,
    pub(super) shared: SharedFiles,
    pub(super) rules: RequestRules,
}

impl FromFiles {
    /// That of these settings: the same as before where neither they nor the files are others.
    ///
    /// # Errors
    /// Everything that cannot be used, and why.
    pub(crate) async fn of(&self, settings: &Settings) -> Result<Self, Unusable> {
        let (mut unusable, refuses) = (Unusable::default(), Broken::Refuses);
        let client_tls = unusable.note(self.client_tls.of(settings.gateway.tls.as_ref(), refuses).await);
        unusable.note(tokens::try_files(settings).await);
        unusable.note(store::try_files(settings).await);
        let shared = unusable.note(self.shared.of(settings, refuses).await);
        let rules = unusable.note(self.rules.of(settings, refuses).await);
        let (client_tls, shared) = (client_tls.unwrap_or_default(), shared.unwrap_or_default());
        unusable.or(Self { client_tls, shared, rules: rules.unwrap_or_default() })
    }
}
