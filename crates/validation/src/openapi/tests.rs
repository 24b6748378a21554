use std::fmt::Write;

use expect_test::expect;
use serde_json::json;

use super::*;
use crate::Judged;

/// What a real service has: shared components, a path with parameters, an operation without a name.
fn document() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {"title": "Randomness", "version": "1"},
        "paths": {
            "/v1/random": {
                "parameters": [{"$ref": "#/components/parameters/Trace"}],
                "post": {
                    "operationId": "createRandom",
                    "parameters": [
                        {"name": "count", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 100}},
                        {"name": "tag", "in": "query", "schema": {"type": "array", "maxItems": 2, "items": {"type": "string", "minLength": 2}}},
                        {"name": "ids", "in": "query", "explode": false, "schema": {"$ref": "#/components/schemas/Ids"}},
                        {"name": "Accept", "in": "header", "schema": {"type": "object"}}
                    ],
                    "requestBody": {"$ref": "#/components/requestBodies/Draw"}
                },
                "get": {}
            },
            "/v1/price/{pair}/{day}": {
                "parameters": [
                    {"name": "pair", "in": "path", "required": true, "schema": {"enum": ["BTC-EUR", "a b"]}},
                    {"name": "day", "in": "path", "required": true, "schema": {"type": "string"}},
                    {"name": "X-Depth", "in": "header", "schema": {"type": "integer"}}
                ],
                "get": {
                    "operationId": "price",
                    "parameters": [{"name": "day", "in": "path", "required": true, "schema": {"type": "integer"}}]
                }
            }
        },
        "components": {
            "parameters": {"Trace": {"name": "X-Trace", "in": "header", "required": true, "schema": {"type": "array", "items": {"type": ["boolean", "null"]}}}},
            "requestBodies": {"Draw": {"required": true, "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/Draw"}},
                "text/*": {}
            }}},
            "schemas": {
                "Draw": {"type": "object", "properties": {"min": {"$ref": "#/components/schemas/Bound"}, "next": {"$ref": "#/components/schemas/Draw"}}, "required": ["min"]},
                "Bound": {"type": "integer", "example": {"$schema": "any"}},
                "Ids": {"type": "array", "items": {"type": "integer"}, "uniqueItems": true}
            }
        }
    })
}

