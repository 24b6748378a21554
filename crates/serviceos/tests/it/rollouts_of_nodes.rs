//! Several nodes of one mesh bring in another version, each at its own pace.

use serde_json::Value;
use testkit::{Etcd, Mesh, Running, eventually};

use crate::adoption::killed;
use crate::nodes::{behind, nodes, share_key};
use crate::versioned::{SERVER, Web, of_version, serving, until_it_says, until_told};

const QUICK: &str = "{minReady: 0s}";
/// Until somebody says so.
const BY_HAND: &str = "{minReady: 0s, strategy: canary, steps: [{weight: 50%}]}";

fn head(etcd: &Etcd, node: &str) -> String {
    format!("store: {}\nnode: {node}\n", etcd.url())
}

fn second(web: Web<'_>) -> Web<'_> {
    Web { version: "2.0.0", ..web }
}

/// Two nodes that run the first version, both from the program that is in the folder of the first one.
fn two(one: &Web<'_>, two: &Web<'_>) -> (Running, Running) {
    let mesh = Mesh::new();
    std::fs::write(mesh.folder().join("server.py"), SERVER).unwrap();
    mesh.write(&one.text(mesh.folder()));
    let first = mesh.up();
    let mesh = Mesh::new();
    share_key(first.folder(), mesh.folder());
    mesh.write(&two.text(first.folder()));
    let second = mesh.up();
    for mesh in [&first, &second] {
        until_both_run(mesh, "1.0.0");
    }
    (first, second)
}

/// How many of all nodes a gateway would call, where all of them run this version. One that has gone is told of for a while.
fn selectable(mesh: &Running, version: &str) -> Option<usize> {
    let mut replicas = mesh.replicas("web");
    replicas.retain(|replica| replica["selectable"] == true);
    let runs = |replica: &Value| replica["versionId"].as_str().is_some_and(|id| id.starts_with(version));
    replicas.iter().all(runs).then_some(replicas.len())
}

fn until_both_run(mesh: &Running, version: &str) {
    eventually("one version at both", || (selectable(mesh, version) == Some(4)).then_some(()));
}

fn until_none_is_behind(mesh: &Running) {
    eventually("none to be behind", || (nodes(mesh) == behind(false, false)).then_some(()));
}

/// Waits until a canary of the second version serves at a node of its own.
fn until_canary(mesh: &Running) {
    eventually("the canary", || (of_version(&serving(mesh, "web"), "2.0.0").len() == 1).then_some(()));
}

/// The transition that a node lives by.
fn transition(mesh: &Running) -> u64 {
    let shown = mesh.run(&["attestation", "show", "--json"]);
    let shown: Value = serde_json::from_str(&shown.out).unwrap();
    shown["transition"]["n"].as_u64().unwrap()
}

fn promote(mesh: &Running) {
    let promoted = mesh.run(&["rollout", "promote", "web"]);
    assert_eq!(promoted.code, 0, "{promoted:?}");
    until_told(mesh, "web", "done");
}

const WAITS: &str = "both versions are admitted until then";

#[test]
fn the_node_that_is_done_first_waits_for_the_others_before_the_old_version_is_admitted_no_more() {
    let Some(etcd) = Etcd::start(1) else { return };
    let (n1, n2) = (head(&etcd, "n1"), head(&etcd, "n2"));
    let quick = Web { head: &n1, ..Web::rolled(QUICK) };
    let slow = Web { head: &n2, ..Web::rolled("{minReady: 3s}") };
    let (one, two) = two(&quick, &slow);
    second(quick).change(&one);
    second(slow).change_from(one.folder(), &two);
    until_told(&one, "web", "done");
    one.until_logged(0, WAITS);
    until_told(&two, "web", "done");
    for mesh in [&one, &two] {
        until_both_run(mesh, "2.0.0");
        until_none_is_behind(mesh);
        assert!(!mesh.log().contains("reverted"), "{}", mesh.log());
    }
    // Back again, which needs what was admitted before to be admitted anew.
    quick.change(&one);
    slow.change_from(one.folder(), &two);
    for mesh in [&one, &two] {
        until_both_run(mesh, "1.0.0");
    }
}

#[test]
fn a_node_that_waits_for_others_takes_back_what_fails_there_and_starts_again_when_it_dies() {
    let Some(etcd) = Etcd::start(1) else { return };
    let (n1, n2) = (head(&etcd, "n1"), head(&etcd, "n2"));
    let quick = Web { head: &n1, ..Web::rolled(QUICK) };
    let slow = Web { head: &n2, ..Web::rolled(BY_HAND) };
    let (mut one, two) = two(&quick, &slow);
    second(quick).change(&one);
    second(slow).change_from(one.folder(), &two);
    until_canary(&two);
    until_told(&one, "web", "done");
    one.until_logged(0, WAITS);
    let seen = one.log().len();
    Web { version: "bad", ..quick }.change(&one);
    until_told(&one, "web", "reverted");
    until_it_says(&one, "2.0.0", "bad");
    one.until_logged(seen, WAITS);
    killed(&mut one);
    let one = one.up_again_when("a start", |_status| true);
    one.until_logged(0, WAITS);
    promote(&two);
    for mesh in [&one, &two] {
        until_both_run(mesh, "2.0.0");
        until_none_is_behind(mesh);
    }
}

#[test]
fn a_node_that_dies_in_the_midst_goes_on_though_others_have_ended_the_rollout_meanwhile() {
    let Some(etcd) = Etcd::start(1) else { return };
    let (n1, n2) = (head(&etcd, "n1"), head(&etcd, "n2"));
    let slow = Web { head: &n1, ..Web::rolled(BY_HAND) };
    let quick = Web { head: &n2, ..Web::rolled(QUICK) };
    let (mut one, two) = two(&slow, &quick);
    second(slow).change(&one);
    second(quick).change_from(one.folder(), &two);
    until_canary(&one);
    until_told(&two, "web", "done");
    two.until_logged(0, WAITS);
    let before = transition(&two);
    killed(&mut one);
    eventually("the old version to be admitted no more", || (transition(&two) > before).then_some(()));
    let one = one.up_again_when("a start", |_status| true);
    until_told(&one, "web", "goes on: step 1");
    promote(&one);
    for mesh in [&one, &two] {
        until_both_run(mesh, "2.0.0");
        until_none_is_behind(mesh);
    }
    assert_eq!(transition(&two), before + 1, "nothing was brought into force again");
}

#[test]
fn a_node_whose_file_changes_later_finds_both_versions_admitted() {
    let Some(etcd) = Etcd::start(1) else { return };
    let (n1, n2) = (head(&etcd, "n1"), head(&etcd, "n2"));
    let quick = Web { head: &n1, ..Web::rolled(QUICK) };
    let late = Web { head: &n2, ..Web::rolled(QUICK) };
    let (one, two) = two(&quick, &late);
    second(quick).change(&one);
    until_told(&one, "web", "done");
    one.until_logged(0, WAITS);
    let before = transition(&one);
    second(late).change_from(one.folder(), &two);
    until_told(&two, "web", "done");
    for mesh in [&one, &two] {
        until_both_run(mesh, "2.0.0");
        until_none_is_behind(mesh);
    }
    assert_eq!(transition(&one), before + 1, "the end of the old version, and nothing between");
}

#[test]
fn what_a_node_gives_up_is_admitted_as_long_as_another_one_runs_it() {
    let Some(etcd) = Etcd::start(1) else { return };
    let (n1, n2) = (head(&etcd, "n1"), head(&etcd, "n2"));
    let quick = Web { head: &n1, ..Web::rolled(QUICK) };
    let slow = Web { head: &n2, ..Web::rolled(BY_HAND) };
    let (one, two) = two(&quick, &slow);
    second(quick).change(&one);
    second(slow).change_from(one.folder(), &two);
    until_canary(&two);
    until_told(&one, "web", "done");
    let before = transition(&two);
    assert_eq!(two.run(&["rollout", "undo", "web"]).code, 0);
    until_told(&two, "web", "is not begun with by itself, though the configuration says it");
    two.until_logged(0, "other nodes run what was given up here, or say it");
    assert_eq!(nodes(&one), behind(false, false));
    assert_eq!((transition(&one), transition(&two)), (before, before));
    assert_eq!(of_version(&serving(&one, "web"), "2.0.0").len(), 2);
    assert_eq!(of_version(&serving(&two, "web"), "1.0.0").len(), 2);
    // Until all files say the same again.
    quick.change(&one);
    slow.change_from(one.folder(), &two);
    for mesh in [&one, &two] {
        until_both_run(mesh, "1.0.0");
        until_none_is_behind(mesh);
    }
}
