//! What clients are served TLS with, as the files have it. They are read on a thread that may wait for the disk, and only when
//! one of them holds something else or others are named.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use configuration::TlsSettings;
use edge_gateway::ServerTls;

use super::files::patiently;
use super::made::{Broken, Made};
use super::unusable::Unusable;

/// What was made, and of what; nothing before the first time, and in the clear.
#[derive(Default)]
pub(crate) struct ClientTls(Made<TlsSettings, ServerTls>);

impl ClientTls {
    /// That of these settings: the same as before where they are.
    ///
    /// # Errors
    /// The file that cannot be used, and why.
    pub(crate) async fn of(&self, settings: Option<&TlsSettings>, broken: Broken) -> Result<Self, Unusable> {
        self.0.of(settings, broken, "a certificate", read).await.map(Self)
    }

    /// What connections are accepted with; `None` in the clear.
    pub(crate) fn config(&self) -> Option<Arc<ServerTls>> {
        self.0.get()
    }

    /// Whether files of it are others than those before.
    pub(crate) fn renews(&self, before: &Self) -> bool {
        self.0.renews(&before.0)
    }

    /// These files hold something else: where one of them is among its own, the next is made anew.
    pub(crate) fn note_change(&mut self, changed: &BTreeSet<PathBuf>) {
        self.0.note_change(|settings| files(settings).any(|file| changed.contains(file)));
    }
}

/// The files that it names, which are read again when they change.
pub(super) fn files(settings: &TlsSettings) -> impl Iterator<Item = &PathBuf> {
    let pairs = settings.certificates.iter().flat_map(|files| [&files.certificate, &files.key]);
    pairs.chain(&settings.client_ca)
}

async fn read(settings: TlsSettings) -> Result<Arc<ServerTls>, Unusable> {
    let line = settings.line.0;
    let unusable = |reason: String| Unusable::one(line, format!("gateway.tls: {reason}"));
    let reading = tokio::task::spawn_blocking(move || edge_gateway::server_config(&settings));
    let read = patiently(reading, |seconds| {
        tracing::error!("the files of gateway.tls do not answer for {seconds} seconds; they are waited for");
    });
    let read = read.await.map_err(|error| unusable(format!("it could not be read: {error}")))?;
    read.map_err(|error| unusable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use configuration::{CertificateFiles, Line};
    use testkit::Authority;

    use super::*;

    #[tokio::test]
    async fn the_files_are_read_again_only_when_one_of_them_or_its_name_is_another() {
        let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new("tests"));
        let files = |name: &str| {
            authority.certificate(&["a.test"]).write(folder.path(), name);
            let path = |kind: &str| folder.path().join(format!("{name}.{kind}"));
            let files = CertificateFiles { certificate: path("pem"), key: path("key") };
            TlsSettings { line: Line(7), certificates: vec![files], client_ca: None }
        };
        let (first, second) = (files("first"), files("second"));
        let config = |made: &ClientTls| made.config().unwrap();
        let mut made = ClientTls::default().of(Some(&first), Broken::Refuses).await.unwrap();
        std::fs::remove_file(&first.certificates[0].key).unwrap();
        let again = made.of(Some(&first), Broken::Refuses).await.unwrap();
        assert!(Arc::ptr_eq(&config(&made), &config(&again)), "no disk is asked");
        let other = made.of(Some(&second), Broken::Refuses).await.unwrap();
        assert!(!Arc::ptr_eq(&config(&made), &config(&other)));
        assert!(made.of(None, Broken::Refuses).await.unwrap().config().is_none());
        made.note_change(&[second.certificates[0].key.clone()].into());
        assert!(made.of(Some(&first), Broken::Refuses).await.is_ok(), "another's file has changed");
        made.note_change(&[first.certificates[0].key.clone()].into());
        let stays = made.of(Some(&first), Broken::Stays).await.unwrap();
        assert!(Arc::ptr_eq(&config(&made), &config(&stays)));
        let gone = made.of(Some(&first), Broken::Refuses).await.err().unwrap();
        let gone = gone.to_string();
        assert!(
            gone.starts_with("line 7: gateway.tls: ") && gone.contains("first.key: No such file"),
            "{gone}"
        );
    }
}
