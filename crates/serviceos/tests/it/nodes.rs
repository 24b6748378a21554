//! Several `serviceos up` on one etcd are one mesh.

use std::collections::BTreeSet;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;
use testkit::{Etcd, Mesh, Request, Running, eventually, kill};

use crate::load::under_load;

pub(crate) const PATH: &str = "/v1/random/keys";
const SERVICE: &str = r#"    vrf: {replicas: 1, routes: [{match: {path: "/v1/random/{*rest}"}, scopes: [randomness]}]}
"#;

/// A node that is not started yet. What it needs of the one that made the mesh is the master key.
pub(crate) fn node(etcd: &Etcd, name: &str, first: Option<&Running>) -> Mesh {
    let mesh = Mesh::new().head(&format!("store: {}\nnode: {name}\n", etcd.url()));
    let mesh = mesh.yaml(SERVICE);
    if let Some(first) = first {
        share_key(first.folder(), mesh.folder());
    }
    mesh
}

pub(crate) fn share_key(from: &Path, to: &Path) {
    let [from, to] = [from, to].map(|folder| folder.join(".serviceos"));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&to).unwrap();
    std::fs::copy(from.join("master.key"), to.join("master.key")).unwrap();
}

/// Two nodes with a replica of `vrf` each, once each selects both.
pub(crate) fn two(etcd: &Etcd) -> (Running, Running) {
    let one = node(etcd, "n1", None).up();
    let two = node(etcd, "n2", Some(&one)).up();
    for mesh in [&one, &two] {
        until_it_selects(mesh, &["vrf/0@n1", "vrf/0@n2"]);
    }
    (one, two)
}

pub(crate) fn selected(mesh: &Running) -> BTreeSet<String> {
    let replicas = mesh.replicas("vrf").into_iter().filter(|replica| replica["selectable"] == true);
    replicas.map(|replica| replica["id"].as_str().unwrap().to_owned()).collect()
}

pub(crate) fn until_it_selects(mesh: &Running, expected: &[&str]) {
    let expected: BTreeSet<_> = expected.iter().map(|&id| id.to_owned()).collect();
    eventually("the replicas of all nodes", || (selected(mesh) == expected).then_some(()));
}

/// The replicas that have answered requests of a gateway.
pub(crate) fn answered(mesh: &Running) -> BTreeSet<String> {
    let log = std::fs::read_to_string(mesh.folder().join(".serviceos/logs/access.jsonl")).unwrap_or_default();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter_map(|line| Some(line["replica"].as_str()?.to_owned())).collect()
}

#[test]
fn a_request_at_either_gateway_reaches_the_replicas_of_both_nodes() {
    let Some(etcd) = Etcd::start(1) else { return };
    let (one, two) = two(&etcd);
    for mesh in [&one, &two] {
        eventually("answers of both", || {
            assert_eq!(mesh.get(PATH).status, 200);
            (answered(mesh).len() == 2).then_some(())
        });
    }
    assert_eq!(one.get(PATH).text(), two.get(PATH).text(), "they share the keys of the service");
    let far = one.replicas("vrf").into_iter().find(|replica| replica["id"] == "vrf/0@n2").unwrap();
    assert_eq!((&far["attestation"], &far["pid"]), (&"valid".into(), &Value::Null));
    let why = one.run(&["why", "vrf/0@n2"]);
    assert!(why.code == 0 && why.out.contains("selectable"), "{}{}", why.out, why.err);
}

#[test]
fn a_node_without_replicas_of_its_own_sends_requests_to_those_of_others() {
    let Some(etcd) = Etcd::start(1) else { return };
    let one = node(&etcd, "n1", None).up();
    let two = Mesh::new()
        .head(&format!("store: {}\nnode: n2\n", etcd.url()))
        .yaml(&SERVICE.replace("replicas: 1", "replicas: 0"));
    share_key(one.folder(), two.folder());
    let two = two.up();
    until_it_selects(&two, &["vrf/0@n1"]);
    assert_eq!(two.get(PATH).text(), one.get(PATH).text());
}

