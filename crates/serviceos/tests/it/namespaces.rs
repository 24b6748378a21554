//! Two nodes on two machines, as network namespaces are, with etcd on a third; and what becomes of them when they are cut off.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::{Etcd, Network, Running, eventually, kill};

use crate::load::{Load, under_load};
use crate::nodes::{PATH, answered, node, selected, until_it_selects};

/// Where etcd is.
const ETCD: usize = 2;
/// How long what is gone from etcd is believed to be there, once a node reaches it again.
const HELD_BACK: Duration = Duration::from_secs(10);
const BOTH: [&str; 2] = ["vrf/0@n1", "vrf/0@n2"];

/// A node on each of two machines, with etcd on a third. What is declared first ends first.
struct Place {
    nodes: [Running; 2],
    etcd: Etcd,
    network: Network,
}

impl Place {
    /// Once each node selects the replicas of both; `None` where there is no etcd, or where the kernel allows no such network.
    fn new() -> Option<Self> {
        let network = Network::start(3)?;
        let at = network.host(ETCD);
        let etcd = at.enter(|| Etcd::start_at(at.address()))?;
        let up = |index: usize, first: Option<&Running>| {
            let host = network.host(index);
            let mesh = format!("--mesh={}:0", host.address());
            let arguments = ["--gateway=127.0.0.1:0", "--admin=127.0.0.1:0", &mesh];
            let node = node(&etcd, &format!("n{}", index + 1), first).arguments(&arguments);
            host.enter(|| node.up())
        };
        let one = up(0, None);
        let two = up(1, Some(&one));
        let place = Self { nodes: [one, two], etcd, network };
        place.until_each_selects(BOTH.as_slice(), BOTH.as_slice());
        Some(place)
    }

    fn until_each_selects(&self, one: &[&str], two: &[&str]) {
        until_it_selects(&self.nodes[0], one);
        until_it_selects(&self.nodes[1], two);
    }

    /// Runs `work` while clients ask the gateways of both nodes, each on its machine.
    fn under_load(&self, work: impl FnOnce(&Loads<'_>) + Send) {
        let [one, two] = &self.nodes;
        self.network.host(0).enter(|| {
            under_load(one, PATH, |first| {
                self.network.host(1).enter(|| under_load(two, PATH, |second| work(&Loads([first, second]))));
            });
        });
    }

    fn pids(&self) -> Vec<u32> {
        self.nodes.iter().flat_map(|node| node.pids("vrf")).collect()
    }
}

/// The load on both gateways.
struct Loads<'a>([&'a Load; 2]);

impl Loads<'_> {
    fn until_more(&self, requests: u64) {
        self.0.iter().for_each(|load| load.until_more(requests));
    }
}

/// What a node has logged since, of which there may be only so much: whatever is tried again and again is said once.
fn said_since(node: &Running, seen: usize) -> String {
    let said = node.log()[seen..].to_owned();
    assert!(said.lines().count() <= 12, "{said}");
    said
}

fn until_no_lease_is_left(etcd: &Etcd) {
    eventually("the end of all leases", || {
        let leases = etcd.ask(0, "/v3/lease/leases", &json!({}));
        leases["leases"].as_array().is_none_or(Vec::is_empty).then_some(())
    });
}

fn both() -> BTreeSet<String> {
    BOTH.map(str::to_owned).into()
}

#[test]
fn a_request_at_either_machine_is_answered_by_the_replicas_of_both() {
    let Some(place) = Place::new() else { return };
    for (index, node) in place.nodes.iter().enumerate() {
        place.network.host(index).enter(|| {
            eventually("answers of both", || {
                assert_eq!(node.get(PATH).status, 200);
                (answered(node) == both()).then_some(())
            });
        });
    }
}

#[test]
fn nodes_that_do_not_reach_each_other_serve_what_they_reach_and_find_together_again() {
    let Some(place) = Place::new() else { return };
    let [one, two] = &place.nodes;
    place.under_load(|loads| {
        loads.until_more(200);
        let seen = [one.log().len(), two.log().len()];
        place.network.cut(0, 1);
        place.until_each_selects(&BOTH[..1], &BOTH[1..]);
        loads.until_more(200);
        let why = one.run(&["why", BOTH[1]]);
        assert!(why.code == 4 && why.out.contains("reason       no answer within"), "{}", why.out);
        assert!(why.out.contains("ready      yes"), "its node is there: {}", why.out);
        place.network.heal();
        place.until_each_selects(&BOTH, &BOTH);
        loads.until_more(200);
        let said = said_since(one, seen[0]);
        assert!(
            said.contains("the replica's health changed replica=vrf/0@n2 health=\"unhealthy\""),
            "{said}"
        );
        said_since(two, seen[1]);
    });
}

