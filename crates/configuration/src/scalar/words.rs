//! Words out of a few, and the few that carry a name with them.

use std::time::Duration;

use serde_json::{Value, json};
use types::Mode;
use types::media::is_token;

use super::{Scalar, Shape, Whole, quoted, text_of};
use crate::nearest::{nearest, one_of};
use crate::settings::{
    Builtin, ConfigReload, GenerateType, HashOn, LogFormat, OnSharedFailure, Protocol, Sticky, TcbStatus,
    TokenAlgorithm,
};

/// A word out of a few. The nearest one is the help.
trait Word: Copy + PartialEq + 'static {
    /// What the schema calls it.
    const NAME: &'static str;
    /// Fits after "expected".
    const EXPECTED: &'static str;
    const WORDS: &'static [(&'static str, Self)];
}

impl<T: Word> Scalar for T {
    const NAME: &'static str = T::NAME;
    const EXPECTED: &'static str = T::EXPECTED;

    fn read(shape: &Shape) -> Option<Self> {
        choice(shape, T::WORDS)
    }

    fn written(&self) -> Value {
        T::WORDS.iter().find(|(_, value)| value == self).map(|(word, _)| *word).into()
    }

    fn schema() -> Value {
        one_word_of(T::WORDS.iter().map(|(word, _)| *word))
    }

    fn help(shape: &Shape) -> Option<String> {
        choice_help(shape, T::WORDS)
    }
}

fn choice<T: Copy>(shape: &Shape, choices: &[(&str, T)]) -> Option<T> {
    let Shape::Text(text) = shape else { return None };
    choices.iter().find(|(word, _)| word == text).map(|(_, value)| *value)
}

fn one_word_of<'a>(words: impl Iterator<Item = &'a str>) -> Value {
    json!({"type": "string", "enum": words.collect::<Vec<_>>()})
}

fn choice_help<T>(shape: &Shape, choices: &[(&str, T)]) -> Option<String> {
    let Shape::Text(text) = shape else { return None };
    nearest(text, choices.iter().map(|(word, _)| *word))
        .map(|word| format!("did you mean {}?", one_of(&[word])))
}

/// How many worker threads the gateway has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workers {
    OnePerCore,
    Exactly(i128),
}

impl Scalar for Workers {
    const NAME: &'static str = "Workers";
    const EXPECTED: &'static str = "`auto` or a whole number from 1 to 512";

    fn read(shape: &Shape) -> Option<Self> {
        match shape {
            Shape::Whole(number) => Some(Self::Exactly(*number)),
            Shape::Text(text) if text == "auto" => Some(Self::OnePerCore),
            _ => None,
        }
    }

    fn written(&self) -> Value {
        match self {
            Self::OnePerCore => "auto".into(),
            Self::Exactly(number) => Whole(*number).written(),
        }
    }

    fn schema() -> Value {
        json!({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": 512}]})
    }
}

/// Where the access log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AccessLog {
    Off,
    Path(String),
}

impl Scalar for AccessLog {
    const NAME: &'static str = "AccessLog";
    const EXPECTED: &'static str = "a path, or `off`";

    fn read(shape: &Shape) -> Option<Self> {
        match shape {
            Shape::Text(text) if text == "off" => Some(Self::Off),
            Shape::Text(text) if !text.is_empty() && !text.contains('\0') => Some(Self::Path(text.clone())),
            _ => None,
        }
    }

    fn written(&self) -> Value {
        match self {
            Self::Off => "off".into(),
            Self::Path(path) => path.as_str().into(),
        }
    }

    fn schema() -> Value {
        json!({"type": "string", "minLength": 1})
    }

    fn help(shape: &Shape) -> Option<String> {
        matches!(shape, Shape::Bool(false)).then(|| "write off".to_owned())
    }
}

impl Word for OnSharedFailure {
    const NAME: &'static str = "OnSharedFailure";
    const EXPECTED: &'static str = "`open` or `closed`";
    const WORDS: &'static [(&'static str, Self)] = &[("open", Self::Open), ("closed", Self::Closed)];
}

