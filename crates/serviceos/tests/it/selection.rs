//! Which replica gets a request: every policy of `loadBalancing`, and what stands beside an endpoint.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::{Connection, Mesh, Request, eventually};

use crate::fleet::{Fleet, PUBLIC, get};

/// So many values that they fall on all of a few replicas, whatever those hash to.
const VALUES: usize = 80;

fn balanced(keys: &str) -> String {
    format!("{PUBLIC}, loadBalancing: {{{keys}}}")
}

#[test]
fn round_robin_goes_round() {
    let fleet = Fleet::up(&["", "", ""], &balanced("policy: round-robin"));
    let got = fleet.servers_of(30, &get());
    assert_eq!(BTreeSet::from_iter(&got[..3]).len(), 3, "{got:?}");
    assert!(got.chunks(3).all(|round| *round == got[..3]), "{got:?}");
}

#[test]
fn an_endpoint_gets_as_much_as_its_weight_says() {
    let entries = [", weight: 3", "", ", weight: 6"];
    let fleet = Fleet::up(&entries, &balanced("policy: round-robin"));
    assert_eq!(fleet.shares_of(100, &get()), [30, 10, 60]);

    // By chance the shares are so in the long run only; the bounds are more than six standard deviations away.
    for policy in ["random", "least-request"] {
        let fleet = Fleet::up(&[", weight: 9", ""], &balanced(&format!("policy: {policy}")));
        let shares = fleet.shares_of(500, &get());
        assert!((5..=100).contains(&shares[1]), "{policy}: {shares:?}");
    }
}

#[test]
fn least_request_avoids_who_is_busy_and_random_does_not() {
    for (policy, avoids) in [("least-request", true), ("random", false)] {
        let one_worker = Mesh::new().gateway("workers: 1, limits: {requestTimeout: 1h}");
        let keys = balanced(&format!("policy: {policy}")) + ", retry: {attempts: 0}";
        let fleet = Fleet::behind(one_worker, &["", ""], &keys);
        let shares = fleet.shares_of(VALUES, &get());
        assert!(!shares.contains(&0), "{policy}, nobody is busy: {shares:?}");
        let mut busy = Connection::open(fleet.mesh.gateway);
        busy.write("GET /site/wait HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        let place = eventually("the request that is not answered", || {
            fleet.servers.iter().position(|server| server.seen().iter().any(|seen| seen.target == "/wait"))
        });
        let shares = fleet.shares_of(VALUES, &get());
        assert_eq!(shares[place] == 0, avoids, "{policy}, {place} is busy: {shares:?}");
    }
}

/// Asks with each of the values twice, the second time in another order: each must go where it went, and not all to one.
fn check_hashed(fleet: &Fleet, mut ask: impl FnMut(usize) -> usize) {
    let first: Vec<_> = (0..VALUES).map(&mut ask).collect();
    let mut again: Vec<_> = (0..VALUES).rev().map(&mut ask).collect();
    again.reverse();
    assert_eq!(first, again, "the same value goes to the same replica");
    assert_eq!(BTreeSet::from_iter(first).len(), fleet.servers.len(), "different values spread");
}

/// A fleet of three under Maglev, and each of the values asked for over a new connection, so that any worker may have it.
fn check_maglev(hash_on: &str, of: impl Fn(usize) -> Request) {
    let routes = PUBLIC.replace("}]", "}, {match: {path: '/fixed/{size}'}, public: true}]");
    let keys = format!("{routes}, loadBalancing: {{policy: maglev, hashOn: '{hash_on}'}}");
    let fleet = Fleet::up(&["", "", ""], &keys);
    check_hashed(&fleet, |value| fleet.server_of(&mut fleet.client(), &of(value)));
}

#[test]
fn maglev_sends_the_same_header_to_the_same_replica() {
    check_maglev("header:X-User", |value| get().header("x-user", &format!("user {value}")));
}

#[test]
fn maglev_sends_the_same_cookie_to_the_same_replica() {
    check_maglev("cookie:session", |value| {
        get().header("cookie", &format!("session2=1; session=s{value}; more={value}"))
    });
}

#[test]
fn maglev_sends_the_same_path_parameter_to_the_same_replica() {
    check_maglev("path:size", |value| Request::new("GET", &format!("/fixed/{value}")));
}

#[test]
fn maglev_sends_the_same_key_to_the_same_replica() {
    let fleet = Fleet::up(&["", ""], "loadBalancing: {policy: maglev, hashOn: caller}");
    let created = |number: usize| {
        let name = format!("--name=k{number}");
        let created = fleet.mesh.run(&["keys", "create", &name, "--scopes=site", "--json"]).out;
        let created: Value = serde_json::from_str(&created).unwrap();
        created["key"].as_str().unwrap().to_owned()
    };
    let keys: Vec<_> = (0..40).map(created).collect();
    check_hashed(&fleet, |value| fleet.server_of(&mut fleet.client(), &get().key(&keys[value % keys.len()])));
}

#[test]
fn maglev_sends_the_same_address_to_the_same_replica() {
    let keys = balanced("policy: maglev, hashOn: caller");
    let mesh = Mesh::new().gateway("proxyProtocol: [127.0.0.0/8]");
    let fleet = Fleet::behind(mesh, &["", "", ""], &keys);
    check_hashed(&fleet, |value| {
        let mut client = fleet.client();
        let from = format!("PROXY TCP4 192.0.2.{value} 10.0.0.1 {} 443\r\n", 1024 + value);
        client.write(from.as_bytes()).unwrap();
        fleet.server_of(&mut client, &get())
    });
}

