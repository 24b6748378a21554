//! A new version that is called by a part first, and judged by what it answers.

use std::collections::BTreeMap;

use testkit::{Client, Request, Running, eventually};

use crate::versioned::{PATH, Web, events, pids, told, until_ended, watched};

/// Half of the calls, and no longer than the gate needs.
const CANARY: &str = "{strategy: canary, minReady: 0s, steps: [{weight: 50%, pause: 0s}], \
    gate: {errorRate: 2%, latencyRatio: 100, minRequests: 100}}";
const MIN_REQUESTS: usize = 100;

const STABLE: Web<'static> = Web::rolled(CANARY);

/// How many calls of each version were answered, and how many of them with an error.
type Answers = BTreeMap<String, (usize, usize)>;

/// Calls once.
fn call(client: &mut Client, answers: &mut Answers) {
    let answer = client.send(&Request::new("GET", PATH)).expect("the connection holds");
    let (all, failed) = answers.entry(answer.text()).or_default();
    *all += 1;
    match answer.status {
        200 => {}
        500 => *failed += 1,
        status => panic!("{status}: {}", answer.text()),
    }
}

/// Calls until so many calls were answered by the version.
fn call_until(mesh: &Running, version: &str, wanted: usize) -> Answers {
    let (mut client, mut answers) = (Client::connect(mesh.gateway).unwrap(), Answers::new());
    eventually(&format!("{wanted} answers of {version}"), || {
        call(&mut client, &mut answers);
        (answers.get(version).map_or(0, |(all, _)| *all) >= wanted).then_some(())
    });
    answers
}

/// Calls until something of this kind is said of the rollout.
fn call_until_told(mesh: &Running, wanted: &str) -> Answers {
    let (mut client, mut answers) = (Client::connect(mesh.gateway).unwrap(), Answers::new());
    eventually(wanted, || {
        (0..50).for_each(|_| call(&mut client, &mut answers));
        told(mesh, "web").iter().any(|said| said.starts_with(wanted)).then_some(())
    });
    answers
}

#[test]
fn a_canary_of_which_one_call_in_twenty_fails_is_given_up_and_the_old_version_is_never_touched() {
    let mesh = STABLE.up();
    let (before, begun) = (pids(&mesh), events(&mesh, "web").len());
    let moments = watched(&mesh, || {
        Web { version: "2.0.0", fails_every: 20, ..STABLE }.change(&mesh);
        let answers = call_until_told(&mesh, "reverted");
        let (all, failed) = answers["2.0.0"];
        assert!(all >= MIN_REQUESTS && failed > 0 && failed <= all / 20, "{answers:?}");
        assert_eq!(answers["1.0.0"].1, 0, "the old version has failed no call: {answers:?}");
    });

    let said = told(&mesh, "web");
    let why = said.iter().find(|said| said.starts_with("reverting")).unwrap();
    assert!(why.contains("calls failed, and 0.0 % of the old version's"), "{why}");
    assert!(!said.iter().any(|said| said.contains("takes the place")), "it has come no further: {said:?}");

    assert_eq!(pids(&mesh), before, "the old ones run, and nobody else");
    for moment in &moments {
        for id in ["web/0", "web/1"] {
            assert_eq!(moment[id]["selectable"], true, "{id} was always there: {}", moment[id]);
        }
    }
    let touched = |event: &&serde_json::Value| event["replica"] == "web/0" || event["replica"] == "web/1";
    assert_eq!(events(&mesh, "web")[begun..].iter().find(touched), None);
    let answers = call_until(&mesh, "1.0.0", 50);
    assert_eq!(answers.into_iter().collect::<Vec<_>>(), [("1.0.0".to_owned(), (50, 0))]);
}

/// A canary that has had too few calls stands still, whatever else happens; gives the mesh.
fn stands_still(new: &Web<'_>) -> Running {
    let mesh = STABLE.up();
    new.change(&mesh);
    let answers = call_until(&mesh, new.version, MIN_REQUESTS / 2);
    let (all, failed) = answers[new.version];
    assert!(failed == 0 || failed == all / 2, "{answers:?}");
    // The rollout looks at all that there is whenever a replica is another.
    let pid = mesh.pids("web")[0];
    let restarted = mesh.run(&["restart", "web/0"]);
    assert_eq!(restarted.code, 0, "{restarted:?}");
    eventually("another process of web/0", || {
        let replicas = mesh.replicas("web");
        (replicas[0]["pid"] != pid && replicas[0]["selectable"] == true).then_some(())
    });
    let said = told(&mesh, "web");
    let [only] = said.as_slice() else { panic!("more than its beginning is said: {said:?}") };
    assert!(only.starts_with("1.0.0-") && only.contains(" to 2.0.0-"), "{only}");
    let of_new = |replica: &&serde_json::Value| replica["versionId"].as_str().unwrap().starts_with("2.0.0");
    assert_eq!(mesh.replicas("web").iter().filter(of_new).count(), 1);
    mesh
}

#[test]
fn a_canary_with_too_few_calls_waits_and_goes_on_when_they_come() {
    let mesh = stands_still(&Web { version: "2.0.0", ..STABLE });
    let answers = call_until_told(&mesh, "the new version takes the place");
    assert!(answers["2.0.0"].0 >= MIN_REQUESTS / 2, "{answers:?}");
    until_ended(&mesh, 1, "done");
    let answers = call_until(&mesh, "2.0.0", 50);
    assert_eq!(answers.into_iter().collect::<Vec<_>>(), [("2.0.0".to_owned(), (50, 0))]);
}

#[test]
fn a_canary_that_fails_is_not_given_up_for_too_few_calls() {
    let mesh = stands_still(&Web { version: "2.0.0", fails_every: 2, ..STABLE });
    call_until_told(&mesh, "reverting");
    until_ended(&mesh, 1, "reverted");
    let said = told(&mesh, "web");
    assert!(!said.iter().any(|said| said.contains("takes the place")), "{said:?}");
}
