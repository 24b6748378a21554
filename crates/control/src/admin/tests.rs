use std::pin::Pin;
use std::task::{Context, Poll};

use ::secrets::{Domain, Generate, Vault};
use access::KeyRecord;
use axum::body::{Body, Bytes};
use expect_test::expect;
use hyper::body::Frame;
use mesh_protocol::{Bytes as Base64, Evidence, EvidenceKind};
use serde_json::{Value, json};
use service_registry::Service;
use tokio::sync::watch;
use tower::ServiceExt;
use trust::{Opening, Own, SecretGrant, ServicePolicy};

use super::*;
use crate::catalogue::{Described, ServiceKind};
use crate::health::tests::service;

pub(crate) async fn state(folder: &tempfile::TempDir, admin: &str) -> AdminState {
    let store = store::Store::open(&folder.path().join("store.redb")).unwrap();
    let pepper = zeroize::Zeroizing::new(vec![1; 32]);
    let tiers = access::Tiers::built_in();
    let authority = authority(folder, store.clone()).await;
    let view = StoreView::new("embedded", store.availability());
    let keys = ApiKeys::open(store, &pepper, access::KeyKind::Test, tiers).await.unwrap();
    let registry = Registry::new(vec![Service::clone(&service("vrf", "r", true))]);
    let described = Described { kind: ServiceKind::Builtin, routes: 2 };
    let described = watch::channel(Arc::new([("vrf".parse().unwrap(), described)].into())).1;
    AdminState {
        authority,
        catalogue: Catalogue::new(registry.clone(), Timestamp::from_millisecond(0xabc).unwrap(), described),
        registry: registry.clone(),
        events: EventLog::new(registry.events().clone(), Timestamp::from_millisecond(0xabc).unwrap()),
        logs: Logs::default(),
        limits: watch::channel(LimitsStatus::default()).1,
        configurations: Configurations::default(),
        fleets: Fleets::default(),
        explain: Arc::new(|_| crate::Explanation::default()),
        metrics: Arc::new(Metrics::new(1)),
        keys: Arc::new(keys),
        configuration: Arc::new(configuration::tests::OneRevision),
        tickets: Arc::new(|service, _, _| {
            Box::pin(std::future::ready(Err(TicketRefused::Supervised(service))))
        }),
        store: view,
        draining: Arc::default(),
        gateway: "127.0.0.1:8080".parse().unwrap(),
        admin: admin.parse().unwrap(),
        shutdown: mpsc::channel(1).0,
    }
}

/// One whose service vrf runs what the digest 09… says, and is given the secret `token`.
async fn authority(folder: &tempfile::TempDir, store: store::Store) -> Authority {
    let domain = Domain { trust_domain: "test.dev.invalid".into(), mode: types::Mode::Development };
    let master_key = folder.path().join("master.key");
    let mut vault = Vault::open(store.clone(), &master_key, domain).await.unwrap();
    vault.ensure("signer", Generate::Ed25519, 0).await.unwrap();
    let release = appraisal::Release::simulated("1.0.0", [9; 32]);
    let policy = ServicePolicy {
        policy: appraisal::Policy::of_releases(vec![release]),
        version: "1.0.0".into(),
        replicas: 1,
        config_digest: [0; 32],
        secrets: vec![SecretGrant { name: "token".into(), record: "token".into() }],
    };
    let opening = Opening {
        node: None,
        store,
        vault: Arc::new(tokio::sync::Mutex::new(vault)),
        roots: appraisal::Roots::Development(Vec::new()),
        clocks: trust::Clocks { wall: Arc::new(|| 1_800_000_000_000), boot: Arc::new(|| 0) },
        audit: folder.path().join("audit.jsonl"),
        manifest: json!({}),
        services: [("vrf".parse().unwrap(), policy)].into(),
        own: Own {
            workload: [0; 32],
            evidence: Arc::new(|report_data| {
                let (kind, quote) = (EvidenceKind::Simulated, report_data.to_vec());
                Box::pin(std::future::ready(Ok(Evidence { kind, quote, collateral: Vec::new() })))
            }),
        },
    };
    Authority::open(opening).await.unwrap()
}

