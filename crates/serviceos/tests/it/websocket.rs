//! WebSocket through the gateway, with the Python library `websockets` on both sides.

use std::process::Command;

use serde_json::{Value, json};
use testkit::{Connection, Mesh, PYTHON, Script, Upstream, WEBSOCKETS, has_program};

use crate::bodies::{head, site};

fn script(name: &str) -> String {
    format!("{}/tests/it/python/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn messages_and_the_closing_handshake_pass_in_both_directions() {
    if !has_program(WEBSOCKETS) {
        return;
    }
    let mut server = Script::start(&script("websocket_server.py"), &[]);
    let mesh = Mesh::new().endpoints("chat", &[server.address()]).up();
    let url = format!("ws://{}/chat/room", mesh.gateway);
    let output =
        Command::new(PYTHON).args([&script("websocket_client.py"), &url, &mesh.key]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let expected = json!({
        "subprotocol": "chat",
        "text": "gr\u{fc}\u{df}e",
        "binary": true,
        "many": true,
        "closed": 4000,
        "closedByServer": [4001, "as asked"],
    });
    assert_eq!(said, expected);
    assert_eq!([server.line(), server.line()], ["4000 bye", "4001 as asked"], "the server saw the same");
}

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

fn handshake(version: &str, key: &str) -> String {
    format!(
        "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: {version}\r\nsec-websocket-key: {key}\r\n\r\n"
    )
}

#[test]
fn a_handshake_that_is_not_whole_reaches_no_replica() {
    let upstream = Upstream::new();
    let mesh = site(&upstream);
    let ask = |first: &str, rest: &str| {
        let mut client = Connection::open(mesh.gateway);
        client.write(head(&mesh, first) + rest).unwrap();
        client.answer().unwrap().problem()
    };
    let get = "GET /site/upgrade HTTP/1.1";
    for (first, rest) in [
        (get, handshake("8", KEY)),
        (get, handshake("13", "c2hvcnQ=")),
        (get, handshake("13", "not base64")),
        ("POST /site/upgrade HTTP/1.1", handshake("13", KEY)),
    ] {
        assert_eq!(ask(first, &rest), (400, "REQUEST_MALFORMED".into()), "{first} {rest}");
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_replica_that_does_not_prove_that_it_read_the_key_opens_no_tunnel() {
    let upstream = Upstream::new();
    let mesh = site(&upstream);
    for path in ["bad-accept", "upgrade"] {
        let mut client = Connection::open(mesh.gateway);
        client.write(head(&mesh, &format!("GET /site/{path} HTTP/1.1")) + &handshake("13", KEY)).unwrap();
        let answer = client.answer().unwrap();
        assert_eq!(answer.problem(), (502, "UPSTREAM_FAILED".into()), "{path}");
    }
    let seen = upstream.seen();
    assert_eq!(seen[0].header("sec-websocket-key"), Some(KEY));
    assert_eq!(
        (seen[0].header("upgrade"), seen[0].header("connection")),
        (Some("websocket"), Some("upgrade"))
    );
}

#[test]
fn an_upgrade_needs_a_key_of_the_gateway_as_any_request_does() {
    let upstream = Upstream::new();
    let mesh = site(&upstream);
    let mut client = Connection::open(mesh.gateway);
    client
        .write(format!("GET /site/upgrade HTTP/1.1\r\nhost: localhost\r\n{}", handshake("13", KEY)))
        .unwrap();
    assert_eq!(client.answer().unwrap().problem(), (401, "AUTH_REQUIRED".into()));
    assert_eq!(upstream.count(), 0);
}