fn parameters(name: &str, path: &str, query: &str, fields: &[(&str, &'static [u8])]) -> String {
    let operation = Operation::compile(&document(), name).unwrap();
    let of = |name: &str, put: &mut dyn FnMut(&[u8])| {
        fields.iter().filter(|(own, _)| *own == name).for_each(|(_, value)| put(value));
    };
    let found = operation.rule.check_parameters(path, query, &of);
    found.listed.iter().map(|one| format!("{} ", serde_json::to_string(one).unwrap()) + "\n").collect()
}

#[test]
fn an_operation_is_found_by_its_name_or_by_method_and_path() {
    let found = |name: &str| {
        Operation::compile(&document(), name).map(|found| format!("{} {}", found.method, found.path))
    };
    assert_eq!(found("createRandom").unwrap(), "POST /v1/random");
    assert_eq!(found("GET /v1/random").unwrap(), "GET /v1/random");
    expect!["/paths: there is no operation POST /v1/random, but GET /v1/random, createRandom, price"]
        .assert_eq(&found("POST /v1/random").unwrap_err().to_string());
}

#[test]
fn parameters_mean_what_their_schema_says() {
    let trace: (&str, &[u8]) = ("x-trace", b"true,  null");
    assert_eq!(
        parameters("createRandom", "/v1/random", "count=5&tag=ab&tag=c%64&ids=1,2&other=x&&", &[trace]),
        ""
    );
    expect![[r#"
        {"in":"header","name":"x-trace","schema":"/components/parameters/Trace/schema/items/type","message":"/1 must be a boolean or null"} 
        {"in":"query","name":"count","schema":"/paths/~1v1~1random/post/parameters/0/schema/type","message":"must be an integer"} 
        {"in":"query","name":"tag","schema":"/paths/~1v1~1random/post/parameters/1/schema/maxItems","message":"must have at most 2 items"} 
        {"in":"query","name":"tag","schema":"/paths/~1v1~1random/post/parameters/1/schema/items/minLength","message":"/0 must have at least 2 characters"} 
        {"in":"query","name":"ids","schema":"/components/schemas/Ids/uniqueItems","message":"must not have the same item twice"} 
        {"in":"query","name":"ids","schema":"/components/schemas/Ids/items/type","message":"/3 must be an integer"} 
    "#]].assert_eq(&parameters(
        "createRandom",
        "/v1/random",
        "count=five&tag=a&tag=bc&tag=d+&ids=1,2,1,x",
        &[("x-trace", b"true"), ("x-trace", b"maybe")],
    ));
    expect![[r#"
        {"in":"header","name":"x-trace","schema":"/components/parameters/Trace/required","message":"is required"} 
        {"in":"query","name":"count","schema":"/paths/~1v1~1random/post/parameters/0","message":"is given more than once"} 
        {"in":"query","name":"tag","schema":"/paths/~1v1~1random/post/parameters/1","message":"is not UTF-8"} 
        {"in":"query","name":"ids","schema":"/paths/~1v1~1random/post/parameters/2","message":"is given more than once"} 
    "#]].assert_eq(&parameters("createRandom", "/v1/random", "count=1&count=2&tag=%ff&ids=1&ids=2", &[]));
    assert_eq!(parameters("price", "/api/v1/price/a%20b/7", "", &[("x-depth", b" 3 ")]), "");
    expect![[r#"
        {"in":"path","name":"pair","schema":"/paths/~1v1~1price~1{pair}~1{day}/parameters/0/schema/enum","message":"must be one of \"BTC-EUR\", \"a b\""} 
        {"in":"header","name":"x-depth","schema":"/paths/~1v1~1price~1{pair}~1{day}/parameters/2","message":"is given more than once"} 
        {"in":"path","name":"day","schema":"/paths/~1v1~1price~1{pair}~1{day}/get/parameters/0/schema/type","message":"must be an integer"} 
    "#]].assert_eq(&parameters("price", "/v1/price/BTC/07", "", &[("x-depth", b"3"), ("x-depth", b"3")]));
    expect![[r#"
        {"in":"path","name":"","schema":"","message":"the path is not of the form /v1/price/{pair}/{day}"} 
    "#]]
    .assert_eq(&parameters("price", "/v1/prices/BTC-EUR/7", "", &[]));
    expect![[r#"
        {"in":"path","name":"","schema":"","message":"the path is not of the form /v1/price/{pair}/{day}"} 
    "#]]
    .assert_eq(&parameters("price", "/7", "", &[]));
}

#[test]
fn a_body_is_judged_by_the_content_that_fits_best() {
    let rule = Operation::compile(&document(), "createRandom").unwrap().rule;
    assert_eq!((rule.media_types().as_str(), rule.wants_body(false)), ("application/json, text/*", true));
    let json = rule.content("Application/JSON").unwrap();
    assert_eq!(json.judge(br#"{"min": 1, "next": {"min": 2}}"#), Judged::Valid);
    let Judged::Violating(violations) = json.judge(br#"{"min": 1, "next": {"min": "2"}}"#) else {
        panic!("it is none")
    };
    expect![[r#"[{"in":"body","pointer":"/next/min","schema":"/components/schemas/Bound/type","message":"must be an integer"}]"#]]
        .assert_eq(&serde_json::to_string(&violations.listed).unwrap());
    assert!(matches!(json.judge(b"{"), Judged::NotJson(_)));
    assert!(!rule.content("text/plain").unwrap().is_judged());
    assert!(rule.content("image/png").is_none());
    let none = Operation::compile(&document(), "price").unwrap().rule;
    assert!(!none.names_content() && !none.wants_body(true) && !none.judges_bodies());
}

/// The document with one thing changed.
fn changed(pointer: &str, value: Value) -> Value {
    let mut document = document();
    let (within, key) = pointer.rsplit_once('/').unwrap();
    let within = document.pointer_mut(within).unwrap();
    let key = key.replace("~1", "/");
    match within {
        Value::Array(items) => items[key.parse::<usize>().unwrap()] = value,
        other => other[key.as_str()] = value,
    }
    document
}

#[test]
fn what_cannot_be_enforced_is_refused_with_the_place() {
    let query = "/paths/~1v1~1random/post/parameters/0";
    let mut all = String::new();
    for (pointer, value) in [
        ("/openapi", json!("3.0.3")),
        ("/openapi", json!(3.1)),
        ("/jsonSchemaDialect", json!("http://json-schema.org/draft-07/schema#")),
        ("/paths", json!([])),
        ("/paths/~1v1~1random/$ref", json!("#/components/pathItems/none")),
        ("/paths/~1v1~1random/post/requestBody", json!({"$ref": "other.yaml#/body"})),
        ("/paths/~1v1~1random/post/requestBody", json!({"content": {"multipart/form-data": {"schema": {}}}})),
        ("/paths/~1v1~1random/post/requestBody", json!({"content": {"json": {}}})),
        ("/paths/~1v1~1random/post/requestBody", json!({"required": "yes", "content": {}})),
        ("/paths/~1v1~1random/post/requestBody", json!({})),
        ("/paths/~1v1~1random/post/parameters", json!({})),
        (query, json!({"$ref": query})),
        (query, json!({"$ref": format!("#{query}")})),
        (query, json!({"in": "cookie", "name": "a", "schema": {}})),
        (query, json!({"in": "query", "schema": {}})),
        (query, json!({"in": "query", "name": "a"})),
        (query, json!({"in": "query", "name": "a", "content": {}})),
        (query, json!({"in": "query", "name": "a", "allowEmptyValue": true, "schema": {}})),
        (query, json!({"in": "query", "name": "a", "style": "deepObject", "schema": {}})),
        (query, json!({"in": "header", "name": "a", "style": "form", "schema": {}})),
        (query, json!({"in": "query", "name": "a", "schema": {"type": "object"}})),
        (query, json!({"in": "query", "name": "a", "schema": {"type": ["array", "string"]}})),
        (query, json!({"in": "query", "name": "a", "schema": {"type": "array", "items": {"type": "array"}}})),
        (
            query,
            json!({"in": "query", "name": "a", "schema": {"anyOf": [{"type": "integer"}, {"type": "object"}]}}),
        ),
        (
            query,
            json!({"in": "query", "name": "a", "schema": {"$ref": format!("#{query}/schema/allOf/0"), "allOf": [{"$ref": format!("#{query}/schema")}]}}),
        ),
        (query, json!({"in": "path", "name": "a", "schema": {}})),
        (query, json!({"in": "query", "name": "a", "schema": {"type": "strnig"}})),
        ("/paths/~1v1~1random/get", json!({"operationId": "createRandom"})),
        ("/components/schemas/Bound", json!({"type": "strnig"})),
        ("/components/schemas/Bound", json!({"$schema": "http://json-schema.org/draft-07/schema#"})),
        ("/components/schemas/Draw", json!({"$ref": "#/components/schemas/None"})),
        ("/components/schemas/Draw", json!({"pattern": "(?!a)"})),
    ] {
        let error = Operation::compile(&changed(pointer, value.clone()), "createRandom").err();
        let error = error.map_or("taken".to_owned(), |error| error.to_string());
        writeln!(all, "{pointer} {value}\n    {error}").unwrap();
    }
    expect![[r##"
        /openapi "3.0.3"
            /openapi: OpenAPI 3.0.3 is not supported, only 3.1
        /openapi 3.1
            /openapi: this is no OpenAPI document: it does not say `openapi: 3.1.0`
        /jsonSchemaDialect "http://json-schema.org/draft-07/schema#"
            /jsonSchemaDialect: the dialect "http://json-schema.org/draft-07/schema#" is not supported
        /paths []
            /paths: the document has no paths
        /paths/~1v1~1random/$ref "#/components/pathItems/none"
            /paths/~1v1~1random: the reference leads to nothing
        /paths/~1v1~1random/post/requestBody {"$ref":"other.yaml#/body"}
            /paths/~1v1~1random/post/requestBody/$ref: the reference "other.yaml#/body" leads out of the document, or not by a JSON Pointer
        /paths/~1v1~1random/post/requestBody {"content":{"multipart/form-data":{"schema":{}}}}
            /paths/~1v1~1random/post/requestBody/content/multipart~1form-data/schema: only JSON is held against a schema, and multipart/form-data is none: leave its schema out
        /paths/~1v1~1random/post/requestBody {"content":{"json":{}}}
            /paths/~1v1~1random/post/requestBody/content/json: this is no media type
        /paths/~1v1~1random/post/requestBody {"required":"yes","content":{}}
            /paths/~1v1~1random/post/requestBody/required: true or false is expected
        /paths/~1v1~1random/post/requestBody {}
            /paths/~1v1~1random/post/requestBody/content: a mapping is expected
        /paths/~1v1~1random/post/parameters {}
            /paths/~1v1~1random/post/parameters: a list is expected
        /paths/~1v1~1random/post/parameters/0 {"$ref":"/paths/~1v1~1random/post/parameters/0"}
            /paths/~1v1~1random/post/parameters/0/$ref: the reference "/paths/~1v1~1random/post/parameters/0" leads out of the document, or not by a JSON Pointer
        /paths/~1v1~1random/post/parameters/0 {"$ref":"#/paths/~1v1~1random/post/parameters/0"}
            /paths/~1v1~1random/post/parameters/0: more than 16 references lead to each other
        /paths/~1v1~1random/post/parameters/0 {"in":"cookie","name":"a","schema":{}}
            /paths/~1v1~1random/post/parameters/0/in: parameters in cookie are not supported
        /paths/~1v1~1random/post/parameters/0 {"in":"query","schema":{}}
            /paths/~1v1~1random/post/parameters/0/name: a name is expected
        /paths/~1v1~1random/post/parameters/0 {"in":"query","name":"a"}
            /paths/~1v1~1random/post/parameters/0/schema: a schema is expected
        /paths/~1v1~1random/post/parameters/0 {"in":"query","name":"a","content":{}}
            /paths/~1v1~1random/post/parameters/0/content: `content` of a parameter is not supported
        /paths/~1v1~1random/post/parameters/0 {"in":"query","name":"a","allowEmptyValue":true,"schema":{}}
            /paths/~1v1~1random/post/parameters/0/allowEmptyValue: `allowEmptyValue` of a parameter is not supported
        /paths/~1v1~1random/post/parameters/0 {"in":"query","name":"a","style":"deepObject","schema":{}}
            /paths/~1v1~1random/post/parameters/0/style: the style "deepObject" is not supported, only form
        /paths/~1v1~1random/post/parameters/0 {"in":"header","name":"a","style":"form","schema":{}}
            /paths/~1v1~1random/post/parameters/0/style: the style "form" is not supported, only simple
        /paths/~1v1~1random/post/parameters/0 {"in":"query","name":"a","schema":{"type":"object"}}
            /paths/~1v1~1random/post/parameters/0/schema: objects as parameters are not supported
        /paths/~1v1~1random/post/parameters/0 {"in":"query","name":"a","schema":{"type":["array","string"]}}
            /paths/~1v1~1random/post/parameters/0/schema: a parameter that is an array or something else is not supported
        /paths/~1v1~1random/post/parameters/0 {"in":"query","name":"a","schema":{"type":"array","items":{"type":"array"}}}
            /paths/~1v1~1random/post/parameters/0/schema/items: only arrays of texts, numbers and booleans are supported as parameters
        /paths/~1v1~1random/post/parameters/0 {"in":"query","name":"a","schema":{"anyOf":[{"type":"integer"},{"type":"object"}]}}
            /paths/~1v1~1random/post/parameters/0/schema: objects as parameters are not supported
        /paths/~1v1~1random/post/parameters/0 {"in":"query","name":"a","schema":{"$ref":"#/paths/~1v1~1random/post/parameters/0/schema/allOf/0","allOf":[{"$ref":"#/paths/~1v1~1random/post/parameters/0/schema"}]}}
            /paths/~1v1~1random/post/parameters/0/schema: more than 16 references lead to each other
        /paths/~1v1~1random/post/parameters/0 {"in":"path","name":"a","schema":{}}
            /paths/~1v1~1random/post/parameters/0: the path /v1/random has no parameter a
        /paths/~1v1~1random/post/parameters/0 {"in":"query","name":"a","schema":{"type":"strnig"}}
            /paths/~1v1~1random/post/parameters/0/schema/type: "strnig" is not valid under any of the schemas listed in the 'anyOf' keyword
        /paths/~1v1~1random/get {"operationId":"createRandom"}
            /paths/~1v1~1random/post: there is another operation createRandom
        /components/schemas/Bound {"type":"strnig"}
            /components/schemas/Bound/type: "strnig" is not valid under any of the schemas listed in the 'anyOf' keyword
        /components/schemas/Bound {"$schema":"http://json-schema.org/draft-07/schema#"}
            /components/schemas/Bound/$schema: the dialect http://json-schema.org/draft-07/schema# is not supported: leave `$schema` out, or write https://json-schema.org/draft/2020-12/schema
        /components/schemas/Draw {"$ref":"#/components/schemas/None"}
            /components/schemas/Draw/$ref: the reference #/components/schemas/None leads to nothing in this document, and nothing is fetched
        /components/schemas/Draw {"pattern":"(?!a)"}
            /components/schemas/Draw/pattern: "(?!a)" is no regular expression that can be used: look-around and back-references, which can take any time, cannot, nor what needs an automaton of more than 1 MiB
    "##]].assert_eq(&all);
}

#[test]
fn a_text_means_what_any_of_the_alternatives_can_be() {
    for (schema, text, is_valid) in [
        (json!({"anyOf": [{"type": "integer"}, {"const": "max"}]}), "5", true),
        (json!({"anyOf": [{"type": "integer"}, {"const": "max"}]}), "max", true),
        (json!({"anyOf": [{"type": "integer"}, {"const": "max"}]}), "min", false),
        (json!({"enum": [1, 2]}), "1.0", true),
        (json!({"enum": ["1", "2"]}), "1", true),
        (json!({"type": ["string", "number"], "maximum": 3}), "x", true),
        (json!({"type": ["string", "number"], "maximum": 3}), "4", false),
        (json!({"type": "boolean"}), "true", true),
        (json!({"type": "boolean"}), "True", false),
        (json!({"type": "integer"}), "0x10", false),
        (json!({"type": "integer"}), "", false),
        (json!({"type": "integer"}), "+5", false),
        (json!({"type": "string"}), "5", true),
        (json!({}), "5", true),
    ] {
        let parameter = json!({"in": "header", "name": "A", "schema": schema});
        let document = json!({"openapi": "3.1.0", "paths": {"/": {"get": {"operationId": "a", "parameters": [parameter]}}}});
        let rule = Operation::compile(&document, "a").unwrap().rule;
        let found = rule.check_parameters("/", "", &|_, put| put(text.as_bytes()));
        assert_eq!(found.is_empty(), is_valid, "{schema} {text}: {found:?}");
    }
}

#[test]
fn a_path_and_its_parameters_must_agree() {
    let refused = |path: &str, parameters: Value| {
        let document = json!({"openapi": "3.1.0", "paths": { path: {"get": {"operationId": "a", "parameters": parameters}}}});
        Operation::compile(&document, "a").unwrap_err().to_string()
    };
    let id = json!([{"in": "path", "name": "id", "schema": {"type": "string"}}]);
    expect!["/paths/~1a~1{id}: the path parameter id is not declared"]
        .assert_eq(&refused("/a/{id}", json!([])));
    expect!["/paths/~1a/get/parameters/0: the path /a has no parameter id"]
        .assert_eq(&refused("/a", id.clone()));
    expect!["/paths/~1a~1{id}.json: a path parameter takes a whole segment of the path"]
        .assert_eq(&refused("/a/{id}.json", id));
}
