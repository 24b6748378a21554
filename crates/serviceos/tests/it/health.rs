//! Health end points and metrics, in the seed's words.

use std::io::Write;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;
use testkit::{Mesh, Request, eventually, has_program, kill};

#[test]
fn health_is_the_same_on_both_ports_and_follows_the_replicas() {
    let mesh = Mesh::new().service("vrf", 2).service("oracle", 1).up();
    for address in [mesh.gateway, mesh.admin] {
        let answer = Request::new("GET", "/health").send(address);
        let health = answer.json();
        assert_eq!((answer.status, &health["status"]), (200, &"healthy".into()));
        assert_eq!(health["services"]["vrf"]["status"], "up");
        assert!(health["services"]["vrf"]["latency_ms"].is_number(), "{health}");
        let detailed = Request::new("GET", "/health/detailed").send(address).json();
        assert_eq!(detailed["services"]["vrf"]["replicas"]["Ready"], 2, "{detailed}");
        assert_eq!(detailed["services"]["vrf"]["instances"][1]["id"], "vrf/1");
    }
    let head = Request::new("HEAD", "/health");
    assert_eq!(head.send(mesh.admin).status, 200);
}

#[test]
fn a_required_service_that_is_down_makes_the_whole_unhealthy_until_it_is_back() {
    let check = "healthCheck: {interval: 100ms, timeout: 100ms, unhealthyThreshold: 1}";
    let mesh = Mesh::new().yaml(&format!("    vrf: {{replicas: 1, {check}}}\n")).up();
    let health = |wanted: u16| {
        let ask = || Request::new("GET", "/health").send(mesh.gateway);
        eventually(&format!("status {wanted}"), || Some(ask()).filter(|answer| answer.status == wanted))
            .json()
    };
    let replica = mesh.pids("vrf")[0];
    kill(replica, Signal::STOP);
    let down = health(503);
    assert_eq!((&down["status"], &down["services"]["vrf"]["status"]), (&"unhealthy".into(), &"down".into()));
    assert_eq!(mesh.get("/v1/random/keys").problem(), (503, "NO_REPLICA_SELECTABLE".into()));
    kill(replica, Signal::CONT);
    assert_eq!(health(200)["status"], "healthy");
    kill(replica, Signal::KILL);
    eventually("the replica to be replaced", || {
        mesh.pids("vrf").iter().find(|pid| **pid != replica).copied()
    });
    mesh.until_selectable();
    assert!(mesh.replicas("vrf")[0]["restarts"].as_u64() >= Some(1));
}

#[test]
fn metrics_have_the_seeds_four_names() {
    let mesh = Mesh::new().service("vrf", 1).up();
    assert_eq!(mesh.get("/v1/random/keys").status, 200);
    assert_eq!(mesh.get("/nowhere").status, 404);
    let answer = eventually("the requests to be counted", || {
        let answer = Request::new("GET", "/metrics").send(mesh.admin);
        (answer.text().matches("request_count{").count() >= 2).then_some(answer)
    });
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let page = answer.text();
    for line in [
        "# TYPE request_count counter",
        "request_count{service=\"vrf\",route=\"/v1/random/{*rest}\",method=\"GET\",status=\"200\"} 1",
        "request_count{service=\"gateway\",route=\"unmatched\",method=\"GET\",status=\"404\"} 1",
        "# TYPE request_latency_ms histogram",
        "request_latency_ms_count{service=\"vrf\",route=\"/v1/random/{*rest}\"} 1",
        "error_rate{service=\"vrf\"} 0",
        "active_connections{listener=\"gateway\"} ",
        "active_connections{service=\"vrf\"} ",
        "serviceos_replicas{service=\"vrf\",state=\"Ready\"} 1",
    ] {
        assert!(page.contains(line), "{line}\n{page}");
    }
    assert!(!page.contains("/health"), "health end points are not counted");
}

#[test]
fn the_admin_port_wants_its_token_for_everything_else() {
    let mesh = Mesh::new().service("vrf", 1).up();
    assert_eq!(Request::new("GET", "/v1/status").send(mesh.admin).status, 401);
    let token = std::fs::read_to_string(mesh.folder().join(".serviceos/run/admin.token")).unwrap();
    let status: Value = Request::new("GET", "/v1/status").key(&token).send(mesh.admin).json();
    assert_eq!(status["pid"], mesh.pid());
}

#[test]
fn prometheus_itself_reads_the_metrics() {
    if !has_program("promtool") {
        return;
    }
    let mesh = Mesh::new().service("vrf", 1).up();
    assert_eq!(mesh.get("/v1/random/keys").status, 200);
    let page = Request::new("GET", "/metrics").send(mesh.admin).body;
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(&page).unwrap();
    let output = promtool.wait_with_output().unwrap();
    // 3 means that it can be read but that names are not to its taste; the seed's are a contract.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{output:?}");
}
