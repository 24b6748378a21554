//! Who may call, and how that is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use types::headers::DEFAULT_TENANT;

/// The credentials that the gateway takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authentication {
    /// Whether API keys are taken.
    pub api_keys: bool,
    /// Whose tokens are taken; no two have the same issuer. At most 16.
    pub jwt: Vec<IssuerSettings>,
    /// Which certificates of clients are taken; none when it is left out.
    pub client_certificates: Option<CertificateSettings>,
    /// Which signatures of requests are taken; none when it is left out.
    pub signed_requests: Option<SignedRequests>,
}

/// An issuer of JSON Web Tokens, and what its tokens are good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerSettings {
    /// What `iss` says, exactly; 1 to 256 bytes.
    pub issuer: String,
    /// What `aud` says, or one of its items; 1 to 256 bytes.
    pub audience: String,
    /// Where its public keys are. At least one of this and `secret` is there.
    pub jwks: Option<Placed<JwksSource>>,
    /// The name of the secret that it signs HS256 with.
    pub secret: Option<Placed<String>>,
    /// What its tokens may be signed with; at least one. [`TokenAlgorithm::Hs256`] if and only if there is a secret.
    pub algorithms: BTreeSet<TokenAlgorithm>,
    /// Where a token says which roles the caller has: the name of a claim, or the names on the way to it with dots between. The
    /// words of `scope` without one.
    pub role_claim: Option<String>,
    /// What each role may do. One that is not here may do nothing.
    pub scopes: BTreeMap<String, Vec<String>>,
    /// Whom its callers act for.
    pub tenant: TenantOf,
    /// How much each of its callers may ask for, the name of a tier; what the mode says when it is left out.
    pub tier: Option<String>,
}

/// A value, and the line of the file that it stands in, for whoever finds out later that it is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// From 1; 0 for a value that stands in no file.
    pub line: usize,
}

/// Where a set of public keys is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwksSource {
    /// At this URL: https, or http on this machine.
    Url(String),
    /// In this file; absolute.
    File(PathBuf),
}

/// What a token is signed with (RFC 7518 section 3.1, RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TokenAlgorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

/// Whom a caller acts for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TenantOf {
    /// The tenant that everybody without one has.
    Default,
    /// This one: letters, digits and `._-`, 1 to 64 bytes.
    Fixed(String),
    /// The one that this claim names.
    Claim(String),
}

impl TenantOf {
    /// The tenant, where it is the same for all.
    pub fn fixed(&self) -> Option<&str> {
        match self {
            Self::Default => Some(DEFAULT_TENANT),
            Self::Fixed(name) => Some(name),
            Self::Claim(_) => None,
        }
    }
}

/// The certificates of clients that are callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateSettings {
    /// What each may do, by the SPIFFE ID of the certificate or else its subject (RFC 4514). A SPIFFE ID that ends in `/*`
    /// stands for all beneath it.
    pub scopes: BTreeMap<String, Vec<String>>,
    /// Whom they act for: letters, digits and `._-`, 1 to 64 bytes.
    pub tenant: Option<String>,
    /// How much each may ask for, the name of a tier; what the mode says when it is left out.
    pub tier: Option<String>,
}

/// Signatures of requests (RFC 9421).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRequests {
    /// How long a signature may be good, 1 s to 5 min.
    pub max_age: Duration,
}
