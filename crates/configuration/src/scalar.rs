//! Single values of the file with the place where they stand.
//!
//! A value of the wrong type does not end the reading: it is kept as a [`Mismatch`], so that one report can name every
//! wrong value of the file.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use types::ByteSize;

use crate::nearest::{nearest, one_of};
use crate::report::Origin;
use crate::settings::{Builtin, LogFormat};
use types::duration;

/// A typed value, or what stood in its place.
#[derive(Debug, Clone)]
pub(crate) struct Field<T> {
    pub(crate) value: Result<T, Mismatch>,
    pub(crate) origin: Origin,
}

/// What was found where something else was expected.
#[derive(Debug, Clone)]
pub(crate) struct Mismatch {
    pub(crate) found: String,
    pub(crate) help: Option<String>,
}

impl<T> Field<T> {
    /// A value that the file leaves out.
    pub(crate) fn default_of(value: T) -> Self {
        Self { value: Ok(value), origin: Origin::Default }
    }

    /// A value from the command line.
    pub(crate) fn flag(value: T, flag: &'static str) -> Self {
        Self { value: Ok(value), origin: Origin::Flag(flag) }
    }
}

impl<'de, T: Scalar> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Shape>::deserialize(deserializer)?;
        let shape = spanned.value;
        let value =
            T::read(&shape).ok_or_else(|| Mismatch { found: shape.to_string(), help: T::help(&shape) });
        Ok(Self { value, origin: spanned.referenced.into() })
    }
}

/// Text as it is written: `1.10` stays `1.10`.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    pub(crate) value: String,
    pub(crate) origin: Origin,
}

impl Text {
    pub(crate) fn default_of(value: &str) -> Self {
        Self { value: value.to_owned(), origin: Origin::Default }
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<String>::deserialize(deserializer)?;
        Ok(Self { value: spanned.value, origin: spanned.referenced.into() })
    }
}

/// A value that a [`Field`] can hold.
pub(crate) trait Scalar: Sized {
    /// Fits after "expected".
    const EXPECTED: &'static str;

    fn read(shape: &Shape) -> Option<Self>;

    /// What to write instead, where the shape gives it away.
    fn help(_shape: &Shape) -> Option<String> {
        None
    }
}

/// What stands in the file, before anybody expects anything.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shape {
    Nothing,
    Bool(bool),
    Whole(i128),
    Fraction(f64),
    Text(String),
    List,
    Mapping,
}

impl fmt::Display for Shape {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => formatter.write_str("nothing"),
            Self::Bool(value) => write!(formatter, "`{value}`"),
            Self::Whole(value) => write!(formatter, "`{value}`"),
            Self::Fraction(value) => write!(formatter, "`{value:?}`"),
            Self::Text(text) => formatter.write_str(&quoted(text)),
            Self::List => formatter.write_str("a list"),
            Self::Mapping => formatter.write_str("a mapping"),
        }
    }
}