#[test]
fn a_node_that_is_stopped_loses_no_request_of_the_other() {
    let Some(etcd) = Etcd::start(1) else { return };
    let (one, mut two) = two(&etcd);
    under_load(&one, PATH, |load| {
        load.until_more(200);
        assert_eq!(two.run(&["down"]).code, 0);
        assert_eq!(two.wait().code, 0);
        load.until_more(200);
    });
    assert_eq!(selected(&one), BTreeSet::from(["vrf/0@n1".to_owned()]));
    let log = one.log();
    assert!(!log.contains("did not confirm"), "{log}");
}

#[test]
fn a_node_that_is_killed_loses_no_request_of_the_other_and_comes_again() {
    let Some(etcd) = Etcd::start(1) else { return };
    let (one, mut two) = two(&etcd);
    under_load(&one, PATH, |load| {
        load.until_more(200);
        kill(two.pid(), Signal::KILL);
        two.wait();
        until_it_selects(&one, &["vrf/0@n1"]);
        load.until_more(200);
        let again = two.up_again();
        until_it_selects(&one, &["vrf/0@n1", "vrf/0@n2"]);
        load.until_more(200);
        drop(again);
    });
}

#[test]
fn what_one_node_changes_counts_at_the_other() {
    let Some(etcd) = Etcd::start(1) else { return };
    let (one, two) = two(&etcd);
    let created = one.run(&["keys", "create", "--name", "partner", "--scopes", "randomness", "--json"]);
    let created: Value = serde_json::from_str(&created.out).unwrap();
    let (id, key) = (created["id"].as_str().unwrap(), created["key"].as_str().unwrap());
    let status = || Request::new("GET", PATH).key(key).send(two.gateway).status;
    eventually("the key at the other", || (status() == 200).then_some(()));
    assert_eq!(one.run(&["keys", "revoke", id]).code, 0);
    eventually("the revocation at the other", || (status() == 401).then_some(()));

    assert_eq!(one.run(&["secrets", "rotate", "vrf-signing"]).code, 0);
    let keys = |mesh: &Running| mesh.get(PATH).json()["keys"].as_array().map_or(0, Vec::len);
    eventually("the new key at every replica", || {
        (0..8).all(|_| keys(&one) == 2 && keys(&two) == 2).then_some(())
    });

    let revoked = one.run(&["attestation", "revoke", "instance", "vrf/0@n2"]);
    assert_eq!(revoked.code, 0, "{}", revoked.err);
    until_it_selects(&one, &["vrf/0@n1"]);
    until_it_selects(&two, &["vrf/0@n1"]);
}

#[test]
fn a_node_that_differs_is_refused_with_the_difference_and_a_name_has_one_node() {
    let Some(etcd) = Etcd::start(1) else { return };
    let one = node(&etcd, "n1", None).up();
    let other = Mesh::new()
        .head(&format!("store: {}\nnode: n2\n", etcd.url()))
        .yaml(&SERVICE.replace("scopes: [randomness]", "public: true"));
    share_key(one.folder(), other.folder());
    let refused = other.up_and_fail();
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("routes[0].public: false in the mesh, true here"), "{}", refused.err);
    let same_name = node(&etcd, "n1", Some(&one)).up_and_fail();
    assert_eq!(same_name.code, 1);
    assert!(same_name.err.contains("another serviceos runs as the node n1"), "{}", same_name.err);
    assert_eq!(one.get(PATH).status, 200);
}

#[test]
fn each_node_knows_what_its_own_replicas_have_made_of_their_config() {
    let Some(etcd) = Etcd::start(1) else { return };
    let (one, two) = two(&etcd);
    for (mesh, own) in [(&one, "vrf/0@n1"), (&two, "vrf/0@n2")] {
        let shown = mesh.run(&["config", "status", "--json", "--wait", "30s"]);
        assert_eq!(shown.code, 0, "{}", shown.out);
        let status: Value = serde_json::from_str(&shown.out).unwrap();
        let replicas = status["services"][0]["replicas"].as_array().unwrap();
        let ids: Vec<_> = replicas.iter().map(|replica| replica["id"].as_str().unwrap()).collect();
        assert_eq!((ids, &replicas[0]["outcome"]), (vec![own], &"applied".into()));
    }
}

