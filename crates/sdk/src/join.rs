//! Joining the mesh: the authority is checked first, then evidence is made for new keys, and what comes back is checked again
//! before any of it is used. A renewal is the same with the certificate so far.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use appraisal::{Checks, Policy, Release as ReleaseOf, Roots};
use mesh_protocol::tls::{Identity, RootPin, spki_of, verify_chain};
use mesh_protocol::{
    Assignment, AuthorityBinding, Bytes, ChallengeAnswer, ChallengeRequest, Evidence, EvidenceSource,
    JoinAnswer, JoinBinding, JoinClaims, JoinRequest, MeshCoordinates, Release, Secret, SecretEpoch,
    SecretSet, granted_digest, hpke_info, is_signed_by,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke, HpkePrivateKey};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use zeroize::Zeroizing;

use crate::mesh_client::{MeshClient, MeshError, retryable};

/// Who joins, and what it needs for that: everything that does not change with a renewal.
pub struct Applicant<E> {
    /// What it was told.
    pub assignment: Assignment,
    /// The workload digest W.
    pub workload: [u8; 32],
    /// Where its evidence is from.
    pub source: E,
}

/// What evidence is bound to beside keys and nonces.
#[derive(Debug, Clone, Copy)]
pub struct InForce {
    /// T_n, the transition of the manifest.
    pub transition: [u8; 32],
    /// SHA-256 of the canonical configuration that the replica works with.
    pub config_digest: [u8; 32],
    /// The workload digest that the authority has to show.
    pub authority: [u8; 32],
}

/// What a join gave. The identity was replaced already.
pub struct Joined {
    /// Its secrets.
    pub secrets: SecretSet,
    /// SHA-256 of the certificate.
    pub leaf: [u8; 32],
    /// Until when it holds, Unix seconds.
    pub not_after: u64,
    /// Which secrets these are, as [`granted_digest`] says it.
    pub granted: [u8; 32],
}

/// The keys of one identity. They are made inside and never leave.
struct Keys {
    identity: KeyPair,
    hpke_public: [u8; 32],
    hpke_private: HpkePrivateKey,
    /// Nobody signs receipts yet, so only the public half is kept.
    receipt_spki: Vec<u8>,
}

impl<E: EvidenceSource> Applicant<E> {
    /// Joins in what is in force, or renews where `previous` is the certificate so far, and makes `identity` the new one.
    ///
    /// # Errors
    /// The authority refuses, cannot be reached, or is not the one that it should be.
    pub async fn join(
        &self,
        identity: &Identity,
        previous: Option<[u8; 32]>,
        in_force: InForce,
    ) -> Result<Joined, MeshError> {
        let InForce { transition, config_digest, authority } = in_force;
        let (assignment, mesh) = (&self.assignment, &self.assignment.mesh);
        let mut client = MeshClient::connect(mesh, identity).await?;
        let replica_nonce = random()?;
        let service = assignment.replica.service.as_str().to_owned();
        let instance = assignment.replica.instance();
        let ticket = if previous.is_some() { Bytes::default() } else { assignment.ticket.clone() };
        let request = ChallengeRequest {
            nonce: Bytes(replica_nonce.to_vec()),
            service: service.clone(),
            version: assignment.version.clone(),
            instance: instance.clone(),
            ticket: ticket.clone(),
        };
        let challenge: ChallengeAnswer = client.post("/v1/join/challenge", &request).await?;
        check_authority(
            mesh,
            (transition, authority),
            &challenge.evidence.0,
            replica_nonce,
            client.authority_spki.clone(),
        )
        .await?;
        let keys = Keys::generate()?;
        let claims = JoinClaims {
            authority_nonce: array(&challenge.nonce.0)?,
            replica_nonce,
            service,
            version: assignment.version.clone(),
            instance,
            ticket: ticket.0,
            workload: self.workload,
            config_digest,
            identity_spki: keys.identity.subject_public_key_info(),
        };
        let binding = self.binding(&claims, &keys, &client.authority_spki, (previous, transition));
        let report_data = binding.report_data();
        let evidence =
            self.source.evidence(report_data).await.map_err(|error| retryable(error.to_string()))?;
        let request = JoinRequest {
            evidence: Bytes(evidence.encode_join(&claims)),
            csr: Bytes(keys.request()?),
            hpke_public_key: Bytes(keys.hpke_public.to_vec()),
            receipt_spki: Bytes(keys.receipt_spki.clone()),
        };
        let answer: JoinAnswer = client.post("/v1/join", &request).await?;
        self.accept(answer, &keys, (report_data, transition), identity)
    }

