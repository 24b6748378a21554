//! gRPC through the gateway with grpcio on both sides.

use std::io::Write;

use serde_json::{Value, json};
use testkit::{GRPC, Mesh, Running, Script, eventually, has_program};

/// One method has little time; all others have what a route has.
const ROUTES: &str = "protocol: grpc, healthCheck: {interval: 200ms, timeout: 200ms}, routes: [\
     {match: {path: '/test.Echo/{method}'}}, {match: {path: '/test.Echo/Slow'}, timeout: 300ms}]";

fn script(name: &str) -> String {
    format!("{}/tests/it/python/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn mesh(server: &Script) -> Running {
    // The limit of a body is that of a whole stream.
    Mesh::new().gateway("limits: {bodyBytes: 4MiB}").endpoints_with("echo", &[server.address()], ROUTES).up()
}

/// Calls one after the other over one channel, each `METHOD KEY TIMEOUT`; how each ended.
fn calls(mesh: &Running, calls: &[&str]) -> Vec<Value> {
    let mut client = Script::start(&script("grpc_client.py"), &[&mesh.gateway.to_string()]);
    calls
        .iter()
        .map(|call| {
            let call = call.replace("KEY", &mesh.key);
            client.input().write_all(format!("{call}\n").as_bytes()).unwrap();
            serde_json::from_str(&client.line()).unwrap()
        })
        .collect()
}

#[test]
fn all_four_kinds_of_calls_pass_with_status_and_metadata() {
    if !has_program(GRPC) {
        return;
    }
    let server = Script::start(&script("grpc_server.py"), &[]);
    let mesh = mesh(&server);
    let ended = calls(
        &mesh,
        &[
            "Unary KEY none",
            "ServerStream KEY none",
            "ClientStream KEY none",
            "BothStreams KEY none",
            "Fail KEY none",
        ],
    );
    let [unary, server_stream, client_stream, both_streams, failed] = &ended[..] else { panic!("{ended:?}") };
    assert_eq!((&unary["code"], &unary["answer"]), (&json!("OK"), &json!("echo:hello")), "{unary}");
    assert_eq!(unary["initial"]["x-initial"], "yes", "{unary}");
    assert_eq!(unary["trailing"], json!({"x-trailing": "given", "x-raw-bin": "\u{0}\u{ff}"}), "{unary}");
    let sizes: Vec<usize> = (0..50_usize).map(|number| 10_001 + number.to_string().len()).collect();
    assert_eq!((&server_stream["code"], &server_stream["answer"]), (&json!("OK"), &json!(sizes)));
    assert_eq!(client_stream["answer"], "20 messages, 2000000 bytes", "{client_stream}");
    assert_eq!(
        both_streams["answer"],
        json!(["echo:0", "echo:1", "echo:2", "echo:3", "echo:4"]),
        "{both_streams}"
    );
    assert_eq!(failed["code"], "FAILED_PRECONDITION");
    assert_eq!(
        (&failed["details"], &failed["trailing"]["x-why"]),
        (&json!("not today: 100 % sure\u{2026}"), &json!("because"))
    );
}

#[test]
fn a_deadline_is_passed_on_and_kept() {
    if !has_program(GRPC) {
        return;
    }
    let mut server = Script::start(&script("grpc_server.py"), &[]);
    let mesh = mesh(&server);
    let ended =
        calls(&mesh, &["Remaining KEY 7", "Remaining KEY 3600", "Metadata KEY none", "Slow KEY none"]);
    let remaining =
        |ended: &Value| ended["answer"].as_str().and_then(|text| text.parse::<f64>().ok()).unwrap();
    assert!((5.0..=7.0).contains(&remaining(&ended[0])), "{}", ended[0]);
    assert!((13.0..=15.0).contains(&remaining(&ended[1])), "the route's own time is shorter: {}", ended[1]);
    let metadata = ended[2]["answer"].as_str().unwrap();
    assert!(!metadata.contains(&mesh.key) && metadata.contains("x-extra='given'"), "{metadata}");
    assert!(metadata.contains("x-serviceos-subject='key_development'"), "{metadata}");
    // The gateway ends it, as the client has no deadline of its own; and the server is told.
    assert_eq!(ended[3]["code"], "DEADLINE_EXCEEDED", "{}", ended[3]);
    assert_eq!(server.line(), "ended");
}

#[test]
fn what_the_gateway_refuses_has_the_status_of_grpc() {
    if !has_program(GRPC) {
        return;
    }
    let server = Script::start(&script("grpc_server.py"), &[]);
    let mesh = mesh(&server);
    let refused = calls(
        &mesh,
        &["Unary none none", "Unary sk_test_wrong none", "/test.Nowhere/Unary KEY none", "Nothing KEY none"],
    );
    let code = |place: usize| refused[place]["code"].as_str().unwrap();
    assert_eq!((code(0), code(1)), ("UNAUTHENTICATED", "UNAUTHENTICATED"), "{refused:?}");
    assert!(refused[0]["details"].as_str().unwrap().contains("API key"), "{}", refused[0]);
    assert_eq!((code(2), code(3)), ("UNIMPLEMENTED", "UNIMPLEMENTED"), "by the gateway, and by the server");
    drop(server);
    eventually("the verdict", || (mesh.replicas("echo")[0]["health"] == "unhealthy").then_some(()));
    let refused = calls(&mesh, &["Unary KEY none"]);
    assert_eq!(refused[0]["code"], "UNAVAILABLE");
    assert!(refused[0]["details"].as_str().unwrap().contains("no replica can be selected"), "{}", refused[0]);
}

#[test]
fn a_server_that_says_it_is_not_serving_gets_no_calls() {
    if !has_program(GRPC) {
        return;
    }
    let server = Script::start(&script("grpc_server.py"), &[]);
    let mesh = mesh(&server);
    assert_eq!(calls(&mesh, &["StopServing KEY none"])[0]["code"], "OK");
    eventually("the verdict", || (mesh.replicas("echo")[0]["health"] == "unhealthy").then_some(()));
    assert!(mesh.replicas("echo")[0]["reason"].to_string().contains("not SERVING"));
    assert_eq!(calls(&mesh, &["Unary KEY none"])[0]["code"], "UNAVAILABLE");
}
