//! API keys as an operator handles them: made, rotated, revoked, while callers go on asking.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use testkit::{Client, Etcd, Mesh, Request, Running, Upstream, eventually};

use crate::nodes::{PATH, two};

/// Failed credentials are limited by address, and in these tests every caller has the same.
const MANY_MAY_FAIL: &str = "rateLimits: {failedAuthentication: {rate: 10000/s, burst: 10000}}";

fn site(upstream: &Upstream, gateway: &str) -> Running {
    let routes = "routes: [{match: {path: '/echo'}, scopes: [site]}]";
    let gateway = format!("{gateway}, {MANY_MAY_FAIL}");
    Mesh::new().gateway(&gateway).endpoints_with("site", &[upstream.address], routes).up()
}

/// A command of `keys` that must succeed, with its document.
pub(crate) fn keys(mesh: &Running, arguments: &[&str]) -> Value {
    let finished = mesh.run(&[&["keys"], arguments, &["--json"]].concat());
    assert_eq!(finished.code, 0, "{arguments:?}: {}", finished.err);
    serde_json::from_str(&finished.out).unwrap()
}

fn made(mesh: &Running, scope: &str) -> (String, String) {
    let made = keys(mesh, &["create", "--name=shop", &format!("--scopes={scope}")]);
    (text(&made["id"]), text(&made["key"]))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value}")).to_owned()
}

fn status(mesh: &Running, path: &str, key: &str) -> u16 {
    Request::new("GET", path).key(key).send(mesh.gateway).status
}

#[test]
fn a_rotated_key_has_two_secrets_for_a_while_also_after_a_kill() {
    let upstream = Upstream::new();
    let mut mesh = site(&upstream, "workers: 2");
    let (id, first) = made(&mesh, "site");
    let rotated = keys(&mesh, &["rotate", &id]);
    let second = text(&rotated["key"]);
    assert_eq!(rotated["id"], id.as_str());
    let end: jiff::Timestamp = text(&rotated["previousEndsAt"]).parse().unwrap();
    let left = end.duration_since(jiff::Timestamp::now());
    assert!((23 * 3600..=24 * 3600).contains(&left.as_secs()), "{left}");
    let statuses = |mesh: &Running, keys: &[&String]| -> Vec<u16> {
        keys.iter().map(|key| status(mesh, "/echo", key)).collect()
    };
    assert_eq!(statuses(&mesh, &[&first, &second]), [200, 200]);
    let listed = keys(&mesh, &["list"]);
    assert_eq!(
        (&listed[0]["previousEndsAt"], &listed[0]["name"]),
        (&rotated["previousEndsAt"], &"shop".into())
    );
    let table = mesh.run(&["keys", "list"]).out;
    assert!(table.contains("OLD ONE ENDS") && table.contains(&format!("{end:.0}")), "{table}");

    // Whoever has the answer has the key, however this one ends.
    let shown = mesh.run(&["keys", "rotate", &id, "--overlap", "7d"]);
    mesh.signal(Signal::KILL);
    mesh.wait();
    assert!(shown.out.contains("The one before it is good until"), "{}{}", shown.out, shown.err);
    let third = shown.out.split_whitespace().nth(1).unwrap().to_owned();
    let mesh = mesh.up_again();
    assert_eq!(statuses(&mesh, &[&first, &second, &third]), [401, 200, 200], "two at the most");
    let shown = mesh.run(&["keys", "rotate", &id, "--overlap=0s"]).out;
    assert!(shown.contains("The one before it is good no more."), "{shown}");
    let fourth = shown.split_whitespace().nth(1).unwrap().to_owned();
    assert_eq!(statuses(&mesh, &[&second, &third, &fourth]), [401, 401, 200]);

    assert_eq!(mesh.run(&["keys", "rotate", "key_none"]).code, 1);
    assert_eq!(mesh.run(&["keys", "rotate", &id, "--overlap=8d"]).code, 2);
    assert_eq!(mesh.run(&["keys", "revoke", &id]).code, 0);
    assert_eq!(statuses(&mesh, &[&third, &fourth]), [401, 401]);
    let ended = mesh.run(&["keys", "rotate", &id]);
    assert!(ended.code == 1 && ended.err.contains("KEY_ENDED"), "{}", ended.err);
    let trail = std::fs::read_to_string(mesh.folder().join(".serviceos/audit.jsonl")).unwrap();
    assert_eq!(trail.matches("\"key-rotate\"").count(), 3, "{trail}");
    assert!([&first, &second, &third, &fourth].iter().all(|key| !trail.contains(key.as_str())), "{trail}");
}

