//! One real path through each backend service, and what a replica is not told.

use std::io::{Read, Write};
use std::net::TcpListener;

use serde_json::json;
use testkit::{Mesh, eventually};

#[test]
fn a_random_answer_verifies_and_a_changed_one_does_not() {
    let mesh = Mesh::new().service("vrf", 2).up();
    let answer = mesh.post("/v1/random", &json!({"min": -5, "max": 5, "count": 3})).json();
    let mut proof = json!({"keyId": answer["keyId"], "alpha": answer["alpha"], "proof": answer["proof"], "min": -5, "max": 5, "count": 3});
    let verified = mesh.post("/v1/random/verify", &proof).json();
    assert_eq!((&verified["valid"], &verified["values"]), (&json!(true), &answer["values"]));
    proof["alpha"] = json!(format!("{}00", answer["alpha"].as_str().unwrap()));
    assert_eq!(mesh.post("/v1/random/verify", &proof).json()["valid"], false);
    let keys = mesh.get("/v1/random/keys").json();
    assert_eq!(keys["keys"][0]["keyId"], answer["keyId"]);
}

#[test]
fn two_services_of_one_program_have_keys_of_their_own() {
    let mesh = Mesh::new().service("vrf", 1).yaml("    dice: {builtin: vrf}\n").up();
    let seeded = json!({"min": 1, "max": 6, "seed": "lottery-7"});
    let (vrf, dice) = (mesh.post("/v1/random", &seeded).json(), mesh.post("/dice/v1/random", &seeded).json());
    assert_eq!(vrf["alpha"], dice["alpha"], "the same question");
    assert_ne!(vrf["keyId"], dice["keyId"]);
    assert_ne!(vrf["beta"], dice["beta"]);
}

#[test]
fn an_empty_allow_list_allows_nothing() {
    let mesh = Mesh::new().service("oracle", 1).up();
    let refused = mesh.post("/v1/oracle/query", &json!({"url": "https://example.org/"}));
    assert_eq!(refused.problem(), (403, "ORACLE_NOT_ALLOWED".into()));
}

#[test]
fn the_synthetic_feed_says_that_it_is_synthetic() {
    let mesh = Mesh::new().service("datafeed", 1).up();
    let feeds = mesh.get("/v1/feeds").json();
    assert_eq!(feeds["feeds"][0]["pair"], "BTC-USD", "{feeds}");
    let price = eventually("a first price", || {
        Some(mesh.get("/v1/price/BTC-USD")).filter(|answer| answer.status == 200)
    })
    .json();
    assert_eq!((&price["sourceIds"], &price["status"]), (&json!(["synthetic"]), &json!("live")), "{price}");
    assert_eq!(mesh.get("/v1/price/XYZ-USD").problem(), (404, "FEED_UNKNOWN".into()));
}

#[test]
fn a_feed_polls_its_http_source_exactly() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // Ends with the test's process; every request gets the same price.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut stream = stream;
                let mut request = [0; 4096];
                while stream.read(&mut request).is_ok_and(|read| read > 0) {
                    let body = r#"{"symbol":"BTCUSD","price":17912.90000001}"#;
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    let source =
        format!("{{id: local, url: \"http://{address}/price\", jsonPath: \"$.price\", interval: 100ms}}");
    let config = format!(
        "{{feeds: [{{pair: BTC-USD, decimals: 8, sources: [{source}]}}], allowLoopback: [\"{address}\"]}}"
    );
    let mesh = Mesh::new().yaml(&format!("    datafeed: {{config: {config}}}\n")).up();
    let price = eventually("a first price", || {
        Some(mesh.get("/v1/price/BTC-USD")).filter(|answer| answer.status == 200)
    })
    .json();
    assert_eq!(
        (&price["value"], &price["sourceIds"]),
        (&json!("17912.90000001"), &json!(["local"])),
        "{price}"
    );
}

#[test]
fn a_replica_has_nothing_in_argv_or_environment_but_what_it_is() {
    let mesh = Mesh::new().service("vrf", 1).up();
    let pid = mesh.pids("vrf")[0];
    let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).unwrap();
    assert_eq!(read("cmdline"), b"serviceos\0service\0vrf\0");
    assert_eq!(read("environ"), b"");
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let files: Vec<_> = descriptors.filter_map(|entry| std::fs::read_link(entry.path()).ok()).collect();
    let regular: Vec<_> = files
        .iter()
        .filter(|file| file.starts_with(mesh.folder()) && !file.ends_with("run/vrf-0.log"))
        .collect();
    assert!(regular.is_empty(), "a replica inherits no file but its output: {regular:?}");
}
