//! A mesh without an authority: its certificates are made by the test.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use mesh_protocol::tls::{ANY_NAME, Identity, RootPin, client_config};
use mesh_protocol::{
    Assignment, Bytes, ConfigReload, MeshCoordinates, QuoterSource, RegisteredBy, SecretSet, granted_digest,
    sha256,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    PublicKeyData, SanType,
};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use types::Mode;

use crate::{Applicant, Joined, Member, Protocol};

pub(crate) const TRUST_DOMAIN: &str = "fake.dev.invalid";

/// Who gives certificates in this mesh.
pub struct FakeMesh(CertifiedIssuer<'static, KeyPair>);

impl Default for FakeMesh {
    fn default() -> Self {
        Self::new()
    }
}

/// Only tests use this, and there everything of it can be made.
const MADE: &str = "it can be made";

impl FakeMesh {
    /// One with a root of its own.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect(MADE);
        Self(CertifiedIssuer::self_signed(params, key).expect(MADE))
    }

    /// An identity of this mesh, such as `gateway/n1`, and the SHA-256 of its certificate.
    pub fn identity(&self, path: &str) -> (Identity, [u8; 32]) {
        let key = KeyPair::generate().expect(MADE);
        let mut params = CertificateParams::default();
        let uri = format!("spiffe://{TRUST_DOMAIN}/{path}");
        params.subject_alt_names = vec![SanType::URI(uri.try_into().expect(MADE))];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = params.signed_by(&key, &self.0).expect(MADE);
        let identity = Identity::default();
        let chain = vec![leaf.der().clone(), self.0.der().clone()];
        identity.replace(chain, PrivateKeyDer::Pkcs8(key.serialize_der().into())).expect(MADE);
        (identity, sha256(leaf.der()))
    }

    /// The signature of the root over a message.
    #[cfg(test)]
    pub(crate) fn sign(&self, message: &[u8]) -> Bytes {
        use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
        let key = self.0.key().serialize_der();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key).expect(MADE);
        let signature = key.sign(&aws_lc_rs::rand::SystemRandom::new(), message).expect(MADE);
        Bytes(signature.as_ref().to_vec())
    }

    /// The first replica of a service, which has joined and cannot renew, and the SHA-256 of its certificate. Within a runtime.
    pub fn member(&self, service: &str, allow: &[&str]) -> (Member<QuoterSource>, [u8; 32]) {
        // Nobody is there.
        self.member_of(service, allow, (Ipv4Addr::LOCALHOST, 1).into())
    }

    /// The same with the address of the mesh API.
    pub fn member_of(
        &self,
        service: &str,
        allow: &[&str],
        mesh: SocketAddr,
    ) -> (Member<QuoterSource>, [u8; 32]) {
        let (identity, leaf) = self.identity(&format!("service/{service}/0"));
        let (source, _nobody) = UnixStream::pair().expect(MADE);
        let assignment = Assignment {
            replica: format!("{service}/0").parse().expect(MADE),
            version: "1.0.0".into(),
            config: serde_json::json!({}),
            mesh: self.coordinates(mesh),
            ticket: Bytes::default(),
            allow: allow.iter().map(|name| name.parse().expect(MADE)).collect(),
            registered_by: RegisteredBy::Supervisor,
            config_reload: ConfigReload::File,
        };
        let source = QuoterSource::new(source).expect(MADE);
        let applicant = Applicant { assignment, workload: [0; 32], source };
        // In the year 2100.
        let not_after = 4_102_444_800;
        let joined = Joined { secrets: SecretSet::new(), leaf, not_after, granted: granted_digest([]) };
        (Member::joined(applicant, identity, &joined), leaf)
    }

    fn coordinates(&self, address: SocketAddr) -> MeshCoordinates {
        MeshCoordinates {
            address,
            root_spki: Bytes(self.0.key().subject_public_key_info()),
            trust_domain: TRUST_DOMAIN.into(),
            mode: Mode::Development,
            transition: Bytes(vec![0; 32]),
            evidence_root: None,
            authority_workload: Bytes(vec![0; 32]),
        }
    }

    /// Connects to a member with an identity of this mesh. Whether it is let in shows when it reads.
    pub async fn connect(
        &self,
        address: SocketAddr,
        identity: Identity,
        protocol: Protocol,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let root = RootPin::Spki(self.0.key().subject_public_key_info());
        let config = client_config(identity, root, TRUST_DOMAIN, Arc::new(|_| Ok(())), &[protocol.alpn()])
            .expect(MADE);
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from(ANY_NAME).expect(MADE);
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }
}
