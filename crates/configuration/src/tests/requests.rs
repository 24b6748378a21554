//! What a route asks of the content of its requests.

use std::path::PathBuf;

use expect_test::expect;
use serde_json::json;

use super::{check, read};
use crate::settings::ContentRule;

fn request(request: &str) -> String {
    format!("services:\n  vrf:\n    routes:\n      - match: {{path: /a}}\n        request: {request}\n")
}

#[test]
fn what_is_written_is_kept_and_nothing_is_read() {
    let settings = |text: &str| read(&request(text)).unwrap().services[0].routes[0].request.clone();
    assert!(settings("{bodyBytes: 1KiB}").is_none() && settings("").is_none());
    let file = settings("{schema: schemas/./a.json}").unwrap();
    assert_eq!((file.key.as_str(), file.line.0), ("services.vrf.routes[0].request", 5));
    assert_eq!(file.content_type.as_deref(), Some("application/json"));
    assert_eq!(file.file().unwrap().path, PathBuf::from("/srv/mesh/schemas/a.json"));
    assert_eq!(file.file().unwrap().written, "schemas/./a.json");
    let inline = settings("{contentType: Application/Vnd.a+json, schema: {type: [string, 'null']}}").unwrap();
    assert_eq!(inline.content_type.as_deref(), Some("application/vnd.a+json"));
    assert_eq!(inline.rule, ContentRule::Inline(json!({"type": ["string", "null"]})));
    for anything in [true, false] {
        let rule = settings(&format!("{{schema: {anything}}}")).unwrap().rule;
        assert_eq!(rule, ContentRule::Inline(json!(anything)));
    }
    assert_eq!(settings("{contentType: image/png}").unwrap().rule, ContentRule::Any);
    let operation = settings("{openapi: {document: /etc/api.yaml, operation: GET /a}}").unwrap();
    assert_eq!(operation.content_type, None);
    let ContentRule::Operation { document, operation } = operation.rule else { panic!("{operation:?}") };
    assert_eq!((document.path, operation.as_str()), (PathBuf::from("/etc/api.yaml"), "GET /a"));
}

