//! The Redis in which gateways count together, with what its files hold. They are read on a thread that may wait for the disk,
//! and only when one of them holds something else or the settings are others: the workers' connections last as long.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use configuration::{OnSharedFailure, Settings, SharedLimitSettings};
use shared_limits::{Login, OnFailure, Server, SharedLimits, Tls};

use super::files::patiently;
use super::made::{Broken, Made};
use super::store::{client_tls, password};
use super::unusable::Unusable;

/// What was made, and of what; nothing before the first time, and where nothing is shared.
#[derive(Default)]
pub(super) struct SharedFiles(Made<SharedLimitSettings, SharedLimits>);

impl SharedFiles {
    /// That of these settings: the same as before where they are.
    ///
    /// # Errors
    /// The file that cannot be used, and why.
    pub(super) async fn of(&self, settings: &Settings, broken: Broken) -> Result<Self, Unusable> {
        let domain = settings.trust_domain.clone();
        let make = async |shared: SharedLimitSettings| {
            let line = shared.line.0;
            let reading = tokio::task::spawn_blocking(move || read(&shared, &domain));
            let made = patiently(reading, |seconds| {
                tracing::error!(
                    "the files of gateway.rateLimits.shared do not answer for {seconds} seconds; they are waited for"
                );
            });
            let made = made.await.map_err(anyhow::Error::from).flatten();
            made.map(Arc::new)
                .map_err(|error| Unusable::one(line, format!("gateway.rateLimits.shared: {error:#}")))
        };
        let shared = settings.gateway.rate_limits.shared.as_ref();
        self.0.of(shared, broken, "a file of gateway.rateLimits.shared", make).await.map(Self)
    }

    /// Where the workers count; `None` where each gateway counts by itself.
    pub(super) fn limits(&self) -> Option<Arc<SharedLimits>> {
        self.0.get()
    }

    /// Whether files of it are others than those before.
    pub(super) fn renews(&self, before: &Self) -> bool {
        self.0.renews(&before.0)
    }

    /// These files hold something else: where one of them is among its own, the next is made anew.
    pub(super) fn note_change(&mut self, changed: &BTreeSet<PathBuf>) {
        self.0.note_change(|settings| files(settings).any(|file| changed.contains(file)));
    }
}

/// The files that it names, which are read again when they change.
pub(super) fn files(settings: &SharedLimitSettings) -> impl Iterator<Item = &PathBuf> {
    let tls = settings.tls.iter();
    let own = tls.clone().filter_map(|tls| tls.own.as_ref()).flat_map(|own| [&own.certificate, &own.key]);
    settings.password_file.iter().chain(tls.filter_map(|tls| tls.ca.as_ref())).chain(own)
}

fn read(settings: &SharedLimitSettings, trust_domain: &str) -> anyhow::Result<SharedLimits> {
    let SharedLimitSettings { host, port, database, tls, user, password_file, on_failure, .. } = settings;
    let tls = tls.as_ref().map(|files| -> anyhow::Result<_> {
        let (roots, client) = client_tls(files, "Redis in `gateway.rateLimits.shared.tls.ca`")?;
        Ok(Tls { roots, client })
    });
    let login = password_file
        .as_ref()
        .map(|file| Ok::<_, anyhow::Error>(Login { user: user.clone(), password: password(file)? }));
    let server = Server::new(host.clone(), *port, *database, login.transpose()?, tls.transpose()?)
        .context("its certificate and key cannot be used")?;
    let on_failure = match on_failure {
        OnSharedFailure::Open => OnFailure::CountHere,
        OnSharedFailure::Closed => OnFailure::Refuse,
    };
    Ok(SharedLimits::new(server, trust_domain, on_failure))
}
