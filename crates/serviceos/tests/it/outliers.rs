//! Replicas that are up and yet do no good: their checks fail, their calls fail, or they hang.

use rustix::process::Signal;
use testkit::{Client, Http2, Mesh, Request, Running, Upstream, eventually, kill};

use crate::load::under_load;

fn get(client: &mut Client, mesh: &Running) -> u16 {
    client.send(&Request::new("GET", "/site/fixed/10").key(&mesh.key)).expect("the connection holds").status
}

fn health(mesh: &Running, place: usize) -> String {
    mesh.replicas("site")[place]["health"].as_str().unwrap().to_owned()
}

#[test]
fn a_replica_whose_calls_fail_is_left_alone_until_one_probe_succeeds() {
    let upstreams = [Upstream::new(), Upstream::new(), Upstream::new()];
    let failing = &upstreams[1];
    failing.set_failing(true);
    let addresses = upstreams.each_ref().map(|upstream| upstream.address);
    let keys = "outlier: {consecutiveFailures: 3, ejection: 400ms}, loadBalancing: {policy: round-robin}";
    let mesh = Mesh::new().endpoints_with("site", &addresses, keys).up();
    let mut client = Client::connect(mesh.gateway).unwrap();
    eventually("the ejection", || {
        let _good_or_bad = get(&mut client, &mesh);
        (health(&mesh, 1) == "ejected").then_some(())
    });
    let failed = failing.count();
    assert!(failed >= 3, "{failed} calls");
    let reason = mesh.replicas("site")[1]["reason"].to_string();
    assert!(reason.contains("its calls fail"), "{reason}");
    assert_eq!(Request::new("GET", "/health").send(mesh.gateway).json()["status"], "degraded");

    // Until it is tried again nobody sees a failure; then one call does, and it is ejected for longer.
    let mut seen = Vec::new();
    eventually("the probe", || {
        seen.push(get(&mut client, &mesh));
        (failing.count() > failed).then_some(())
    });
    let (probe, others) = seen.split_last().unwrap();
    assert_eq!(*probe, 500);
    assert!(others.iter().all(|status| *status == 200), "{others:?}");
    eventually("another ejection", || (health(&mesh, 1) == "ejected").then_some(()));
    assert_eq!(failing.count(), failed + 1, "one call decided");

    failing.set_failing(false);
    eventually("its return", || {
        assert_eq!(get(&mut client, &mesh), 200);
        (failing.count() > failed + 5).then_some(())
    });
    assert_eq!(health(&mesh, 1), "healthy");
}

#[test]
fn a_status_of_grpc_behind_the_body_is_a_failure_too() {
    let upstreams = [Upstream::http2(), Upstream::http2()];
    upstreams[1].set_failing(true);
    let addresses = upstreams.each_ref().map(|upstream| upstream.address);
    let keys = "protocol: http2, healthCheck: {protocol: http}, \
        outlier: {consecutiveFailures: 3, ejection: 60s}, loadBalancing: {policy: round-robin}";
    let mesh = Mesh::new().endpoints_with("site", &addresses, keys).up();
    let client = Http2::connect(mesh.gateway);
    let call = |status: u16| {
        let request = Http2::request("POST", &format!("/site/grpc/{status}"), &[("x-api-key", &mesh.key)]);
        client.send(request, Vec::new()).trailer("grpc-status").unwrap().to_owned()
    };
    // Back-pressure is no failure, however often it is answered.
    let statuses: Vec<_> = (0..20).map(|_| call(8)).collect();
    assert_eq!(statuses.iter().filter(|status| *status == "8").count(), 10, "{statuses:?}");
    eventually("the ejection", || {
        let _good_or_bad = call(14);
        (health(&mesh, 1) == "ejected").then_some(())
    });
    let refused = upstreams[1].count();
    assert_eq!((0..10).map(|_| call(14)).collect::<Vec<_>>(), ["0"; 10]);
    assert_eq!(upstreams[1].count(), refused);
}

