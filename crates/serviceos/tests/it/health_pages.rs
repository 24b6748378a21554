//! What the health pages say while something is going on: a drain, a failing check, a request in flight.

use std::net::SocketAddr;

use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::{Client, Connection, Mesh, Request, Upstream, eventually};

use crate::fleet::{Fleet, PUBLIC};

#[test]
fn while_it_drains_health_is_503_on_connections_that_are_kept() {
    let upstream = Upstream::new();
    let mut mesh = Mesh::new().endpoints_with("site", &[upstream.address], PUBLIC).up();
    let mut held = Connection::open(mesh.gateway);
    held.write("GET /site/command HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert_eq!(held.answer_head().unwrap().status, 200);
    let health = Request::new("GET", "/health");
    let mut of_admin = Client::connect(mesh.admin).unwrap();
    assert_eq!(of_admin.send(&health).unwrap().status, 200);
    let mut of_gateway = Connection::open(mesh.gateway);
    of_gateway.write("GET /health HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert_eq!(of_gateway.answer().unwrap().status, 200);
    // A drain ends kept connections on which nothing has come, so the next request has begun before.
    of_gateway.write("GET /health HTTP/1.1\r\n").unwrap();

    mesh.signal(Signal::TERM);
    let answer = eventually("503 on the admin port", || {
        Some(of_admin.send(&health).expect("the connection holds")).filter(|answer| answer.status == 503)
    });
    of_gateway.write("host: a\r\n\r\n").unwrap();
    let same = of_gateway.answer().unwrap();
    assert_eq!((same.status, same.header("connection")), (503, Some("close")));
    for answer in [answer, same] {
        let health = answer.json();
        assert_eq!(
            (&health["status"], &health["services"]["site"]["status"]),
            (&json!("unhealthy"), &json!("up"))
        );
    }
    upstream.say("still there");
    assert_eq!(held.chunk().unwrap().as_deref(), Some(&b"still there"[..]));
    upstream.end();
    assert_eq!(held.chunk().unwrap(), None);
    assert_eq!(mesh.wait().code, 0);
}

#[test]
fn details_have_the_requests_in_flight_and_the_last_error_of_each_replica() {
    let fleet = Fleet::up(&["", ""], &format!("{PUBLIC}, loadBalancing: {{policy: round-robin}}"));
    let instances_at = |address: SocketAddr, name: &str| -> Vec<Value> {
        let page = Request::new("GET", "/health/detailed").send(address).json();
        let instances = page["services"]["site"]["instances"].as_array().unwrap().iter();
        instances.map(|instance| instance[name].clone()).collect()
    };
    let instances = |name: &str| {
        let shown = instances_at(fleet.mesh.gateway, name);
        assert_eq!(shown, instances_at(fleet.mesh.admin, name), "the same on both ports");
        shown
    };
    assert_eq!(instances("inFlight"), [0, 0]);
    assert_eq!(instances("lastError"), [Value::Null, Value::Null]);

    let mut open: Vec<_> = (0..2).map(|_| Connection::open(fleet.mesh.gateway)).collect();
    for client in &mut open {
        client.write("GET /site/command HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        assert_eq!(client.answer_head().unwrap().status, 200);
    }
    assert_eq!(instances("inFlight").iter().filter_map(Value::as_u64).sum::<u64>(), 2);
    let commands = fleet.servers.iter().map(|server| server.seen().len());
    assert_eq!(instances("inFlight"), commands.collect::<Vec<_>>(), "where they are");
    drop(open);
    eventually("nothing in flight", || {
        (instances_at(fleet.mesh.gateway, "inFlight") == [0, 0]).then_some(())
    });

    fleet.set_healthy(1, false);
    let errors = instances("lastError");
    assert_eq!(errors[0], Value::Null);
    assert!(errors[1].as_str().is_some_and(|error| error.contains("GET /health answered 500")), "{errors:?}");
}
