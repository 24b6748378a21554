//! Which version of a service gets a request: the split, the header that asks for one, and who stays where they were.

use std::collections::BTreeSet;

use serde_json::Value;
use testkit::{Mesh, Request, eventually};

use crate::fleet::{Fleet, PUBLIC, get};

/// So many callers that both versions have some, whatever they hash to.
const CALLERS: usize = 60;

#[test]
fn calls_are_split_by_weight_and_a_version_without_one_gets_none() {
    let entries = ["", ", version: 2.0.0", ", version: 3.0.0"];
    let split = "traffic: {weights: {1.0.0: 90, 2.0.0: 10, 3.0.0: 0}}";
    let fleet = Fleet::up(&entries, &format!("{PUBLIC}, {split}"));
    let shares = fleet.shares_of(600, &get());
    // By chance, with bounds that are more than six standard deviations away.
    assert!((10..=110).contains(&shares[1]) && shares[2] == 0, "{shares:?}");

    // With the first gone, what is left of the split is all of it, and the version without a part still has none.
    fleet.set_healthy(0, false);
    assert_eq!(fleet.shares_of(30, &get()), [0, 30, 0]);
    fleet.set_healthy(1, false);
    let refused = fleet.client().send(&get()).unwrap();
    assert_eq!(refused.problem(), (503, "NO_REPLICA_SELECTABLE".into()));
}

#[test]
fn a_request_gets_the_version_that_it_asks_for_or_none() {
    let entries = ["", ", version: 2.0.0", ", version: 3.0.0"];
    let split = "traffic: {weights: {1.0.0: 1, 2.0.0: 1, 3.0.0: 0}}";
    for traffic in [split.to_owned(), split.replace("}}", "}, header: X-Version}")] {
        let header = if traffic.contains("X-Version") { "x-version" } else { "service-version" };
        let fleet = Fleet::up(&entries, &format!("{PUBLIC}, {traffic}"));
        let asking = |version: &str| get().header(header, version);
        for (place, version) in ["1.0.0", "2.0.0", "3.0.0"].into_iter().enumerate() {
            assert_eq!(fleet.servers_of(10, &asking(version)), [place; 10], "{version}");
        }
        let refused = |version: &str| fleet.client().send(&asking(version)).unwrap().problem();
        assert_eq!(refused("4.0.0"), (503, "NO_REPLICA_SELECTABLE".into()));
        fleet.set_healthy(1, false);
        assert_eq!(refused("2.0.0"), (503, "NO_REPLICA_SELECTABLE".into()), "no other version stands in");
        assert_eq!(fleet.servers_of(5, &get()), [0; 5], "who asks for none gets the one that is left");
    }
}

#[test]
fn a_caller_gets_its_version_unless_it_asks_for_another_one() {
    let entries = ["", ", version: 2.0.0", ", version: 3.0.0"];
    let keys = |callers: &str| {
        let weights = "weights: {1.0.0: 1, 2.0.0: 0, 3.0.0: 0}";
        format!("traffic: {{{weights}, callers: {{{callers}}}}}")
    };
    let fleet = Fleet::up(&entries, &keys("'tenant:acme': 2.0.0"));
    let create = |name: &str, tenant: &str| -> Value {
        let (name, tenant) = (format!("--name={name}"), format!("--tenant={tenant}"));
        let created = fleet.mesh.run(&["keys", "create", &name, &tenant, "--scopes=site", "--json"]).out;
        serde_json::from_str(&created).unwrap()
    };
    let (one, two, stranger) = (create("one", "acme"), create("two", "acme"), create("three", "default"));
    let asking = |key: &Value| get().key(key["key"].as_str().unwrap());
    assert_eq!(fleet.servers_of(10, &asking(&one)), [1; 10]);
    assert_eq!(fleet.servers_of(10, &asking(&stranger)), [0; 10]);
    assert_eq!(
        fleet.servers_of(5, &asking(&one).header("service-version", "3.0.0")),
        [2; 5],
        "the header wins"
    );

    // Its own name counts before that of whom it acts for.
    let id = two["id"].as_str().unwrap();
    let callers = format!("'tenant:acme': 2.0.0, 'subject:{id}': 3.0.0");
    let servers: Vec<_> = entries.into_iter().enumerate().collect();
    fleet.reload(&servers, &keys(&callers));
    assert_eq!(fleet.servers_of(5, &asking(&two)), [2; 5]);
    assert_eq!(fleet.servers_of(5, &asking(&one)), [1; 5]);

    // No caller is to fail for what it does not know.
    fleet.set_healthy(2, false);
    assert_eq!(fleet.servers_of(5, &asking(&two)), [0; 5]);
}

