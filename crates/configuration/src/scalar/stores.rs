//! Where something is kept: a word or a URL, whose parts are read elsewhere.

use serde_json::{Value, json};

use super::{Scalar, Shape};
use crate::nearest::nearest;

/// Which store: `embedded`, or a URL that is read elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoreWord {
    Embedded,
    Url(String),
}

impl Scalar for StoreWord {
    const NAME: &'static str = "StoreWord";
    const EXPECTED: &'static str = "`embedded`, a URL such as etcd://10.0.0.5:2379, or a mapping";

    fn read(shape: &Shape) -> Option<Self> {
        match shape {
            Shape::Text(text) if text == "embedded" => Some(Self::Embedded),
            Shape::Text(text) if text.contains("://") => Some(Self::Url(text.clone())),
            _ => None,
        }
    }

    fn written(&self) -> Value {
        match self {
            Self::Embedded => "embedded".into(),
            Self::Url(url) => url.as_str().into(),
        }
    }

    fn schema() -> Value {
        json!({"type": "string", "pattern": "^(embedded|etcds?://.+)$"})
    }

    fn help(shape: &Shape) -> Option<String> {
        let Shape::Text(text) = shape else { return None };
        let word = nearest(text, ["embedded", "etcd"])?;
        let meant = if word == "etcd" { "etcd://10.0.0.5:2379" } else { word };
        Some(format!("did you mean `{meant}`?"))
    }
}

/// Where Redis is: a URL that is read elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RedisUrl(pub(crate) String);

impl Scalar for RedisUrl {
    const NAME: &'static str = "RedisUrl";
    const EXPECTED: &'static str = "a URL such as redis://10.0.0.5:6379, or a mapping";

    fn read(shape: &Shape) -> Option<Self> {
        match shape {
            Shape::Text(text) if text.contains("://") => Some(Self(text.clone())),
            _ => None,
        }
    }

    fn written(&self) -> Value {
        self.0.as_str().into()
    }

    fn schema() -> Value {
        json!({"type": "string", "pattern": "^rediss?://.+$"})
    }
}