#[test]
fn a_node_that_does_not_reach_etcd_goes_on_with_what_it_knew_and_comes_again_without_a_start() {
    let Some(place) = Place::new() else { return };
    let [one, two] = &place.nodes;
    let pids = place.pids();
    place.under_load(|loads| {
        loads.until_more(200);
        let seen = [one.log().len(), two.log().len()];
        place.network.cut(0, ETCD);
        // Once its lease is over, and no sooner; the others are not told otherwise.
        until_it_selects(two, &BOTH[1..]);
        eventually("the store to be away", || {
            (one.status()["store"]["available"] == Value::Bool(false)).then_some(())
        });
        loads.until_more(200);
        assert_eq!(selected(one), both());
        let why = two.run(&["why", BOTH[0]]).out;
        assert!(why.contains("its node n1 is gone from the store"), "{why}");
        place.network.heal();
        place.until_each_selects(&BOTH, &BOTH);
        loads.until_more(200);
        let said = said_since(one, seen[0]);
        for expected in ["the node cannot say that it is alive", "the node has its name"] {
            assert!(said.contains(expected), "{said}");
        }
        let said = said_since(two, seen[1]);
        assert!(said.contains("is selected no more replica=vrf/0@n1"), "{said}");
    });
    assert_eq!(place.pids(), pids);
}

#[test]
fn leases_that_end_while_nobody_reaches_etcd_take_nothing_out_of_selection() {
    // Whether the rows that went are told of one by one, or are not there when all is read again.
    for forgets in [false, true] {
        let Some(mut place) = Place::new() else { return };
        place.etcd.stall(0);
        until_no_lease_is_left(&place.etcd);
        if forgets {
            let now = place.etcd.ask(0, "/v3/kv/range", &json!({"key": "AA=="}));
            place.etcd.compact(now["header"]["revision"].as_str().unwrap().parse().unwrap());
        }
        let seen = place.nodes.each_ref().map(|node| node.log().len());
        place.etcd.heal(0);
        for (node, seen) in place.nodes.iter().zip(seen) {
            eventually("the name again", || {
                assert_eq!(selected(node), both());
                node.log()[seen..].contains("the node has its name").then_some(())
            });
            assert!(!node.log().contains("is selected no more"), "{}", node.log());
        }
    }
}

/// Also when one of the two does not reach etcd, and nobody hears that the machine goes.
#[test]
fn a_machine_that_is_taken_down_loses_no_request_of_the_other() {
    for cut_off in [None, Some(0), Some(1)] {
        let Some(mut place) = Place::new() else { return };
        let [one, two] = &mut place.nodes;
        let network = &place.network;
        network.host(0).enter(|| {
            under_load(one, PATH, |load| {
                load.until_more(200);
                if let Some(node) = cut_off {
                    network.cut(node, ETCD);
                }
                assert_eq!(two.run(&["down"]).code, 0);
                assert_eq!(two.wait().code, 0);
                until_it_selects(one, &BOTH[..1]);
                load.until_more(200);
            });
        });
        assert!(cut_off.is_some() || !two.log().contains("did not confirm"), "{}", two.log());
    }
}

#[test]
fn a_machine_that_dies_unseen_is_missed_a_while_after_etcd_is_reached_again() {
    let Some(mut place) = Place::new() else { return };
    let [one, two] = &mut place.nodes;
    let (network, etcd) = (&place.network, &place.etcd);
    network.host(0).enter(|| {
        under_load(one, PATH, |load| {
            load.until_more(200);
            network.cut(0, ETCD);
            // All that runs on a machine dies with it.
            let replicas = two.pids("vrf");
            kill(two.pid(), Signal::KILL);
            replicas.into_iter().for_each(|pid| kill(pid, Signal::KILL));
            two.wait();
            until_no_lease_is_left(etcd);
            assert_eq!(selected(one), BTreeSet::from([BOTH[0].to_owned()]), "the checks have found it out");
            let healed = Instant::now();
            network.heal();
            eventually("the row to be missed", || {
                let why = one.run(&["why", BOTH[1]]).out;
                why.contains("its node n2 is gone from the store").then_some(())
            });
            assert!(healed.elapsed() >= HELD_BACK, "{:?}", healed.elapsed());
            load.until_more(200);
        });
    });
}
