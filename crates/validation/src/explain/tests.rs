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
fn what_names_are_held_against_takes_steps() {
    let members = |count: usize| -> Value {
        let each = (0..count).map(|number| (format!("m{number}"), json!(1)));
        Value::Object(each.collect())
    };
    let schema = json!({"propertyNames": {"minLength": 1, "maxLength": 5}});
    assert_eq!(explained(&schema, &members(10)), (vec![], 1 + 10 * 3));
    let many: Vec<_> = (0..1_000).map(|number| json!({"maxLength": number + 10})).collect();
    let (_, steps) = explained(&json!({"propertyNames": {"allOf": many}}), &members(10_000));
    assert!((MAX_STEPS..MAX_STEPS + 1_000).contains(&steps), "no name is looked at after that: {steps}");
    let long = json!({ "n".repeat(256 * 1_000): 1 });
    let (_, steps) = explained(&json!({"propertyNames": {"minLength": 1}}), &long);
    assert_eq!(steps, 1 + 1_001 + 1_001, "a long name costs more, to be held and to be read");
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
