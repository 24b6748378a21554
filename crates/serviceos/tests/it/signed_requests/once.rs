//! Each signed request is good once: over time, under a flood, among workers and among gateways.

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::Signal;
use testkit::{Client, Etcd, Mesh, Redis, Request, Upstream, eventually};

use super::{Caller, GATEWAY, site};
use crate::nodes::{PATH, node, until_it_selects};

#[test]
fn a_caller_that_floods_with_nonces_waits_and_others_do_not() {
    let upstream = Upstream::new();
    let mesh = site(&upstream);
    let (flood, other) = (Caller::new(&mesh, 1), Caller::new(&mesh, 2));
    flood.until_taken(&mesh);
    let first = flood.sign_at("GET", "/v1/quota", b"", 0, 300);
    assert_eq!(first.send(&mesh).status, 200);
    let taken = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = Client::connect(mesh.gateway).unwrap();
                loop {
                    let signed = flood.sign_at("GET", "/v1/quota", b"", 0, 300);
                    let mut request = Request::new("GET", "/v1/quota");
                    for (name, value) in &signed.fields {
                        request = request.header(name, value);
                    }
                    let answer = client.send(&request).expect("the connection holds");
                    if answer.status != 200 {
                        assert_eq!(answer.problem(), (503, "OVERLOADED".into()));
                        let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
                        assert!((1..=360).contains(&wait), "{wait}");
                        return;
                    }
                    assert!(taken.fetch_add(1, Ordering::Relaxed) < 25_000, "nothing stops it");
                }
            });
        }
    });
    assert!(taken.load(Ordering::Relaxed) > 24_000, "{taken:?}");
    assert_eq!(first.send(&mesh).problem(), (401, "AUTH_INVALID".into()), "no nonce was forgotten");
    assert_eq!(other.sign("GET", "/echo", b"").send(&mesh).status, 200);
}

#[test]
fn of_a_request_that_is_sent_many_times_at_once_one_is_taken() {
    let upstream = Upstream::new();
    let mesh = site(&upstream);
    let caller = Caller::new(&mesh, 1);
    caller.until_taken(&mesh);
    for _ in 0..20 {
        let request = caller.sign("POST", "/echo", b"once");
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let senders: Vec<_> = (0..8).map(|_| scope.spawn(|| request.send(&mesh).status)).collect();
            senders.into_iter().map(|sender| sender.join().expect("an answer")).collect()
        });
        let count = |wanted| statuses.iter().filter(|status| **status == wanted).count();
        assert_eq!((count(200), count(401)), (1, 7), "{statuses:?}");
    }
}

#[test]
fn what_was_signed_before_a_process_began_is_refused_by_it() {
    let upstream = Upstream::new();
    let mut mesh = site(&upstream);
    let caller = Caller::new(&mesh, 1);
    caller.until_taken(&mesh);
    let used = caller.sign("GET", "/echo", b"");
    assert_eq!(used.send(&mesh).status, 200);
    mesh.signal(Signal::KILL);
    mesh.wait();
    let mesh = mesh.up_again();
    assert_eq!(used.send(&mesh).problem(), (401, "AUTH_INVALID".into()), "nobody knows whether it was used");
    caller.until_taken(&mesh);
}

#[test]
fn gateways_that_share_redis_take_a_signed_request_once_between_them_and_none_while_it_is_away() {
    let (Some(etcd), Some(mut redis)) = (Etcd::start(1), Redis::start()) else { return };
    let gateway = format!(
        "authentication: {{signedRequests: {{}}}}, rateLimits: {{shared: \"{}\", failedAuthentication: {{rate: 10000/s, burst: 10000}}}}",
        redis.url()
    );
    let one = node(&etcd, "n1", None).gateway(&gateway).up();
    let two = node(&etcd, "n2", Some(&one)).gateway(&gateway).up();
    let both = [&one, &two];
    both.iter().for_each(|mesh| until_it_selects(mesh, &["vrf/0@n1", "vrf/0@n2"]));
    let caller = Caller::with_scope(&one, 9, "randomness");
    both.iter().for_each(|mesh| caller.until_taken_for(mesh, PATH));
    for [first, second] in [[&one, &two], [&two, &one]] {
        let request = caller.sign("GET", PATH, b"");
        assert_eq!(request.send(first).status, 200);
        assert_eq!(request.send(second).problem(), (401, "AUTH_INVALID".into()), "at the other gateway");
        assert_eq!(request.send(first).problem(), (401, "AUTH_INVALID".into()));
    }
    redis.kill();
    for mesh in both {
        let refused = caller.sign("GET", PATH, b"").send(mesh);
        assert_eq!(refused.problem(), (503, "LIMITS_UNAVAILABLE".into()));
        assert_eq!(mesh.get(PATH).status, 200, "others are counted by each gateway");
    }
    redis.restart();
    both.iter().for_each(|mesh| caller.until_taken_for(mesh, PATH));
}

#[test]
fn a_signed_request_that_is_refused_by_a_limit_uses_up_no_nonce() {
    let upstream = Upstream::new();
    let routes = "routes: [{match: {path: '/{*rest}'}, scopes: [site], rateLimit: {rate: 100/s, burst: 1}}]";
    let mesh = Mesh::new().gateway(GATEWAY).endpoints_with("site", &[upstream.address], routes).up();
    let caller = Caller::new(&mesh, 1);
    caller.until_taken(&mesh);
    let request = eventually("a request that meets the limit", || {
        caller.sign("GET", "/echo", b"").send(&mesh);
        let request = caller.sign("GET", "/echo", b"");
        (request.send(&mesh).status == 429).then_some(request)
    });
    eventually("the same request to be let through", || {
        let status = request.send(&mesh).status;
        assert!([200, 429].contains(&status), "{status}");
        (status == 200).then_some(())
    });
    assert_eq!(request.send(&mesh).problem(), (401, "AUTH_INVALID".into()));
}

#[test]
fn signed_requests_for_a_page_of_the_gateway_are_counted_since_each_takes_room_for_its_nonce() {
    let mesh = site(&Upstream::new());
    let caller = Caller::in_tier(&mesh, 1, "site", "free");
    caller.until_taken_for(&mesh, "/v1/quota");
    let refused = eventually("a request that meets the tier's limit", || {
        let answer = caller.sign("GET", "/v1/quota", b"").send(&mesh);
        (answer.status != 200).then_some(answer)
    });
    assert_eq!(refused.problem(), (429, "RATE_LIMITED".into()));
}
