use serde_json::json;

use super::*;

/// What is told of a value, and in how many steps.
fn explained(schema: &Value, value: &Value) -> (Vec<String>, usize) {
    let program = Program::compile(schema, "").unwrap();
    let mut explaining = Explaining::of(&program);
    explaining.judge(Program::ROOT, value, &At::Root, Tell::Yes, &mut Looked::default());
    let told = explaining.told.listed.into_iter().map(|violation| violation.message).collect();
    (told, explaining.steps)
}

#[test]
fn nothing_is_told_of_what_was_broken_off() {
    let costly = json!({"items": {"const": 1}});
    let schema =
        json!({"minItems": 1_000_000, "not": costly, "oneOf": [true, costly], "if": costly, "then": false});
    let ones = json!(vec![1; 100_000]);
    let (told, steps) = explained(&schema, &ones);
    assert_eq!(told, ["must have at least 1000000 items"]);
    assert!(steps >= MAX_STEPS);
}

#[test]
fn explaining_ends_where_there_is_too_much_to_compare() {
    let unique = json!({"uniqueItems": true});
    let schema = json!({
        "maxItems": 1, "not": unique, "oneOf": [true, unique], "anyOf": [false, unique], "if": unique, "then": false, "contains": unique
    });
    let program = Program::compile(&schema, "").unwrap();
    let value = json!([["a", "b"], "long enough"]);
    let mut all = Vec::new();
    for most in [5, 1_000] {
        let told = exact::judging(most, || explain(&program, &value));
        let messages = told.listed.iter().map(|violation| violation.message.as_str());
        all.push(format!("{} {}", messages.collect::<Vec<_>>().join("; "), told.more));
    }
    assert_eq!(
        all,
        [
            "must have at most 1 item; holds too much in arrays whose items must differ: 16 MiB are compared at most true",
            "must have at most 1 item; must match only one of the alternatives; must not be what `not` describes; must not be there false"
        ]
    );
}
