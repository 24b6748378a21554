//! A word where a list or a mapping may stand as well: `attestation: none`, `allow: any`.

use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess};

use super::{Mismatch, Scalar, ShapeVisitor, read};

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