    fn binding<'a>(
        &'a self,
        claims: &'a JoinClaims,
        keys: &'a Keys,
        authority_spki: &'a [u8],
        (previous_leaf, transition): (Option<[u8; 32]>, [u8; 32]),
    ) -> JoinBinding<'a> {
        let mesh = &self.assignment.mesh;
        JoinBinding {
            authority_nonce: claims.authority_nonce,
            replica_nonce: claims.replica_nonce,
            kind: self.source.kind(),
            identity_spki: &claims.identity_spki,
            hpke_public: keys.hpke_public,
            receipt_spki: &keys.receipt_spki,
            service: &claims.service,
            version: &claims.version,
            instance: &claims.instance,
            trust_domain: &mesh.trust_domain,
            authority_spki,
            root_spki: &mesh.root_spki.0,
            transition,
            mode: mesh.mode,
            workload: claims.workload,
            config_digest: claims.config_digest,
            previous_leaf,
        }
    }

    /// Checks what the authority gave, opens the secrets, and takes the identity.
    fn accept(
        &self,
        answer: JoinAnswer,
        keys: &Keys,
        (report_data, transition): ([u8; 64], [u8; 32]),
        identity: &Identity,
    ) -> Result<Joined, MeshError> {
        let mesh = &self.assignment.mesh;
        let leaf = CertificateDer::from(answer.leaf.0);
        let above: Vec<_> = answer.chain.into_iter().map(|bytes| CertificateDer::from(bytes.0)).collect();
        let root = RootPin::Spki(mesh.root_spki.0.clone());
        let peer = verify_chain(&root, &mesh.trust_domain, &leaf, &above, UnixTime::now())
            .map_err(|error| retryable(format!("the certificate does not verify: {error}")))?;
        if spki_of(&leaf) != Some(keys.identity.subject_public_key_info()) {
            return Err(retryable("the certificate is for another key"));
        }
        let spiffe_id = peer.id.to_string();
        let release = Release {
            mode: mesh.mode,
            trust_domain: &mesh.trust_domain,
            transition,
            spiffe_id: &spiffe_id,
            leaf: peer.leaf,
        };
        let issuer = above.first().and_then(|issuer| spki_of(issuer)).unwrap_or_default();
        let message = release.set_message(&report_data, &answer.secrets);
        if !is_signed_by(&issuer, &message, &answer.set_signature.0) {
            return Err(retryable(
                "RELEASE_SET_SIGNATURE: the secrets are not those that the authority released",
            ));
        }
        let versions =
            answer.secrets.iter().map(|secret| (secret.name.as_str(), secret.version, secret.epoch));
        let granted = granted_digest(versions);
        let info = hpke_info(&report_data);
        let mut epochs: BTreeMap<String, BTreeMap<u32, Zeroizing<Vec<u8>>>> = BTreeMap::new();
        for secret in answer.secrets {
            let aad = release.associated_data(&secret.name, secret.version, secret.epoch);
            let value = DH_KEM_X25519_HKDF_SHA256_AES_256
                .open(&EncapsulatedSecret(secret.enc.0), &info, &aad, &secret.ct.0, &keys.hpke_private)
                .map_err(|_| retryable(format!("the secret {} cannot be opened", secret.name)))?;
            epochs.entry(secret.name).or_default().insert(secret.epoch, Zeroizing::new(value));
        }
        let of_epochs = |epochs: BTreeMap<u32, _>| Secret {
            epochs: epochs.into_iter().map(|(epoch, value)| SecretEpoch { epoch, value }).collect(),
        };
        let secrets = epochs.into_iter().map(|(name, epochs)| (name, of_epochs(epochs))).collect();
        let not_after = peer.not_after;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(keys.identity.serialize_der()));
        identity
            .replace([vec![leaf], above].concat(), key)
            .map_err(|error| retryable(format!("the identity cannot be used: {error}")))?;
        Ok(Joined { secrets, leaf: peer.leaf, not_after, granted })
    }
}

impl Keys {
    fn generate() -> Result<Self, MeshError> {
        let failed = |error: rcgen::Error| retryable(format!("making a key: {error}"));
        let (public, hpke_private) = DH_KEM_X25519_HKDF_SHA256_AES_256
            .generate_key_pair()
            .map_err(|error| retryable(format!("making a key: {error}")))?;
        let receipt = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        Ok(Self {
            identity: KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?,
            hpke_public: array(&public.0)?,
            hpke_private,
            receipt_spki: receipt.subject_public_key_info(),
        })
    }

    /// A request for a certificate, which says nothing but the key.
    fn request(&self) -> Result<Vec<u8>, MeshError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&self.identity);
        Ok(request.map_err(|error| retryable(format!("requesting a certificate: {error}")))?.der().to_vec())
    }
}

/// Whether the authority runs what it should, holds the key of this connection, and speaks of the same mesh. On a thread that
/// may take its time.
async fn check_authority(
    mesh: &MeshCoordinates,
    (transition, workload): ([u8; 32], [u8; 32]),
    evidence: &[u8],
    nonce: [u8; 32],
    authority_spki: Vec<u8>,
) -> Result<(), MeshError> {
    let not_it = MeshError::NotTheAuthority;
    let evidence = Evidence::decode(evidence).map_err(|error| not_it(error.to_string()))?;
    let binding = AuthorityBinding {
        nonce,
        authority_spki: &authority_spki,
        root_spki: &mesh.root_spki.0,
        trust_domain: &mesh.trust_domain,
        transition,
        mode: mesh.mode,
    };
    let report_data = binding.report_data();
    let roots = mesh.evidence_root.as_ref().map_or(Roots::Vendors, |root| Roots::Development(root.0.clone()));
    if roots.mode() != mesh.mode {
        return Err(not_it(format!("in {} nobody chooses whose evidence counts", mesh.mode)));
    }
    let policy = Policy::of_releases(vec![ReleaseOf::simulated("authority", workload)]);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let appraised = tokio::task::spawn_blocking(move || {
        appraisal::appraise(&evidence, &report_data, &policy, &roots, now, &mut Checks::default())
    });
    let appraised = appraised.await.map_err(|_| not_it("checking it failed".into()))?;
    appraised.map(|_appraised| ()).map_err(|fault| not_it(fault.to_string()))
}

fn random() -> Result<[u8; 32], MeshError> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| retryable("the operating system gave no randomness"))?;
    Ok(bytes)
}

fn array<const N: usize>(bytes: &[u8]) -> Result<[u8; N], MeshError> {
    bytes.try_into().map_err(|_| retryable(format!("expected {N} bytes, found {}", bytes.len())))
}