#[test]
fn what_excludes_each_other_or_cannot_be_judged_is_refused() {
    for (text, expected) in [
        (
            "{schema: a.json, openapi: {document: b, operation: c}}",
            expect![[r#"
            serviceos.yaml:5:27: services.vrf.routes[0].request: `schema` and `openapi` exclude each other
              5 |         request: {schema: a.json, openapi: {document: b, operation: c}}
                |                           ^^^^^^
            help: an operation says itself what its content is: keep one of the two"#]],
        ),
        (
            "{contentType: application/json, openapi: {document: b, operation: c}}",
            expect![[r#"
            serviceos.yaml:5:32: services.vrf.routes[0].request: `contentType` and `openapi` exclude each other
              5 |         request: {contentType: application/json, openapi: {document: b, operation: c}}
                |                                ^^^^^^^^^^^^^^^^
            help: the operation says itself which content it takes: leave it out"#]],
        ),
        (
            "{contentType: text/plain, schema: a.json}",
            expect![[r#"
            serviceos.yaml:5:32: services.vrf.routes[0].request.contentType: only JSON is held against a schema, and text/plain is none
              5 |         request: {contentType: text/plain, schema: a.json}
                |                                ^^^^^^^^^^
            help: write application/json, or leave `schema` out"#]],
        ),
        (
            "{contentType: json}",
            expect![[r#"
            serviceos.yaml:5:32: services.vrf.routes[0].request.contentType: expected a media type such as application/json, found `json`
              5 |         request: {contentType: json}
                |                                ^^^^
            help: write type and subtype alone"#]],
        ),
        (
            "{contentType: 'application/json; charset=utf-8'}",
            expect![[r#"
            serviceos.yaml:5:32: services.vrf.routes[0].request.contentType: expected a media type such as application/json, found `application/json; charset=utf-8`
              5 |         request: {contentType: 'application/json; charset=utf-8'}
                |                                ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
            help: write type and subtype alone"#]],
        ),
        (
            "{contentType: '*/*'}",
            expect![[r#"
            serviceos.yaml:5:32: services.vrf.routes[0].request.contentType: expected a media type such as application/json, found `*/*`
              5 |         request: {contentType: '*/*'}
                |                                ^^^^^
            help: write type and subtype alone"#]],
        ),
        (
            "{schema: [a]}",
            expect![[r#"
            serviceos.yaml:5:27: services.vrf.routes[0].request.schema: expected a path or a schema
              5 |         request: {schema: [a]}
                |                           ^
            help: write `schema: schemas/draw.json`, or the schema itself"#]],
        ),
        (
            "{schema: }",
            expect![[r#"
                serviceos.yaml:5:25: services.vrf.routes[0].request.schema: expected a path or a schema
                  5 |         request: {schema: }
                    |                         ^
                help: write `schema: schemas/draw.json`, or the schema itself"#]],
        ),
        (
            "{schema: ''}",
            expect![[r#"
            serviceos.yaml:5:27: services.vrf.routes[0].request.schema: expected a path, found ``
              5 |         request: {schema: ''}
                |                           ^^"#]],
        ),
        (
            "{openapi: {document: a}}",
            expect![[r#"
            serviceos.yaml:5:28: services.vrf.routes[0].request.openapi: a document and an operation are needed
              5 |         request: {openapi: {document: a}}
                |                            ^
            help: write `openapi: {document: api.yaml, operation: createDraw}`"#]],
        ),
        (
            "{openapi: a.yaml}",
            expect![[r#"
            serviceos.yaml:5:28: expected a mapping
              5 |         request: {openapi: a.yaml}
                |                            ^^^^^^
            help: write `key: value` lines, indented, or `{key: value}`"#]],
        ),
        (
            "{openapi: {document: a, operations: b}}",
            expect![[r#"
            serviceos.yaml:5:28: services.vrf.routes[0].request.openapi: a document and an operation are needed
              5 |         request: {openapi: {document: a, operations: b}}
                |                            ^
            help: write `openapi: {document: api.yaml, operation: createDraw}`

            serviceos.yaml:5:42: unknown key `operations`
              5 |         request: {openapi: {document: a, operations: b}}
                |                                          ^^^^^^^^^^
            help: did you mean `operation`?"#]],
        ),
        (
            "{schema: a.json, bodyBytes: 5MiB}",
            expect![[r#"
            serviceos.yaml:5:46: services.vrf.routes[0].request.bodyBytes: a body that is held against a schema may have at most 4MiB, not 5MiB
              5 |         request: {schema: a.json, bodyBytes: 5MiB}
                |                                              ^^^^
            help: write `request: {bodyBytes: 4MiB}`, or less"#]],
        ),
    ] {
        check(&request(text), expected);
    }
}

#[test]
fn the_bodies_of_the_gateway_count_where_a_route_says_nothing() {
    let gateway = format!("gateway: {{limits: {{bodyBytes: 64MiB}}}}\n{}", request("{schema: a.json}"));
    check(
        &gateway,
        expect![[r#"
        serviceos.yaml:5:9: services.vrf.routes[0].request.bodyBytes: a body that is held against a schema may have at most 4MiB, not 64MiB
          5 |       - match: {path: /a}
            |         ^
        help: write `request: {bodyBytes: 4MiB}`, or less"#]],
    );
    assert!(read(&gateway.replace("{schema", "{bodyBytes: 4MiB, schema")).is_ok());
}

#[test]
fn grpc_is_not_held_against_a_schema() {
    let service = "services:\n  a:\n    endpoints: [\"http://127.0.0.1:1\"]\n    attestation: none\n    protocol: grpc\n    routes:\n      - match: {path: /a}\n        request: {schema: a.json}\n";
    check(
        service,
        expect![[r#"
        serviceos.yaml:8:27: services.a.routes[0].request: what gRPC carries is no JSON, and is not held against a schema
          8 |         request: {schema: a.json}
            |                           ^^^^^^
        help: leave contentType, schema and openapi out"#]],
    );
}
