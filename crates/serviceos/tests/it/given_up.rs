//! What is given up, and what somebody wants of it all the same.

use std::collections::BTreeSet;

use rustix::process::Signal;
use serde_json::Value;
use testkit::{Running, eventually, kill};

use crate::load::under_load;
use crate::versioned::{
    PATH, Web, flag, of_version, serving, told, until_ended, until_it_says, until_told, version,
};

/// Three of the first version, and the second one.
const fn versions(rollout: &str) -> (Web<'_>, Web<'_>) {
    let first = Web { replicas: 3, ..Web::rolled(rollout) };
    (first, Web { version: "2.0.0", ..first })
}

/// Waits until two of the second version have taken the place of as many of the first one, while the third one takes its time.
fn until_two_are_replaced(mesh: &Running) {
    eventually("two of the new version", || {
        let serving = serving(mesh, "web");
        let (one, two) = (of_version(&serving, "1.0.0"), of_version(&serving, "2.0.0"));
        (one.len() == 1 && two.len() == 2).then_some(())
    });
}

/// The certificates of the replicas of a version.
fn leaves(mesh: &Running, version: &str) -> BTreeSet<String> {
    let why = |id: &Value| {
        serde_json::from_str::<Value>(&mesh.run(&["why", id.as_str().unwrap(), "--json"]).out).unwrap()
    };
    let mut replicas = mesh.replicas("web");
    replicas.retain(|replica| replica["versionId"].as_str().is_some_and(|id| id.starts_with(version)));
    let leaf = |replica: &Value| {
        why(&replica["id"])["attested"]["evidence"]["leafSha256"].as_str().map(str::to_owned)
    };
    replicas.iter().filter_map(leaf).collect()
}

fn undo(mesh: &Running) {
    let undone = mesh.run(&["rollout", "undo", "web"]);
    assert_eq!(undone.code, 0, "{undone:?}");
}

/// How many rollouts of the second version have begun.
fn begun(mesh: &Running) -> usize {
    told(mesh, "web").iter().filter(|said| said.contains(" to 2.0.0-")).count()
}

#[test]
fn what_is_mended_in_the_file_while_a_version_is_being_given_up_is_rolled_out() {
    let (first, second) = versions("{minReady: 0s}");
    let mesh = first.up();
    under_load(&mesh, PATH, |load| {
        ["1.0.0", "2.0.0"].iter().for_each(|version| flag(&mesh, "slow", version));
        second.change(&mesh);
        until_two_are_replaced(&mesh);
        undo(&mesh);
        // How many there are says nothing of the version.
        assert_eq!(mesh.run(&["scale", "web=4"]).code, 0);
        assert_eq!(begun(&mesh), 1);
        Web { more: "drain: {timeout: 20s}", ..second }.change(&mesh);
        eventually("another rollout", || (begun(&mesh) == 2).then_some(()));
        until_ended(&mesh, 1, "done");
        let said = told(&mesh, "web");
        assert!(!said.iter().any(|said| said.starts_with("reverted")), "{said:?}");
        load.until_more(4);
    });
    assert_eq!(of_version(&serving(&mesh, "web"), "2.0.0").len(), 3);
}

#[test]
fn where_the_old_version_does_not_come_back_the_new_one_serves_on_and_is_tried_again_once_the_file_changes() {
    let (first, second) = versions("{minReady: 0s, progressDeadline: 8s}");
    let mesh = first.up();
    under_load(&mesh, PATH, |load| {
        flag(&mesh, "slow", "2.0.0");
        second.change(&mesh);
        until_two_are_replaced(&mesh);
        let before = leaves(&mesh, "2.0.0");
        flag(&mesh, "bad", "1.0.0");
        undo(&mesh);
        until_told(&mesh, "web", "reverted, but not every replica of the old version serves");
        until_it_says(&mesh, "1.0.0", "2.0.0");
        eventually("those that serve to join again", || {
            let now = leaves(&mesh, "2.0.0");
            (now.len() == 2 && now.is_disjoint(&before)).then_some(())
        });
        until_two_are_replaced(&mesh);
        load.until_more(100);
        assert_eq!(begun(&mesh), 1, "nothing begins by itself");
        Web { more: "drain: {timeout: 20s}", ..second }.change(&mesh);
        until_ended(&mesh, 1, "done");
        load.until_more(4);
    });
    let serving = serving(&mesh, "web");
    assert_eq!((of_version(&serving, "2.0.0").len(), serving.len()), (3, 3));
}

#[test]
fn a_version_that_runs_on_though_the_configuration_says_another_is_all_there_is_once_its_program_is_back() {
    let first = Web::rolled("{minReady: 0s}");
    let mesh = first.up();
    let path = mesh.folder().join("server.py");
    let script = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("raise SystemExit('no model')\n{script}")).unwrap();
    let start = || mesh.run(&["rollout", "start", "web"]);
    assert_eq!(start().code, 0);
    until_told(&mesh, "web", "is not begun with by itself, though the configuration says it");
    std::fs::write(&path, &script).unwrap();
    let started = start();
    assert!(started.out.contains("there is nothing to roll out"), "{started:?}");
    // It is what is started again, and what the next rollout leads away from.
    let pid = mesh.pids("web")[0];
    kill(pid, Signal::KILL);
    eventually("another process", || {
        let serving = serving(&mesh, "web");
        (serving.len() == 2 && !serving.contains_key(&pid)).then_some(())
    });
    let seen = mesh.log().len();
    Web { version: "2.0.0", ..first }.change(&mesh);
    until_told(&mesh, "web", "done");
    assert_eq!(version(&mesh), "2.0.0");
    assert!(!mesh.log()[seen..].contains("ERROR"), "{}", mesh.log());
}
