//! Words out of a few, and the few that carry a name with them.

use types::Mode;

use super::{Scalar, Shape, quoted};
use crate::nearest::{nearest, one_of};
use crate::settings::{Builtin, ConfigReload, GenerateType, HashOn, LogFormat, Protocol, Sticky, TcbStatus};

/// A word out of a few. The nearest one is the help.
trait Word: Copy + 'static {
    /// Fits after "expected".
    const EXPECTED: &'static str;
    const WORDS: &'static [(&'static str, Self)];
}

impl<T: Word> Scalar for T {
    const EXPECTED: &'static str = T::EXPECTED;

    fn read(shape: &Shape) -> Option<Self> {
        choice(shape, T::WORDS)
    }

    fn help(shape: &Shape) -> Option<String> {
        choice_help(shape, T::WORDS)
    }
}

fn choice<T: Copy>(shape: &Shape, choices: &[(&str, T)]) -> Option<T> {
    let Shape::Text(text) = shape else { return None };
    choices.iter().find(|(word, _)| word == text).map(|(_, value)| *value)
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
    const EXPECTED: &'static str = "`auto` or a whole number from 1 to 512";

    fn read(shape: &Shape) -> Option<Self> {
        match shape {
            Shape::Whole(number) => Some(Self::Exactly(*number)),
            Shape::Text(text) if text == "auto" => Some(Self::OnePerCore),
            _ => None,
        }
    }
}

/// Where the access log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AccessLog {
    Off,
    Path(String),
}

impl Scalar for AccessLog {
    const EXPECTED: &'static str = "a path, or `off`";

    fn read(shape: &Shape) -> Option<Self> {
        match shape {
            Shape::Text(text) if text == "off" => Some(Self::Off),
            Shape::Text(text) if !text.is_empty() && !text.contains('\0') => Some(Self::Path(text.clone())),
            _ => None,
        }
    }

    fn help(shape: &Shape) -> Option<String> {
        matches!(shape, Shape::Bool(false)).then(|| "write off".to_owned())
    }
}

impl Word for Mode {
    const EXPECTED: &'static str = "`development` or `production`";
    const WORDS: &'static [(&'static str, Self)] =
        &[("development", Self::Development), ("production", Self::Production)];
}

impl Word for LogFormat {
    const EXPECTED: &'static str = "`text` or `json`";
    const WORDS: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}

impl Word for ConfigReload {
    const EXPECTED: &'static str = "`file` or `signal`";
    const WORDS: &'static [(&'static str, Self)] = &[("file", Self::File), ("signal", Self::Signal)];
}

impl Word for Builtin {
    const EXPECTED: &'static str = "`vrf`, `datafeed` or `oracle`";
    const WORDS: &'static [(&'static str, Self)] =
        &[("vrf", Self::Vrf), ("datafeed", Self::Datafeed), ("oracle", Self::Oracle)];
}

impl Word for Protocol {
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
    const EXPECTED: &'static str = "`none` or a mapping";
    const WORDS: &'static [(&'static str, Self)] = &[("none", Self::None)];
}

/// That every machine is allowed, said out loud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AnyWord {
    Any,
}

impl Word for AnyWord {
    const EXPECTED: &'static str = "`any` or a list of hardware ids";
    const WORDS: &'static [(&'static str, Self)] = &[("any", Self::Any)];
}

impl Word for GenerateType {
    const EXPECTED: &'static str = "`ed25519`, `p256` or `random`";
    const WORDS: &'static [(&'static str, Self)] =
        &[("ed25519", Self::Ed25519), ("p256", Self::P256), ("random", Self::Random)];
}

impl Scalar for TcbStatus {
    const EXPECTED: &'static str = "`UpToDate`, `SWHardeningNeeded`, `ConfigurationNeeded`, \
         `ConfigurationAndSWHardeningNeeded`, `OutOfDate` or `OutOfDateConfigurationNeeded`";

    fn read(shape: &Shape) -> Option<Self> {
        choice(shape, &Self::ALL.map(|status| (status.name(), status)))
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
    const EXPECTED: &'static str = "`peak-ewma`, `round-robin`, `least-request`, `maglev` or `random`";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("peak-ewma", Self::PeakEwma),
        ("round-robin", Self::RoundRobin),
        ("least-request", Self::LeastRequest),
        ("maglev", Self::Maglev),
        ("random", Self::Random),
    ];
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

    fn help(shape: &Shape) -> Option<String> {
        key_help(shape, &["header", "cookie", "path"])
    }
}

impl Scalar for Sticky {
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
    (is_token(name) && !is_of_connection(name)).then(|| name.to_ascii_lowercase())
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
    is_token(name).then(|| name.to_owned())
}

fn parameter_name(name: &str) -> Option<String> {
    let word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    (word && (1..=MAX_NAME_BYTES).contains(&name.len())).then(|| name.to_owned())
}

/// RFC 9110, section 5.6.2.
fn is_token(text: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    text.bytes().all(token) && (1..=MAX_NAME_BYTES).contains(&text.len())
}
