//! What an operator sees of a rollout, and how one goes on as somebody says.

use std::process::{Child, Stdio};

use serde_json::Value;
use testkit::{Finished, Running, eventually};

use crate::versioned::{Web, flag, version};

const BY_HAND: Web<'static> = Web::rolled("{minReady: 0s, strategy: canary, steps: [{weight: 50%}]}");

/// What is said where none is on its way, at a version that is known.
const NONE: &str = "no rollout of web is on its way, and 1.0.0-";

fn rollout(mesh: &Running, verb: &str) -> Finished {
    mesh.run(&["rollout", verb, "web"])
}

fn done(finished: Finished) -> String {
    assert_eq!(finished.code, 0, "{finished:?}");
    finished.out
}

fn status(mesh: &Running) -> Value {
    serde_json::from_str(&done(mesh.run(&["rollout", "status", "web", "--json"]))).unwrap()
}

/// Waits until the rollout waits for this, and for nothing else.
fn until_waits_for(mesh: &Running, what: &str) -> Value {
    eventually(&format!("the rollout to wait for {what}"), || {
        let status = status(mesh);
        let waits = status["rollout"]["waits"].as_array()?;
        let is_it = waits.len() == 1 && waits[0]["for"] == what;
        is_it.then(|| status["rollout"].clone())
    })
}

/// A follower, once it has printed its first line.
fn followed(mesh: &Running, more: &[&str]) -> Child {
    let out = std::fs::File::create(mesh.folder().join("followed")).unwrap();
    let mut command = mesh.command();
    command.args(["rollout", "status", "web", "-f"]).args(more).stdout(out).stderr(Stdio::null());
    let follower = command.spawn().unwrap();
    eventually("the follower's first line", || told(mesh).contains('\n').then_some(()));
    follower
}

/// Has replicas of the version that is held end.
fn let_go(mesh: &Running) {
    flag(mesh, "let-go", "held");
}

fn told(mesh: &Running) -> String {
    std::fs::read_to_string(mesh.folder().join("followed")).unwrap()
}

#[test]
fn a_canary_is_paused_promoted_and_undone_by_hand_and_says_what_it_waits_for() {
    let mesh = BY_HAND.up();
    let idle = done(rollout(&mesh, "status"));
    assert!(idle.starts_with(NONE), "{idle}");
    for verb in ["pause", "resume", "promote", "undo"] {
        let refused = rollout(&mesh, verb);
        assert!(refused.code == 1 && refused.err.contains("rollout history web"), "{verb}: {refused:?}");
    }
    let unknown = mesh.run(&["rollout", "undo", "wbe"]);
    assert!(unknown.code == 1 && unknown.err.contains("did you mean web?"), "{unknown:?}");

    Web { version: "2.0.0", ..BY_HAND }.change(&mesh);
    let shown = until_waits_for(&mesh, "promotion");
    assert_eq!((&shown["stage"], &shown["step"], &shown["percent"]), (&"step".into(), &1.into(), &50.into()));
    assert_eq!((&shown["stable"]["available"], &shown["target"]["available"]), (&2.into(), &1.into()));
    let text = done(rollout(&mesh, "status"));
    assert!(text.contains("waits for somebody: serviceos rollout promote web"), "{text}");
    let not_paused = rollout(&mesh, "resume");
    assert!(
        not_paused.err.contains("is not paused") && not_paused.err.contains("ROLLOUT_NOT_NOW"),
        "{not_paused:?}"
    );

    let mut follower = followed(&mesh, &[]);
    let paused = done(rollout(&mesh, "pause"));
    assert!(paused.contains("paused") && paused.contains("serviceos rollout resume web"), "{paused}");
    done(rollout(&mesh, "resume"));
    until_waits_for(&mesh, "promotion");
    done(rollout(&mesh, "promote"));
    assert_eq!(follower.wait().unwrap().code(), Some(0), "{}", told(&mesh));
    let lines = told(&mesh);
    for said in [
        "step 1 of 1, 50 % of the calls; old 2/2, new 1/1",
        ", paused",
        "takes the place",
        "ended at",
        ", done",
    ] {
        assert!(lines.contains(said), "{said}: {lines}");
    }
    assert_eq!(version(&mesh), "2.0.0");

    // What is done is taken back by the configuration, which the answer says how.
    let over = rollout(&mesh, "undo");
    assert!(over.code == 1 && over.err.contains("`serviceos config rollback 1`"), "{over:?}");
    done(mesh.run(&["config", "rollback", "1"]));
    until_waits_for(&mesh, "promotion");
    let mut follower = followed(&mesh, &[]);
    let undone = done(rollout(&mesh, "undo"));
    assert!(undone.contains("reverting: somebody wants it so"), "{undone}");
    assert_eq!(follower.wait().unwrap().code(), Some(4), "{}", told(&mesh));
    assert_eq!(version(&mesh), "2.0.0");
    let history = done(mesh.run(&["rollout", "history", "web", "--json"]));
    let history: Value = serde_json::from_str(&history).unwrap();
    let ended: Vec<_> = history["rollouts"].as_array().unwrap().iter().map(|one| &one["outcome"]).collect();
    assert_eq!(ended, ["reverted", "done"], "the newest first");
    let events = done(mesh.run(&["events", "web"]));
    for word in ["paused", "resumed", "promoted", "undone"] {
        let is_it = |line: &str| line.contains(&format!("rollout {word} ")) && line.contains("operator");
        assert!(events.lines().any(is_it), "{word}: {events}");
    }
}

