//! Another version of a service takes the place of the one that runs, while everything runs.

use testkit::eventually;

use crate::load::under_load;
use crate::versioned::{PATH, Web, pids, until_it_says, until_told, version};

const QUICK: Web<'static> = Web::rolled("{minReady: 0s}");

#[test]
fn a_changed_version_in_the_file_is_rolled_out_and_loses_nothing() {
    let mesh = QUICK.up();
    assert_eq!(version(&mesh), "1.0.0");
    let old = pids(&mesh);
    under_load(&mesh, PATH, |load| {
        Web { version: "2.0.0", ..QUICK }.change(&mesh);
        until_told(&mesh, "web", "done");
        load.until_more(4);
    });
    assert_eq!(version(&mesh), "2.0.0");
    assert!(pids(&mesh).is_disjoint(&old));
    let shown = mesh.run(&["config", "show", "--json"]).out;
    assert!(shown.contains("2.0.0"), "{shown}");
}

#[test]
fn a_version_that_cannot_start_is_given_up_and_the_configuration_says_again_what_runs() {
    let mesh = QUICK.up();
    let old = pids(&mesh);
    under_load(&mesh, PATH, |load| {
        // The change of the service that is no part of a version stays, so that the text before is not what is written.
        Web { version: "bad", more: "drain: {timeout: 7s}", ..QUICK }.change(&mesh);
        let said = until_told(&mesh, "web", "reverted");
        assert!(said.last().unwrap().contains("no model"), "{said:?}");
        load.until_more(4);
    });
    until_it_says(&mesh, "1.0.0", "bad");
    assert!(mesh.run(&["config", "show"]).out.contains("7s"));
    assert_eq!(version(&mesh), "1.0.0");
    assert_eq!(pids(&mesh), old, "the old ones were never touched");
}

#[test]
fn each_version_is_checked_as_was_said_of_it_whatever_comes_in_between() {
    // Each is Ready a while before the next one goes, so that the file changes in the midst of it.
    let slow = Web::rolled("{minReady: 3s}");
    let mesh = slow.up();
    under_load(&mesh, PATH, |load| {
        for next in ["2.0.0", "3.0.0"] {
            Web { version: next, ..slow }.change(&mesh);
            eventually("one of the next version", || (version(&mesh) == next).then_some(()));
        }
        slow.change(&mesh);
        until_told(&mesh, "web", "reverted: somebody wants it so");
        load.until_more(4);
    });
    assert_eq!(version(&mesh), "1.0.0");
    let unhealthy = mesh.log().lines().filter(|line| line.contains("answered 404")).count();
    assert_eq!(unhealthy, 0, "{}", mesh.log());
}
