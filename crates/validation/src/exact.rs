//! Keywords that are judged here and not by the library: those of numbers, by digits, and unique items, whose cost must not
//! depend on what a client chooses to send.

use std::cell::Cell;
use std::cmp::Ordering;
use std::collections::HashSet;

use jsonschema::paths::Location;
use jsonschema::{Keyword, ValidationError, ValidationOptions};
use serde_json::{Map, Number, Value};

use crate::decimal::{Decimal, MAX_DIVISOR_DIGITS, compare};

/// What all arrays of one body whose items must differ may have together, as text, in bytes. Where they stand in each other the inner
/// ones are written once for each.
const MAX_COMPARED_BYTES: usize = 16 << 20;

thread_local! {
    /// How much of that is left for the body that is judged.
    static LEFT_TO_COMPARE: Cell<usize> = const { Cell::new(MAX_COMPARED_BYTES) };
}

/// Another body is judged from now on, by this thread.
pub(crate) fn begin_body() {
    LEFT_TO_COMPARE.set(MAX_COMPARED_BYTES);
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
    !own.0 || are_unique(items)
});

fn are_unique(items: &[Value]) -> bool {
    if items.len() < 2 {
        return true;
    }
    let mut seen = HashSet::with_capacity(items.len());
    items.iter().all(|item| {
        let mut text = String::new();
        canonical(item, &mut text);
        // What is too much to be compared is refused.
        let left = LEFT_TO_COMPARE.get().saturating_sub(text.len());
        LEFT_TO_COMPARE.set(left);
        left > 0 && seen.insert(text)
    })
}

/// The same text for values that are equal as JSON Schema has it.
fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Number(number) => Decimal::of(number).write(out),
        Value::Array(items) => {
            out.push('[');
            for item in items {
                canonical(item, out);
                out.push(',');
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            out.push('{');
            for (name, member) in members {
                out.push_str(&Value::String(name.clone()).to_string());
                out.push(':');
                canonical(member, out);
                out.push(',');
            }
            out.push('}');
        }
        plain => out.push_str(&plain.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_unique_unless_two_are_the_same_value() {
        let unique = |text: &str| match serde_json::from_str(text).unwrap() {
            Value::Array(items) => are_unique(&items),
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
