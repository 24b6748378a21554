//! Keywords that are judged here and not by the library: those of numbers, by digits, and unique items, whose cost must not
//! depend on what a client chooses to send.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use jsonschema::paths::Location;
use jsonschema::{Keyword, ValidationError, ValidationOptions};
use serde_json::{Map, Number, Value};

use crate::decimal::{Decimal, MAX_DIVISOR_DIGITS, compare};

/// What all arrays of one body whose items must differ may have together, as text, in bytes. Where they stand in each other the inner
/// ones are written once for each.
pub(crate) const MAX_COMPARED_BYTES: usize = 16 << 20;

thread_local! {
    /// Of the body that is judged.
    static COMPARED: RefCell<Compared> = RefCell::default();
}

/// What was compared of one body.
#[derive(Default)]
struct Compared {
    /// What may be.
    most: usize,
    /// What was written for it, in bytes.
    written: usize,
    /// Whether the items of arrays differ, by where those have them: it is compared once, however many schemas ask.
    known: HashMap<*const Value, bool>,
    is_too_much: bool,
}

/// Judges one body, of which so many bytes are compared at most: [`MAX_COMPARED_BYTES`]. The body must stay where it is until then.
pub(crate) fn judging<T>(most: usize, judge: impl FnOnce() -> T) -> T {
    COMPARED.set(Compared { most, ..Compared::default() });
    let judged = judge();
    COMPARED.take();
    judged
}

/// Whether the body that is judged has more to compare than is compared. What `uniqueItems` has said since then is worth nothing, nor
/// is what others made of it: such a body is refused as a whole.
pub(crate) fn is_too_much() -> bool {
    COMPARED.with_borrow(|compared| compared.is_too_much)
}

/// What was written of the body that is judged, in bytes.
#[cfg(test)]
pub(crate) fn compared_bytes() -> usize {
    COMPARED.with_borrow(|compared| compared.written)
}

/// The options with these keywords in the place of the library's.
pub(crate) fn with_keywords(options: ValidationOptions<'static>) -> ValidationOptions<'static> {
    options
        .with_keyword("minimum", |_, limit, _| bound(limit, |found| found != Ordering::Less))
        .with_keyword("maximum", |_, limit, _| bound(limit, |found| found != Ordering::Greater))
        .with_keyword("exclusiveMinimum", |_, limit, _| bound(limit, |found| found == Ordering::Greater))
        .with_keyword("exclusiveMaximum", |_, limit, _| bound(limit, |found| found == Ordering::Less))
        .with_keyword("multipleOf", multiple_of)
        .with_keyword("uniqueItems", |_, wanted, _| {
            Ok(Box::new(Unique(*wanted == Value::Bool(true))) as Box<dyn for<'i> Keyword<'i>>)
        })
}

type Compiled<'a> = Result<Box<dyn for<'i> Keyword<'i>>, ValidationError<'a>>;

fn bound(limit: &Value, allows: fn(Ordering) -> bool) -> Compiled<'_> {
    let Value::Number(limit) = limit else { return Err(ValidationError::schema("a number is expected")) };
    Ok(Box::new(Bound { limit: limit.clone(), small: limit.as_i64(), allows }))
}

fn multiple_of<'a>(_: &'a Map<String, Value>, divisor: &'a Value, _: Location) -> Compiled<'a> {
    let Value::Number(divisor) = divisor else { return Err(ValidationError::schema("a number is expected")) };
    let exact = Decimal::of(divisor);
    if !exact.is_usable_divisor() {
        let message = format!("a number of at most {MAX_DIVISOR_DIGITS} digits is expected");
        return Err(ValidationError::schema(message));
    }
    Ok(Box::new(MultipleOf { small: divisor.as_i64(), exact }))
}

struct Bound {
    limit: Number,
    small: Option<i64>,
    allows: fn(Ordering) -> bool,
}

struct MultipleOf {
    small: Option<i64>,
    exact: Decimal,
}

struct Unique(bool);

