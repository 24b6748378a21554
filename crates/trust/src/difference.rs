//! In what two manifests differ, for people.

use std::fmt::Write;

use serde_json::Value;
use types::difference::{self, Difference, cut, place};

/// Differences that are shown; of more it is said how many there are.
const SHOWN: usize = 20;
/// The longest value that is shown, in characters.
const VALUE_CHARS: usize = 80;

/// A line for each place in which `wanted` is another than `known`.
pub(crate) fn differences(known: &Value, wanted: &Value) -> String {
    let mut found = difference::differences(known, wanted);
    found.retain(|found| !(is_nothing(found.before) && is_nothing(found.after)));
    let mut text = found.iter().take(SHOWN).map(line).fold(String::new(), |mut text, line| {
        let _never_fails = writeln!(text, "  {line}").is_ok();
        text
    });
    if found.len() > SHOWN {
        let _never_fails = write!(text, "  and {} more", found.len() - SHOWN).is_ok();
    }
    text.trim_end().to_owned()
}

fn line(found: &Difference<'_>) -> String {
    let Difference { path, before, after } = found;
    format!("{}: {} in the mesh, {} here", place(path), shown(*before), shown(*after))
}

fn shown(value: Option<&Value>) -> String {
    let value = value.filter(|value| !value.is_null());
    value.map_or_else(|| "nothing".to_owned(), |value| cut(&value.to_string(), VALUE_CHARS))
}

/// What is left out and what is null are the same.
fn is_nothing(value: Option<&Value>) -> bool {
    value.is_none_or(Value::is_null)
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
