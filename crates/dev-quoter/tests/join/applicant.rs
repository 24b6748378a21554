//! Whoever joins: it does everything right, but for what a test changes.

use std::sync::Arc;
use std::time::Duration;

use appraisal::{Code, Fault};
use mesh_protocol::tls::{Peer, peer, verify_chain};
use mesh_protocol::{
    Bytes, ChallengeAnswer, ChallengeRequest, Evidence, EvidenceKind, JoinAnswer, JoinBinding, JoinClaims,
    JoinRequest,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256;
use rustls::crypto::hpke::{Hpke, HpkePrivateKey};
use rustls::pki_types::{CertificateDer, UnixTime};
use trust::{Authority, Channel};

use crate::mesh::{CONFIG_DIGEST, Mesh, ORACLE_W, TRUST_DOMAIN, VERSION, W};

/// What only the two ends of the applicant's connection know.
const CHANNEL: [u8; 32] = [31; 32];
const REPLICA_NONCE: [u8; 32] = [32; 32];

type Hook<T> = Box<dyn FnOnce(&mut T) + Send>;
type BindingHook = Box<dyn FnOnce(&mut JoinBinding<'_>) + Send>;

/// The keys of one join.
pub(crate) struct Keys {
    pub(crate) identity: KeyPair,
    pub(crate) hpke_public: [u8; 32],
    pub(crate) hpke_private: HpkePrivateKey,
    pub(crate) receipt_spki: Vec<u8>,
}

impl Keys {
    fn generate() -> Self {
        let (public, hpke_private) = DH_KEM_X25519_HKDF_SHA256_AES_256.generate_key_pair().unwrap();
        let receipt = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        Self {
            identity: KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(),
            hpke_public: public.0.try_into().unwrap(),
            hpke_private,
            receipt_spki: receipt.subject_public_key_info(),
        }
    }
}

/// A certificate request that says nothing but its key.
pub(crate) fn certificate_request(key: &KeyPair) -> Vec<u8> {
    plain_params().serialize_request(key).unwrap().der().to_vec()
}

/// What such a request is made of.
pub(crate) fn plain_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
}

/// One that is about to join.
pub(crate) struct Applicant<'m> {
    mesh: &'m Mesh,
    service: String,
    instance: String,
    workload: [u8; 32],
    config: [u8; 32],
    ticket: Option<Vec<u8>>,
    nonce: Vec<u8>,
    peer: Option<Peer>,
    joins_over: [u8; 32],
    hesitates: Duration,
    bound: Vec<BindingHook>,
    evidence: Vec<Hook<Evidence>>,
    claims: Vec<Hook<JoinClaims>>,
    request: Vec<Hook<JoinRequest>>,
}

impl Mesh {
    /// A replica of vrf.
    pub(crate) fn applicant(&self, instance: &str) -> Applicant<'_> {
        self.applicant_of("vrf", instance)
    }

    pub(crate) fn applicant_of(&self, service: &str, instance: &str) -> Applicant<'_> {
        Applicant {
            mesh: self,
            service: service.into(),
            instance: instance.into(),
            workload: if service == "oracle" { ORACLE_W } else { W },
            config: CONFIG_DIGEST,
            ticket: None,
            nonce: REPLICA_NONCE.to_vec(),
            peer: None,
            joins_over: CHANNEL,
            hesitates: Duration::ZERO,
            bound: Vec::new(),
            evidence: Vec::new(),
            claims: Vec::new(),
            request: Vec::new(),
        }
    }
}

impl<'m> Applicant<'m> {
    /// Another ticket than the one that it would be given.
    pub(crate) fn ticket(mut self, ticket: Vec<u8>) -> Self {
        self.ticket = Some(ticket);
        self
    }

    /// Another nonce of its own in the challenge.
    pub(crate) fn nonce(mut self, nonce: Vec<u8>) -> Self {
        self.nonce = nonce;
        self
    }

    /// With this certificate instead of a ticket.
    pub(crate) fn known_by(mut self, leaf: &CertificateDer<'static>) -> Self {
        self.peer = Some(peer(Some(std::slice::from_ref(leaf))).unwrap());
        self
    }

