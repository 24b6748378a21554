//! In what two JSON documents differ: the places, and what stands there in each. How that is shown is for whoever asks.

use std::collections::BTreeSet;

use serde_json::Value;

/// A longer key is cut where a place is named, in characters: documents hold keys of any length.
const MAX_KEY_CHARS: usize = 100;

/// One step of the way to a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// Into an object.
    Key(&'a str),
    /// Into an array, from 0.
    Item(usize),
}

/// One place in which two documents differ.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference<'a> {
    /// The way to it.
    pub path: Vec<Step<'a>>,
    /// What stands there in the first, if anything does.
    pub before: Option<&'a Value>,
    /// What stands there in the second.
    pub after: Option<&'a Value>,
}

/// Every place in which `after` is another than `before`, in the order of the keys. Lists are compared item by item where they
/// have mappings, and else as a whole.
pub fn differences<'a>(before: &'a Value, after: &'a Value) -> Vec<Difference<'a>> {
    let mut found = Vec::new();
    compare(&mut Vec::new(), Some(before), Some(after), &mut found);
    found
}

fn compare<'a>(
    path: &mut Vec<Step<'a>>,
    before: Option<&'a Value>,
    after: Option<&'a Value>,
    found: &mut Vec<Difference<'a>>,
) {
    match (before, after) {
        (Some(before), Some(after)) if before == after => {}
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            for key in keys {
                path.push(Step::Key(key));
                compare(path, before.get(key), after.get(key), found);
                path.pop();
            }
        }
        (Some(Value::Array(before)), Some(Value::Array(after)))
            if before.iter().chain(after).any(Value::is_object) =>
        {
            compare_items(path, before, after, found);
        }
        _ => found.push(Difference { path: path.clone(), before, after }),
    }
}

/// Whatever both lists begin and end with is the same, however many items stand between.
fn compare_items<'a>(
    path: &mut Vec<Step<'a>>,
    before: &'a [Value],
    after: &'a [Value],
    found: &mut Vec<Difference<'a>>,
) {
    let same = before.iter().zip(after).take_while(|(before, after)| before == after).count();
    let (before, after) = (&before[same..], &after[same..]);
    let pairs = before.iter().rev().zip(after.iter().rev());
    let same_end = pairs.take_while(|(before, after)| before == after).count();
    let (before, after) = (&before[..before.len() - same_end], &after[..after.len() - same_end]);
    for item in 0..before.len().max(after.len()) {
        path.push(Step::Item(same + item));
        compare(path, before.get(item), after.get(item), found);
        path.pop();
    }
}

/// A place as it is written: `services.vrf.routes[0].timeout`.
pub fn place(path: &[Step<'_>]) -> String {
    let mut name = String::new();
    for step in path {
        match step {
            Step::Item(index) => name.push_str(&format!("[{index}]")),
            Step::Key(key) if is_plain(key) => {
                let dot = if name.is_empty() { "" } else { "." };
                name.push_str(&format!("{dot}{}", cut(key, MAX_KEY_CHARS)));
            }
            Step::Key(key) => name.push_str(&format!("[{}]", Value::from(cut(key, MAX_KEY_CHARS)))),
        }
    }
    name
}

fn is_plain(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// A text of at most so many characters, and a sign where it was longer.
pub fn cut(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn places(before: &Value, after: &Value) -> Vec<String> {
        differences(before, after).iter().map(|found| place(&found.path)).collect()
    }

    #[test]
    fn each_place_that_differs_is_named_once() {
        let before =
            json!({"b": [{"n": 1}, {"n": 2}], "a": {"x y": 1, "same": []}, "list": [1, 2], "gone": null});
        let after = json!({"a": {"x y": 2, "same": []}, "b": [{"n": 0}, {"n": 1}, {"n": 2}], "list": [1]});
        assert_eq!(places(&before, &after), [r#"a["x y"]"#, "b[0]", "gone", "list"]);
        assert_eq!(places(&before, &before), [""; 0]);
        assert_eq!(places(&json!(1), &json!(2)), [""]);
    }

    #[test]
    fn a_key_of_any_length_makes_a_place_that_can_be_read() {
        let long = |letter: &str| json!({ (letter.repeat(1000)): {"n": 1}});
        for (letter, longest) in [("k", 110), ("é", 220)] {
            let places = places(&json!({}), &long(letter));
            assert!(places[0].len() <= longest && places[0].contains('…'), "{places:?}");
        }
    }
}
