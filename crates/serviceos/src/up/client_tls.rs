//! What clients are served TLS with, as the files have it. They are read on a thread that may wait for the disk, and only when
//! one of them holds something else or others are named.

use std::sync::Arc;

use anyhow::Context;
use configuration::TlsSettings;
use edge_gateway::ServerTls;

use super::files::patiently;

/// What was made, and of what; nothing before the first time, in the clear, and once it is forgotten.
#[derive(Default)]
pub(crate) struct ClientTls(Option<(TlsSettings, Arc<ServerTls>)>);

impl ClientTls {
    /// That of these settings: the same as before where they are.
    ///
    /// # Errors
    /// The file that cannot be used, and why.
    pub(crate) async fn of(&self, settings: Option<&TlsSettings>) -> anyhow::Result<Self> {
        let Some(settings) = settings else { return Ok(Self(None)) };
        if let Some(known) = self.0.as_ref().filter(|(known, _)| known == settings) {
            return Ok(Self(Some(known.clone())));
        }
        let made = read(settings.clone()).await.context("failed to set up TLS for clients")?;
        Ok(Self(Some((settings.clone(), made))))
    }

    /// What connections are accepted with; `None` in the clear.
    pub(crate) fn config(&self) -> Option<Arc<ServerTls>> {
        self.0.as_ref().map(|(_, config)| Arc::clone(config))
    }

    /// One of its files holds something else: the next is made anew.
    pub(crate) fn forget(&mut self) {
        self.0 = None;
    }
}

async fn read(settings: TlsSettings) -> anyhow::Result<Arc<ServerTls>> {
    let reading = tokio::task::spawn_blocking(move || edge_gateway::server_config(&settings));
    let read = patiently(reading, |seconds| {
        tracing::error!("the files of gateway.tls do not answer for {seconds} seconds; they are waited for");
    });
    Ok(read.await??)
}

#[cfg(test)]
mod tests {
    use configuration::CertificateFiles;
    use testkit::Authority;

    use super::*;

    #[tokio::test]
    async fn the_files_are_read_again_only_when_one_of_them_or_its_name_is_another() {
        let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new("tests"));
        let files = |name: &str| {
            authority.certificate(&["a.test"]).write(folder.path(), name);
            let path = |kind: &str| folder.path().join(format!("{name}.{kind}"));
            let files = CertificateFiles { certificate: path("pem"), key: path("key") };
            TlsSettings { certificates: vec![files], client_ca: None }
        };
        let (first, second) = (files("first"), files("second"));
        let config = |made: &ClientTls| made.config().unwrap();
        let mut made = ClientTls::default().of(Some(&first)).await.unwrap();
        std::fs::remove_file(&first.certificates[0].key).unwrap();
        let again = made.of(Some(&first)).await.unwrap();
        assert!(Arc::ptr_eq(&config(&made), &config(&again)), "no disk is asked");
        let other = made.of(Some(&second)).await.unwrap();
        assert!(!Arc::ptr_eq(&config(&made), &config(&other)));
        assert!(made.of(None).await.unwrap().config().is_none());
        made.forget();
        let gone = made.of(Some(&first)).await.err().unwrap();
        assert!(gone.is::<edge_gateway::TlsError>(), "{gone:#}");
        assert!(format!("{gone:#}").contains("first.key: No such file"), "{gone:#}");
    }
}