#[test]
fn the_last_replicas_are_not_ejected_however_they_fail() {
    let upstream = Upstream::new();
    upstream.set_failing(true);
    let keys = "outlier: {consecutiveFailures: 2, ejection: 60s}";
    let mesh = Mesh::new().endpoints_with("site", &[upstream.address], keys).up();
    let mut client = Client::connect(mesh.gateway).unwrap();
    for _ in 0..20 {
        assert_eq!(get(&mut client, &mesh), 500, "its own answer, not the gateway's");
    }
    upstream.set_failing(false);
    assert_eq!(get(&mut client, &mesh), 200);
}

#[test]
fn a_replica_that_fails_its_checks_gets_nothing_until_it_passes_them() {
    let upstreams = [Upstream::new(), Upstream::new()];
    let addresses = upstreams.each_ref().map(|upstream| upstream.address);
    let keys = "healthCheck: {interval: 200ms, timeout: 200ms}";
    let mesh = Mesh::new().endpoints_with("site", &addresses, keys).up();
    let mut client = Client::connect(mesh.gateway).unwrap();
    upstreams[0].set_healthy(false);
    eventually("the verdict", || (health(&mesh, 0) == "unhealthy").then_some(()));
    assert!(mesh.replicas("site")[0]["reason"].to_string().contains("GET /health answered 500"));
    let before = upstreams[0].count();
    for _ in 0..20 {
        assert_eq!(get(&mut client, &mesh), 200);
    }
    assert_eq!(upstreams[0].count(), before);
    upstreams[0].set_healthy(true);
    eventually("its return", || {
        assert_eq!(get(&mut client, &mesh), 200);
        (upstreams[0].count() > before).then_some(())
    });
}

#[test]
fn a_check_over_tcp_asks_only_whether_a_connection_is_accepted() {
    let upstream = Upstream::new();
    upstream.set_healthy(false);
    let keys = "healthCheck: {protocol: tcp, interval: 200ms, timeout: 200ms}";
    let mesh = Mesh::new().endpoints_with("site", &[upstream.address], keys).up();
    assert_eq!(get(&mut Client::connect(mesh.gateway).unwrap(), &mesh), 200);
    drop(upstream);
    eventually("the verdict", || (health(&mesh, 0) == "unhealthy").then_some(()));
    assert_eq!(mesh.get("/site/fixed/1").problem(), (503, "NO_REPLICA_SELECTABLE".into()));
}

/// How many lines of the access log name a replica, once everything that was answered before is in it.
fn logged_calls_of(mesh: &Running, replica: &str) -> usize {
    let log = || std::fs::read_to_string(mesh.folder().join(".serviceos/logs/access.jsonl")).unwrap();
    // Each worker writes its lines by itself, so each has to be asked.
    let asked = (0..16).map(|_| mesh.get("/v1/random/keys").header("x-request-id").unwrap().to_owned());
    for id in asked.collect::<Vec<_>>() {
        eventually("the line of a request", || log().contains(&id).then_some(()));
    }
    log().lines().filter(|line| line.contains(&format!("\"replica\":\"{replica}\""))).count()
}

#[test]
fn a_replica_that_hangs_under_load_costs_no_request_and_gets_no_more() {
    let keys = "replicas: 3, healthCheck: {interval: 10s, timeout: 500ms}, retry: {perTryTimeout: 500ms}";
    let mesh = Mesh::new().yaml(&format!("    vrf: {{{keys}}}\n")).up();
    under_load(&mesh, "/v1/random/keys", |load| {
        load.until_more(300);
        let hung = mesh.pids("vrf")[1];
        kill(hung, Signal::STOP);
        // With the first calls that run into the time of one try, an immediate check decides.
        eventually("the verdict", || (mesh.replicas("vrf")[1]["health"] == "unhealthy").then_some(()));
        // Calls that were on their way have ended elsewhere by then.
        eventually("nothing in flight there", || (mesh.replicas("vrf")[1]["inFlight"] == 0).then_some(()));
        load.until_more(300);
        let before = logged_calls_of(&mesh, "vrf/1");
        load.until_more(2000);
        assert_eq!(logged_calls_of(&mesh, "vrf/1"), before, "it gets nothing while it hangs");
        kill(hung, Signal::CONT);
        eventually("its return", || (logged_calls_of(&mesh, "vrf/1") > before).then_some(()));
    });
}
