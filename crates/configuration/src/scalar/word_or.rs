//! A word where a list or a mapping may stand as well: `attestation: none`, `allow: any`.

use std::borrow::Cow;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess};
use serde::ser::Serializer;

use super::{Field, Mismatch, Scalar, ShapeVisitor, read};

/// A word, or what is larger than one.
#[derive(Debug, Clone)]
pub(crate) enum WordOr<W, T> {
    Word(Result<W, Mismatch>),
    Larger(T),
}

/// A null stands for what is larger, with nothing in it.
impl<W, T: Default> Default for WordOr<W, T> {
    fn default() -> Self {
        Self::Larger(T::default())
    }
}

impl<'de, W: Scalar, T: Larger<'de>> Deserialize<'de> for WordOr<W, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (shape, larger) = deserializer.deserialize_any(ShapeVisitor::<T>(PhantomData))?;
        Ok(larger.map_or_else(|| Self::Word(read(&shape)), Self::Larger))
    }
}

impl<W: Scalar, T: Serialize> Serialize for WordOr<W, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Word(word) => word.as_ref().map(W::written).ok().serialize(serializer),
            Self::Larger(larger) => larger.serialize(serializer),
        }
    }
}

impl<W: Scalar, T: JsonSchema> JsonSchema for WordOr<W, T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("{}Or{}", W::NAME, T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [generator.subschema_for::<Field<W>>(), generator.subschema_for::<T>()]})
    }
}

/// What is made of a list or of a mapping. What is not meant is read to its end, since another mistake may stand behind it.
pub(crate) trait Larger<'de>: Sized {
    fn of_list<A: SeqAccess<'de>>(mut items: A) -> Result<Option<Self>, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn of_mapping<A: MapAccess<'de>>(mut entries: A) -> Result<Option<Self>, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

/// Of a single value nothing is larger.
#[derive(Debug, Clone)]
pub(crate) enum Neither {}

impl Larger<'_> for Neither {}

impl<'de, T: Deserialize<'de>> Larger<'de> for Vec<T> {
    fn of_list<A: SeqAccess<'de>>(mut items: A) -> Result<Option<Self>, A::Error> {
        let mut list = Self::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Some(list))
    }
}