/// Two versions of two servers each that take turns, and each caller asks four times, each time over a new connection: all
/// of it goes to one version.
fn check_sticky(sticky: &str, keys: &str, mesh: Mesh, ask: impl Fn(&Fleet, usize) -> usize) {
    let entries = ["", ", version: 2.0.0", "", ", version: 2.0.0"];
    let split = format!("traffic: {{weights: {{1.0.0: 1, 2.0.0: 1}}, sticky: '{sticky}'}}");
    let keys = format!("{keys}{split}, loadBalancing: {{policy: round-robin}}");
    let fleet = Fleet::behind(mesh, &entries, &keys);
    let of = |caller: usize| -> BTreeSet<usize> { (0..4).map(|_| ask(&fleet, caller) % 2).collect() };
    let versions: Vec<_> = (0..CALLERS).map(of).collect();
    assert!(versions.iter().all(|of_caller| of_caller.len() == 1), "{versions:?}");
    assert_eq!(versions.iter().flatten().collect::<BTreeSet<_>>().len(), 2, "both have callers");
    assert!(fleet.servers.iter().all(|server| server.count() > 0), "no more than the version is the same");

    // Those whose version is gone go to the other one, the others stay; and all come back.
    [1, 3].into_iter().for_each(|place| fleet.set_healthy(place, false));
    let moved: Vec<_> = (0..CALLERS).map(of).collect();
    assert!(moved.iter().all(|of_caller| of_caller.contains(&0)), "{moved:?}");
    [1, 3].into_iter().for_each(|place| fleet.set_healthy(place, true));
    eventually("everyone to be where they were", || {
        ((0..CALLERS).map(of).collect::<Vec<_>>() == versions).then_some(())
    });
}

fn check_sticky_request(sticky: &str, request: impl Fn(usize) -> Request) {
    let ask = |fleet: &Fleet, caller: usize| fleet.server_of(&mut fleet.client(), &request(caller));
    check_sticky(sticky, &format!("{PUBLIC}, "), Mesh::new(), ask);
}

#[test]
fn a_header_keeps_its_version() {
    check_sticky_request("header:x-user", |caller| get().header("x-user", &format!("user {caller}")));
}

#[test]
fn a_cookie_keeps_its_version() {
    check_sticky_request("cookie:session", |caller| {
        get().header("cookie", &format!("session2=1; session=s{caller}; more={caller}"))
    });
}

#[test]
fn an_address_keeps_its_version() {
    let mesh = Mesh::new().gateway("proxyProtocol: [127.0.0.0/8]");
    check_sticky("caller", &format!("{PUBLIC}, "), mesh, |fleet, caller| {
        let mut client = fleet.client();
        let from = format!("PROXY TCP4 192.0.2.{caller} 10.0.0.1 {} 443\r\n", 1024 + caller);
        client.write(from.as_bytes()).unwrap();
        fleet.server_of(&mut client, &get())
    });
}

#[test]
fn a_key_keeps_its_version_whatever_it_asks_from() {
    let mesh = Mesh::new().gateway("proxyProtocol: [127.0.0.0/8]");
    let keys = std::cell::OnceCell::new();
    let port = std::cell::Cell::new(1024);
    check_sticky("caller", "", mesh, |fleet, caller| {
        let created = |number: usize| -> String {
            let name = format!("--name=k{number}");
            let created = fleet.mesh.run(&["keys", "create", &name, "--scopes=site", "--json"]).out;
            let created: Value = serde_json::from_str(&created).unwrap();
            created["key"].as_str().unwrap().to_owned()
        };
        let keys: &Vec<_> = keys.get_or_init(|| (0..30).map(created).collect());
        let mut client = fleet.client();
        port.set(port.get() + 1);
        let from = format!("PROXY TCP4 192.0.2.{} 10.0.0.1 {} 443\r\n", port.get() % 256, port.get());
        client.write(from.as_bytes()).unwrap();
        fleet.server_of(&mut client, &get().key(&keys[caller % keys.len()]))
    });
}