#[test]
fn once_a_revocation_is_answered_no_request_is_admitted_on_any_connection() {
    let upstream = Upstream::new();
    let mesh = site(&upstream, "workers: 2");
    let (id, key) = made(&mesh, "site");
    let (revoked, admitted) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = Client::connect(mesh.gateway).unwrap();
                    let request = Request::new("GET", "/echo").key(&key);
                    let mut after = Vec::new();
                    while after.len() < 20 {
                        let is_revoked = revoked.load(Ordering::SeqCst);
                        let answer = client.send(&request).expect("the connection holds");
                        match answer.status {
                            200 => admitted.fetch_add(1, Ordering::SeqCst),
                            401 => 0,
                            other => panic!("{other}: {}", answer.text()),
                        };
                        if is_revoked {
                            after.push(answer.status);
                        }
                    }
                    after
                })
            })
            .collect();
        eventually("requests under load", || (admitted.load(Ordering::SeqCst) >= 400).then_some(()));
        let finished = mesh.run(&["keys", "revoke", &id]);
        // Before anything is asserted, since the clients are waited for.
        revoked.store(true, Ordering::SeqCst);
        assert_eq!(finished.code, 0, "{}", finished.err);
        for client in clients {
            assert_eq!(client.join().expect("a client without a failure"), [401; 20]);
        }
    });
}

#[test]
fn what_is_rotated_or_revoked_at_one_node_counts_at_the_other_within_a_second() {
    let Some(etcd) = Etcd::start(1) else { return };
    let (one, two) = two(&etcd);
    let (id, first) = made(&one, "randomness");
    let within_a_second = |what: &str, is_so: &dyn Fn() -> bool| {
        let since = Instant::now();
        eventually(what, || is_so().then_some(()));
        assert!(since.elapsed() < Duration::from_secs(1), "{what} took {:?}", since.elapsed());
    };
    within_a_second("the key at the other", &|| status(&two, PATH, &first) == 200);
    let second = text(&keys(&one, &["rotate", &id])["key"]);
    within_a_second("the new secret at the other", &|| status(&two, PATH, &second) == 200);
    assert_eq!(status(&two, PATH, &first), 200);
    // The other way round, and twice: nobody brings back what the other has ended.
    let third = text(&keys(&two, &["rotate", &id])["key"]);
    within_a_second("the third at the first node", &|| status(&one, PATH, &third) == 200);
    assert_eq!([status(&one, PATH, &first), status(&two, PATH, &first)], [401, 401]);
    assert_eq!(one.run(&["keys", "revoke", &id]).code, 0);
    within_a_second("the revocation at the other", &|| status(&two, PATH, &third) == 401);
    assert_eq!([status(&one, PATH, &third), status(&two, PATH, &second)], [401, 401]);
}

#[test]
fn a_key_of_production_is_none_in_development() {
    let upstream = Upstream::new();
    let mesh = site(&upstream, "workers: 1");
    let live = access::ApiKey::from_bits(access::KeyKind::Live, &[7; 32]);
    let answer = Request::new("GET", "/echo").key(live.expose()).send(mesh.gateway);
    assert_eq!(answer.problem(), (401, "AUTH_INVALID".into()));
    eventually("the reason in the access log", || {
        let log = std::fs::read_to_string(mesh.folder().join(".serviceos/logs/access.jsonl"));
        log.unwrap_or_default().contains("it is an API key of the other mode").then_some(())
    });
}

#[test]
fn a_development_key_that_would_not_be_taken_is_not_printed() {
    let upstream = Upstream::new();
    let mesh = Mesh::new().gateway("authentication: {apiKeys: false}").endpoints("site", &[upstream.address]);
    let mesh = mesh.up_when("an answer of the admin API", |_| true);
    let shown = eventually("the addresses to be printed", || {
        let out = std::fs::read_to_string(mesh.folder().join("up.out")).unwrap_or_default();
        out.contains("Ctrl-C drains").then_some(out)
    });
    assert!(shown.contains("  gateway   http://") && !shown.contains("sk_test_"), "{shown}");
}
