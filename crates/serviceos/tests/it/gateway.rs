//! The gateway's answers.

use serde_json::{Value, json};
use testkit::{Client, Mesh, Request};

fn random() -> Value {
    json!({"min": 1, "max": 100})
}

#[test]
fn requests_are_refused_in_the_order_of_the_flow() {
    let mesh = Mesh::new().service("vrf", 1).yaml("    idle: {builtin: vrf, replicas: 0}\n").up();
    let problem = |request: Request| request.send(mesh.gateway).problem();
    let post = |path: &str| Request::new("POST", path).json(&random());
    assert_eq!(problem(post("/nowhere")), (404, "ROUTE_NOT_FOUND".into()), "an unknown path needs no key");
    assert_eq!(problem(post("/v1/random")), (401, "AUTH_REQUIRED".into()));
    assert_eq!(problem(post("/v1/random").key("sk_test_wrong")), (401, "AUTH_INVALID".into()));
    let backwards = Request::new("POST", "/v1/random").json(&json!({"min": 2, "max": 1}));
    assert_eq!(problem(backwards.key(&mesh.key)), (400, "VRF_BAD_RANGE".into()));
    assert_eq!(
        problem(Request::new("DELETE", "/v1/random").key(&mesh.key)),
        (405, "METHOD_NOT_ALLOWED".into())
    );
    let idle = post("/idle/v1/random").key(&mesh.key).send(mesh.gateway);
    assert_eq!(idle.problem(), (503, "NO_REPLICA_SELECTABLE".into()));
    assert_eq!(idle.header("retry-after"), Some("1"));
    assert!(idle.text().contains("scaled to 0"), "{}", idle.text());
    let challenge = post("/v1/random").send(mesh.gateway);
    assert_eq!(challenge.header("www-authenticate"), Some("Bearer"));
}

#[test]
fn malformed_and_oversized_requests_are_refused_before_a_replica_sees_them() {
    let mesh = Mesh::new().service("vrf", 1).up();
    let problem = |request: Request| request.key(&mesh.key).send(mesh.gateway).problem();
    let get = |path: &str| Request::new("GET", path);
    for trick in [
        "/v1/../v1/random/keys",
        "/v1//random/keys",
        "/v1/random/%2e%2e/keys",
        "/v1/random%2fkeys",
        "/v1/random;x/keys",
    ] {
        assert_eq!(problem(get(trick)), (400, "REQUEST_MALFORMED".into()), "{trick}");
    }
    assert_eq!(problem(get("/v1/random/keys").header("host", "other")), (400, "REQUEST_MALFORMED".into()));
    assert_eq!(problem(get("/v1/random/keys").header("expect", "tea")), (417, "EXPECTATION_FAILED".into()));
    assert_eq!(problem(get(&format!("/v1/random/{}", "x".repeat(8200)))), (414, "URL_TOO_LONG".into()));
    let long = "x".repeat(66_000);
    assert_eq!(problem(get("/v1/random/keys").header("x-long", &long)), (431, "HEADERS_TOO_LARGE".into()));
    let many =
        (0..110).fold(get("/v1/random/keys"), |request, number| request.header(&format!("x-{number}"), "1"));
    assert_eq!(problem(many), (431, "HEADERS_TOO_LARGE".into()));
    let announced = Request::new("POST", "/v1/random").header("content-length", "1048577");
    assert_eq!(problem(announced), (413, "BODY_TOO_LARGE".into()));
}

#[test]
fn a_request_at_the_limits_passes() {
    let mesh = Mesh::new().service("vrf", 1).up();
    let request = Request::new("GET", "/v1/random/keys").key(&mesh.key);
    let full = (0..98).fold(request, |request, number| request.header(&format!("x-{number}"), "1"));
    assert_eq!(full.send(mesh.gateway).status, 200, "100 headers are allowed, and the replica takes them");
    let long = format!("/v1/random/keys?{}", "x".repeat(8192 - 16));
    assert_eq!(mesh.get(&long).status, 200, "a target of 8 KiB is allowed");
}

#[test]
fn a_chunked_body_over_the_limit_is_cut_off() {
    let mesh = Mesh::new();
    mesh.write("gateway: {limits: {bodyBytes: 8KiB}}\nservices: {vrf: }\n");
    let mesh = mesh.up();
    let mut client = Client::connect(mesh.gateway).unwrap();
    let head = format!(
        "POST /v1/random HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ntransfer-encoding: chunked\r\n\r\n",
        mesh.key
    );
    client.write(head.as_bytes()).unwrap();
    let chunk = [b"1000\r\n".to_vec(), vec![b' '; 0x1000], b"\r\n".to_vec()].concat();
    for _ in 0..3 {
        client.write(&chunk).unwrap();
    }
    assert_eq!(client.read().unwrap().problem(), (413, "BODY_TOO_LARGE".into()));
}