/// Text of the file in backticks, cut to what fits on a line.
pub(crate) fn quoted(text: &str) -> String {
    const MAX_CHARS: usize = 60;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("`{}…`", &text[..end]),
        None => format!("`{text}`"),
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Shape, E> {
        Ok(Shape::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Shape, E> {
        Ok(Shape::Whole(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Shape, E> {
        Ok(Shape::Whole(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Shape, E> {
        Ok(Shape::Whole(value))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Shape, E> {
        Ok(Shape::Whole(i128::try_from(value).unwrap_or(i128::MAX)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Shape, E> {
        Ok(Shape::Fraction(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Shape, E> {
        Ok(Shape::Text(text.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Nothing)
    }

    fn visit_none<E>(self) -> Result<Shape, E> {
        Ok(Shape::Nothing)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Shape, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Shape::List)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Shape, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Shape::Mapping)
    }
}

/// A whole number of any size; its range is the check's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Whole(pub(crate) i128);

impl Scalar for Whole {
    const EXPECTED: &'static str = "a whole number";

    fn read(shape: &Shape) -> Option<Self> {
        if let Shape::Whole(value) = shape { Some(Self(*value)) } else { None }
    }

    fn help(shape: &Shape) -> Option<String> {
        let Shape::Text(text) = shape else { return None };
        text.parse::<i128>().ok().map(|number| format!("take the quotes off: {number}"))
    }
}

impl Scalar for bool {
    const EXPECTED: &'static str = "true or false";

    fn read(shape: &Shape) -> Option<Self> {
        if let Shape::Bool(value) = shape { Some(*value) } else { None }
    }

    fn help(shape: &Shape) -> Option<String> {
        let Shape::Text(text) = shape else { return None };
        match text.to_ascii_lowercase().as_str() {
            "yes" | "on" | "y" | "true" => Some("write true".to_owned()),
            "no" | "off" | "n" | "false" => Some("write false".to_owned()),
            _ => None,
        }
    }
}

impl Scalar for Duration {
    const EXPECTED: &'static str = "a duration such as 500ms, 10s or 5m";

    fn read(shape: &Shape) -> Option<Self> {
        if let Shape::Text(text) = shape { duration::parse(text) } else { None }
    }

    fn help(shape: &Shape) -> Option<String> {
        let units = "the units are ms, s, m, h and d, the largest first, as in 1m30s";
        match shape {
            Shape::Whole(number @ 0..) => {
                Some(format!("add a unit: {number}s for seconds, {number}ms for milliseconds"))
            }
            Shape::Text(_) | Shape::Fraction(_) | Shape::Whole(_) => Some(units.to_owned()),
            _ => None,
        }
    }
}

impl Scalar for ByteSize {
    const EXPECTED: &'static str = "a size such as 512B, 64KiB or 1MiB";

    fn read(shape: &Shape) -> Option<Self> {
        if let Shape::Text(text) = shape { text.parse().ok() } else { None }
    }

    fn help(shape: &Shape) -> Option<String> {
        match shape {
            Shape::Whole(number @ 0..) => {
                Some(format!("add a unit: {number}B for bytes, {number}KiB for 1,024 bytes each"))
            }
            Shape::Text(_) => {
                Some("the units are B, KiB, MiB and GiB, right after a whole number".to_owned())
            }
            _ => None,
        }
    }
}

impl Scalar for SocketAddr {
    const EXPECTED: &'static str = "an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080";

    fn read(shape: &Shape) -> Option<Self> {
        if let Shape::Text(text) = shape { text.parse().ok() } else { None }
    }

    fn help(shape: &Shape) -> Option<String> {
        match shape {
            Shape::Whole(port @ 0..=65_535) => Some(format!("write \"127.0.0.1:{port}\"")),
            Shape::Text(text) => {
                let port = text.strip_prefix("localhost:").or_else(|| text.strip_prefix(':'))?;
                port.parse::<u16>().ok().map(|port| format!("write \"127.0.0.1:{port}\""))
            }
            _ => None,
        }
    }
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

/// The trust in which the mesh runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Development,
    Production,
}

/// A word out of a few.
fn choice<T: Copy>(shape: &Shape, choices: &[(&str, T)]) -> Option<T> {
    let Shape::Text(text) = shape else { return None };
    choices.iter().find(|(word, _)| word == text).map(|(_, value)| *value)
}

fn choice_help<T>(shape: &Shape, choices: &[(&str, T)]) -> Option<String> {
    let Shape::Text(text) = shape else { return None };
    nearest(text, choices.iter().map(|(word, _)| *word))
        .map(|word| format!("did you mean {}?", one_of(&[word])))
}

const MODES: [(&str, Mode); 2] = [("development", Mode::Development), ("production", Mode::Production)];

impl Scalar for Mode {
    const EXPECTED: &'static str = "`development`";

    fn read(shape: &Shape) -> Option<Self> {
        choice(shape, &MODES)
    }

    fn help(shape: &Shape) -> Option<String> {
        choice_help(shape, &MODES[..1])
    }
}

const LOG_FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];

impl Scalar for LogFormat {
    const EXPECTED: &'static str = "`text` or `json`";

    fn read(shape: &Shape) -> Option<Self> {
        choice(shape, &LOG_FORMATS)
    }

    fn help(shape: &Shape) -> Option<String> {
        choice_help(shape, &LOG_FORMATS)
    }
}

impl Scalar for Builtin {
    const EXPECTED: &'static str = "`vrf`, `datafeed` or `oracle`";

    fn read(shape: &Shape) -> Option<Self> {
        choice(shape, &Builtin::ALL.map(|builtin| (builtin.name(), builtin)))
    }

    fn help(shape: &Shape) -> Option<String> {
        choice_help(shape, &Builtin::ALL.map(|builtin| (builtin.name(), builtin)))
    }
}
