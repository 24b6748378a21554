//! What `serviceos explain` says of a request is what the request then gets.

use serde_json::Value;
use testkit::{Mesh, Request, Running, Upstream, eventually};

fn explained(mesh: &Running, arguments: &[&str]) -> Value {
    let finished = mesh.run(&[&["explain", "--json"], arguments].concat());
    assert_eq!(finished.code, 0, "{finished:?}");
    serde_json::from_str(&finished.out).unwrap()
}

/// Asks about a request, sends it, and holds both together: the answer of the gateway, or the service that answers.
fn check(mesh: &Running, method: &str, path: &str, fields: &[(&str, &str)]) -> Value {
    let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let mut arguments = vec![method, path];
    fields.iter().for_each(|field| arguments.extend(["--header", field]));
    let said = explained(mesh, &arguments);
    let mut request = Request::new(method, path);
    for field in &fields {
        let (name, value) = field.split_once(": ").unwrap();
        request = request.header(name, value);
    }
    let answer = request.send(mesh.gateway);
    match said["answer"].as_object() {
        Some(expected) => {
            assert_eq!(answer.status, u16::try_from(expected["status"].as_u64().unwrap()).unwrap(), "{said}");
            assert_eq!(answer.json()["code"], expected["code"], "{said}");
            // Whom it has asked for in vain, the gateway says too.
            let (detail, told) = (expected["detail"].as_str().unwrap(), answer.json());
            assert!(told["detail"].as_str().unwrap().starts_with(detail), "{told} {said}");
        }
        // What the replica knows of it is its own business.
        None => assert_ne!(answer.header("content-type"), Some("application/problem+json"), "{said}"),
    }
    said
}

const ROUTES: &str = "        - {match: {path: /open, methods: [GET]}, public: true, timeout: 3s, rateLimit: {rate: 600/min, burst: 50}}
        - {match: {path: /open, methods: [GET], headers: {x-kind: new}}, public: true}
        - {match: {path: '/open/{*rest}'}, public: true}
        - {match: {path: /closed}, scopes: [site]}
        - {match: {path: /open, host: other.example}, public: true}";

