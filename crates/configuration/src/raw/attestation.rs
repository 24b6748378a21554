//! The keys under `attestation` of a service.

use std::time::Duration;

use schemars::JsonSchema;
use serde::de::MapAccess;
use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Serialize};

use super::{or_default, seconds, whole, written};
use crate::scalar::{AnyWord, Field, Larger, Spanned, Text, Whole, WordOr};
use crate::settings::TcbStatus;

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawAttestation {
    /// Left out: in development the one that is measured; production needs them written.
    #[serde(deserialize_with = "written")]
    pub(crate) releases: Option<Spanned<Vec<Spanned<RawRelease>>>>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) tcb: RawTcb,
    #[serde(deserialize_with = "or_default")]
    pub(crate) platform: RawPlatform,
    pub(crate) identity_ttl: Field<Duration>,
}

impl Default for RawAttestation {
    fn default() -> Self {
        Self {
            releases: None,
            tcb: RawTcb::default(),
            platform: RawPlatform::default(),
            identity_ttl: seconds(3_600),
        }
    }
}

impl<'de> Larger<'de> for RawAttestation {
    fn of_mapping<A: MapAccess<'de>>(entries: A) -> Result<Option<Self>, A::Error> {
        Self::deserialize(MapAccessDeserializer::new(entries)).map(Some)
    }
}

#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawRelease {
    pub(crate) version: Option<Text>,
    #[serde(deserialize_with = "written")]
    pub(crate) simulated: Option<Spanned<RawSimulated>>,
    #[serde(deserialize_with = "written")]
    pub(crate) sgx: Option<Spanned<RawSgx>>,
    #[serde(deserialize_with = "written")]
    pub(crate) tdx: Option<Spanned<RawTdx>>,
    #[serde(deserialize_with = "written")]
    pub(crate) sev_snp: Option<Spanned<RawSevSnp>>,
    #[serde(deserialize_with = "written")]
    pub(crate) nitro: Option<Spanned<RawNitro>>,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawSimulated {
    pub(crate) w: Option<Text>,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawSgx {
    pub(crate) mrenclave: Option<Text>,
    pub(crate) mrsigner: Option<Text>,
    pub(crate) prod_id: Option<Field<Whole>>,
    pub(crate) min_svn: Option<Field<Whole>>,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawTdx {
    pub(crate) mrtd: Option<Text>,
    pub(crate) rtmr0: Option<Text>,
    pub(crate) rtmr1: Option<Text>,
    pub(crate) rtmr2: Option<Text>,
    pub(crate) rtmr3: Option<Text>,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawSevSnp {
    pub(crate) measurement: Option<Text>,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawNitro {
    pub(crate) pcr0: Option<Text>,
    pub(crate) pcr1: Option<Text>,
    pub(crate) pcr2: Option<Text>,
    pub(crate) pcr3: Option<Text>,
    pub(crate) pcr4: Option<Text>,
    pub(crate) pcr5: Option<Text>,
    pub(crate) pcr6: Option<Text>,
    pub(crate) pcr7: Option<Text>,
    pub(crate) pcr8: Option<Text>,
}

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawTcb {
    /// Left out: up to date alone.
    #[serde(deserialize_with = "written")]
    pub(crate) accept: Option<Spanned<Vec<Field<TcbStatus>>>>,
    pub(crate) grace_days: Field<Whole>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) reject_advisories: Vec<Text>,
}

impl Default for RawTcb {
    fn default() -> Self {
        Self { accept: None, grace_days: whole(0), reject_advisories: Vec::new() }
    }
}

#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawPlatform {
    pub(crate) smt: Field<bool>,
    pub(crate) dynamic_platform: Field<bool>,
    pub(crate) cached_keys: Field<bool>,
    /// Left out: any machine in development; production needs it written.
    #[serde(deserialize_with = "written")]
    pub(crate) allow: Option<Spanned<WordOr<AnyWord, Vec<Text>>>>,
}

impl Default for RawPlatform {
    fn default() -> Self {
        Self {
            smt: Field::default_of(true),
            dynamic_platform: Field::default_of(true),
            cached_keys: Field::default_of(true),
            allow: None,
        }
    }
}
