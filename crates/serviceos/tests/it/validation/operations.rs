//! An operation of an OpenAPI document, as a team would write one.

use serde_json::{Value, json};
use testkit::{Mesh, Request, Running, Upstream};

const API: &str = include_str!("api.yaml");

fn shop(upstream: &Upstream) -> Running {
    let route = |path: &str, method: &str, operation: &str| {
        format!(
            "{{match: {{path: \"{path}\", methods: [{method}]}}, public: true, request: {{openapi: {{document: api.yaml, operation: \"{operation}\"}}}}}}"
        )
    };
    let routes = [
        route("/v1/orders", "POST", "createOrder"),
        route("/v1/orders", "GET", "listOrders"),
        route("/v1/orders/{id}", "PUT", "PUT /v1/orders/{orderId}"),
    ];
    let mesh =
        Mesh::new().endpoints_with("shop", &[upstream.address], &format!("routes: [{}]", routes.join(", ")));
    std::fs::write(mesh.folder().join("api.yaml"), API).unwrap();
    mesh.up()
}

/// Whether the server was asked, which knows no path of the document.
fn passed(answer: &testkit::Answer) -> bool {
    (answer.status, answer.text().as_str()) == (404, "no such path")
}

/// Where something is wrong, and what.
fn told(answer: &testkit::Answer) -> Vec<String> {
    let each = answer.json()["violations"].as_array().cloned().unwrap_or_default();
    let place = |one: &Value| one["pointer"].as_str().or(one["name"].as_str()).unwrap().to_owned();
    each.iter()
        .map(|one| {
            format!("{} {} {}", one["in"].as_str().unwrap(), place(one), one["message"].as_str().unwrap())
        })
        .collect()
}

#[test]
fn a_body_is_what_the_operation_describes() {
    let upstream = Upstream::new();
    let mesh = shop(&upstream);
    let create = |body: &Value| {
        Request::new("POST", "/v1/orders").header("x-idempotency", "a-1").json(body).send(mesh.gateway)
    };
    let good = json!({"customer": "c-17", "lines": [{"sku": "A1", "count": 2, "price": "19.99"}], "gift": {"to": "Ada"}});
    assert!(passed(&create(&good)), "{}", create(&good).text());
    let bad = json!({"customer": "17", "lines": [{"sku": "A1", "count": 0, "price": 19.99}, {}], "note": 5});
    let refused = create(&bad);
    assert_eq!(refused.problem(), (422, "VALIDATION_FAILED".into()));
    assert_eq!(
        told(&refused),
        [
            "body /customer must match the pattern ^c-[0-9]+$",
            "body /lines/0/count must be at least 1",
            "body /lines/0/price must be a string",
            "body /lines/1 must have the member \"sku\"",
            "body /lines/1 must have the member \"count\"",
            "body /note must not be there",
        ]
    );
    let none = Request::new("POST", "/v1/orders").header("x-idempotency", "a-1").send(mesh.gateway);
    assert_eq!(
        none.problem(),
        (400, "VALIDATION_FAILED".into()),
        "the operation says that a body is required"
    );
    let form = Request::new("POST", "/v1/orders").header("x-idempotency", "a").text("text/csv", "a,b");
    assert_eq!(form.send(mesh.gateway).header("accept"), Some("application/json"));
}

#[test]
fn parameters_are_what_the_operation_describes() {
    let upstream = Upstream::new();
    let mesh = shop(&upstream);
    let list = |query: &str| Request::new("GET", &format!("/v1/orders{query}")).send(mesh.gateway);
    for good in ["", "?limit=10&status=open&status=paid&unknown=1", "?ids=1,2,3&express=true"] {
        assert!(passed(&list(good)), "{good}");
    }
    let refused = list("?limit=1000&status=lost&ids=1,x&express=yes");
    assert_eq!(refused.problem(), (400, "VALIDATION_FAILED".into()));
    assert_eq!(
        told(&refused),
        [
            "query limit must be at most 100",
            "query status /0 must be one of \"open\", \"paid\"",
            "query ids /1 must be an integer",
            "query express must be a boolean",
        ]
    );
    let put = |path: &str, request: fn(Request) -> Request| {
        let body = json!({"note": "leave it at the door"});
        request(Request::new("PUT", path)).json(&body).send(mesh.gateway)
    };
    let refused = put("/v1/orders/17", |request| request);
    assert_eq!(
        told(&refused),
        ["path orderId must match the pattern ^o-[0-9]+$", "header if-match is required",]
    );
    let taken = put("/v1/orders/o-17", |request| request.header("if-match", "3"));
    assert!(passed(&taken), "{}", taken.text());
    let without = Request::new("PUT", "/v1/orders/o-17").header("if-match", "3").send(mesh.gateway);
    assert!(passed(&without), "its body is optional: {}", without.text());
    let body = Request::new("GET", "/v1/orders").json(&json!({})).send(mesh.gateway);
    assert_eq!(body.problem(), (415, "MEDIA_TYPE_UNSUPPORTED".into()), "the operation takes no body");
}