#[test]
fn a_client_cannot_choose_its_tenant() {
    let mesh = Mesh::new().service("vrf", 1).up();
    let seeded = json!({"min": 1, "max": 100, "seed": "lottery-7"});
    let as_tenant = |key: &str, claimed: &[(&str, &str)]| -> Value {
        let request = Request::new("POST", "/v1/random").key(key).json(&seeded);
        let request = claimed.iter().fold(request, |request, (name, value)| request.header(name, value));
        request.send(mesh.gateway).json()["proof"].clone()
    };
    let own = as_tenant(&mesh.key, &[]);
    let forged =
        [("x-serviceos-tenant", "acme"), ("X-ServiceOS-Tenant", "acme"), ("x_serviceos_tenant", "acme")];
    assert_eq!(as_tenant(&mesh.key, &forged), own);
    let created = mesh
        .run(&["keys", "create", "--name", "t", "--scopes", "randomness", "--tenant", "acme", "--json"])
        .out;
    let created: Value = serde_json::from_str(&created).unwrap();
    assert_ne!(as_tenant(created["key"].as_str().unwrap(), &[]), own, "another tenant has another answer");
}

#[test]
fn every_replica_gives_the_same_proof_for_the_same_seed() {
    let mesh = Mesh::new().yaml("    vrf: {replicas: 3, loadBalancing: {policy: round-robin}}\n").up();
    let seeded = json!({"min": 1, "max": 100, "seed": "lottery-7"});
    let mut client = Client::connect(mesh.gateway).unwrap();
    let request = Request::new("POST", "/v1/random").key(&mesh.key).json(&seeded);
    // One connection is one worker, whose calls go round.
    let answers: Vec<Value> = (0..3).map(|_| client.send(&request).unwrap().json()).collect();
    let proofs: Vec<_> = answers.iter().map(|answer| (&answer["proof"], &answer["value"])).collect();
    assert!(proofs[0].0.is_string() && proofs.iter().all(|proof| *proof == proofs[0]), "{proofs:?}");
    let metrics = Request::new("GET", "/metrics").send(mesh.admin).text();
    for replica in ["vrf/0", "vrf/1", "vrf/2"] {
        assert!(metrics.contains(replica), "{replica} in {metrics}");
    }
}

#[test]
fn every_answer_has_a_request_id_and_a_line_in_the_access_log() {
    let mut mesh = Mesh::new().service("vrf", 1).up();
    let ids: Vec<String> = [mesh.get("/v1/random/keys?token=hidden"), mesh.get("/nowhere")]
        .iter()
        .map(|answer| answer.header("x-request-id").expect("an id").to_owned())
        .collect();
    mesh.signal(rustix::process::Signal::TERM);
    assert_eq!(mesh.wait().code, 0);
    let log = std::fs::read_to_string(mesh.folder().join(".serviceos/logs/access.jsonl")).unwrap();
    let lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
    let line =
        |id: &String| lines.iter().find(|line| line["requestId"] == **id).expect("a line for each request");
    let (served, refused) = (line(&ids[0]), line(&ids[1]));
    assert_eq!(
        (&served["status"], &served["service"], &served["route"]),
        (&json!(200), &json!("vrf"), &json!("/v1/random/{*rest}"))
    );
    assert_eq!(
        (&served["replica"], &served["caller"], &served["path"]),
        (&json!("vrf/0"), &json!("key_development"), &json!("/v1/random/keys"))
    );
    assert_eq!(
        (&refused["status"], &refused["code"], refused.get("service")),
        (&json!(404), &json!("ROUTE_NOT_FOUND"), None)
    );
    assert!(!log.contains(&mesh.key) && !log.contains("hidden"), "neither keys nor query strings are logged");
}

#[test]
fn one_connection_carries_many_requests() {
    let mesh = Mesh::new().service("vrf", 2).up();
    let mut client = Client::connect(mesh.gateway).unwrap();
    for _ in 0..50 {
        let request = Request::new("POST", "/v1/random").key(&mesh.key).json(&random());
        assert_eq!(client.send(&request).unwrap().status, 200);
    }
    let head = client.send(&Request::new("GET", "/nowhere")).unwrap();
    assert_eq!(head.status, 404, "an error answer keeps the connection");
    assert_eq!(client.send(&Request::new("GET", "/health")).unwrap().status, 200);
}
