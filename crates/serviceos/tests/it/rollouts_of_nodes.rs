//! Several nodes of one mesh bring in another version, each at its own pace.

use std::path::Path;

use testkit::{Etcd, Mesh, Running, eventually};

use crate::nodes::{behind, nodes, share_key};
use crate::rollouts::{SERVER, file, until_rollout};

/// What a node's file says; all run the program in this folder.
struct Of<'a> {
    etcd: &'a Etcd,
    program: &'a Path,
    name: &'static str,
    min_ready: &'static str,
}

impl Of<'_> {
    fn text(&self, version: &str) -> String {
        let Self { etcd, program, name, min_ready } = self;
        let more = format!("rollout: {{minReady: {min_ready}}}\n    restart: {{max: 100ms}}");
        format!("store: {}\nnode: {name}\n{}", etcd.url(), file(program, version, &more))
    }

    fn change(&self, mesh: &Running, version: &str) {
        let new = mesh.folder().join("new.yaml");
        std::fs::write(&new, self.text(version)).unwrap();
        std::fs::rename(new, mesh.folder().join("serviceos.yaml")).unwrap();
    }
}

/// How many of all nodes a gateway would call, where all of them run this version. One that has gone is told of for a while.
fn selectable(mesh: &Running, version: &str) -> Option<usize> {
    let mut replicas = mesh.replicas("web");
    replicas.retain(|replica| replica["selectable"] == true);
    let runs =
        |replica: &serde_json::Value| replica["versionId"].as_str().is_some_and(|id| id.starts_with(version));
    replicas.iter().all(runs).then_some(replicas.len())
}

#[test]
fn the_node_that_is_done_first_waits_for_the_others_before_the_old_version_is_admitted_no_more() {
    let Some(etcd) = Etcd::start(1) else { return };
    let mesh = Mesh::new();
    let program = mesh.folder().to_owned();
    std::fs::write(program.join("server.py"), SERVER).unwrap();
    let of = |name, min_ready| Of { etcd: &etcd, program: &program, name, min_ready };
    let (quick, slow) = (of("n1", "0s"), of("n2", "3s"));
    mesh.write(&quick.text("1.0.0"));
    let one = mesh.up();
    let mesh = Mesh::new();
    share_key(one.folder(), mesh.folder());
    mesh.write(&slow.text("1.0.0"));
    let two = mesh.up();
    let both = [&one, &two];
    for mesh in both {
        eventually("the replicas of both", || (selectable(mesh, "1.0.0") == Some(4)).then_some(()));
    }
    quick.change(&one, "2.0.0");
    slow.change(&two, "2.0.0");
    until_rollout(&one, "done");
    eventually("the first one to wait", || {
        one.log().contains("both versions are admitted until then").then_some(())
    });
    until_rollout(&two, "done");
    for mesh in both {
        eventually("the new version at both", || (selectable(mesh, "2.0.0") == Some(4)).then_some(()));
        eventually("none to be behind", || (nodes(mesh) == behind(false, false)).then_some(()));
        assert!(!mesh.log().contains("reverted"), "{}", mesh.log());
    }
    // Back again, which needs what was admitted before to be admitted anew.
    quick.change(&one, "1.0.0");
    slow.change(&two, "1.0.0");
    for mesh in both {
        eventually("the old version at both", || (selectable(mesh, "1.0.0") == Some(4)).then_some(()));
    }
}