#[test]
fn another_configuration_counts_once_every_node_has_it() {
    let Some(etcd) = Etcd::start(1) else { return };
    let (one, two) = two(&etcd);
    let text = |mesh: &Running| std::fs::read_to_string(mesh.folder().join("serviceos.yaml")).unwrap();
    let changed = |mesh: &Running| change_scope(mesh, "randomness", "dice");
    under_load(&one, PATH, |load| {
        changed(&one);
        one.until_logged(0, "the configuration was applied");
        two.until_logged(0, "another node has changed the manifest of the mesh");
        assert!(two.log().contains("routes[0].scopes"), "{}", two.log());
        for mesh in [&one, &two] {
            eventually("the node that is behind", || (nodes(mesh) == behind(false, true)).then_some(()));
        }
        let third = text(&two).replace("scopes: [randomness]", "scopes: [cards]");
        std::fs::write(two.folder().join("third.yaml"), third).unwrap();
        let refused = two.run(&["config", "apply", "third.yaml"]);
        assert!(refused.code == 1 && refused.err.contains("MANIFEST_DIFFERS"), "{}", refused.err);
        load.until_more(100);
        changed(&two);
        two.until_logged(0, "the configuration was applied");
        load.until_more(100);
        until_it_selects(&one, &["vrf/0@n1", "vrf/0@n2"]);
        eventually("none to be behind", || (nodes(&one) == behind(false, false)).then_some(()));
    });
}

pub(crate) fn behind(one: bool, two: bool) -> [(String, bool); 2] {
    [("n1".to_owned(), one), ("n2".to_owned(), two)]
}

fn change_scope(mesh: &Running, from: &str, to: &str) {
    let path = mesh.folder().join("serviceos.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let changed = text.replace(&format!("scopes: [{from}]"), &format!("scopes: [{to}]"));
    assert_ne!(text, changed);
    std::fs::write(path, changed).unwrap();
}

#[test]
fn nodes_that_are_changed_or_started_at_the_same_moment_agree() {
    let Some(etcd) = Etcd::start(1) else { return };
    let (one, two) = two(&etcd);
    for mesh in [&one, &two] {
        change_scope(mesh, "randomness", "dice");
    }
    for mesh in [&one, &two] {
        mesh.until_logged(0, "the configuration was applied");
        eventually("none to be behind", || (nodes(mesh) == behind(false, false)).then_some(()));
    }
    let mut stopped = [one, two];
    for mesh in &mut stopped {
        assert_eq!(mesh.run(&["down"]).code, 0);
        mesh.wait();
        change_scope(mesh, "dice", "cards");
    }
    let up = |mesh: Running| std::thread::spawn(move || mesh.up_again());
    let started = stopped.map(up).map(|starting| starting.join().unwrap());
    for mesh in &started {
        until_it_selects(mesh, &["vrf/0@n1", "vrf/0@n2"]);
    }
}

/// The nodes in `status`, each with whether it is behind.
pub(crate) fn nodes(mesh: &Running) -> Vec<(String, bool)> {
    let status = mesh.status();
    let nodes = status["nodes"].as_array().unwrap();
    nodes.iter().map(|node| (node["name"].as_str().unwrap().into(), node["behind"] == true)).collect()
}

#[test]
fn status_says_which_nodes_there_are() {
    let Some(etcd) = Etcd::start(1) else { return };
    let (one, mut two) = two(&etcd);
    eventually("both nodes", || (nodes(&two).len() == 2).then_some(()));
    let status = one.status();
    let node = &status["nodes"][1];
    assert_eq!((&node["name"], &node["replicas"], &node["selectable"]), (&"n2".into(), &1.into(), &1.into()));
    let table = one.run(&["status"]).out;
    assert!(table.contains("NODE  SINCE") && table.contains("n2"), "{table}");
    two.run(&["down"]);
    two.wait();
    eventually("the node to be gone", || (nodes(&one) == [("n1".to_owned(), false)]).then_some(()));
}
