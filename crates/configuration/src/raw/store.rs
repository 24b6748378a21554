//! The keys under `store`.

use schemars::JsonSchema;
use serde::de::MapAccess;
use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Serialize};

use super::written;
use crate::scalar::{Larger, Spanned, Text};

#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawStore {
    pub(crate) url: Option<Text>,
    #[serde(deserialize_with = "written")]
    pub(crate) tls: Option<Spanned<RawStoreTls>>,
    pub(crate) user: Option<Text>,
    pub(crate) password_file: Option<Text>,
}

impl<'de> Larger<'de> for RawStore {
    fn of_mapping<A: MapAccess<'de>>(entries: A) -> Result<Option<Self>, A::Error> {
        Self::deserialize(MapAccessDeserializer::new(entries)).map(Some)
    }
}

#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawStoreTls {
    /// The authorities that this machine trusts.
    pub(crate) ca: Option<Text>,
    pub(crate) certificate: Option<Text>,
    pub(crate) key: Option<Text>,
}
