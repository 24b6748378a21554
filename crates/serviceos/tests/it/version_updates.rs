//! Two versions take each other's place again and again, while everything is called.

use crate::load::under_load;
use crate::versioned::{Moment, PATH, Web, pids, selectable, until_ended, watched};

const REPLICAS: usize = 3;

const UPDATES: usize = 5;

/// Updates of all replicas under load, back and forth by the file; gives what a watcher was told meanwhile. No call is lost, and each
/// time other processes run the other version.
fn updates(rollout: &'static str) -> Vec<Moment> {
    let web = |version| Web { version, replicas: REPLICAS, ..Web::rolled(rollout) };
    let mesh = web("1.0.0").up();
    watched(&mesh, || {
        under_load(&mesh, PATH, |load| {
            for update in 1..=UPDATES {
                let (before, version) = (pids(&mesh), ["1.0.0", "2.0.0"][update % 2]);
                web(version).change(&mesh);
                until_ended(&mesh, update, "done");
                let replicas = mesh.replicas("web");
                assert_eq!(replicas.len(), REPLICAS);
                for replica in &replicas {
                    let id = replica["versionId"].as_str().unwrap();
                    assert!(id.starts_with(version) && replica["selectable"] == true, "{replica}");
                }
                assert!(pids(&mesh).is_disjoint(&before), "each of them was replaced");
                load.until_more(4);
            }
        });
    })
}

#[test]
fn updates_under_load_lose_nothing_and_never_have_fewer_than_are_wanted() {
    let moments = updates("{minReady: 0s, maxSurge: 2}");
    let (fewest, most) = (moments.iter().map(selectable).min(), moments.iter().map(selectable).max());
    assert_eq!(fewest, Some(REPLICAS));
    assert!(most > Some(REPLICAS), "the watcher was told of those that came beside the others");
    assert!(most <= Some(REPLICAS + 2), "no more than `maxSurge` says: {most:?}");
}

#[test]
fn updates_of_which_one_may_be_missing_lose_nothing_and_never_miss_more() {
    let moments = updates("{minReady: 0s, maxSurge: 1, maxUnavailable: 1}");
    let fewest = moments.iter().map(selectable).min();
    assert_eq!(fewest, Some(REPLICAS - 1), "one may be missing, and is");
}