async fn ask(router: &Router, method: &str, path: &str, token: Option<&str>) -> StatusCode {
    let mut request = Request::builder().method(method).uri(path).header("host", "127.0.0.1:7070");
    if let Some(token) = token {
        request = request.header("authorization", token);
    }
    router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status()
}

#[tokio::test]
async fn the_port_wants_the_token_for_all_but_health_and_metrics_on_loopback() {
    let folder = tempfile::tempdir().unwrap();
    let router = on_port(state(&folder, "127.0.0.1:7070").await, AdminToken::of_test());
    for open in ["/health", "/health/detailed", "/metrics"] {
        assert_eq!(ask(&router, "GET", open, None).await, StatusCode::OK, "{open}");
    }
    for (method, path) in [
        ("GET", "/v1/status"),
        ("GET", "/v1/replicas/vrf/0/why"),
        ("POST", "/v1/keys"),
        ("GET", "/v1/keys"),
        ("DELETE", "/v1/keys/x"),
        ("POST", "/v1/shutdown"),
        ("GET", "/v1/attestation"),
        ("GET", "/v1/attestation/vrf/0/records"),
        ("POST", "/v1/revocations"),
        ("DELETE", "/v1/revocations"),
        ("POST", "/v1/secrets/key"),
        ("GET", "/v1/secrets"),
        ("GET", "/v1/secrets/token"),
        ("PUT", "/v1/secrets/token"),
        ("DELETE", "/v1/secrets/token"),
        ("POST", "/v1/secrets/token/rotate"),
        ("GET", "/v1/audit"),
        ("GET", "/v1/services"),
        ("GET", "/v1/instances"),
        ("GET", "/v1/logs"),
        ("GET", "/v1/events"),
        ("GET", "/v1/explain?method=GET&path=/"),
        ("POST", "/v1/services/vrf/scale"),
        ("POST", "/v1/services/vrf/restart"),
        ("GET", "/v1/services/vrf/rollout"),
        ("GET", "/v1/services/vrf/rollout/history"),
        ("POST", "/v1/services/vrf/rollout/start"),
        ("POST", "/v1/services/vrf/rollout/pause"),
        ("POST", "/v1/services/vrf/rollout/resume"),
        ("POST", "/v1/services/vrf/rollout/promote"),
        ("POST", "/v1/services/vrf/rollout/undo"),
        ("POST", "/v1/replicas/vrf/0/restart"),
        ("POST", "/v1/replicas/vrf/0/drain"),
        ("GET", "/v1/services/vrf/instances?watch=0"),
        ("GET", "/v1/config"),
        ("POST", "/v1/config"),
        ("GET", "/v1/config/revisions"),
        ("GET", "/v1/config/revisions/1"),
        ("POST", "/v1/config/rollback"),
        ("GET", "/v1/config/status"),
    ] {
        for token in [None, Some("Bearer wrong"), Some("token"), Some("Bearer ")] {
            assert_eq!(
                ask(&router, method, path, token).await,
                StatusCode::UNAUTHORIZED,
                "{method} {path} {token:?}"
            );
        }
    }
    assert_eq!(ask(&router, "GET", "/v1/status", Some("Bearer token")).await, StatusCode::OK);
    assert_eq!(ask(&router, "GET", "/nowhere", None).await, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_port_that_others_can_reach_wants_the_token_for_everything() {
    let folder = tempfile::tempdir().unwrap();
    let router = on_port(state(&folder, "0.0.0.0:7070").await, AdminToken::of_test());
    assert_eq!(ask(&router, "GET", "/metrics", None).await, StatusCode::UNAUTHORIZED);
    assert_eq!(ask(&router, "GET", "/metrics", Some("Bearer token")).await, StatusCode::OK);
}

#[tokio::test]
async fn a_page_of_somebody_else_cannot_ask_a_loopback_port() {
    let folder = tempfile::tempdir().unwrap();
    let router = on_port(state(&folder, "127.0.0.1:7070").await, AdminToken::of_test());
    for (host, origin, expected) in [
        ("localhost:7070", None, StatusCode::OK),
        ("[::1]:7070", None, StatusCode::OK),
        ("127.0.0.1:7070", Some("http://127.0.0.1:7070"), StatusCode::OK),
        ("evil.example:7070", None, StatusCode::FORBIDDEN),
        ("localhost.evil.example", None, StatusCode::FORBIDDEN),
        ("127.0.0.1:7070", Some("http://evil.example"), StatusCode::FORBIDDEN),
        ("127.0.0.1:7070", Some("null"), StatusCode::FORBIDDEN),
    ] {
        let mut request = Request::builder().uri("/health").header("host", host);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let answer = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), expected, "{host} {origin:?}");
    }
}