impl Word for Mode {
    const NAME: &'static str = "Mode";
    const EXPECTED: &'static str = "`development` or `production`";
    const WORDS: &'static [(&'static str, Self)] =
        &[("development", Self::Development), ("production", Self::Production)];
}

impl Word for LogFormat {
    const NAME: &'static str = "LogFormat";
    const EXPECTED: &'static str = "`text` or `json`";
    const WORDS: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}

impl Word for ConfigReload {
    const NAME: &'static str = "ConfigReload";
    const EXPECTED: &'static str = "`file` or `signal`";
    const WORDS: &'static [(&'static str, Self)] = &[("file", Self::File), ("signal", Self::Signal)];
}

impl Word for Builtin {
    const NAME: &'static str = "BuiltinService";
    const EXPECTED: &'static str = "`vrf`, `datafeed` or `oracle`";
    const WORDS: &'static [(&'static str, Self)] =
        &[("vrf", Self::Vrf), ("datafeed", Self::Datafeed), ("oracle", Self::Oracle)];
}

impl Word for Protocol {
    const NAME: &'static str = "Protocol";
    const EXPECTED: &'static str = "`http1`, `http2` or `grpc`";
    const WORDS: &'static [(&'static str, Self)] =
        &[("http1", Self::Http1), ("http2", Self::Http2), ("grpc", Self::Grpc)];
}

/// That nobody attests a service, said out loud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttestationWord {
    None,
}

impl Word for AttestationWord {
    const NAME: &'static str = "NoAttestation";
    const EXPECTED: &'static str = "`none` or a mapping";
    const WORDS: &'static [(&'static str, Self)] = &[("none", Self::None)];
}

/// That every machine is allowed, said out loud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AnyWord {
    Any,
}

impl Word for AnyWord {
    const NAME: &'static str = "AnyMachine";
    const EXPECTED: &'static str = "`any` or a list of hardware ids";
    const WORDS: &'static [(&'static str, Self)] = &[("any", Self::Any)];
}

impl Word for GenerateType {
    const NAME: &'static str = "SecretType";
    const EXPECTED: &'static str = "`ed25519`, `p256` or `random`";
    const WORDS: &'static [(&'static str, Self)] =
        &[("ed25519", Self::Ed25519), ("p256", Self::P256), ("random", Self::Random)];
}

impl Word for TokenAlgorithm {
    const NAME: &'static str = "TokenAlgorithm";
    const EXPECTED: &'static str = "`HS256`, `RS256`, `PS256`, `ES256` or `EdDSA`";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("HS256", Self::Hs256),
        ("RS256", Self::Rs256),
        ("PS256", Self::Ps256),
        ("ES256", Self::Es256),
        ("EdDSA", Self::EdDsa),
    ];
}

impl Scalar for TcbStatus {
    const NAME: &'static str = "TcbStatus";
    const EXPECTED: &'static str = "`UpToDate`, `SWHardeningNeeded`, `ConfigurationNeeded`, \
         `ConfigurationAndSWHardeningNeeded`, `OutOfDate` or `OutOfDateConfigurationNeeded`";

    fn read(shape: &Shape) -> Option<Self> {
        choice(shape, &Self::ALL.map(|status| (status.name(), status)))
    }

    fn written(&self) -> Value {
        self.name().into()
    }

    fn schema() -> Value {
        one_word_of(Self::ALL.iter().map(|status| status.name()))
    }

    fn help(shape: &Shape) -> Option<String> {
        match shape {
            Shape::Text(text) if text.eq_ignore_ascii_case("Revoked") => {
                Some("a platform whose keys are revoked is never accepted".to_owned())
            }
            _ => choice_help(shape, &Self::ALL.map(|status| (status.name(), status))),
        }
    }
}

/// What a health check speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CheckWord {
    Http,
    Tcp,
    Grpc,
}

impl Word for CheckWord {
    const NAME: &'static str = "CheckProtocol";
    const EXPECTED: &'static str = "`http`, `tcp` or `grpc`";
    const WORDS: &'static [(&'static str, Self)] =
        &[("http", Self::Http), ("tcp", Self::Tcp), ("grpc", Self::Grpc)];
}

