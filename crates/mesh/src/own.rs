//! The identity of a part of this process: the authority's listener, or the gateway beside it. It is given by the authority
//! without evidence, since both are one process.

use std::future::Future;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mesh_protocol::tls::Identity;
use mesh_protocol::{SpiffeId, Subject};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::time::sleep;
use trust::{Authority, CallerSigner, Signer, TrustError};

/// How long a certificate of its own lives; it is renewed at half of that.
const LIFE: Duration = Duration::from_secs(24 * 3600);
/// How often it is looked at whether it is time.
const LOOK: Duration = Duration::from_secs(60);

/// A key of this process, and the certificate for it.
pub struct OwnIdentity {
    authority: Authority,
    subject: Subject,
    key: KeyPair,
    identity: Identity,
}

impl OwnIdentity {
    /// Makes a key, and a certificate for it.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn new(authority: Authority, subject: Subject) -> Result<Self, TrustError> {
        let failed = |error: rcgen::Error| TrustError::Certificate(error.to_string());
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let own = Self { authority, subject, key, identity: Identity::default() };
        own.renew()?;
        Ok(own)
    }

    /// The identity, which changes when it is renewed.
    pub fn identity(&self) -> Identity {
        self.identity.clone()
    }

    /// The key, as DER SubjectPublicKeyInfo.
    pub fn spki(&self) -> Vec<u8> {
        self.key.subject_public_key_info()
    }

    /// Signs who calls with this key.
    ///
    /// # Errors
    /// The key cannot be used.
    pub fn caller_signer(&self) -> Result<CallerSigner, TrustError> {
        let trust_domain = self.authority.domain().trust_domain.clone();
        let issuer = SpiffeId { trust_domain, subject: self.subject.clone() };
        Ok(CallerSigner::new(Signer::new(&self.key.serialize_der())?, issuer.to_string()))
    }

    fn renew(&self) -> Result<(), TrustError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let not_after = (now + LIFE).as_secs();
        let chain = self.authority.issue_own(self.subject.clone(), &self.spki(), not_after)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        self.identity.replace(chain, key).map_err(|error| TrustError::Certificate(error.to_string()))
    }

    /// Renews it until it is told to end. By the time of day, since a machine that sleeps sleeps through timers.
    pub async fn keep(self, shutdown: impl Future<Output = ()>) {
        tokio::pin!(shutdown);
        let (mut renewed, mut transition) = (SystemTime::now(), self.authority.transition());
        loop {
            tokio::select! {
                () = sleep(LOOK) => {
                    let now = self.authority.transition();
                    // A clock that was set back is as good a reason, and another transition is one.
                    if renewed.elapsed().is_ok_and(|passed| passed < LIFE / 2) && now == transition {
                        continue;
                    }
                    match self.renew() {
                        Ok(()) => (renewed, transition) = (SystemTime::now(), now),
                        Err(error) => {
                            tracing::error!(%error, "the certificate of a part of this process could not be renewed");
                        }
                    }
                }
                () = &mut shutdown => return,
            }
        }
    }
}
