//! The keys under `gateway`.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use types::ByteSize;

use super::{Entries, RawAuthentication, RawStore, kibibytes, loopback, or_default, seconds, whole, written};
use crate::scalar::{Field, RedisUrl, Spanned, Text, Whole, WordOr, Workers};
use crate::settings::{OnSharedFailure, Rate};

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawGateway {
    #[serde(deserialize_with = "or_default")]
    pub(crate) listen: Vec<Field<SocketAddr>>,
    pub(crate) workers: Field<Workers>,
    /// Left out: no TLS.
    #[serde(deserialize_with = "written")]
    pub(crate) tls: Option<Spanned<RawTls>>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) proxy_protocol: Vec<Field<IpNet>>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) trusted_proxies: Vec<Field<IpNet>>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) limits: RawLimits,
    #[serde(deserialize_with = "or_default")]
    pub(crate) authentication: RawAuthentication,
    #[serde(deserialize_with = "or_default")]
    pub(crate) rate_limits: RawRateLimits,
}

impl Default for RawGateway {
    fn default() -> Self {
        Self {
            listen: vec![loopback(8080)],
            workers: Field::default_of(Workers::OnePerCore),
            tls: None,
            proxy_protocol: Vec::new(),
            trusted_proxies: Vec::new(),
            limits: RawLimits::default(),
            authentication: RawAuthentication::default(),
            rate_limits: RawRateLimits::default(),
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawTls {
    #[serde(deserialize_with = "or_default")]
    pub(crate) certificates: Vec<Spanned<RawCertificate>>,
    /// Left out: no client certificates.
    pub(crate) client_ca: Option<Text>,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawCertificate {
    pub(crate) certificate: Option<Text>,
    pub(crate) key: Option<Text>,
}

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawLimits {
    pub(crate) header_bytes: Field<ByteSize>,
    pub(crate) headers: Field<Whole>,
    pub(crate) url_bytes: Field<ByteSize>,
    pub(crate) body_bytes: Field<ByteSize>,
    pub(crate) header_timeout: Field<Duration>,
    pub(crate) idle_timeout: Field<Duration>,
    pub(crate) request_timeout: Field<Duration>,
    pub(crate) connections: Field<Whole>,
    pub(crate) requests: Field<Whole>,
}

impl Default for RawLimits {
    fn default() -> Self {
        Self {
            header_bytes: kibibytes(64),
            headers: whole(100),
            url_bytes: kibibytes(8),
            body_bytes: kibibytes(1024),
            header_timeout: seconds(10),
            idle_timeout: seconds(300),
            request_timeout: seconds(15),
            connections: whole(10_000),
            requests: whole(10_000),
        }
    }
}

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawRateLimits {
    /// Left out: addresses have no limit.
    #[serde(deserialize_with = "written")]
    pub(crate) per_address: Option<Spanned<RawLimit>>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) failed_authentication: RawFailures,
    #[serde(deserialize_with = "or_default")]
    pub(crate) tiers: Entries<Option<RawTier>>,
    /// Left out: each gateway counts by itself.
    #[serde(deserialize_with = "written")]
    pub(crate) shared: Option<Spanned<WordOr<RedisUrl, RawStore>>>,
    pub(crate) on_shared_failure: Field<OnSharedFailure>,
}

impl Default for RawRateLimits {
    fn default() -> Self {
        Self {
            per_address: None,
            failed_authentication: RawFailures::default(),
            tiers: Entries::default(),
            shared: None,
            on_shared_failure: Field::default_of(OnSharedFailure::Open),
        }
    }
}

/// A rate and a burst, neither of which has a default.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawLimit {
    pub(crate) rate: Option<Field<Rate>>,
    pub(crate) burst: Option<Field<Whole>>,
}

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawFailures {
    pub(crate) rate: Field<Rate>,
    pub(crate) burst: Field<Whole>,
}

impl Default for RawFailures {
    fn default() -> Self {
        let rate = Rate { count: 10, per: Duration::from_secs(1) };
        Self { rate: Field::default_of(rate), burst: whole(20) }
    }
}

#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawTier {
    pub(crate) rate: Option<Field<Rate>>,
    pub(crate) burst: Option<Field<Whole>>,
    /// Left out: as many a day as the rate allows.
    pub(crate) daily: Option<Field<Whole>>,
}