/// What the library asks of a keyword; nobody reads its message, since `explain` has words of its own.
macro_rules! keyword {
    ($name:ty, $is_valid:expr) => {
        impl<'i> Keyword<'i> for $name {
            fn validate(&self, instance: &'i Value) -> Result<(), ValidationError<'i>> {
                if Keyword::is_valid(self, instance) {
                    Ok(())
                } else {
                    Err(ValidationError::custom("refused"))
                }
            }

            fn is_valid(&self, instance: &'i Value) -> bool {
                let is_valid: fn(&Self, &Value) -> bool = $is_valid;
                is_valid(self, instance)
            }
        }
    };
}

keyword!(Bound, |own, value| {
    let Value::Number(number) = value else { return true };
    (own.allows)(match (number.as_i64(), own.small) {
        (Some(number), Some(limit)) => number.cmp(&limit),
        _ => compare(number, &own.limit),
    })
});

keyword!(MultipleOf, |own, value| {
    let Value::Number(number) = value else { return true };
    match (number.as_i64(), own.small) {
        (Some(number), Some(divisor)) => number % divisor == 0,
        _ => Decimal::of(number).is_multiple_of(&own.exact),
    }
});

keyword!(Unique, |own, value| {
    let Value::Array(items) = value else { return true };
    !own.0 || COMPARED.with_borrow_mut(|compared| compared.are_unique(items))
});

impl Compared {
    fn are_unique(&mut self, items: &[Value]) -> bool {
        if self.is_too_much || items.len() < 2 {
            return !self.is_too_much;
        }
        if let Some(known) = self.known.get(&items.as_ptr()) {
            return *known;
        }
        let mut seen = HashSet::with_capacity(items.len());
        let are_unique = items.iter().all(|item| self.text(item).is_some_and(|text| seen.insert(text)));
        if !self.is_too_much {
            self.known.insert(items.as_ptr(), are_unique);
        }
        are_unique
    }

    /// What an item is compared by; `None` once that is too much.
    fn text(&mut self, item: &Value) -> Option<String> {
        let mut text = String::new();
        let is_whole = write(item, self.most.saturating_sub(self.written), &mut text).is_some();
        self.written += text.len();
        self.is_too_much = !is_whole;
        is_whole.then_some(text)
    }
}

/// The same text for values that are equal as JSON Schema has it. `None` as soon as it is longer than `most`, by no more than a number.
fn write(value: &Value, most: usize, out: &mut String) -> Option<()> {
    match value {
        Value::Null => out.push('n'),
        Value::Bool(is_true) => out.push(if *is_true { 't' } else { 'f' }),
        Value::Number(number) => Decimal::of(number).write(out),
        Value::String(text) => write_text(text, most, out)?,
        Value::Array(items) => {
            out.push('[');
            for item in items {
                write(item, most, out)?;
                out.push(',');
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            out.push('{');
            for (name, member) in members {
                write_text(name, most, out)?;
                write(member, most, out)?;
                out.push(',');
            }
            out.push('}');
        }
    }
    (out.len() <= most).then_some(())
}

/// With its length before it, no text is the beginning of another.
fn write_text(text: &str, most: usize, out: &mut String) -> Option<()> {
    out.push('"');
    out.push_str(&text.len().to_string());
    out.push('"');
    if out.len() + text.len() > most {
        return None;
    }
    out.push_str(text);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_unique_unless_two_are_the_same_value() {
        let unique = |text: &str| match serde_json::from_str(text).unwrap() {
            Value::Array(items) => judging(MAX_COMPARED_BYTES, || {
                COMPARED.with_borrow_mut(|compared| compared.are_unique(&items))
            }),
            _ => unreachable!(),
        };
        for text in [
            r#"[1,"1",true,null,"true",[1],[[1]],{"a":1},{"a":2},{"a":1,"b":1},[],{},"",[1,2],[12],0.1,1e400,2e400]"#,
            r#"["a,","a",["a","b"],["a\",\"b"]]"#,
        ] {
            assert!(unique(text), "{text}");
        }
        for text in
            ["[1,1.0]", "[100,1e2]", "[0,-0]", r#"[{"a":1,"b":[2]},{"b":[2.0],"a":1}]"#, r#"["a","\u0061"]"#]
        {
            assert!(!unique(text), "{text}");
        }
    }
}