/// How a replica is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PolicyWord {
    PeakEwma,
    RoundRobin,
    LeastRequest,
    Maglev,
    Random,
}

impl Word for PolicyWord {
    const NAME: &'static str = "BalancingPolicy";
    const EXPECTED: &'static str = "`peak-ewma`, `round-robin`, `least-request`, `maglev` or `random`";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("peak-ewma", Self::PeakEwma),
        ("round-robin", Self::RoundRobin),
        ("least-request", Self::LeastRequest),
        ("maglev", Self::Maglev),
        ("random", Self::Random),
    ];
}

/// How replicas of a new version take the place of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StrategyWord {
    Rolling,
    Canary,
    BlueGreen,
}

impl Word for StrategyWord {
    const NAME: &'static str = "RolloutStrategy";
    const EXPECTED: &'static str = "`rolling`, `canary` or `blueGreen`";
    const WORDS: &'static [(&'static str, Self)] =
        &[("rolling", Self::Rolling), ("canary", Self::Canary), ("blueGreen", Self::BlueGreen)];
}

/// When a version that stands ready has the calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AutoPromote {
    Never,
    After(Duration),
}

impl Scalar for AutoPromote {
    const NAME: &'static str = "AutoPromote";
    const EXPECTED: &'static str = "`never` or a duration such as 0s, 30s or 5m";

    fn read(shape: &Shape) -> Option<Self> {
        match shape {
            Shape::Text(text) if text == "never" => Some(Self::Never),
            shape => Duration::read(shape).map(Self::After),
        }
    }

    fn written(&self) -> Value {
        match self {
            Self::Never => "never".into(),
            Self::After(wait) => wait.written(),
        }
    }

    fn schema() -> Value {
        json!({"anyOf": [{"const": "never"}, Duration::schema()]})
    }

    fn help(shape: &Shape) -> Option<String> {
        match shape {
            Shape::Bool(false) => Some("write never".to_owned()),
            Shape::Text(text) if nearest(text, ["never"]).is_some() => {
                Some("did you mean `never`?".to_owned())
            }
            shape => Duration::help(shape),
        }
    }
}

/// A failure after which another try is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RetryCause {
    Connect,
    Reset,
    Status(u16),
}

const CAUSES: [(&str, RetryCause); 2] = [("connect", RetryCause::Connect), ("reset", RetryCause::Reset)];

impl Scalar for RetryCause {
    const NAME: &'static str = "RetryCause";
    const EXPECTED: &'static str = "`connect`, `reset` or a status from 500 to 599";

    fn read(shape: &Shape) -> Option<Self> {
        let status = match shape {
            Shape::Whole(number) => u16::try_from(*number).ok(),
            Shape::Text(text) if text.len() == 3 => text.parse().ok(),
            _ => None,
        };
        let status = status.filter(|status| (500..=599).contains(status)).map(Self::Status);
        status.or_else(|| choice(shape, &CAUSES))
    }

    fn written(&self) -> Value {
        match self {
            Self::Connect => "connect".into(),
            Self::Reset => "reset".into(),
            Self::Status(status) => (*status).into(),
        }
    }

    fn schema() -> Value {
        let status = json!({"type": "integer", "minimum": 500, "maximum": 599});
        json!({"anyOf": [status, text_of("^(connect|reset|5[0-9][0-9])$")]})
    }

    fn help(shape: &Shape) -> Option<String> {
        match shape {
            Shape::Text(text) if text == "timeout" => {
                Some("`reset` stands for a try that took too long, too".to_owned())
            }
            _ => choice_help(shape, &CAUSES),
        }
    }
}

impl Scalar for HashOn {
    const NAME: &'static str = "HashKey";
    const EXPECTED: &'static str = "`header:NAME`, `cookie:NAME`, `path:PARAMETER` or `caller`";

