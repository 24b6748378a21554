//! Several gateways that count together in one Redis, and what each of them does when it cannot.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::{Answer, Connection, Mesh, Redis, Request, Running, Upstream, eventually};

/// What `up` logs when Redis fails, and when it works again.
const FAILS: &str = "cannot count the limits";
const AGAIN: &str = "counts the limits again";
/// An address, and a route, may call so often at once; nothing comes back while a test runs.
const BURST: usize = 10;

/// A file with a public route, whose clients are told apart by what a proxy says of them.
fn file(upstream: &Upstream, shared: &str) -> String {
    let address = upstream.address;
    format!(
        "gateway: {{trustedProxies: [127.0.0.0/8], rateLimits: {{perAddress: {{rate: 1/d, burst: {BURST}}}, tiers: {{t: {{rate: 1/d, burst: 9, daily: 50}}}}, {shared}}}}}
services:
  site:
    endpoints: [\"http://{address}\"]
    attestation: none
    healthCheck: {{protocol: tcp}}
    routes:
      - {{match: {{path: \"/open/{{*rest}}\"}}, public: true, stripPrefix: true}}
      - {{match: {{path: \"/few/{{*rest}}\"}}, public: true, stripPrefix: true, rateLimit: {{rate: 1/d, burst: {BURST}}}}}
      - {{match: {{path: \"/keyed/{{*rest}}\"}}, stripPrefix: true, scopes: [site]}}
"
    )
}

fn gateway(upstream: &Upstream, shared: &str) -> Running {
    let mesh = Mesh::new();
    mesh.write(&file(upstream, shared));
    mesh.up()
}

fn shared_by(redis: &Redis) -> String {
    format!("shared: \"{}\"", redis.url())
}

fn call(gateway: &Running, path: &str, client: &str) -> Answer {
    Request::new("GET", path).header("x-forwarded-for", client).send(gateway.gateway)
}

/// How many of twice as many calls as an address may make are let through, at these gateways in turn.
fn admitted(gateways: &[&Running], path: &str, clients: &str) -> usize {
    let status = |number: usize| {
        // Each call of a route from another address.
        let client = clients.replace('*', &number.to_string());
        let status = call(gateways[number % gateways.len()], path, &client).status;
        assert!([200, 429].contains(&status), "{status}");
        status
    };
    (0..2 * BURST).filter(|number| status(*number) == 200).count()
}

/// A key of the tier of the file.
fn created(gateway: &Running) -> Value {
    let created = gateway.run(&["keys", "create", "--name=a", "--scopes=site", "--tier=t", "--json"]).out;
    serde_json::from_str(&created).unwrap()
}

fn counted(gateway: &Running, metric: &str) -> u64 {
    let page = Request::new("GET", "/metrics").send(gateway.admin).text();
    let sample = page.lines().find_map(|line| line.strip_prefix(metric)?.trim().parse().ok());
    sample.unwrap_or_else(|| panic!("no {metric}: {page}"))
}

fn failures(gateway: &Running) -> u64 {
    counted(gateway, "serviceos_shared_limits_failed_total ")
}

fn lines(gateway: &Running, text: &str) -> usize {
    gateway.log().matches(text).count()
}

#[test]
fn an_address_and_a_route_are_counted_together() {
    let (Some(redis), upstream) = (Redis::start(), Upstream::new()) else { return };
    let (one, other) = (gateway(&upstream, &shared_by(&redis)), gateway(&upstream, &shared_by(&redis)));
    let both = [&one, &other];
    assert_eq!(admitted(&both, "/open/fixed/3", "192.0.2.1"), BURST);
    assert_eq!(admitted(&both, "/open/fixed/3", "192.0.2.2"), BURST, "another address");
    assert_eq!(admitted(&both, "/few/fixed/3", "198.51.100.*"), BURST, "a route");
    let refused = call(&one, "/open/fixed/3", "192.0.2.1");
    assert_eq!(refused.problem(), (429, "RATE_LIMITED".into()));
    assert_eq!(refused.header("x-ratelimit-remaining"), Some("0"));
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((86_000..=86_400).contains(&seconds), "{seconds}");
    assert_eq!(call(&one, "/health", "192.0.2.1").status, 200, "own pages are counted here alone");
    let first = call(&other, "/open/fixed/3", "192.0.2.3");
    assert_eq!(first.header("ratelimit"), Some("\"address\";r=9;t=86400"));
    let keys = redis.ask(&["KEYS", "*"]);
    assert!(keys.contains("serviceos:{serviceos.dev.invalid}:address:"), "{keys}");
    assert!(!keys.contains("192.0.2") && !keys.contains("few"), "{keys}");
    assert_eq!((failures(&one), lines(&one, FAILS), lines(&one, "counts the limits\n")), (0, 0, 1));
}

#[test]
fn clients_of_two_gateways_never_get_more_than_the_burst_and_the_rate() {
    let (Some(redis), upstream) = (Redis::start(), Upstream::new()) else { return };
    let limit = |text: &str| {
        text.replace("perAddress: {rate: 1/d, burst: 10}", "perAddress: {rate: 50/s, burst: 20}")
    };
    let gateways = [(); 2].map(|()| {
        let mesh = Mesh::new();
        mesh.write(&limit(&file(&upstream, &shared_by(&redis))));
        mesh.up()
    });
    let (began, window) = (Instant::now(), Duration::from_secs(1));
    let client = |number: usize| {
        let mut admitted = 0;
        while began.elapsed() < window {
            let status = call(&gateways[number % 2], "/open/fixed/3", "192.0.2.1").status;
            assert!([200, 429].contains(&status), "{status}");
            admitted += u128::from(status == 200);
        }
        admitted
    };
    let admitted: u128 = std::thread::scope(|scope| {
        let client = &client;
        let clients: Vec<_> = (0..8).map(|number| scope.spawn(move || client(number))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    let most = 20 + began.elapsed().as_millis() / 20 + 1;
    assert!((30..=most).contains(&admitted), "{admitted}, and at most {most} are allowed");
    assert_eq!([failures(&gateways[0]), failures(&gateways[1])], [0, 0]);
}

/// Calls from ever other addresses while `work` goes on; every status that came.
fn under_load(gateway: &Running, work: impl FnOnce()) -> Vec<u16> {
    let over = AtomicBool::new(false);
    let client = |thread: u32| {
        let (mut statuses, mut number) = (Vec::new(), 0);
        while !over.load(Ordering::Relaxed) {
            number += 1;
            let client = format!("10.{thread}.{}.{}", number / 200, number % 200);
            statuses.push(call(gateway, "/open/fixed/3", &client).status);
        }
        statuses
    };
    std::thread::scope(|scope| {
        let client = &client;
        let clients: Vec<_> = (0..3).map(|thread| scope.spawn(move || client(thread))).collect();
        work();
        over.store(true, Ordering::Relaxed);
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    })
}

#[test]
fn without_redis_each_gateway_counts_by_itself_and_with_it_they_count_together_again() {
    let (Some(mut redis), upstream) = (Redis::start(), Upstream::new()) else { return };
    let (one, other) = (gateway(&upstream, &shared_by(&redis)), gateway(&upstream, &shared_by(&redis)));
    let statuses = under_load(&one, || {
        redis.kill();
        one.until_logged(0, FAILS);
    });
    assert!(statuses.iter().all(|status| *status == 200), "nobody was refused, of {}", statuses.len());
    other.until_logged(0, FAILS);
    assert_eq!(admitted(&[&one], "/open/fixed/3", "192.0.2.1"), BURST, "a limit holds all the same");
    assert_eq!(admitted(&[&other], "/open/fixed/3", "192.0.2.1"), BURST, "at each gateway");
    assert!(failures(&one) >= 20, "{}", failures(&one));
    redis.restart();
    for gateway in [&one, &other] {
        gateway.until_logged(0, AGAIN);
    }
    assert_eq!(admitted(&[&one, &other], "/open/fixed/3", "192.0.2.9"), BURST);
    assert_eq!([lines(&one, FAILS), lines(&one, AGAIN)], [1, 1], "{}", one.log());
}

#[test]
fn when_redis_fails_each_gateway_goes_on_from_what_was_left() {
    let (Some(mut redis), upstream) = (Redis::start(), Upstream::new()) else { return };
    let (one, other) = (gateway(&upstream, &shared_by(&redis)), gateway(&upstream, &shared_by(&redis)));
    let created = created(&one);
    let key = created["key"].as_str().unwrap();
    let keyed = || Request::new("GET", "/keyed/fixed/3").key(key).send(one.gateway);
    for _ in 0..3 {
        assert_eq!(keyed().status, 200);
    }
    // The one hears of six of ten, the other of the seventh.
    for number in 0..6 {
        assert_eq!(call(&one, "/few/fixed/3", &format!("198.51.100.{number}")).status, 200);
        assert_eq!(call(&one, "/open/fixed/3", "192.0.2.1").status, 200);
    }
    assert_eq!(call(&other, "/few/fixed/3", "198.51.100.7").status, 200);
    assert_eq!(call(&other, "/open/fixed/3", "192.0.2.1").status, 200);
    redis.kill();
    for (gateway, left) in [(&one, 4), (&other, 3)] {
        gateway.until_logged(0, FAILS);
        assert_eq!(admitted(&[gateway], "/open/fixed/3", "192.0.2.1"), left, "of an address");
        assert_eq!(admitted(&[gateway], "/few/fixed/3", "203.0.113.*"), left, "of a route");
        assert_eq!(admitted(&[gateway], "/open/fixed/3", "192.0.2.2"), BURST, "one that has not called");
    }
    let quota = Request::new("GET", "/v1/quota").key(key).send(one.gateway).json();
    assert_eq!([&quota["rate"]["remaining"], &quota["daily"]["remaining"]], [6, 47]);
    let of_caller = (0..20).filter(|_| keyed().status == 200).count();
    assert_eq!(of_caller, 6, "of a caller");
}

/// As many requests of one client at the same time as connections; how many were answered with each status.
fn burst(
    gateway: &Running,
    client: &str,
    connections: usize,
    meanwhile: impl FnOnce(),
) -> BTreeMap<u16, usize> {
    let mut open: Vec<_> = (0..connections).map(|_| Connection::open(gateway.gateway)).collect();
    for connection in &mut open {
        let head = format!("GET /open/fixed/3 HTTP/1.1\r\nhost: a\r\nx-forwarded-for: {client}\r\n\r\n");
        connection.write(head).unwrap();
    }
    meanwhile();
    let mut statuses = BTreeMap::new();
    for mut connection in open {
        *statuses.entry(connection.answer().unwrap().status).or_default() += 1;
    }
    statuses
}

#[test]
fn a_burst_beyond_what_may_wait_and_a_redis_that_ends_in_it_give_nobody_more_than_is_left() {
    let (Some(mut redis), upstream) = (Redis::start(), Upstream::new()) else { return };
    let mesh = Mesh::new();
    mesh.write(&file(&upstream, &shared_by(&redis)).replace("gateway: {", "gateway: {workers: 1, "));
    let gateway = mesh.up();
    let many = 2 * shared_limits::MAX_WAITING;
    let only_refused = |statuses: &BTreeMap<u16, usize>| {
        assert!(statuses.keys().all(|status| [200, 429, 503].contains(status)), "{statuses:?}");
        statuses.get(&200).copied().unwrap_or_default()
    };
    let counted = only_refused(&burst(&gateway, "192.0.2.1", many, || {}));
    // On a machine that is held up for so long Redis fails, and what it has counted without a word is counted here once more.
    let most = if lines(&gateway, FAILS) == 0 { BURST } else { 2 * BURST };
    assert!((BURST..=most).contains(&counted), "{counted}");
    eventually("Redis to be asked", || {
        (call(&gateway, "/open/fixed/3", "192.0.2.2").status == 200).then_some(())
    });
    assert_eq!(call(&gateway, "/open/fixed/3", "192.0.2.1").status, 429);
    let ended = burst(&gateway, "192.0.2.1", many, || redis.kill());
    assert_eq!(only_refused(&ended), 0, "{ended:?}");
    gateway.until_logged(0, FAILS);
    redis.restart();
    gateway.until_logged(0, AGAIN);
    // It has forgotten everything, so that there is a whole burst again, and no more.
    assert_eq!(admitted(&[&gateway], "/open/fixed/3", "192.0.2.3"), BURST);
    redis.pause();
    let hung = burst(&gateway, "192.0.2.3", many, || {});
    assert_eq!(only_refused(&hung), 0, "{hung:?}");
    redis.resume();
}

#[test]
fn fail_closed_refuses_what_has_a_limit_and_nothing_else_until_redis_is_back() {
    let (Some(mut redis), upstream) = (Redis::start(), Upstream::new()) else { return };
    let gateway = gateway(&upstream, &format!("{}, onSharedFailure: closed", shared_by(&redis)));
    assert_eq!(call(&gateway, "/open/fixed/3", "192.0.2.1").status, 200);
    let statuses = under_load(&gateway, || {
        redis.kill();
        gateway.until_logged(0, FAILS);
        eventually("somebody to be refused", || (failures(&gateway) > 10).then_some(()));
    });
    assert!(statuses.iter().all(|status| [200, 503].contains(status)), "{statuses:?}");
    let refused = call(&gateway, "/open/fixed/3", "192.0.2.1");
    assert_eq!(refused.problem(), (503, "LIMITS_UNAVAILABLE".into()));
    assert_eq!((refused.header("retry-after"), refused.header("ratelimit")), (Some("1"), None));
    assert_eq!(gateway.get("/v1/quota").status, 200, "the development key has no limit");
    assert_eq!(gateway.get("/health").status, 200);
    redis.restart();
    gateway.until_logged(0, AGAIN);
    assert_eq!(call(&gateway, "/open/fixed/3", "192.0.2.1").status, 200);
    assert_eq!([lines(&gateway, FAILS), lines(&gateway, AGAIN)], [1, 1], "{}", gateway.log());
}

#[test]
fn a_redis_that_hangs_holds_requests_up_no_longer_than_the_limit() {
    let (Some(redis), upstream) = (Redis::start(), Upstream::new()) else { return };
    let gateway = gateway(&upstream, &shared_by(&redis));
    assert_eq!(call(&gateway, "/open/fixed/3", "192.0.2.1").status, 200);
    redis.pause();
    let began = Instant::now();
    for _ in 0..20 {
        assert!([200, 429].contains(&call(&gateway, "/open/fixed/3", "192.0.2.1").status));
    }
    // One answer for each worker was waited for, 100 ms each; the rest is for a machine that is busy.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    gateway.until_logged(0, FAILS);
    redis.resume();
    gateway.until_logged(0, AGAIN);
    let before = failures(&gateway);
    assert_eq!(admitted(&[&gateway], "/open/fixed/3", "192.0.2.2"), BURST);
    assert_eq!(failures(&gateway), before);
}

#[test]
fn a_redis_that_has_forgotten_scripts_or_everything_goes_on_counting() {
    let (Some(redis), upstream) = (Redis::start(), Upstream::new()) else { return };
    let gateway = gateway(&upstream, &format!("{}, onSharedFailure: closed", shared_by(&redis)));
    assert_eq!(admitted(&[&gateway], "/open/fixed/3", "192.0.2.1"), BURST);
    assert_eq!(redis.ask(&["SCRIPT", "FLUSH"]), "OK");
    assert_eq!(call(&gateway, "/open/fixed/3", "192.0.2.1").status, 429, "what was counted stays");
    assert_eq!(redis.ask(&["FLUSHALL"]), "OK");
    assert_eq!(admitted(&[&gateway], "/open/fixed/3", "192.0.2.1"), BURST, "it begins anew");
    assert_eq!((failures(&gateway), lines(&gateway, FAILS)), (0, 0));
}

#[test]
fn a_password_stands_in_a_file_alone_and_another_one_is_taken_over() {
    let (Some(redis), upstream) = (Redis::start_with(&["--requirepass", "right-horse"]), Upstream::new())
    else {
        return;
    };
    let shared = format!(
        "shared: {{url: \"{}\", passwordFile: redis.password}}, onSharedFailure: closed",
        redis.url()
    );
    let mesh = Mesh::new();
    mesh.write(&file(&upstream, &shared));
    assert!(mesh.run(&["config", "validate"]).err.contains("redis.password cannot be used"));
    std::fs::write(mesh.folder().join("redis.password"), "wrong-horse\n").unwrap();
    let gateway = mesh.up();
    let log = gateway.until_logged(0, FAILS);
    assert!(log.contains("WRONGPASS") || log.contains("uthentication"), "{log}");
    assert_eq!(call(&gateway, "/open/fixed/3", "192.0.2.1").problem().1, "LIMITS_UNAVAILABLE");
    std::fs::write(gateway.folder().join("redis.password"), "right-horse\n").unwrap();
    eventually("the other password to be used", || {
        (call(&gateway, "/open/fixed/3", "192.0.2.1").status == 200).then_some(())
    });
    let shown = gateway.run(&["config", "show"]);
    assert!(shown.out.contains("redis.password"), "{shown:?}");
    assert!(!(shown.out + &gateway.log()).contains("-horse"));
}

#[test]
fn a_reload_turns_it_on_and_off() {
    let (Some(redis), upstream) = (Redis::start(), Upstream::new()) else { return };
    let (one, other) = (gateway(&upstream, ""), gateway(&upstream, &shared_by(&redis)));
    let change = |shared: &str| {
        let seen = one.log().len();
        std::fs::write(one.folder().join("new.yaml"), file(&upstream, shared)).unwrap();
        std::fs::rename(one.folder().join("new.yaml"), one.folder().join("serviceos.yaml")).unwrap();
        one.until_logged(seen, "the configuration was applied");
    };
    assert_eq!(admitted(&[&one], "/open/fixed/3", "192.0.2.1"), BURST);
    change(&format!("{}, onSharedFailure: closed", shared_by(&redis)));
    assert_eq!(admitted(&[&one, &other], "/open/fixed/3", "192.0.2.1"), BURST, "nothing of it is in Redis");
    assert_eq!(failures(&one), 0, "nobody had to do without it");
    change("");
    assert_eq!(call(&one, "/open/fixed/3", "192.0.2.1").status, 429, "what was counted here before");
    assert_eq!(admitted(&[&one], "/open/fixed/3", "192.0.2.2"), BURST);
    assert_eq!(admitted(&[&other], "/open/fixed/3", "192.0.2.2"), BURST);
}

#[test]
fn a_caller_is_told_what_is_left_in_redis() {
    let (Some(redis), upstream) = (Redis::start(), Upstream::new()) else { return };
    let gateway = gateway(&upstream, &shared_by(&redis));
    let created = created(&gateway);
    let send =
        |path: &str| Request::new("GET", path).key(created["key"].as_str().unwrap()).send(gateway.gateway);
    let quota = || {
        let quota = send("/v1/quota").json();
        [&quota["rate"]["remaining"], &quota["daily"]["remaining"]].map(|left| left.as_u64().unwrap())
    };
    assert_eq!(quota(), [9, 50]);
    for _ in 0..3 {
        assert_eq!(send("/keyed/fixed/3").status, 200);
    }
    assert_eq!((quota(), quota()), ([6, 47], [6, 47]), "to ask uses nothing");
    assert_eq!(redis.ask(&["FLUSHALL"]), "OK");
    assert_eq!(quota(), [9, 50], "it is what Redis says");
    let keys = redis.ask(&["KEYS", "*"]);
    assert!(!keys.contains(created["id"].as_str().unwrap()), "{keys}");
}