    /// Other code.
    pub(crate) fn running(mut self, workload: [u8; 32]) -> Self {
        self.workload = workload;
        self
    }

    /// Working with another configuration.
    pub(crate) fn configured(mut self, config: [u8; 32]) -> Self {
        self.config = config;
        self
    }

    /// Shows its evidence over another connection than the one of the challenge.
    pub(crate) fn joining_over(mut self, channel: [u8; 32]) -> Self {
        self.joins_over = channel;
        self
    }

    /// Lets time pass between the challenge and the join.
    pub(crate) fn hesitating(mut self, time: Duration) -> Self {
        self.hesitates = time;
        self
    }

    /// Changes what the evidence is bound to.
    pub(crate) fn bound(mut self, change: impl FnOnce(&mut JoinBinding<'_>) + Send + 'static) -> Self {
        self.bound.push(Box::new(change));
        self
    }

    /// Changes the evidence once it is made.
    pub(crate) fn evidence(mut self, change: impl FnOnce(&mut Evidence) + Send + 'static) -> Self {
        self.evidence.push(Box::new(change));
        self
    }

    /// Changes who it says it is once its evidence is made.
    pub(crate) fn claiming(mut self, change: impl FnOnce(&mut JoinClaims) + Send + 'static) -> Self {
        self.claims.push(Box::new(change));
        self
    }

    /// Changes the request before it is sent.
    pub(crate) fn request(mut self, change: impl FnOnce(&mut JoinRequest) + Send + 'static) -> Self {
        self.request.push(Box::new(change));
        self
    }

    pub(crate) async fn joined(self) -> Joined {
        self.join().await.unwrap()
    }

    pub(crate) async fn refused(self) -> Code {
        self.join().await.map(|joined| joined.peer.id).unwrap_err().code
    }

    pub(crate) async fn join(self) -> Result<Joined, Fault> {
        let authority = self.mesh.authority.clone();
        self.prepare().await?.join(&authority).await
    }

    /// Takes the challenge.
    pub(crate) async fn challenge(&mut self) -> Result<ChallengeAnswer, Fault> {
        let ticket = match (&self.ticket, &self.peer) {
            (Some(ticket), _) => ticket.clone(),
            (None, Some(_)) => Vec::new(),
            (None, None) => self.mesh.ticket(&self.service, &self.instance),
        };
        self.ticket = Some(ticket.clone());
        let request = ChallengeRequest {
            nonce: Bytes(self.nonce.clone()),
            service: self.service.clone(),
            version: VERSION.into(),
            instance: self.instance.clone(),
            ticket: Bytes(ticket),
        };
        let spki = &self.mesh.authority_spki;
        let channel = Channel { binding: CHANNEL, authority_spki: spki, peer: self.peer.clone() };
        self.mesh.authority.challenge(&channel, &request).await
    }

    /// Takes the challenge and makes everything for the join.
    pub(crate) async fn prepare(mut self) -> Result<Sent, Fault> {
        let challenge = self.challenge().await?;
        let keys = Keys::generate();
        let mut claims = JoinClaims {
            authority_nonce: challenge.nonce.0.try_into().unwrap(),
            replica_nonce: REPLICA_NONCE,
            service: self.service,
            version: VERSION.into(),
            instance: self.instance,
            ticket: self.ticket.unwrap(),
            workload: self.workload,
            config_digest: self.config,
            identity_spki: keys.identity.subject_public_key_info(),
        };
        let (mesh, previous) = (self.mesh, self.peer.as_ref().map(|peer| peer.leaf));
        let report_data = report_data(mesh, &claims, &keys, previous, self.bound);
        let mut evidence =
            mesh.quoter.lock().unwrap().evidence(report_data, self.workload, mesh.clock.seconds()).unwrap();
        self.evidence.into_iter().for_each(|change| change(&mut evidence));
        self.claims.into_iter().for_each(|change| change(&mut claims));
        let mut request = JoinRequest {
            evidence: Bytes(evidence.encode_join(&claims)),
            csr: Bytes(certificate_request(&keys.identity)),
            hpke_public_key: Bytes(keys.hpke_public.to_vec()),
            receipt_spki: Bytes(keys.receipt_spki.clone()),
        };
        self.request.into_iter().for_each(|change| change(&mut request));
        mesh.clock.forward(self.hesitates);
        Ok(Sent {
            authority_spki: Arc::clone(&mesh.authority_spki),
            channel: self.joins_over,
            peer: self.peer,
            now: mesh.clock.seconds(),
            claims,
            report_data,
            keys,
            request,
        })
    }
}

fn report_data(
    mesh: &Mesh,
    claims: &JoinClaims,
    keys: &Keys,
    previous_leaf: Option<[u8; 32]>,
    changes: Vec<BindingHook>,
) -> [u8; 64] {
    let mut binding = JoinBinding {
        authority_nonce: claims.authority_nonce,
        replica_nonce: claims.replica_nonce,
        kind: EvidenceKind::Simulated,
        identity_spki: &claims.identity_spki,
        hpke_public: keys.hpke_public,
        receipt_spki: &keys.receipt_spki,
        service: &claims.service,
        version: &claims.version,
        instance: &claims.instance,
        trust_domain: TRUST_DOMAIN,
        authority_spki: &mesh.authority_spki,
        root_spki: mesh.authority.root_spki(),
        transition: mesh.authority.transition().1,
        mode: mesh.authority.domain().mode,
        workload: claims.workload,
        config_digest: claims.config_digest,
        previous_leaf,
    };
    changes.into_iter().for_each(|change| change(&mut binding));
    binding.report_data()
}

/// A join that is made and not yet shown to an authority.
pub(crate) struct Sent {
    authority_spki: Arc<[u8]>,
    pub(crate) channel: [u8; 32],
    peer: Option<Peer>,
    now: u64,
    pub(crate) claims: JoinClaims,
    pub(crate) report_data: [u8; 64],
    pub(crate) keys: Keys,
    pub(crate) request: JoinRequest,
}

impl Sent {
    /// Shows it, as often as one likes.
    pub(crate) async fn show(&self, authority: &Authority) -> Result<JoinAnswer, Fault> {
        let peer = self.peer.clone();
        let channel = Channel { binding: self.channel, authority_spki: &self.authority_spki, peer };
        authority.join(&channel, &self.request).await
    }

