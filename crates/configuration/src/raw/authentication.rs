//! The keys under `gateway.authentication`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Entries, or_default, seconds, written};
use crate::scalar::{Field, Spanned, Text};
use crate::settings::TokenAlgorithm;

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawAuthentication {
    pub(crate) api_keys: Field<bool>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) jwt: Vec<Spanned<RawIssuer>>,
    /// Left out: a certificate is no credential.
    #[serde(deserialize_with = "written")]
    pub(crate) client_certificates: Option<Spanned<RawClientCertificates>>,
    /// Left out: a signature is no credential.
    #[serde(deserialize_with = "written")]
    pub(crate) signed_requests: Option<Spanned<RawSignedRequests>>,
}

impl Default for RawAuthentication {
    fn default() -> Self {
        Self {
            api_keys: Field::default_of(true),
            jwt: Vec::new(),
            client_certificates: None,
            signed_requests: None,
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawIssuer {
    pub(crate) issuer: Option<Text>,
    pub(crate) audience: Option<Text>,
    /// A URL, or a file.
    pub(crate) jwks: Option<Text>,
    /// The name of a secret.
    pub(crate) secret: Option<Text>,
    /// Left out: HS256 where there is a secret alone.
    #[serde(deserialize_with = "or_default")]
    pub(crate) algorithms: Vec<Field<TokenAlgorithm>>,
    /// Left out: the words of the claim `scope`.
    pub(crate) role_claim: Option<Text>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) scopes: Entries<Vec<Text>>,
    pub(crate) tenant_claim: Option<Text>,
    pub(crate) tenant: Option<Text>,
    /// Left out: unlimited in development, free in production.
    pub(crate) tier: Option<Text>,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawClientCertificates {
    #[serde(deserialize_with = "or_default")]
    pub(crate) scopes: Entries<Vec<Text>>,
    pub(crate) tenant: Option<Text>,
    /// Left out: unlimited in development, free in production.
    pub(crate) tier: Option<Text>,
}

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawSignedRequests {
    pub(crate) max_age: Field<Duration>,
}

impl Default for RawSignedRequests {
    fn default() -> Self {
        Self { max_age: seconds(300) }
    }
}