#[test]
fn what_is_said_of_a_request_is_what_it_gets() {
    let upstream = Upstream::new();
    let nobody = "127.0.0.1:1".parse().unwrap();
    let away = "        - {match: {path: /away}, public: true}";
    let mesh = Mesh::new().endpoint("site", upstream.address, ROUTES).endpoint("away", nobody, away);
    let mesh = mesh.up_when("one endpoint to serve and the other to have failed a check", |status| {
        let replica = |service: usize| &status["services"][service]["replicas"][0];
        replica(0)["selectable"] == true && replica(1)["reason"].is_string()
    });

    let open = check(&mesh, "GET", "/open?a=b", &[]);
    assert_eq!((&open["route"]["service"], &open["timeouts"]["requestMs"]), (&"site".into(), &3_000.into()));
    assert_eq!(
        (&open["replicas"][0]["eligible"], &open["authentication"]["required"]),
        (&true.into(), &false.into())
    );
    let limits = open["rateLimits"].as_array().unwrap();
    assert!(limits.iter().any(|limit| limit["of"] == "route" && limit["burst"] == 50), "{limits:?}");
    let why = |said: &Value| -> Vec<String> {
        said["others"]
            .as_array()
            .unwrap()
            .iter()
            .map(|other| other["why"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(why(&open), ["header", "host", "path", "path", "path"]);
    let new = check(&mesh, "GET", "/open", &[("x-kind", "new")]);
    assert_eq!((&new["route"]["headers"][0], &why(&new)[0]), (&"x-kind: new".into(), &"behind".to_owned()));

    let refused = |said: &Value| said["answer"]["code"].as_str().unwrap().to_owned();
    let wrong_method = check(&mesh, "POST", "/open", &[]);
    assert_eq!(
        (refused(&wrong_method), why(&wrong_method)[0].as_str()),
        ("METHOD_NOT_ALLOWED".into(), "method")
    );
    let unknown = check(&mesh, "GET", "/opne", &[]);
    assert_eq!(refused(&unknown), "ROUTE_NOT_FOUND");
    assert!(unknown["nearest"][0].as_str().unwrap().contains("/open"), "{unknown}");
    let closed = check(&mesh, "GET", "/closed", &[]);
    assert_eq!(
        (refused(&closed), &closed["authentication"]["scopes"][0]),
        ("AUTH_REQUIRED".into(), &"site".into())
    );
    assert_eq!(refused(&check(&mesh, "GET", "/closed", &[("authorization", "Basic a")])), "AUTH_INVALID");
    let with_key = explained(&mesh, &["GET", "/closed", "--header", "x-api-key: sk_test_any"]);
    assert_eq!(with_key["answer"], Value::Null, "what a credential is worth is not judged");
    assert_eq!(refused(&check(&mesh, "GET", "/open//b", &[])), "REQUEST_MALFORMED");
    let away = check(&mesh, "GET", "/away", &[]);
    assert_eq!(
        (refused(&away), &away["replicas"][0]["selectable"]),
        ("NO_REPLICA_SELECTABLE".into(), &false.into())
    );
    assert!(away["replicas"][0]["reason"].as_str().unwrap().starts_with("un"), "{away}");
    let page = check(&mesh, "GET", "/health", &[]);
    assert_eq!(page["page"], "/health");

    let other = explained(&mesh, &["GET", "/open", "--host", "other.example:80"]);
    assert_eq!(other["route"]["host"], "other.example");
    let text = mesh.run(&["explain", "GET", "/opne"]).out;
    assert!(text.contains("answer   404 ROUTE_NOT_FOUND") && text.contains("nearest"), "{text}");
    let wrong = mesh.run(&["explain", "GET", "/a b"]);
    assert!(wrong.code != 0 && wrong.err.contains("no spaces"), "{wrong:?}");
}

#[test]
fn it_goes_by_the_configuration_that_is_in_force() {
    let upstream = Upstream::new();
    let mesh =
        Mesh::new().endpoint("site", upstream.address, "        - {match: {path: /old}, public: true}").up();
    assert_eq!(check(&mesh, "GET", "/old", &[])["answer"], Value::Null);
    let file = mesh.folder().join("serviceos.yaml");
    let text = std::fs::read_to_string(&file).unwrap().replace("/old", "/new");
    std::fs::write(&file, text).unwrap();
    eventually("the other route", || explained(&mesh, &["GET", "/new"])["route"].is_object().then_some(()));
    assert_eq!(check(&mesh, "GET", "/old", &[])["answer"]["status"], 404);
    check(&mesh, "GET", "/new", &[]);
}

#[test]
fn what_a_head_shows_of_caller_body_and_time_is_what_the_gateway_goes_by() {
    let upstream = Upstream::new();
    let routes = "        - {match: {path: '/take/{*rest}'}, public: true, request: {bodyBytes: 1KiB, schema: {type: object}}}
        - {match: {path: /closed}, request: {bodyBytes: 1KiB}}
        - {match: {path: /wait}, public: true, timeout: 1h}";
    let mesh =
        Mesh::new().gateway("limits: {requestTimeout: 1h}").endpoint("site", upstream.address, routes).up();
    let refused = |said: &Value| said["answer"]["code"].as_str().unwrap_or_default().to_owned();
    let json = ("content-type", "application/json");
    // Pages of the gateway's own: one for a caller, and one for anybody.
    let quota = check(&mesh, "GET", "/v1/quota", &[]);
    assert_eq!((refused(&quota), &quota["page"]), ("AUTH_REQUIRED".into(), &"/v1/quota".into()));
    let quota = check(&mesh, "GET", "/v1/quota", &[("x-api-key", &mesh.key)]);
    assert_eq!(quota["answer"], Value::Null);
    assert_eq!(check(&mesh, "GET", "/health", &[])["answer"], Value::Null);
    assert_eq!(refused(&check(&mesh, "POST", "/v1/quota", &[])), "METHOD_NOT_ALLOWED");
    // What is announced of a body.
    let large = ("content-length", "1025");
    assert_eq!(refused(&check(&mesh, "POST", "/take/it", &[json, large])), "BODY_TOO_LARGE");
    assert_eq!(
        refused(&check(&mesh, "POST", "/closed", &[json, large])),
        "AUTH_REQUIRED",
        "that comes first"
    );
    let text = ("content-type", "text/plain");
    assert_eq!(refused(&check(&mesh, "POST", "/take/it", &[text, large])), "MEDIA_TYPE_UNSUPPORTED");
    let fits = [
        "POST",
        "/take/it",
        "--header",
        "content-type: application/json",
        "--header",
        "content-length: 1024",
    ];
    assert_eq!(explained(&mesh, &fits)["answer"], Value::Null, "the body itself is not judged");
    // The time that the client gives.
    let limited = |timeout: &str| {
        let field = format!("x-request-timeout: {timeout}");
        explained(&mesh, &["GET", "/wait", "--header", &field])["timeouts"]["requestMs"].clone()
    };
    assert_eq!(
        (limited("300ms"), limited("2h"), limited("soon")),
        (300.into(), 3_600_000.into(), 3_600_000.into())
    );
    let answer = Request::new("GET", "/wait").header("x-request-timeout", "300ms").send(mesh.gateway);
    assert_eq!((answer.status, answer.json()["code"].as_str()), (504, Some("UPSTREAM_TIMEOUT")));
}