    /// Puts the claims into the request as they are now.
    pub(crate) fn write_claims(&mut self) {
        let (evidence, _) = Evidence::decode_join(&self.request.evidence.0).unwrap();
        self.request.evidence = Bytes(evidence.encode_join(&self.claims));
    }

    pub(crate) async fn join(self, authority: &Authority) -> Result<Joined, Fault> {
        let answer = self.show(authority).await?;
        let leaf = CertificateDer::from(answer.leaf.0.clone());
        let above = answer.chain.iter().map(|above| CertificateDer::from(above.0.clone())).collect();
        let peer = peer(Some(std::slice::from_ref(&leaf))).unwrap();
        Ok(Joined { sent: self, answer, peer, leaf, above })
    }
}

/// One that was admitted.
pub(crate) struct Joined {
    pub(crate) sent: Sent,
    pub(crate) answer: JoinAnswer,
    pub(crate) peer: Peer,
    pub(crate) leaf: CertificateDer<'static>,
    pub(crate) above: Vec<CertificateDer<'static>>,
}

impl Joined {
    /// Whether the certificate leads to the root of a mesh now, under these.
    pub(crate) fn verifies(&self, mesh: &Mesh, above: &[CertificateDer<'_>]) -> bool {
        let now = UnixTime::since_unix_epoch(Duration::from_secs(mesh.clock.seconds()));
        verify_chain(&mesh.root_pin(), TRUST_DOMAIN, &self.leaf, above, now).as_ref() == Ok(&self.peer)
    }

    /// When it joined, in Unix seconds.
    pub(crate) fn at(&self) -> u64 {
        self.sent.now
    }
}
