//! Single values of the file with the place where they stand.
//!
//! A value of the wrong type does not end the reading: it is kept as a [`Mismatch`], so that one report can name every
//! wrong value of the file.

mod spanned;
mod stores;
mod values;
mod word_or;
mod words;

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::Serializer;
use serde_json::{Value, json};

use crate::report::Origin;

pub(crate) use spanned::Spanned;
pub(crate) use stores::{RedisUrl, StoreWord};
pub(crate) use values::{Ratio, Whole};
pub(crate) use word_or::{Larger, Neither, WordOr};
pub(crate) use words::{
    AccessLog, AnyWord, AttestationWord, AutoPromote, CheckWord, PolicyWord, RetryCause, StrategyWord,
    Workers, header_help, header_name,
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
        Ok(Self { value: read(&spanned.value), origin: spanned.referenced.into() })
    }
}

fn read<T: Scalar>(shape: &Shape) -> Result<T, Mismatch> {
    T::read(shape).ok_or_else(|| Mismatch { found: shape.to_string(), help: T::help(shape) })
}

/// What is wrong has no meaning, and is refused by the check.
impl<T: Scalar> Serialize for Field<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.as_ref().map(T::written).ok().serialize(serializer)
    }
}

impl<T: Scalar> JsonSchema for Field<T> {
    fn schema_name() -> Cow<'static, str> {
        T::NAME.into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        let mut schema = json_schema!({"description": T::EXPECTED});
        if let Value::Object(keys) = T::schema() {
            schema.ensure_object().extend(keys);
        }
        schema
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

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl JsonSchema for Text {
    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"description": "text as it is written: 1.10 stays 1.10", "type": ["string", "number", "boolean"]})
    }
}

/// A value that a [`Field`] can hold.
pub(crate) trait Scalar: Sized {
    /// What the schema calls it.
    const NAME: &'static str;
    /// Fits after "expected".
    const EXPECTED: &'static str;

    fn read(shape: &Shape) -> Option<Self>;

    /// One way to write it: what means the same is the same.
    fn written(&self) -> Value;

    /// What may stand in the file, as JSON Schema.
    fn schema() -> Value;

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
        let (shape, _) = deserializer.deserialize_any(ShapeVisitor::<Neither>(PhantomData))?;
        Ok(shape)
    }
}

/// Reads any value; of a list or a mapping it keeps what `T` makes of it.
struct ShapeVisitor<T>(PhantomData<T>);

impl<'de, T: Larger<'de>> Visitor<'de> for ShapeVisitor<T> {
    type Value = (Shape, Option<T>);

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok((Shape::Bool(value), None))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok((Shape::Whole(value.into()), None))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok((Shape::Whole(value.into()), None))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Self::Value, E> {
        Ok((Shape::Whole(value), None))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Self::Value, E> {
        Ok((Shape::Whole(i128::try_from(value).unwrap_or(i128::MAX)), None))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok((Shape::Fraction(value), None))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok((Shape::Text(text.to_owned()), None))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok((Shape::Nothing, None))
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok((Shape::Nothing, None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
        Ok((Shape::List, T::of_list(items)?))
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Self::Value, A::Error> {
        Ok((Shape::Mapping, T::of_mapping(entries)?))
    }
}

/// Text of such a pattern.
fn text_of(pattern: &str) -> Value {
    json!({"type": "string", "pattern": pattern})
}
