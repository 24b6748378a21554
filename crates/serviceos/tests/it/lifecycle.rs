//! Replicas that come, go and begin anew while everything runs, and who is told of it.

use std::collections::BTreeSet;

use serde_json::Value;
use testkit::{Mesh, Request, Running, eventually, exists};

use crate::load::under_load;

/// The ids of the replicas that are selectable, where there is no other.
fn selectable(mesh: &Running, service: &str) -> Option<BTreeSet<String>> {
    let replicas = mesh.replicas(service);
    let is_it = |replica: &&Value| replica["selectable"] == true;
    let ids = replicas.iter().filter(is_it).map(|replica| replica["id"].as_str().unwrap().to_owned());
    Some(ids.collect()).filter(|ids: &BTreeSet<_>| ids.len() == replicas.len())
}

fn until(mesh: &Running, service: &str, ids: &[&str]) {
    let wanted: BTreeSet<_> = ids.iter().map(|id| (*id).to_owned()).collect();
    eventually(&format!("{ids:?} to be selectable, and no other"), || {
        (selectable(mesh, service)? == wanted).then_some(())
    });
}

/// The events of a service, as the command line prints them for machines.
fn events(mesh: &Running, service: &str) -> Vec<Value> {
    let printed = mesh.run(&["events", service, "--json"]);
    assert_eq!(printed.code, 0, "{printed:?}");
    printed.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn done(mesh: &Running, arguments: &[&str]) -> String {
    let finished = mesh.run(arguments);
    assert_eq!(finished.code, 0, "{finished:?}");
    finished.out
}

#[test]
fn a_service_is_scaled_by_a_revision_of_the_command_line_which_the_file_replaces() {
    let mesh = Mesh::new().service("vrf", 2).up();
    let said = done(&mesh, &["scale", "vrf=3"]);
    assert!(said.starts_with("services.vrf.replicas: 2 -> 3\nrevision 2 of"), "{said}");
    until(&mesh, "vrf", &["vrf/0", "vrf/1", "vrf/2"]);
    assert!(done(&mesh, &["scale", "vrf=3"]).contains("wanted already"));
    done(&mesh, &["scale", "vrf=1"]);
    until(&mesh, "vrf", &["vrf/0"]);
    let kept: Vec<_> = events(&mesh, "vrf").into_iter().filter(|event| event["kind"] == "scaled").collect();
    let numbers: Vec<_> = kept.iter().map(|event| (&event["from"], &event["to"], &event["actor"])).collect();
    assert_eq!(
        numbers,
        [(&"2".into(), &"3".into(), &"operator".into()), (&"3".into(), &"1".into(), &"operator".into())]
    );
    // What the file means next holds.
    std::fs::write(
        mesh.folder().join("serviceos.yaml"),
        "services:\n  vrf: {replicas: 2, required: false}\n",
    )
    .unwrap();
    until(&mesh, "vrf", &["vrf/0", "vrf/1"]);
    for (arguments, said) in [
        (&["scale", "oracle=1"][..], "SERVICE_UNKNOWN"),
        (&["scale", "vrf=100001"], "expected a whole number from 0 to 1000"),
        (&["scale", "vrf"], "such as vrf=5"),
    ] {
        let refused = mesh.run(arguments);
        assert!(refused.code != 0 && refused.err.contains(said), "{refused:?}");
    }
    until(&mesh, "vrf", &["vrf/0", "vrf/1"]);
}

#[test]
fn a_replica_that_is_drained_stays_stopped_until_it_is_restarted() {
    let mesh = Mesh::new().service("vrf", 2).up();
    let pids = mesh.pids("vrf");
    let said = done(&mesh, &["drain", "vrf/1"]);
    assert!(said.contains("vrf/1 is stopped"), "{said}");
    assert!(!exists(pids[1]));
    let replica = &mesh.replicas("vrf")[1];
    assert_eq!(
        (&replica["state"], &replica["reason"]),
        (&"Stopped".into(), &"drained; `serviceos restart vrf/1` starts it again".into())
    );
    done(&mesh, &["restart", "vrf/1"]);
    until(&mesh, "vrf", &["vrf/0", "vrf/1"]);
    assert_eq!(mesh.replicas("vrf")[1]["restarts"], 0, "an order is no failure");
    let states: Vec<_> = events(&mesh, "vrf")
        .iter()
        .filter(|event| event["replica"] == "vrf/1")
        .map(|event| format!("{} {}", event["to"].as_str().unwrap(), event["actor"].as_str().unwrap()))
        .collect();
    assert_eq!(
        states,
        [
            "Starting configuration",
            "Ready supervisor",
            "Draining operator",
            "Stopped operator",
            "Starting operator",
            "Ready supervisor"
        ]
    );
    for (path, code) in [("drain", "vrf/7"), ("restart", "vrf/7")] {
        let refused = mesh.run(&[path, code]);
        assert!(refused.code == 1 && refused.err.contains("REPLICA_UNKNOWN"), "{refused:?}");
    }
}

#[test]
fn ten_restarts_of_all_replicas_under_load_lose_nothing_and_never_have_fewer_than_are_wanted() {
    let mesh = Mesh::new().yaml("    vrf: {replicas: 3, rollout: {minReady: 0s}}\n").up();
    let mut watch = mesh
        .command()
        .args(["instances", "vrf", "--watch", "--json"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let changes = watch.stdout.take().unwrap();
    let fewest = std::thread::scope(|scope| {
        let watching = scope.spawn(|| fewest_selectable(changes));
        under_load(&mesh, "/v1/random/keys", |load| {
            for _round in 0..10 {
                let before: BTreeSet<_> = mesh.pids("vrf").into_iter().collect();
                done(&mesh, &["restart", "vrf"]);
                eventually("other processes", || {
                    let ids = selectable(&mesh, "vrf")?;
                    (ids.len() == 3 && mesh.pids("vrf").iter().all(|pid| !before.contains(pid))).then_some(())
                });
                load.until_more(4);
            }
        });
        watch.kill().unwrap();
        watch.wait().unwrap();
        watching.join().unwrap()
    });
    assert_eq!(fewest, 3);
}

/// The fewest replicas that were selectable, from the time on when all three were.
fn fewest_selectable(events: impl std::io::Read) -> usize {
    use std::io::{BufRead, BufReader};
    let mut known = std::collections::BTreeMap::new();
    let mut fewest = usize::MAX;
    for line in BufReader::new(events).lines() {
        let Ok(event) = serde_json::from_str::<Value>(&line.unwrap()) else { break };
        let changed = event["instances"].as_array().or_else(|| event["changed"].as_array());
        for entry in changed.into_iter().flatten() {
            known.insert(entry["id"].as_str().unwrap().to_owned(), entry["selectable"] == true);
        }
        for gone in event["removed"].as_array().into_iter().flatten() {
            known.remove(gone.as_str().unwrap());
        }
        fewest = fewest.min(known.values().filter(|selectable| **selectable).count());
    }
    fewest
}

#[test]
fn a_replica_that_ends_at_once_again_and_again_is_shown_as_such_with_its_last_words() {
    let command = r#"    web: {command: ["/bin/sh", "-c", "echo no model; exit 3"], restart: {max: 100ms}}"#;
    let mesh = Mesh::new().yaml(&format!("{command}\n")).up_when("a crash loop", |status| {
        status["services"][0]["replicas"][0]["reason"]
            .as_str()
            .is_some_and(|reason| reason.starts_with("crash loop"))
    });
    let why = mesh.run(&["why", "web/0", "--json"]);
    assert_eq!(why.code, 4, "{why:?}");
    let why: Value = serde_json::from_str(&why.out).unwrap();
    let found = &why["ready"]["crashLoop"];
    assert!(found["ended"].as_u64().unwrap() >= 3, "{found}");
    assert!(found["lastLines"].to_string().contains("no model"), "{found}");
    let said = events(&mesh, "web").into_iter().find(|event| event["kind"] == "crashLoop").unwrap();
    assert!(said["cause"].as_str().unwrap().contains("no model"), "{said}");
}

#[test]
fn what_happens_is_followed_as_it_happens() {
    let mesh = Mesh::new().service("vrf", 1).up();
    let mut follow =
        mesh.command().args(["events", "vrf", "-f"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    done(&mesh, &["restart", "vrf/0"]);
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(follow.stdout.take().unwrap()));
    let told = lines.by_ref().map_while(Result::ok).find(|line| line.contains("Ready -> Draining")).unwrap();
    assert!(told.contains("vrf/0") && told.contains("operator") && told.ends_with("restarted"), "{told}");
    follow.kill().unwrap();
    follow.wait().unwrap();
    let document = Request::new("GET", "/v1/events").send(mesh.admin);
    assert_eq!(document.problem().0, 401, "the port wants its token");
}