#[test]
fn a_canary_counts_the_calls_that_it_still_waits_for() {
    let gated =
        "{minReady: 0s, strategy: canary, steps: [{weight: 100%, pause: 0s}], gate: {minRequests: 5}}";
    let gated = Web::rolled(gated);
    let mesh = gated.up();
    Web { version: "2.0.0", ..gated }.change(&mesh);
    let shown = until_waits_for(&mesh, "samples");
    assert_eq!((&shown["waits"][0]["missing"], &shown["gate"]["minRequests"]), (&5.into(), &5.into()));
    (0..3).for_each(|_| assert_eq!(version(&mesh), "2.0.0"));
    eventually("the calls to be counted", || {
        let shown = until_waits_for(&mesh, "samples");
        let target = &shown["target"];
        (shown["waits"][0]["said"] == "waits for 2 more samples").then(|| {
            assert_eq!((&target["requests"], &target["errorRate"]), (&3.into(), &0.0.into()));
            assert!(target["p99Ms"].as_f64().unwrap() > 0.0, "{shown}");
        })
    });
    let mut follower = followed(&mesh, &[]);
    (0..2).for_each(|_| assert_eq!(version(&mesh), "2.0.0"));
    assert_eq!(follower.wait().unwrap().code(), Some(0), "{}", told(&mesh));
}

#[test]
fn whoever_follows_a_version_that_cannot_start_is_told_why_and_that_it_is_given_up() {
    let quick = Web::rolled("{minReady: 0s}");
    let mesh = quick.up();
    Web { version: "held", ..quick }.change(&mesh);
    eventually("a rollout", || status(&mesh)["rollout"].is_object().then_some(()));
    let mut follower = followed(&mesh, &["--json"]);
    let_go(&mesh);
    assert_eq!(follower.wait().unwrap().code(), Some(4), "{}", told(&mesh));
    let last: Value = serde_json::from_str(told(&mesh).lines().last().unwrap()).unwrap();
    assert!(last["last"]["reason"].as_str().unwrap().contains("exited with code 3"), "{last}");
    // Whoever comes later follows nothing, and what has ended before is none of theirs.
    let later = mesh.run(&["rollout", "status", "web", "-f"]);
    assert!(later.code == 0 && later.out.starts_with(NONE) && !later.out.contains("ended"), "{later:?}");
    assert!(done(rollout(&mesh, "status")).contains(", reverted: "));
}

#[test]
fn a_program_that_is_another_under_the_same_path_is_rolled_out_when_somebody_starts_it() {
    // Long enough for somebody to ask once more meanwhile.
    let mesh = Web::rolled("{minReady: 5s}").up();
    let idle = done(rollout(&mesh, "start"));
    assert!(idle.contains("there is nothing to roll out"), "{idle}");
    let path = mesh.folder().join("server.py");
    let script = std::fs::read_to_string(&path).unwrap();
    let of_version = |version: &str| script.replace(r#"os.environ["V"]"#, &format!("{version:?}"));
    std::fs::write(&path, of_version("2.0.0")).unwrap();
    let begun = done(mesh.run(&["rollout", "start", "web", "--json"]));
    let begun: Value = serde_json::from_str(&begun).unwrap();
    assert_eq!((&begun["started"], begun["status"]["rollout"].is_object()), (&true.into(), true), "{begun}");
    let again = done(rollout(&mesh, "start"));
    assert!(again.contains("is on its way already"), "{again}");
    assert_eq!(mesh.run(&["rollout", "status", "web", "-f"]).code, 0);
    assert_eq!(version(&mesh), "2.0.0");
    std::fs::write(&path, of_version("held")).unwrap();
    done(rollout(&mesh, "start"));
    let mut follower = followed(&mesh, &[]);
    let_go(&mesh);
    assert_eq!(follower.wait().unwrap().code(), Some(4), "{}", told(&mesh));
    assert!(told(&mesh).contains("reverted: "), "{}", told(&mesh));
    assert_eq!(version(&mesh), "2.0.0");
}

#[test]
fn whoever_follows_a_restart_that_is_undone_is_told_that_it_is_given_up() {
    // Long enough for it to be undone before any of the old ones goes.
    let mesh = Web::rolled("{minReady: 1m}").up();
    done(mesh.run(&["restart", "web"]));
    let mut follower = followed(&mesh, &[]);
    done(rollout(&mesh, "undo"));
    assert_eq!(follower.wait().unwrap().code(), Some(4), "{}", told(&mesh));
    assert!(
        told(&mesh).lines().last().unwrap().contains("reverted: somebody wants it so"),
        "{}",
        told(&mesh)
    );
}
