//! Single values of the file with the place where they stand.
//!
//! A value of the wrong type does not end the reading: it is kept as a [`Mismatch`], so that one report can name every
//! wrong value of the file.

mod values;
mod words;

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use crate::report::Origin;

pub(crate) use values::Whole;
pub(crate) use words::{
    AccessLog, AttestationWord, CheckWord, Mode, PolicyWord, RetryCause, Workers, header_help, header_name,
};

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
