//! In what two manifests differ, for people.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::Value;

/// Differences that are shown; of more it is said how many there are.
const SHOWN: usize = 20;
/// The longest value that is shown, in characters.
const VALUE_CHARS: usize = 80;

/// A line for each place in which `wanted` is another than `known`.
pub(crate) fn differences(known: &Value, wanted: &Value) -> String {
    let mut found = Vec::new();
    compare("", known, wanted, &mut found);
    let mut text = found.iter().take(SHOWN).fold(String::new(), |mut text, line| {
        let _never_fails = writeln!(text, "  {line}").is_ok();
        text
    });
    if found.len() > SHOWN {
        let _never_fails = write!(text, "  and {} more", found.len() - SHOWN).is_ok();
    }
    text.trim_end().to_owned()
}

fn compare(place: &str, known: &Value, wanted: &Value, found: &mut Vec<String>) {
    match (known, wanted) {
        (Value::Object(known), Value::Object(wanted)) => {
            // In one order, whichever each of them has.
            let names: BTreeSet<_> = known.keys().chain(wanted.keys()).collect();
            for name in names {
                let inner = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
                let of =
                    |object: &serde_json::Map<String, Value>| object.get(name).cloned().unwrap_or_default();
                compare(&inner, &of(known), &of(wanted), found);
            }
        }
        (Value::Array(known), Value::Array(wanted)) if known.len() == wanted.len() => {
            for (number, (known, wanted)) in known.iter().zip(wanted).enumerate() {
                compare(&format!("{place}[{number}]"), known, wanted, found);
            }
        }
        (known, wanted) if known == wanted => {}
        (known, wanted) => {
            found.push(format!("{place}: {} in the mesh, {} here", shown(known), shown(wanted)));
        }
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        value => {
            let text = value.to_string();
            match text.char_indices().nth(VALUE_CHARS) {
                Some((end, _)) => format!("{}…", &text[..end]),
                None => text,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[test]
    fn each_place_that_differs_is_named() {
        let known = json!({"mode": "development", "services": {"vrf": {"config": "aa", "allow": ["oracle"]}, "a": {}}});
        let wanted =
            json!({"mode": "development", "services": {"vrf": {"config": "bb", "allow": []}, "b": {"n": 1}}});
        expect![[r#"
            they differ:
              services.a: {} in the mesh, nothing here
              services.b: nothing in the mesh, {"n":1} here
              services.vrf.allow: ["oracle"] in the mesh, [] here
              services.vrf.config: "aa" in the mesh, "bb" here"#]]
        .assert_eq(&format!("they differ:\n{}", differences(&known, &wanted)));
        assert_eq!(differences(&known, &known), "");
        let many = |value| (0..30).map(|number| (format!("k{number:02}"), json!(value))).collect::<Value>();
        let text = differences(&many("é".repeat(100)), &many(String::new()));
        assert!(text.ends_with("and 10 more") && text.contains('…'), "{text}");
    }
}