#[test]
fn maglev_sends_an_address_that_a_trusted_proxy_forwards_for_to_the_same_replica() {
    let keys = balanced("policy: maglev, hashOn: caller");
    let mesh = Mesh::new().gateway("trustedProxies: [127.0.0.0/8]");
    let fleet = Fleet::behind(mesh, &["", "", ""], &keys);
    check_hashed(&fleet, |value| {
        let request = get().header("x-forwarded-for", &format!("192.0.2.{value}"));
        fleet.server_of(&mut fleet.client(), &request)
    });
}

#[test]
fn who_hashes_to_a_replica_that_fails_goes_elsewhere_and_the_others_stay() {
    let fleet = Fleet::up(&["", "", ""], &balanced("policy: maglev, hashOn: 'header:x-user'"));
    let ask = || -> Vec<_> {
        let of = |value: usize| get().header("x-user", &value.to_string());
        (0..VALUES).map(|value| fleet.server_of(&mut fleet.client(), &of(value))).collect()
    };
    let before = ask();
    fleet.set_healthy(0, false);
    let without = ask();
    assert!(!without.contains(&0), "{without:?}");
    let stay = before.iter().zip(&without).filter(|(before, now)| **before != 0 && before == now).count();
    let others = before.iter().filter(|before| **before != 0).count();
    // The table moves a few of the others, too.
    assert!(stay * 10 >= others * 7, "{stay} of {others} stay");
    fleet.set_healthy(0, true);
    eventually("everyone to be where they were", || (ask() == before).then_some(()));
}

#[test]
fn the_next_priority_gets_nothing_while_the_first_is_healthy_and_everything_when_it_is_dead() {
    let mut fleet = Fleet::up(&["", "", ", priority: 1"], &balanced("policy: random"));
    let shares = fleet.shares_of(VALUES, &get());
    assert!(shares[0] > 0 && shares[1] > 0 && shares[2] == 0, "{shares:?}");
    // Dead without a word: nothing fails even before any check has noticed.
    fleet.servers.drain(..2);
    assert_eq!(fleet.shares_of(20, &get()), [20]);
}

#[test]
fn below_the_panic_threshold_health_is_ignored() {
    let keys = balanced("policy: round-robin, panicThreshold: 50%");
    let fleet = Fleet::up(&["", "", "", ""], &keys);
    fleet.set_healthy(0, false);
    fleet.set_healthy(1, false);
    assert_eq!(fleet.shares_of(20, &get()), [0, 0, 10, 10], "half is not below");
    fleet.set_healthy(2, false);
    assert_eq!(fleet.shares_of(20, &get()), [5, 5, 5, 5]);
    fleet.set_healthy(3, false);
    assert_eq!(fleet.shares_of(20, &get()), [5, 5, 5, 5], "none is healthy");
    (0..4).for_each(|place| fleet.set_healthy(place, true));
    assert_eq!(fleet.shares_of(20, &get()), [5, 5, 5, 5]);
}

#[test]
fn without_a_panic_threshold_only_the_healthy_serve() {
    let fleet = Fleet::up(&["", "", "", ""], &balanced("policy: round-robin"));
    (0..3).for_each(|place| fleet.set_healthy(place, false));
    assert_eq!(fleet.shares_of(20, &get()), [0, 0, 0, 20]);
    fleet.set_healthy(3, false);
    let answer = fleet.client().send(&get()).unwrap();
    assert_eq!(answer.problem(), (503, "NO_REPLICA_SELECTABLE".into()));
}

#[test]
fn the_share_of_a_new_replica_grows_over_slow_start() {
    const WINDOW: Duration = Duration::from_secs(2);
    let keys = balanced(&format!("policy: round-robin, slowStart: {}s", WINDOW.as_secs()));
    let mut fleet = Fleet::up(&[""], &keys);
    let began = Instant::now();
    // While all are new, none holds back for another: the first one has to be old.
    while began.elapsed() < WINDOW {
        fleet.servers_of(1, &get());
    }
    let added = Instant::now();
    fleet.add_server(&keys);

    // The most that it may have had: what its share has grown to by each request, on a clock that began before its own.
    let (mut client, mut got, mut most, mut asked) = (fleet.client(), 0, 1.0, 0.0);
    while added.elapsed() < WINDOW / 2 && asked < 200.0 {
        got += fleet.server_of(&mut client, &get());
        let weight = (added.elapsed().as_secs_f64() / WINDOW.as_secs_f64()).clamp(0.1, 1.0);
        most += weight / (1.0 + weight);
        asked += 1.0;
    }
    assert!((got as f64) <= most, "{got} of {asked}, and at the most {most}");
    eventually("equal shares", || (fleet.shares_of(20, &get()) == [10, 10]).then_some(()));
    assert!(added.elapsed() >= WINDOW / 2, "it had its whole share too soon");
}

#[test]
fn the_next_priority_gets_what_the_healthy_part_of_the_first_is_too_little_for() {
    let fleet = Fleet::up(&["", "", ", priority: 1"], &balanced("policy: random"));
    fleet.set_healthy(0, false);
    let shares = fleet.shares_of(VALUES, &get());
    assert!(shares[0] == 0 && shares[1] > 0 && shares[2] > 0, "{shares:?}");
}