    fn read(shape: &Shape) -> Option<Self> {
        let Shape::Text(text) = shape else { return None };
        match text.split_once(':') {
            None if text == "caller" => Some(Self::Caller),
            Some(("header", name)) => header_name(name).map(Self::Header),
            Some(("cookie", name)) => cookie_name(name).map(Self::Cookie),
            Some(("path", name)) => parameter_name(name).map(Self::PathParameter),
            _ => None,
        }
    }

    fn written(&self) -> Value {
        match self {
            Self::Header(name) => format!("header:{name}").into(),
            Self::Cookie(name) => format!("cookie:{name}").into(),
            Self::PathParameter(name) => format!("path:{name}").into(),
            Self::Caller => "caller".into(),
        }
    }

    fn schema() -> Value {
        text_of("^(caller|(header|cookie|path):.+)$")
    }

    fn help(shape: &Shape) -> Option<String> {
        key_help(shape, &["header", "cookie", "path"])
    }
}

impl Scalar for Sticky {
    const NAME: &'static str = "StickyKey";
    const EXPECTED: &'static str = "`cookie:NAME`, `header:NAME` or `caller`";

    fn read(shape: &Shape) -> Option<Self> {
        let Shape::Text(text) = shape else { return None };
        match text.split_once(':') {
            None if text == "caller" => Some(Self::Caller),
            Some(("header", name)) => header_name(name).map(Self::Header),
            Some(("cookie", name)) => cookie_name(name).map(Self::Cookie),
            _ => None,
        }
    }

    fn written(&self) -> Value {
        match self {
            Self::Header(name) => format!("header:{name}").into(),
            Self::Cookie(name) => format!("cookie:{name}").into(),
            Self::Caller => "caller".into(),
        }
    }

    fn schema() -> Value {
        text_of("^(caller|(header|cookie):.+)$")
    }

    fn help(shape: &Shape) -> Option<String> {
        key_help(shape, &["cookie", "header"])
    }
}

/// The nearest beginning of `KIND:NAME`, or `caller`.
fn key_help(shape: &Shape, kinds: &[&str]) -> Option<String> {
    let Shape::Text(text) = shape else { return None };
    if let Some(help) = text.strip_prefix("header:").and_then(header_help) {
        return Some(help);
    }
    let Some((kind, name)) = text.split_once(':') else {
        let kind = nearest(text, kinds.iter().copied().chain(["caller"]))?;
        let meant = if kind == "caller" { kind.to_owned() } else { format!("{kind}:NAME") };
        return Some(format!("did you mean `{meant}`?"));
    };
    if kinds.contains(&kind) {
        return Some(format!("`{kind}:` is followed by a name of at most {MAX_NAME_BYTES} bytes"));
    }
    let kind = nearest(kind, kinds.iter().copied())?;
    Some(format!("did you mean {}?", quoted(&format!("{kind}:{name}"))))
}

/// The longest name of a header, a cookie or a parameter, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// Fields that belong to one connection and never to a message (RFC 9110, section 7.6.1): nothing is looked up by them.
const OF_CONNECTION: [&str; 9] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// The name of a header in lower case, as it is compared (RFC 9110, section 5.1); `None` for what is no such name.
pub(crate) fn header_name(name: &str) -> Option<String> {
    (is_short_token(name) && !is_of_connection(name)).then(|| name.to_ascii_lowercase())
}

/// Why a name that could be one of a header is none here.
pub(crate) fn header_help(name: &str) -> Option<String> {
    is_of_connection(name)
        .then(|| "this one belongs to each connection alone; name a header of the request itself".to_owned())
}

fn is_of_connection(name: &str) -> bool {
    OF_CONNECTION.iter().any(|own| own.eq_ignore_ascii_case(name))
}

/// The name of a cookie is a token as well (RFC 6265, section 4.1.1), and its case matters.
fn cookie_name(name: &str) -> Option<String> {
    is_short_token(name).then(|| name.to_owned())
}

fn parameter_name(name: &str) -> Option<String> {
    let word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    (word && (1..=MAX_NAME_BYTES).contains(&name.len())).then(|| name.to_owned())
}

fn is_short_token(text: &str) -> bool {
    is_token(text) && text.len() <= MAX_NAME_BYTES
}
