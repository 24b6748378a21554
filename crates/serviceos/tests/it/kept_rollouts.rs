//! `up` dies in the middle of a rollout: the next one takes over the replicas of both versions, and goes on where it was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use rustix::process::Signal;
use serde_json::Value;
use testkit::{Etcd, Mesh, Request, Running, eventually, exists, kill, wait_until_gone};

use crate::adoption::{Ending, Fared, killed};
use crate::versioned::{PATH, Web, flag, of_version, serving, told, until_it_says, until_told};

/// Half of the calls, until somebody says so.
const BY_HAND: &str = "{strategy: canary, minReady: 0s, steps: [{weight: 50%}]}";

/// Three of the first version.
const fn web(rollout: &str) -> Web<'_> {
    Web { replicas: 3, ..Web::rolled(rollout) }
}

fn up(web: &Web<'_>) -> Running {
    web.up_in(Mesh::new().with_ports_of_its_own())
}

/// The second version of the same.
const fn second(web: Web<'_>) -> Web<'_> {
    Web { version: "2.0.0", ..web }
}

/// How many replicas were taken over.
fn taken_over(mesh: &Running) -> usize {
    mesh.log().matches("it is taken over").count()
}

/// Has clients call while `work` kills `up` and starts it again; none gets a wrong answer, and each loses one call with each at most.
fn called(mesh: Running, path: &str, work: impl FnOnce(Running, &Fared) -> Running) {
    let (gateway, key, fared) = (mesh.gateway, mesh.key.clone(), Fared::default());
    // It is there until the last client has ended.
    let _mesh = std::thread::scope(|scope| {
        let request = Request::new("GET", path).key(&key);
        for client in 0..4 {
            let (fared, request) = (&fared, request.clone());
            scope.spawn(move || fared.sends(client, gateway, &request));
        }
        let _ending = Ending(&fared);
        work(mesh, &fared)
    });
    assert_eq!(fared.wrong.into_inner().unwrap(), BTreeMap::new());
    let cut = fared.cut.into_inner().unwrap();
    let lost: Vec<_> = cut.into_iter().filter(|((sent, _), _)| sent % 2 == 0).collect();
    assert!(lost.iter().all(|(_, times)| *times == 1), "one request of each client is in flight: {lost:?}");
}

/// Kills `up` and starts it again, without a wait for anything but an answer.
fn killed_and_started(mut mesh: Running, fared: &Fared) -> Running {
    fared.generation.fetch_add(1, Ordering::SeqCst);
    killed(&mut mesh);
    fared.generation.fetch_add(1, Ordering::SeqCst);
    let answered = fared.answered.load(Ordering::Relaxed);
    let mesh = mesh.up_again_when("an answer", |_status| true);
    eventually("answers", || (fared.answered.load(Ordering::Relaxed) > answered + 20).then_some(()));
    mesh
}

#[test]
fn killed_in_the_middle_of_a_rolling_rollout_the_next_goes_on_with_the_replicas_of_both_versions() {
    let web = web("{minReady: 1s}");
    called(up(&web), PATH, |mesh, fared| {
        let old = serving(&mesh, "web");
        second(web).change(&mesh);
        let before = eventually("both versions", || {
            let serving = serving(&mesh, "web");
            let (one, two) = (of_version(&serving, "1.0.0"), of_version(&serving, "2.0.0"));
            (!one.is_empty() && !two.is_empty() && one.len() < 3).then_some(serving)
        });
        let mesh = killed_and_started(mesh, fared);
        until_told(&mesh, "web", "goes on: the new version takes the place");
        until_told(&mesh, "web", "done");
        assert!(taken_over(&mesh) >= before.len(), "{before:?}: {}", mesh.log());
        let now = serving(&mesh, "web");
        assert_eq!(of_version(&now, "2.0.0").len(), 3, "{now:?}");
        assert!(of_version(&before, "2.0.0").iter().all(|pid| now.contains_key(pid)), "{before:?} {now:?}");
        assert!(now.keys().all(|pid| !old.contains_key(pid)));
        assert!(!mesh.log().contains("which is not taken over"), "{}", mesh.log());
        mesh
    });
}

#[test]
fn killed_again_and_again_a_rollout_comes_to_its_end() {
    let web = web("{minReady: 1s}");
    called(up(&web), PATH, |mut mesh, fared| {
        second(web).change(&mesh);
        mesh.until_logged(0, "the configuration was applied");
        for _kill in 0..4 {
            mesh = killed_and_started(mesh, fared);
        }
        eventually("the new version alone", || {
            let now = serving(&mesh, "web");
            (of_version(&now, "2.0.0").len() == 3 && now.len() == 3).then_some(())
        });
        mesh
    });
}

#[test]
fn a_canary_that_waits_in_a_step_waits_in_it_after_a_kill_and_repeats_none() {
    let waits = "{strategy: canary, minReady: 0s, steps: [{weight: 10%, pause: 0s}, {weight: 50%}], gate: {minRequests: 1, latencyRatio: 100}}";
    let waits = web(waits);
    called(up(&waits), PATH, |mesh, fared| {
        second(waits).change(&mesh);
        until_told(&mesh, "web", "step 2");
        let before = eventually("all that the step needs", || {
            let serving = serving(&mesh, "web");
            (of_version(&serving, "2.0.0").len() == 2 && serving.len() == 5).then_some(serving)
        });
        let mesh = killed_and_started(mesh, fared);
        let said = until_told(&mesh, "web", "goes on: step 2");
        eventually("the same processes", || (serving(&mesh, "web") == before).then_some(()));
        assert_eq!((taken_over(&mesh), said.len()), (5, 1), "{said:?}");
        // What the file says again undoes it, while nobody runs and while somebody does.
        waits.change(&mesh);
        until_told(&mesh, "web", "reverted");
        let now = serving(&mesh, "web");
        assert_eq!(of_version(&now, "1.0.0"), of_version(&before, "1.0.0"), "they were never touched");
        mesh
    });
}

#[test]
fn a_file_that_says_again_what_runs_undoes_a_rollout_though_nobody_was_there_to_see_it() {
    let waits = web(BY_HAND);
    let mut mesh = up(&waits);
    let old: BTreeSet<_> = serving(&mesh, "web").into_keys().collect();
    second(waits).change(&mesh);
    eventually("the canaries", || (serving(&mesh, "web").len() == 5).then_some(()));
    killed(&mut mesh);
    waits.change(&mesh);
    let mesh = mesh.up_again_when("a start", |_status| true);
    until_told(&mesh, "web", "reverted: somebody wants it so");
    assert_eq!(serving(&mesh, "web").into_keys().collect::<BTreeSet<_>>(), old);
    assert_eq!(taken_over(&mesh), 5);
}

#[test]
fn killed_while_it_reverts_the_next_goes_on_reverting_and_the_configuration_says_again_what_runs() {
    let web = web("{minReady: 0s}");
    called(up(&web), PATH, |mesh, fared| {
        flag(&mesh, "slow", "2.0.0");
        second(web).change(&mesh);
        let new = eventually("one that was replaced", || {
            let serving = serving(&mesh, "web");
            let (one, two) = (of_version(&serving, "1.0.0"), of_version(&serving, "2.0.0"));
            (one.len() == 2 && two.len() == 1).then(|| *two.first().unwrap())
        });
        // It cannot be started any more, and what it has replaced takes its time.
        flag(&mesh, "bad", "2.0.0");
        flag(&mesh, "slow", "1.0.0");
        // Whom it is just answering loses that.
        fared.generation.fetch_add(1, Ordering::SeqCst);
        kill(new, Signal::KILL);
        until_told(&mesh, "web", "reverting");
        fared.generation.fetch_add(1, Ordering::SeqCst);
        let before = serving(&mesh, "web");
        let mesh = killed_and_started(mesh, fared);
        until_told(&mesh, "web", "goes on: reverting");
        let said = until_told(&mesh, "web", "reverted");
        assert!(said.iter().any(|said| said.contains("no model")), "{said:?}");
        let now = serving(&mesh, "web");
        assert_eq!(of_version(&now, "1.0.0").len(), 3, "{now:?}");
        assert!(of_version(&before, "1.0.0").iter().all(|pid| now.contains_key(pid)), "{before:?} {now:?}");
        until_it_says(&mesh, "1.0.0", "2.0.0");
        mesh
    });
}

#[test]
fn a_file_that_was_changed_while_nobody_ran_is_rolled_out_from_what_was_left() {
    let web = web("{minReady: 0s}");
    called(up(&web), PATH, |mut mesh, fared| {
        let old = serving(&mesh, "web");
        fared.generation.fetch_add(1, Ordering::SeqCst);
        killed(&mut mesh);
        second(web).change(&mesh);
        fared.generation.fetch_add(1, Ordering::SeqCst);
        let mesh = mesh.up_again_when("a start", |_status| true);
        let said = until_told(&mesh, "web", "done");
        assert!(said[0].starts_with("1.0.0-") && said[0].contains(" to 2.0.0-"), "{said:?}");
        assert_eq!(taken_over(&mesh), 3);
        let now = serving(&mesh, "web");
        assert_eq!(of_version(&now, "2.0.0").len(), 3, "{now:?}");
        old.into_keys().for_each(wait_until_gone);
        mesh
    });
}

#[test]
fn with_a_store_in_etcd_a_node_goes_on_with_its_own_rollouts() {
    let Some(etcd) = Etcd::start(1) else { return };
    let head = format!("store: {}\nnode: n1\n", etcd.url());
    let waits = Web { head: &head, ..web(BY_HAND) };
    let mut mesh = up(&waits);
    second(waits).change(&mesh);
    let before =
        eventually("the canaries", || Some(serving(&mesh, "web")).filter(|serving| serving.len() == 5));
    killed(&mut mesh);
    let mut mesh = mesh.up_again_when("a start", |_status| true);
    until_told(&mesh, "web", "goes on: step 1");
    eventually("the same processes", || (serving(&mesh, "web") == before).then_some(()));
    killed(&mut mesh);
    waits.change(&mesh);
    let mesh = mesh.up_again_when("a start", |_status| true);
    until_told(&mesh, "web", "reverted: somebody wants it so");
    let now: BTreeSet<_> = serving(&mesh, "web").into_keys().collect();
    assert_eq!(now, of_version(&before, "1.0.0"));
}

/// The versions between which rollouts have led, and how they ended, the newest first.
fn history(mesh: &Running) -> Vec<String> {
    let printed = mesh.run(&["rollout", "history", "web", "--json"]).out;
    let printed: Value = serde_json::from_str(&printed).unwrap();
    let label = |version: &Value| version.as_str().unwrap().split('-').next().unwrap().to_owned();
    let line = |ended: &Value| {
        let (from, to, outcome) = (label(&ended["from"]), label(&ended["to"]), ended["outcome"].as_str());
        format!("{from} {to} {}", outcome.unwrap())
    };
    printed["rollouts"].as_array().unwrap().iter().map(line).collect()
}

#[test]
fn the_history_knows_what_was_undone_replaced_done_and_started_again_also_after_another_start() {
    let waits = web("{strategy: canary, minReady: 0s, steps: [{weight: 50%}]}");
    let mut mesh = up(&waits);
    let ran = |mesh: &Running, command: &[&str]| assert_eq!(mesh.run(command).code, 0);
    let until = |mesh: &Running, count: usize| {
        eventually("one more", || (history(mesh).len() == count).then_some(()));
    };
    Web { version: "2.0.0", ..waits }.change(&mesh);
    until_told(&mesh, "web", "to 2.0.0-");
    ran(&mesh, &["rollout", "undo", "web"]);
    until(&mesh, 1);
    Web { version: "3.0.0", ..waits }.change(&mesh);
    until_told(&mesh, "web", "to 3.0.0-");
    Web { version: "4.0.0", ..waits }.change(&mesh);
    until(&mesh, 2);
    ran(&mesh, &["rollout", "promote", "web"]);
    until(&mesh, 3);
    ran(&mesh, &["restart", "web"]);
    until(&mesh, 4);
    let before = history(&mesh);
    assert_eq!(
        before,
        ["4.0.0 4.0.0 done", "1.0.0 4.0.0 done", "1.0.0 3.0.0 replaced", "1.0.0 2.0.0 reverted"]
    );
    let former = mesh.take_over();
    assert_eq!(history(&mesh), before);
    assert_eq!(former.wait(&mesh).code, 0);
    assert_eq!(mesh.run(&["down"]).code, 0);
    let mesh = mesh.up_again();
    assert_eq!(history(&mesh), before);
}

#[test]
fn where_nothing_was_left_what_is_wanted_is_started() {
    let web = web("{minReady: 0s}");
    let mesh = up(&web);
    assert_eq!(mesh.run(&["down"]).code, 0);
    second(web).change(&mesh);
    let mesh = mesh.up_again();
    assert_eq!(of_version(&serving(&mesh, "web"), "2.0.0").len(), 3);
    assert_eq!(told(&mesh, "web"), [""; 0]);
}

#[test]
fn a_serviceos_that_was_built_anew_takes_over_and_rolls_out_what_it_is_itself() {
    let mesh =
        Mesh::new().with_ports_of_its_own().yaml("    vrf: {replicas: 2, rollout: {minReady: 0s}}\n").up();
    called(mesh, "/v1/random/keys", |mut mesh, fared| {
        let old = mesh.pids("vrf");
        fared.generation.fetch_add(1, Ordering::SeqCst);
        killed(&mut mesh);
        fared.generation.fetch_add(1, Ordering::SeqCst);
        let mesh = mesh.ended();
        let rebuilt = mesh.rebuilt();
        let mesh = mesh.binary(&rebuilt).up_when("a start", |_status| true);
        let said = until_told(&mesh, "vrf", "done");
        let (from, to) = said[0].split_once(" to ").unwrap();
        assert!(from.starts_with("1.0.0-") && to.starts_with("1.0.0-") && from != to, "{said:?}");
        assert_eq!(taken_over(&mesh), 2);
        let now = mesh.pids("vrf");
        assert!(now.len() == 2 && now.iter().all(|pid| !old.contains(pid)), "{old:?} {now:?}");
        mesh
    });
}

#[test]
fn what_another_serviceos_has_started_cannot_be_started_again_which_is_said_and_the_others_stay() {
    let rollout = "rollout: {strategy: canary, minReady: 0s, steps: [{weight: 50%}]}";
    let mut mesh =
        Mesh::new().with_ports_of_its_own().yaml(&format!("    vrf: {{replicas: 2, {rollout}}}\n")).up();
    let old = mesh.pids("vrf");
    killed(&mut mesh);
    let mesh = mesh.ended();
    let rebuilt = mesh.rebuilt();
    let mut mesh = mesh.binary(&rebuilt).up_when("a start", |_status| true);
    eventually("the canary", || (serving(&mesh, "vrf").len() == 3).then_some(()));
    kill(old[0], Signal::KILL);
    eventually("why it is not started again", || {
        let why = mesh.run(&["why", "vrf/0"]).out;
        why.contains("cannot be started any more: this serviceos is another program").then_some(())
    });
    assert!(exists(old[1]));
    // The next one of the first kind can start it, and goes on all the same.
    killed(&mut mesh);
    let beside = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("serviceos");
    let mesh = mesh.ended().binary(&beside).up_when("a start", |_status| true);
    until_told(&mesh, "vrf", "reverted");
    eventually("both", || (serving(&mesh, "vrf").len() == 2).then_some(()));
    assert!(mesh.pids("vrf").contains(&old[1]), "it was never touched");
}

#[test]
fn what_was_given_up_of_a_serviceos_that_was_built_anew_is_not_begun_with_again_until_something_else_is_wanted()
 {
    let keys = "replicas: 2, restart: {max: 100ms}, rollout: {strategy: canary, minReady: 0s, steps: [{weight: 50%}]}";
    let mut mesh = Mesh::new().with_ports_of_its_own().yaml(&format!("    vrf: {{{keys}}}\n")).up();
    let old: BTreeSet<_> = mesh.pids("vrf").into_iter().collect();
    killed(&mut mesh);
    let mesh = mesh.ended();
    let rebuilt = mesh.rebuilt();
    let mut mesh = mesh.binary(&rebuilt).up_when("a start", |_status| true);
    let stay = |mesh: &Running| {
        eventually("those that ran", || {
            (serving(mesh, "vrf").into_keys().collect::<BTreeSet<_>>() == old).then_some(())
        });
    };
    eventually("the canary to be given up", || {
        let canaries = serving(&mesh, "vrf").into_keys().filter(|pid| !old.contains(pid));
        canaries.for_each(|pid| kill(pid, Signal::KILL));
        told(&mesh, "vrf").iter().any(|said| said.starts_with("reverted")).then_some(())
    });
    until_told(&mesh, "vrf", "is not begun with by itself, though the configuration says it");
    stay(&mesh);
    killed(&mut mesh);
    let mesh = mesh.up_again_when("a start", |_status| true);
    mesh.until_logged(0, "was given up, and is not begun with by itself");
    stay(&mesh);
    let change = |more: &str| {
        let text = format!("services:\n    vrf: {{{keys}, {more}}}\n");
        std::fs::write(mesh.folder().join("serviceos.yaml"), text).unwrap();
    };
    let seen = mesh.log().len();
    change("drain: {timeout: 20s}");
    mesh.until_logged(seen, "the configuration was applied");
    stay(&mesh);
    assert_eq!(told(&mesh, "vrf"), [""; 0]);
    change("version: 1.1.0");
    until_told(&mesh, "vrf", "to 1.1.0-");
    eventually("the canary", || (serving(&mesh, "vrf").len() == 3).then_some(()));
}
