//! What services are called with over TLS: replicas of the mesh with the identity of the gateway, endpoints with the roots of
//! this machine, which are read once, and only where an endpoint needs them.

use std::sync::Arc;

use anyhow::Context;
use configuration::{Program, Runs, Scheme, ServiceSettings, Settings};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use service_router::{TlsClient, UpstreamProtocol};
use trust::CallerSigner;

use super::files::patiently;

/// What calls are made with, as far as it is needed.
#[derive(Debug, Clone, Default)]
pub(crate) struct UpstreamTls {
    endpoints: Option<Clients>,
    mesh: Option<Clients>,
    /// Says who calls, to replicas that are programs of anybody's.
    caller_signer: Option<Arc<CallerSigner>>,
}

#[derive(Debug, Clone)]
struct Clients {
    http1: TlsClient,
    http2: TlsClient,
}

impl UpstreamTls {
    /// The same, with what the replicas of the mesh are called with.
    pub(crate) fn with_mesh(
        self,
        http1: ClientConfig,
        http2: ClientConfig,
        caller_signer: CallerSigner,
    ) -> Self {
        let mesh = Clients { http1: TlsClient::new(http1), http2: TlsClient::new(http2) };
        Self { mesh: Some(mesh), caller_signer: Some(Arc::new(caller_signer)), ..self }
    }

    /// What replicas of the mesh are asked who they are with; none before there is a mesh.
    pub(crate) fn of_mesh(&self) -> Option<TlsClient> {
        Some(self.mesh.as_ref()?.http1.clone())
    }

    /// Who signs who calls a service, and its name; none where its replicas take the word of the connection.
    pub(crate) fn caller_signer(&self, service: &ServiceSettings) -> Option<(Arc<CallerSigner>, Arc<str>)> {
        let is_command = matches!(service.process()?.program, Program::Command(_) | Program::Elsewhere);
        let signer = self.caller_signer.as_ref().filter(|_| is_command)?;
        Some((Arc::clone(signer), service.name.as_str().into()))
    }

    /// That of these settings. The roots are read on a thread that may wait for the disk.
    ///
    /// # Errors
    /// The cryptographic library offers no version of TLS.
    pub(crate) async fn of(&self, settings: &Settings) -> anyhow::Result<Self> {
        if self.endpoints.is_some() || !settings.services.iter().any(is_needed_by) {
            return Ok(self.clone());
        }
        let reading = tokio::task::spawn_blocking(Clients::new);
        let made = patiently(reading, |seconds| {
            tracing::error!(
                "the root certificates of this machine do not answer for {seconds} seconds; they are waited for"
            );
        });
        let endpoints = Some(made.await?.context("failed to set up TLS to endpoints")?);
        Ok(Self { endpoints, ..self.clone() })
    }

    /// What a service is called with; `None` in the clear, and for replicas before there is a mesh. The settings are those that this was made of.
    pub(crate) fn client(&self, service: &ServiceSettings, protocol: UpstreamProtocol) -> Option<TlsClient> {
        let clients = if service.process().is_some() {
            self.mesh.as_ref()?
        } else if is_needed_by(service) {
            self.endpoints.as_ref().expect("they were made, since an endpoint needs them")
        } else {
            return None;
        };
        Some(match protocol {
            UpstreamProtocol::Http1 => clients.http1.clone(),
            UpstreamProtocol::Http2 => clients.http2.clone(),
        })
    }
}

fn is_needed_by(service: &ServiceSettings) -> bool {
    match &service.runs {
        Runs::Endpoints(endpoints) => endpoints.iter().any(|endpoint| endpoint.scheme == Scheme::Https),
        Runs::Process(_) => false,
    }
}

impl Clients {
    fn new() -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        // What the operator has added to this machine counts too; a machine without any is no error.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let roots = Arc::new(roots);
        let client = |protocol: &[u8]| {
            let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()?;
            let mut config = builder.with_root_certificates(Arc::clone(&roots)).with_no_client_auth();
            config.alpn_protocols = vec![protocol.to_vec()];
            Ok::<_, rustls::Error>(TlsClient::new(config))
        };
        Ok(Self { http1: client(b"http/1.1")?, http2: client(b"h2")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(scheme: &str) -> Settings {
        configuration::parse(
            &format!("services: {{a: {{endpoints: [\"{scheme}://127.0.0.1:1\"], attestation: none}}}}"),
            "serviceos.yaml",
            std::path::Path::new("/srv"),
            std::num::NonZeroUsize::MIN,
            configuration::any_config,
        )
        .unwrap()
    }

    #[tokio::test]
    async fn the_roots_are_read_once_and_only_where_an_endpoint_needs_them() {
        let (plain, secured) = (settings("http"), settings("https"));
        let none = UpstreamTls::default().of(&plain).await.unwrap();
        assert!(
            none.endpoints.is_none() && none.client(&plain.services[0], UpstreamProtocol::Http1).is_none()
        );
        let made = none.of(&secured).await.unwrap();
        let client = |tls: &UpstreamTls| tls.client(&secured.services[0], UpstreamProtocol::Http2).unwrap();
        let again = made.of(&plain).await.unwrap().of(&secured).await.unwrap();
        assert_eq!(client(&made), client(&again));
        assert!(made.client(&plain.services[0], UpstreamProtocol::Http1).is_none());
    }
}
