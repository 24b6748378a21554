use std::fmt::Write;

use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::violation::{MAX_ALTERNATIVES, MAX_VIOLATIONS, Place};

fn check(schema: &Value, body: &Value, expected: Expect) {
    expected.assert_eq(&listed(&Schema::compile(schema).unwrap().check(body)));
}

fn listed(violations: &Violations) -> String {
    let mut text = String::new();
    for violation in &violations.listed {
        let Place::Body(pointer) = &violation.place else { panic!("{violation:?}") };
        writeln!(text, "{pointer:?} {} ({})", violation.message, violation.schema).unwrap();
        for other in &violation.alternatives {
            let Place::Body(pointer) = &other.place else { panic!("{other:?}") };
            writeln!(text, "  or: {pointer:?} {} ({})", other.message, other.schema).unwrap();
        }
    }
    if violations.more {
        text.push_str("and more\n");
    }
    text
}

#[test]
fn every_violation_is_told_with_its_place_and_its_keyword() {
    let schema = json!({
        "type": "object",
        "required": ["min", "max", "kind"],
        "properties": {
            "min": {"type": "integer", "minimum": 0},
            "max": {"$ref": "#/$defs/number"},
            "kind": {"enum": ["coin", "die"]},
            "tags": {"type": "array", "items": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 3}, "uniqueItems": true, "maxItems": 3},
            "a/b~c": {"const": 1},
            "odd": {"oneOf": [{"type": "integer"}, {"multipleOf": 0.5}]},
            "either": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "no": {"not": {"type": "string"}},
            "if": {"if": {"type": "integer"}, "then": {"maximum": 5}, "else": {"type": "string"}}
        },
        "additionalProperties": false,
        "dependentRequired": {"min": ["unit"]},
        "$defs": {"number": {"type": ["number", "null"], "exclusiveMaximum": 10}}
    });
    let body = json!({
        "min": -1.5, "max": "secret", "tags": ["a", "B", "abcd", "a"], "a/b~c": 2, "odd": 2, "either": 3, "no": "x", "if": 9,
        "other": true
    });
    check(
        &schema,
        &body,
        expect![[r#"
            "" must have the member "kind" (/required)
            "" must have the member "unit" (/dependentRequired)
            "/min" must be an integer (/properties/min/type)
            "/min" must be at least 0 (/properties/min/minimum)
            "/max" must be a number or null (/$defs/number/type)
            "/tags" must have at most 3 items (/properties/tags/maxItems)
            "/tags" must not have the same item twice (/properties/tags/uniqueItems)
            "/tags/1" must match the pattern ^[a-z]+$ (/properties/tags/items/pattern)
            "/tags/2" must have at most 3 characters (/properties/tags/items/maxLength)
            "/a~1b~0c" must be 1 (/properties/a~1b~0c/const)
            "/odd" must match only one of the alternatives (/properties/odd/oneOf)
            "/either" must match at least one of the alternatives (/properties/either/anyOf)
              or: "/either" must be a string (/properties/either/anyOf/0/type)
              or: "/either" must be null (/properties/either/anyOf/1/type)
            "/no" must not be what `not` describes (/properties/no/not)
            "/if" must be at most 5 (/properties/if/then/maximum)
            "/other" must not be there (/additionalProperties)
        "#]],
    );
}

#[test]
fn what_no_keyword_has_looked_at_is_told_too() {
    let schema = json!({
        "allOf": [{"properties": {"a": {"type": "integer"}}}, {"$ref": "#/$defs/b"}],
        "unevaluatedProperties": false,
        "$defs": {"b": {"properties": {"b": true, "list": {"prefixItems": [{"type": "string"}], "contains": {"type": "null"}, "unevaluatedItems": false}}}}
    });
    check(
        &schema,
        &json!({"a": 1, "b": 2, "list": ["a", null, 5]}),
        expect![[r#"
        "/list/2" must not be there (/$defs/b/properties/list/unevaluatedItems)
    "#]],
    );
    check(
        &schema,
        &json!({"a": 1, "c": 2, "list": ["a"]}),
        expect![[r#"
        "/list" must have more items that match `contains` (/$defs/b/properties/list/contains)
    "#]],
    );
}

#[test]
fn of_alternatives_it_is_told_what_is_wrong_with_the_first_of_them() {
    let kind = |name: &str, more: &Value| json!({"type": "object", "required": ["kind", "size"], "properties": {"kind": {"const": name}, "of": more}});
    let either = json!({"oneOf": [{"type": "null"}, {"$ref": "#/$defs/leaf"}]});
    let kinds: Vec<_> = ["leaf", "node", "fork", "tree", "wood"].map(|name| kind(name, &either)).into();
    let schema = json!({"anyOf": kinds, "$defs": {"leaf": kind("leaf", &json!({}))}});
    check(
        &schema,
        &json!([]),
        expect![[r#"
        "" must match at least one of the alternatives (/anyOf)
          or: "" must be an object (/anyOf/0/type)
          or: "" must be an object (/anyOf/1/type)
          or: "" must be an object (/anyOf/2/type)
          or: "" must be an object (/anyOf/3/type)
    "#]],
    );
    check(
        &schema,
        &json!({"kind": "fork", "of": {"kind": 1}, "size": 1}),
        expect![[r#"
        "" must match at least one of the alternatives (/anyOf)
          or: "/kind" must be "leaf" (/anyOf/0/properties/kind/const)
          or: "/kind" must be "node" (/anyOf/1/properties/kind/const)
          or: "/of" must match one of the alternatives (/anyOf/2/properties/of/oneOf)
          or: "/kind" must be "tree" (/anyOf/3/properties/kind/const)
    "#]],
    );
    check(
        &json!({"properties": {"a": either}, "$defs": schema["$defs"]}),
        &json!({"a": {"kind": "x"}}),
        expect![[r#"
            "/a" must match one of the alternatives (/properties/a/oneOf)
              or: "/a" must be null (/properties/a/oneOf/0/type)
              or: "/a" must have the member "size" (/$defs/leaf/required)
        "#]],
    );
    let many =
        Schema::compile(&json!({"items": {"anyOf": [{"type": "null"}, false, {"const": 1}]}})).unwrap();
    let told = many.check(&json!(vec!["secret"; 1_000]));
    let alternatives: usize = told.listed.iter().map(|violation| violation.alternatives.len()).sum();
    assert_eq!((told.listed.len(), told.more, alternatives), (MAX_VIOLATIONS, true, MAX_VIOLATIONS));
}

#[test]
fn nothing_of_a_body_is_repeated_and_no_more_is_told_than_the_bound() {
    let schema =
        Schema::compile(&json!({"items": {"type": "integer"}, "additionalProperties": {"maxLength": 1}}))
            .unwrap();
    let many = schema.check(&json!(vec!["secret"; 100_000]));
    assert_eq!((many.listed.len(), many.more), (MAX_VIOLATIONS, true));
    assert!(!format!("{many:?}").contains("secret"));
    let exactly = schema.check(&json!(vec!["secret"; MAX_VIOLATIONS]));
    assert_eq!((exactly.listed.len(), exactly.more), (MAX_VIOLATIONS, false));
    let long = "n".repeat(100_000);
    let told = schema.check(&json!({ &long: "secret" }));
    assert_eq!(told.listed[0].place, Place::Body(String::new()), "a name that long is not repeated");
    let enumeration: Vec<_> = (0..1000).collect();
    let told = Schema::compile(&json!({"enum": enumeration})).unwrap().check(&json!("x"));
    assert!(told.listed[0].message.len() < 250, "{told:?}");
}

#[test]
fn a_wrong_schema_is_refused_with_the_place() {
    let mut all = String::new();
    for schema in [
        json!([]),
        json!({"type": "strnig"}),
        json!({"properties": {"a": {"minLength": -1}}}),
        json!({"properties": {"a/b": {"items": 5}}}),
        json!({"$schema": "http://json-schema.org/draft-07/schema#"}),
        json!({"$defs": {"old": {"$schema": "http://json-schema.org/draft-04/schema#"}}}),
        json!({"properties": {"a": {"$ref": "https://example.com/other.json"}}}),
        json!({"$ref": "other.json#/a"}),
        json!({"$ref": "#/$defs/none"}),
        json!({"$ref": "#none"}),
        json!({"properties": {"a": {"pattern": "(?=a)b"}}}),
        json!({"patternProperties": {"(a)\\1": true}}),
        json!({"pattern": "("}),
        json!({"multipleOf": 0}),
        crate::read_json(br#"{"multipleOf": 1.2345678901234567891}"#).unwrap(),
        (0..70).fold(json!({}), |inner, _| json!({"not": inner})),
    ] {
        let error = Schema::compile(&schema).err().map(|error| error.to_string());
        let text: String = schema.to_string().chars().take(80).collect();
        writeln!(all, "{text}\n    {}", error.as_deref().unwrap_or("taken")).unwrap();
    }
    expect![[r##"
        []
            at its root: a schema is a mapping, or true or false
        {"type":"strnig"}
            /type: "strnig" is not valid under any of the schemas listed in the 'anyOf' keyword
        {"properties":{"a":{"minLength":-1}}}
            /properties/a/minLength: -1 is less than the minimum of 0
        {"properties":{"a/b":{"items":5}}}
            /properties/a~1b/items: 5 is not of types "boolean", "object"
        {"$schema":"http://json-schema.org/draft-07/schema#"}
            /$schema: the dialect http://json-schema.org/draft-07/schema# is not supported: leave `$schema` out, or write https://json-schema.org/draft/2020-12/schema
        {"$defs":{"old":{"$schema":"http://json-schema.org/draft-04/schema#"}}}
            /$defs/old/$schema: the dialect http://json-schema.org/draft-04/schema# is not supported: leave `$schema` out, or write https://json-schema.org/draft/2020-12/schema
        {"properties":{"a":{"$ref":"https://example.com/other.json"}}}
            /properties/a/$ref: the reference https://example.com/other.json leads to nothing in this document, and nothing is fetched
        {"$ref":"other.json#/a"}
            /$ref: the reference other.json#/a leads to nothing in this document, and nothing is fetched
        {"$ref":"#/$defs/none"}
            /$ref: the reference #/$defs/none leads to nothing in this document, and nothing is fetched
        {"$ref":"#none"}
            /$ref: the reference #none leads to nothing in this document, and nothing is fetched
        {"properties":{"a":{"pattern":"(?=a)b"}}}
            /properties/a/pattern: "(?=a)b" is no regular expression that can be used: look-around and back-references, which can take any time, cannot, nor what needs an automaton of more than 1 MiB
        {"patternProperties":{"(a)\\1":true}}
            /patternProperties/(a)\1: "(a)\\1" is no regular expression that can be used: look-around and back-references, which can take any time, cannot, nor what needs an automaton of more than 1 MiB
        {"pattern":"("}
            /pattern: "(" is no regular expression that can be used: look-around and back-references, which can take any time, cannot, nor what needs an automaton of more than 1 MiB
        {"multipleOf":0}
            /multipleOf: 0 is less than or equal to the minimum of 0
        {"multipleOf":1.2345678901234567891}
            /multipleOf: a number of at most 18 digits is expected
        {"not":{"not":{"not":{"not":{"not":{"not":{"not":{"not":{"not":{"not":{"not":{"n
            at its root: it is nested deeper than 64
    "##]].assert_eq(&all);
}

#[test]
fn numbers_are_held_against_a_schema_by_their_digits() {
    let read = |text: &str| crate::read_json(text.as_bytes()).unwrap();
    for (schema, body, is_valid) in [
        (r#"{"type": "integer"}"#, "1.0", true),
        (r#"{"type": "integer"}"#, "1e3", true),
        (r#"{"type": "integer"}"#, "123456789012345678901234567890", true),
        (r#"{"type": "integer"}"#, "123456789012345678901234567890.5", false),
        (r#"{"type": "integer"}"#, "1e-3", false),
        (r#"{"const": 9007199254740992}"#, "9007199254740993", false),
        (r#"{"const": 9007199254740993}"#, "9007199254740993.0", true),
        (r#"{"enum": [0.1]}"#, "0.1000000000000000055511151231257827", false),
        (r#"{"maximum": 9007199254740992}"#, "9007199254740993", false),
        (r#"{"maximum": 100000000000000000000}"#, "100000000000000000001", false),
        (r#"{"exclusiveMinimum": 0.3}"#, "0.30000000000000001", true),
        (r#"{"minimum": 1e400}"#, "1e399", false),
        (r#"{"multipleOf": 0.01}"#, "19.99", true),
        (r#"{"multipleOf": 0.01}"#, "1234567890123456.789", false),
        (r#"{"multipleOf": 3}"#, "1e500", false),
        (r#"{"uniqueItems": true}"#, "[1, 1.0]", false),
        (r#"{"uniqueItems": true}"#, "[9007199254740992, 9007199254740993]", true),
        (r#"{"type": "object"}"#, "5", false),
        (r#"{"type": "number"}"#, r#"{"$serde_json::private::Number": "5"}"#, false),
    ] {
        let compiled = Schema::compile(&read(schema)).unwrap();
        assert_eq!(compiled.is_valid(&read(body)), is_valid, "{schema} {body}");
        assert_eq!(compiled.check(&read(body)).is_empty(), is_valid, "{schema} {body}");
    }
}

#[test]
fn formats_and_encodings_are_annotations() {
    let schema = Schema::compile(&json!({"format": "email", "contentEncoding": "base64"})).unwrap();
    assert!(schema.is_valid(&json!("no address, and not base64")));
}

/// The bodies that recursion and alternatives would make most of.
#[test]
fn no_body_takes_long_or_goes_deep() {
    let branching = json!({
        "oneOf": [
            {"properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}, "op": {"const": "+"}}},
            {"properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}, "op": {"const": "-"}}},
            {"properties": {"left": {"$ref": "#"}, "op": {"const": "!"}}, "unevaluatedProperties": false}
        ]
    });
    let deep = (1..crate::MAX_DEPTH).fold(json!({"op": "?"}), |inner, _| json!({"left": inner, "op": "+"}));
    let chain = (0..20).fold(
        json!({"properties": {"left": {"$ref": "#"}}, "required": ["op", "x"]}),
        |inner, _| json!({"allOf": [inner]}),
    );
    let unique = json!({"uniqueItems": true});
    let huge = Value::Array(
        (1..60_000).map(|number| crate::read_json(format!("{number}e400").as_bytes()).unwrap()).collect(),
    );
    let judge = move || {
        for (schema, body) in [(branching, &deep), (chain, &deep), (unique, &huge)] {
            let began = std::time::Instant::now();
            let schema = Schema::compile(&schema).unwrap();
            let _whatever = schema.check(body);
            assert!(began.elapsed() < std::time::Duration::from_secs(20), "{schema:?}");
        }
    };
    // A gateway worker has the stack of any thread.
    std::thread::Builder::new().stack_size(2 << 20).spawn(judge).unwrap().join().unwrap();
}

proptest! {
    #[test]
    fn the_verdict_is_the_librarys_and_what_is_wrong_is_always_explained(schema in any_schema(), body in any_body()) {
        let plain = jsonschema::draft202012::options().build(&schema).unwrap();
        let compiled = Schema::compile(&schema).unwrap();
        prop_assert_eq!(compiled.is_valid(&body), plain.is_valid(&body));
        let violations = compiled.check(&body);
        prop_assert_eq!(violations.is_empty(), plain.is_valid(&body));
        prop_assert!(violations.listed.iter().all(|one| one.message != "does not match the schema"), "{:?}", violations);
        // Alone, the explanation comes to the same verdict.
        let alone = exact::judging(MAX_COMPARED_BYTES, || explain(&compiled.program, &body));
        for violation in &alone.listed {
            let alternatives = &violation.alternatives;
            prop_assert!(alternatives.len() <= MAX_ALTERNATIVES, "{:?}", violation);
            prop_assert!(alternatives.iter().all(|one| one.alternatives.is_empty()), "{:?}", violation);
        }
        let nothing = alone.listed.len() == 1 && alone.listed[0].message == "does not match the schema";
        prop_assert_eq!(nothing, plain.is_valid(&body), "{:?}", alone);
    }
}

fn any_body() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3..9_i64).prop_map(Value::from),
        (-30..90_i64).prop_map(|tenths| json!(tenths as f64 / 10.0)),
        "[ab]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[abc]", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn any_schema() -> impl Strategy<Value = Value> {
    let kind = prop_oneof![
        Just("integer"),
        Just("number"),
        Just("string"),
        Just("array"),
        Just("object"),
        Just("null")
    ];
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        kind.prop_map(|kind| json!({"type": kind})),
        (0..4_u8).prop_map(|limit| json!({"minimum": limit, "maxLength": limit, "minItems": limit})),
        (1..4_u8).prop_map(
            |limit| json!({"multipleOf": f64::from(limit) / 2.0, "maxItems": limit, "maxProperties": limit})
        ),
        Just(json!({"required": ["a"], "uniqueItems": true, "pattern": "^a"})),
        Just(json!({"enum": [1, "a", [1], {"a": 1}]})),
        Just(json!({"dependentRequired": {"a": ["b"]}})),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let some = proptest::collection::vec(inner.clone(), 1..4);
        prop_oneof![
            (some.clone(), prop_oneof![Just("allOf"), Just("anyOf"), Just("oneOf"), Just("prefixItems")])
                .prop_map(|(schemas, keyword)| json!({ keyword: schemas })),
            (
                inner.clone(),
                prop_oneof![
                    Just("not"),
                    Just("items"),
                    Just("contains"),
                    Just("propertyNames"),
                    Just("additionalProperties")
                ]
            )
                .prop_map(|(schema, keyword)| json!({ keyword: schema })),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(a, b, c)| json!({"if": a, "then": b, "else": c})),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| json!({
                "properties": {"a": a}, "patternProperties": {"[bc]": b}, "unevaluatedProperties": c
            })),
            (inner.clone(), inner.clone())
                .prop_map(|(a, b)| json!({"allOf": [{"prefixItems": [a]}], "unevaluatedItems": b})),
            (inner.clone(), inner)
                .prop_map(|(a, b)| json!({"dependentSchemas": {"a": a}, "properties": {"b": b}})),
        ]
    })
}

#[test]
fn alternatives_that_lead_back_to_themselves_are_explained_in_little_time() {
    let alternative = |kind: u32| json!({"properties": {"k": {"const": kind}, "n": {"$ref": "#"}}});
    let schema = Schema::compile(&json!({"anyOf": [alternative(1), alternative(2)]})).unwrap();
    let members: serde_json::Map<String, Value> = (0..1_000)
        .map(|number| (format!("m{number}"), json!(1)))
        .chain([("k".to_owned(), json!(3))])
        .collect();
    let body = (0..40).fold(Value::Object(members), |inner, _| json!({"k": 3, "n": inner}));
    // Twice as much at each depth would be more than anybody waits for.
    let violations = schema.check(&body);
    assert!(!violations.is_empty());
}

/// The items are different numbers.
fn numbers(count: u64) -> Value {
    (0..count).map(|number| json!(1_000_000_001 + number)).collect()
}

fn nested(items: u64, depth: usize) -> Value {
    (0..depth).fold(numbers(items), |inner, _| json!([inner, 0]))
}

const TOO_MUCH: &str =
    "\"\" holds too much in arrays whose items must differ: 16 MiB are compared at most ()\n";

/// What is told of a body of which `most` bytes are compared, and how many are written for it.
fn judged(schema: &Value, body: &Value, most: usize) -> (String, usize) {
    let schema = Schema::compile(schema).unwrap();
    exact::judging(most, || (listed(&schema.judge(body)), exact::compared_bytes()))
}

#[test]
fn unique_items_within_unique_items_are_refused_where_there_is_too_much_to_compare() {
    let document = json!({"uniqueItems": true, "items": {"$ref": "#"}});
    let schema = Schema::compile(&document).unwrap();
    let (small, large) = (nested(1_000, 60), nested(200_000, 60));
    assert!(schema.is_valid(&small));
    let (told, written) = judged(&document, &large, MAX_COMPARED_BYTES);
    assert_eq!(told, TOO_MUCH);
    assert!((MAX_COMPARED_BYTES..MAX_COMPARED_BYTES + 100).contains(&written), "{written}");
    assert!(schema.is_valid(&small), "each body has a measure of its own");
}

#[test]
fn a_body_with_too_much_to_compare_is_refused_also_where_a_schema_asks_for_the_contrary() {
    let unique = json!({"uniqueItems": true});
    let schema = |z: &Value| json!({"properties": {"a": {"uniqueItems": true, "items": {"$ref": "#/properties/a"}}, "z": z}});
    let not = schema(&json!({"not": unique}));
    let a = nested(70_000, 14);
    assert_ne!(judged(&not, &json!({"a": a, "z": 1}), MAX_COMPARED_BYTES).0, "");
    assert_eq!(
        judged(&not, &json!({"a": a, "z": [1, 1]}), MAX_COMPARED_BYTES).0,
        "",
        "it is not too much alone"
    );
    assert_eq!(judged(&not, &json!({"a": a, "z": numbers(150_000)}), MAX_COMPARED_BYTES).0, TOO_MUCH);
    // The same in small.
    let (a, z) = (nested(10, 1), numbers(10));
    for z_is in [
        json!({"not": unique}),
        json!({"if": unique, "then": false}),
        json!({"oneOf": [unique, {"type": "array"}]}),
        json!({"anyOf": [unique, true]}),
    ] {
        let schema = schema(&z_is);
        let (told, whole) = judged(&schema, &json!({"a": a, "z": z}), MAX_COMPARED_BYTES);
        assert!(told != TOO_MUCH && told.is_empty() == z_is.get("anyOf").is_some(), "{told}");
        for most in 0..whole {
            let (told, written) = judged(&schema, &json!({"a": a, "z": z}), most);
            assert_eq!(told, TOO_MUCH, "{most} of {whole}: {z_is}");
            assert!(written > most && written < most + 100, "{written} of {most}");
        }
    }
}

#[test]
fn an_array_is_compared_once_however_often_a_schema_asks() {
    let once = json!({"uniqueItems": true});
    let often = json!({"allOf": vec![&once; 8]});
    let judged = |schema: &Value, body: &Value| judged(schema, body, MAX_COMPARED_BYTES);
    assert_eq!(judged(&often, &numbers(240_000)), judged(&once, &numbers(240_000)));
    let wrong = json!({"allOf": [often, {"minItems": 10_001}]});
    let (told, written) = judged(&wrong, &numbers(10_000));
    assert_eq!(told, "\"\" must have at least 10001 items (/allOf/1/minItems)\n");
    assert_eq!(written, judged(&once, &numbers(10_000)).1);
}

#[test]
fn a_long_text_is_not_written_where_it_would_be_too_much() {
    let schema = json!({"uniqueItems": true});
    for body in [json!(["a".repeat(10_000), 1]), json!([{ "a".repeat(10_000): 1 }, 1])] {
        let (told, written) = judged(&schema, &body, 1_000);
        assert_eq!(told, TOO_MUCH);
        assert!(written < 100, "{written}");
    }
}

#[test]
fn schemas_that_lead_into_each_other_too_often_or_without_end_are_none() {
    let chain = |count: usize| {
        let definitions: serde_json::Map<String, Value> = (0..count)
            .map(|number| (format!("d{number}"), json!({"$ref": format!("#/$defs/d{}", number + 1)})))
            .chain([(format!("d{count}"), json!({"type": "string"}))])
            .collect();
        json!({"$ref": "#/$defs/d0", "$defs": definitions})
    };
    assert!(Schema::compile(&chain(40)).is_ok());
    let refused = |document: &Value| Schema::compile(document).unwrap_err().message;
    assert!(refused(&chain(100)).contains("lead into each other"), "{}", refused(&chain(100)));
    assert!(refused(&json!({"$ref": "#"})).contains("lead into each other"));
    let loops = json!({"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}}});
    assert!(refused(&loops).contains("lead into each other"));
    assert!(refused(&chain(20_000)).contains("more than 10000 schemas"));
    let recursive = json!({"allOf": [{"properties": {"next": {"$ref": "#"}}}, {"type": "object"}]});
    assert!(Schema::compile(&recursive).unwrap().is_valid(&json!({"next": {"next": {}}})));
}
