//! Endpoints that come, go, change places and weights under load: nobody notices, and those that stay are not checked anew.

use std::collections::BTreeSet;

use crate::fleet::{Fleet, PUBLIC};
use crate::load::under_load;

/// The servers of one file after another, in its order; the second server is in each of them.
const FILES: [&[(usize, &str)]; 10] = [
    &[(0, ""), (1, "")],
    // In front.
    &[(2, ""), (0, ""), (1, "")],
    &[(3, ""), (2, ""), (0, ""), (1, "")],
    // In another order.
    &[(1, ""), (0, ""), (2, ""), (3, "")],
    &[(0, ""), (3, ""), (1, ""), (2, "")],
    // With other weights, every one of them.
    &[(0, ", weight: 2"), (3, ", weight: 3"), (1, ", weight: 4"), (2, ", weight: 5")],
    // Without the first, and then without the first two.
    &[(3, ", weight: 3"), (1, ", weight: 4"), (2, ", weight: 5")],
    &[(1, ", weight: 4"), (2, ", weight: 5")],
    // Everything at once.
    &[(0, ", weight: 5"), (2, ", weight: 4"), (1, "")],
    &[(1, ", weight: 7")],
];

#[test]
fn a_hundred_reloads_of_endpoints_under_load_lose_no_request() {
    for policy in ["round-robin", "peak-ewma"] {
        let keys = format!("{PUBLIC}, loadBalancing: {{policy: {policy}}}");
        let fleet = Fleet::up(&["", "", "", ""], &keys);
        under_load(&fleet.mesh, "/site/fixed/10", |load| {
            let mut before = BTreeSet::from([0, 1, 2, 3]);
            for round in 0..50 {
                let servers = FILES[round % FILES.len()];
                fleet.reload(servers, &keys);
                let now: BTreeSet<usize> = servers.iter().map(|(place, _)| *place).collect();
                for place in now.intersection(&before) {
                    let health = health_of(&fleet, *place);
                    assert_eq!(health, "healthy", "{policy}, round {round}: server {place} has stayed");
                }
                // Who is new is taken in before the next file, which may be without all others but one.
                fleet.mesh.until_selectable();
                load.until_more(4);
                before = now;
            }
        });
        assert!(fleet.servers.iter().all(|server| server.count() > 0), "every server had its part");
    }
}

fn health_of(fleet: &Fleet, place: usize) -> String {
    let address = fleet.servers[place].address.to_string();
    let replicas = fleet.mesh.replicas("site");
    let replica = replicas.iter().find(|replica| replica["address"] == address.as_str());
    replica.expect("a server that the file names")["health"].as_str().unwrap().to_owned()
}