#[tokio::test]
async fn the_socket_wants_no_token() {
    let folder = tempfile::tempdir().unwrap();
    let router = on_socket(state(&folder, "127.0.0.1:7070").await);
    assert_eq!(ask(&router, "GET", "/v1/status", None).await, StatusCode::OK);
    assert_eq!(ask(&router, "GET", "/v1/replicas/vrf/0/why", None).await, StatusCode::OK);
    assert_eq!(ask(&router, "POST", "/v1/keys", None).await, StatusCode::BAD_REQUEST);
    assert_eq!(ask(&router, "DELETE", "/v1/keys/none", None).await, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_key_is_made_of_a_tier_and_a_tier_that_is_not_defined_is_named_with_those_that_are() {
    let folder = tempfile::tempdir().unwrap();
    let router = on_socket(state(&folder, "127.0.0.1:7070").await);
    let create = async |tier: &str| {
        let body = format!(r#"{{"name":"n","scopes":["a"]{tier}}}"#);
        let request = Request::builder().method("POST").uri("/v1/keys").body(Body::from(body));
        text(router.clone().oneshot(request.unwrap()).await.unwrap()).await
    };
    assert_eq!(create(r#","tier":"developer""#).await.0, StatusCode::CREATED);
    assert_eq!(create("").await.0, StatusCode::CREATED);
    let (status, problem) = create(r#","tier":"gold""#).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(problem.contains("there are developer, free, production, unlimited"), "{problem}");
    let request = Request::builder().uri("/v1/keys").body(Body::empty()).unwrap();
    let (_, listed) = text(router.clone().oneshot(request).await.unwrap()).await;
    let listed: Vec<KeyRecord> = serde_json::from_str(&listed).unwrap();
    let tiers: Vec<_> = listed.iter().map(|key| key.tier.as_str()).collect();
    assert_eq!(tiers, ["developer", "unlimited"]);
}

#[tokio::test]
async fn every_error_is_a_problem_document_with_a_code() {
    let folder = tempfile::tempdir().unwrap();
    let router = on_port(state(&folder, "127.0.0.1:7070").await, AdminToken::of_test());
    let mut seen = String::new();
    for (method, path, body) in [
        ("GET", "/nowhere", Body::empty()),
        ("PUT", "/v1/keys", Body::empty()),
        ("POST", "/health", Body::empty()),
        ("GET", "/v1/replicas/vrf/1/why", Body::empty()),
        ("GET", "/v1/replicas/vrf/00/why", Body::empty()),
        ("GET", "/v1/replicas/%ff/0/why", Body::empty()),
        ("DELETE", "/v1/keys/%ff", Body::empty()),
        ("DELETE", "/v1/keys/none", Body::empty()),
        ("POST", "/v1/keys/none/rotate", Body::empty()),
        ("POST", "/v1/keys/none/rotate", Body::from(r#"{"overlap":"8d"}"#)),
        ("POST", "/v1/keys/none/rotate", Body::from(r#"{"overlap":1}"#)),
        ("POST", "/v1/keys", Body::from(r#"{"name":"n","scopes":["a"],"publicKey":"none"}"#)),
        ("GET", "/v1/attestation/vrf/1/records", Body::empty()),
        ("DELETE", "/v1/revocations?type=instance&value=vrf/0", Body::empty()),
        ("DELETE", "/v1/revocations?type=instance", Body::empty()),
        ("POST", "/v1/revocations", Body::from(r#"{"type":"leaf","value":"09"}"#)),
        ("POST", "/v1/revocations", Body::from(r#"{"type":"replica","value":"vrf/0"}"#)),
        ("GET", "/v1/secrets/token", Body::empty()),
        ("GET", "/v1/secrets/access-pepper", Body::empty()),
        ("DELETE", "/v1/secrets/hunter2!", Body::empty()),
        ("DELETE", "/v1/secrets/%ff", Body::empty()),
        ("POST", "/v1/secrets/token", Body::empty()),
        ("POST", "/v1/secrets/key", Body::from(r#"{"nonce":"AA"}"#)),
        ("POST", "/v1/secrets/nobody/rotate", Body::empty()),
        ("PUT", "/v1/secrets/token", Body::from(r#"{"enc":"AA","ct":"AA"}"#)),
        ("PUT", "/v1/secrets/token", Body::from(vec![b' '; (96 << 10) + 1])),
        ("POST", "/v1/keys", Body::from("{")),
        ("POST", "/v1/keys", Body::from(vec![b' '; MAX_BODY_BYTES + 1])),
        ("POST", "/v1/keys", Body::new(Unfinished)),
    ] {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "127.0.0.1:7070")
            .header("authorization", "Bearer token")
            .header("content-type", "text/plain");
        let answer = router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        assert_eq!(answer.headers()["content-type"], types::Problem::MEDIA_TYPE, "{method} {path}");
        let (status, body) = text(answer).await;
        let problem: types::Problem = serde_json::from_str(&body).unwrap();
        assert_eq!(status.as_u16(), problem.status);
        seen.push_str(&format!("{method} {path}: {} {}: {}\n", problem.status, problem.code, problem.detail));
    }
    expect![[r#"
        GET /nowhere: 404 ROUTE_NOT_FOUND: the admin API has no such path
        PUT /v1/keys: 405 METHOD_NOT_ALLOWED: this path does not take that method; the Allow header names those that it takes
        POST /health: 405 METHOD_NOT_ALLOWED: this path does not take that method; the Allow header names those that it takes
        GET /v1/replicas/vrf/1/why: 404 REPLICA_UNKNOWN: there is no replica vrf/1; `serviceos status` shows those that there are
        GET /v1/replicas/vrf/00/why: 404 REPLICA_UNKNOWN: there is no replica vrf/00; `serviceos status` shows those that there are
        GET /v1/replicas/%ff/0/why: 404 REPLICA_UNKNOWN: there is no replica of a name that is not UTF-8; `serviceos status` shows those that there are
        DELETE /v1/keys/%ff: 404 KEY_UNKNOWN: no API key has an id that is not UTF-8
        DELETE /v1/keys/none: 404 KEY_UNKNOWN: there is no key none; `serviceos keys list` shows them
        POST /v1/keys/none/rotate: 404 KEY_UNKNOWN: there is no key none; `serviceos keys list` shows them
        POST /v1/keys/none/rotate: 400 VALIDATION_FAILED: overlap: expected a duration of 0s to 7d, such as 24h
        POST /v1/keys/none/rotate: 400 VALIDATION_FAILED: invalid type: integer `1`, expected a string at line 1 column 12
        POST /v1/keys: 400 VALIDATION_FAILED: public key: expected one PEM block `PUBLIC KEY`, as `openssl pkey -pubout` writes it
        GET /v1/attestation/vrf/1/records: 404 REPLICA_UNKNOWN: there is no replica vrf/1; `serviceos status` shows those that there are
        DELETE /v1/revocations?type=instance&value=vrf/0: 404 NOT_REVOKED: spiffe://test.dev.invalid/service/vrf/0 is not revoked; `serviceos attestation show` lists what is
        DELETE /v1/revocations?type=instance: 400 VALIDATION_FAILED: Failed to deserialize query string: missing field `value`
        POST /v1/revocations: 400 VALIDATION_FAILED: value: expected the SHA-256 of a certificate, 64 digits
        POST /v1/revocations: 400 VALIDATION_FAILED: unknown variant `replica`, expected one of `instance`, `leaf`, `measurement`, `platform`, `advisory` at line 1 column 17
        GET /v1/secrets/token: 404 SECRET_UNKNOWN: there is no secret token
        GET /v1/secrets/access-pepper: 403 SECRET_RESERVED: the secret access-pepper is one of the mesh's own, which nobody sets, rotates or removes; choose another name
        DELETE /v1/secrets/hunter2!: 400 SECRET_NAME: a secret's name is a lower-case letter, then lower-case letters, digits and hyphens, at most 63 characters, the last one no hyphen
        DELETE /v1/secrets/%ff: 400 SECRET_NAME: a secret's name is a lower-case letter, then lower-case letters, digits and hyphens, at most 63 characters, the last one no hyphen
        POST /v1/secrets/token: 405 METHOD_NOT_ALLOWED: this path does not take that method; the Allow header names those that it takes
        POST /v1/secrets/key: 400 VALIDATION_FAILED: nonce: expected 32 bytes
        POST /v1/secrets/nobody/rotate: 404 SECRET_UNKNOWN: there is no secret nobody
        PUT /v1/secrets/token: 400 SECRET_NOT_SEALED: the value is not sealed to the key that this serviceos has since its start; ask for the key, and seal it again
        PUT /v1/secrets/token: 413 SECRET_TOO_LARGE: a secret has at most 64 KiB
        POST /v1/keys: 400 VALIDATION_FAILED: EOF while parsing an object at line 1 column 1
        POST /v1/keys: 413 BODY_TOO_LARGE: the body has more than 16384 bytes
        POST /v1/keys: 400 VALIDATION_FAILED: the body did not come to its end
    "#]].assert_eq(&seen);
}

/// The answer to a request on the socket, as JSON.
pub(in crate::admin) async fn asked(
    router: &Router,
    method: &str,
    path: &str,
    body: Value,
) -> (StatusCode, Value) {
    let request = Request::builder().method(method).uri(path).body(Body::from(body.to_string())).unwrap();
    let (status, body) = text(router.clone().oneshot(request).await.unwrap()).await;
    (status, serde_json::from_str(&body).unwrap())
}

#[tokio::test]
async fn a_value_comes_in_sealed_for_its_name_and_only_its_versions_are_shown() {
    let folder = tempfile::tempdir().unwrap();
    let router = on_socket(state(&folder, "127.0.0.1:7070").await);
    // Also a secret of the name under which the key is asked for.
    for name in ["token", "key"] {
        let nonce = json!({"nonce": Base64(vec![1; 32])});
        let (status, answer) = asked(&router, "POST", "/v1/secrets/key", nonce).await;
        assert_eq!(status, StatusCode::OK);
        let answer: SealKeyAnswer = serde_json::from_value(answer).unwrap();
        let key = answer.key().unwrap();
        let evidence = Evidence::decode(&answer.evidence.0).unwrap();
        assert_eq!(evidence.quote, key.report_data(&[1; 32]));
        let sealed = serde_json::to_value(key.seal(name, b"canary").unwrap()).unwrap();
        let path = format!("/v1/secrets/{name}");
        for version in 1..=2 {
            let set = asked(&router, "PUT", &path, sealed.clone()).await;
            assert_eq!(set, (StatusCode::OK, json!({"name": name, "version": version})));
        }
        let (_, shown) = asked(&router, "GET", &path, json!(null)).await;
        assert_eq!((&shown["origin"], &shown["versions"][1]["version"]), (&json!("set"), &json!(2)));
        let other = asked(&router, "PUT", "/v1/secrets/other", sealed).await;
        assert_eq!((other.0, &other.1["code"]), (StatusCode::BAD_REQUEST, &json!("SECRET_NOT_SEALED")));
    }
    let rotated = asked(&router, "POST", "/v1/secrets/signer/rotate", json!(null)).await;
    assert_eq!(rotated, (StatusCode::OK, json!({"name": "signer", "epoch": 2})));
    let (_, listed) = asked(&router, "GET", "/v1/secrets", json!(null)).await;
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|secret| secret["name"].clone()).collect();
    assert_eq!(names, ["key", "signer", "token"]);
    assert_eq!(listed[2]["services"], json!(["vrf"]));
    assert!(!listed.to_string().contains("canary"));
    let kept = asked(&router, "DELETE", "/v1/secrets/token", json!(null)).await;
    assert_eq!((kept.0, &kept.1["code"]), (StatusCode::CONFLICT, &json!("SECRET_IN_USE")));
    let removed = asked(&router, "DELETE", "/v1/secrets/key", json!(null)).await;
    assert_eq!(removed, (StatusCode::OK, json!({"name": "key"})));
}

#[tokio::test]
async fn the_audit_trail_names_who_asked_and_how_far_it_goes() {
    let folder = tempfile::tempdir().unwrap();
    let state = state(&folder, "127.0.0.1:7070").await;
    let (socket, port) = (on_socket(state.clone()), on_port(state, AdminToken::of_test()));
    asked(&socket, "POST", "/v1/secrets/signer/rotate", json!(null)).await;
    assert_eq!(ask(&port, "POST", "/v1/secrets/signer/rotate", Some("Bearer token")).await, StatusCode::OK);
    let trail = std::fs::read(folder.path().join("audit.jsonl")).unwrap();
    let records = trust::audit::last_records(&trail[..], 9).unwrap();
    let actors: Vec<_> = records.iter().map(|record| record.actor.as_str()).collect();
    assert_eq!(actors, ["start", "admin socket", "admin token"]);
    let (_, info) = asked(&socket, "GET", "/v1/audit", json!(null)).await;
    assert_eq!((&info["last"]["seq"], &info["signed"]["seq"]), (&json!(3), &json!(0)));
    assert_eq!(info["signed"]["hash"], info["genesis"]);
}

#[tokio::test]
async fn each_new_key_has_a_line_of_the_audit_trail_without_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let state = state(&folder, "127.0.0.1:7070").await;
    let socket = on_socket(state.clone());
    let new = json!({"name": "shop", "scopes": ["vrf:read"]});
    let (status, made) = asked(&socket, "POST", "/v1/keys", new.clone()).await;
    assert_eq!(status, StatusCode::CREATED);
    let (status, _) = asked(&socket, "POST", "/v1/keys", json!({"name": "", "scopes": ["a"]})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let trail = || std::fs::read(folder.path().join("audit.jsonl")).unwrap();
    let last = trust::audit::last_records(&trail()[..], 1).unwrap().remove(0);
    assert_eq!((last.kind.as_str(), &json!(last.subject)), ("key-create", &made["id"]));
    let expected = json!({"name": "shop", "scopes": ["vrf:read"], "tenant": "default", "tier": "unlimited", "expiresAt": null});
    assert_eq!(last.data, expected);
    assert!(!String::from_utf8(trail()).unwrap().contains(made["key"].as_str().unwrap()));
    // The largest that there may be can be recorded too.
    let before = state.keys.list().await;
    let scopes: Vec<_> = (0..32).map(|number| format!("{number:064}")).collect();
    let (status, _) = asked(&socket, "POST", "/v1/keys", json!({"name": "large", "scopes": scopes})).await;
    assert_eq!((status, state.keys.list().await.len()), (StatusCode::CREATED, before.len() + 1));
}

/// A body that breaks off.
struct Unfinished;

impl hyper::body::Body for Unfinished {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        Poll::Ready(Some(Err(std::io::ErrorKind::UnexpectedEof.into())))
    }
}

async fn text(response: Response) -> (StatusCode, String) {
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}
