use expect_test::expect;
use service_registry::{Actor, LifecycleState, MAX_EVENTS};

use super::*;
use crate::client::decode;

fn log() -> EventLog {
    EventLog::new(Events::default(), Timestamp::from_millisecond(0xabc).unwrap())
}

fn happens(log: &EventLog, replica: &str) {
    let (from, to) = (LifecycleState::Ready, LifecycleState::Stopped);
    let cause = Some("exited with code 1".to_owned());
    let subject = Subject::Replica(replica.parse().unwrap());
    log.events.record(subject, What::State { from, to }, cause, Actor::Replica);
}

#[test]
fn the_contract_of_an_event() {
    let log = log();
    happens(&log, "vrf/1");
    let subject = || Subject::Service("vrf".parse().unwrap());
    log.events.record(subject(), What::Scaled { from: 1, to: 3 }, None, Actor::Operator);
    log.events.record(subject(), What::Rollout("step 1".into()), None, Actor::Rollout);
    let mut entries = log.after("", None);
    entries.events.iter_mut().for_each(|entry| entry.time = Timestamp::UNIX_EPOCH);
    expect![[r#"
        {
          "events": [
            {
              "id": "abc-1",
              "time": "1970-01-01T00:00:00Z",
              "service": "vrf",
              "replica": "vrf/1",
              "kind": "state",
              "from": "Ready",
              "to": "Stopped",
              "cause": "exited with code 1",
              "actor": "replica"
            },
            {
              "id": "abc-2",
              "time": "1970-01-01T00:00:00Z",
              "service": "vrf",
              "replica": null,
              "kind": "scaled",
              "from": "1",
              "to": "3",
              "cause": null,
              "actor": "operator"
            },
            {
              "id": "abc-3",
              "time": "1970-01-01T00:00:00Z",
              "service": "vrf",
              "replica": null,
              "kind": "rollout",
              "from": null,
              "to": "step 1",
              "cause": null,
              "actor": "rollout"
            }
          ]
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&entries).unwrap());
}

#[test]
fn a_reader_goes_on_after_what_it_knows_and_begins_anew_with_another_run() {
    let log = log();
    ["vrf/0", "oracle/0", "vrf/1"].iter().for_each(|replica| happens(&log, replica));
    let ids = |id: &str, service: Option<&str>| {
        let service = service.map(|service| service.parse().unwrap());
        let entries = log.after(id, service.as_ref()).events;
        entries.iter().map(|entry| entry.id.clone()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(ids("", None), "abc-1 abc-2 abc-3");
    assert_eq!(ids("abc-1", None), "abc-2 abc-3");
    assert_eq!(ids("abc-1", Some("vrf")), "abc-3");
    assert_eq!(ids("abd-2", None), "abc-1 abc-2 abc-3");
    assert!(log.knows(&"oracle".parse().unwrap()) && !log.knows(&"datafeed".parse().unwrap()));
}

/// What a follower is told next: the ids of events, and how many it has missed.
async fn told(follower: &mut FollowEvents) -> Vec<String> {
    let told = follower.next().await;
    let text = str::from_utf8(&told).unwrap();
    let events = text.split_terminator("\n\n").map(|event| decode(event).unwrap().unwrap());
    let id = |event| match event {
        ToldEvent::Happened(entry) => entry.id,
        ToldEvent::Missed(missed) => format!("{missed} missed"),
    };
    events.map(id).collect()
}

#[tokio::test]
async fn a_follower_is_told_what_comes_and_what_it_has_missed() {
    let log = log();
    happens(&log, "vrf/0");
    let mut of_vrf = log.follow("", Some("vrf".parse().unwrap()));
    let mut of_all = log.follow("", None);
    assert_eq!(
        (told(&mut of_vrf).await, told(&mut of_all).await),
        (vec!["abc-1".into()], vec!["abc-1".into()])
    );
    happens(&log, "oracle/0");
    happens(&log, "vrf/0");
    assert_eq!(told(&mut of_vrf).await, ["abc-3"]);
    assert_eq!(told(&mut of_all).await, ["abc-2", "abc-3"]);
    // One of each is let go, and one of oracle that is kept.
    (0..3).for_each(|_| happens(&log, "oracle/0"));
    (0..MAX_EVENTS - 1).for_each(|_| happens(&log, "vrf/0"));
    let late = told(&mut of_all).await;
    assert_eq!((late.len(), late[0].as_str(), late[1].as_str()), (TOLD_AT_ONCE + 1, "2 missed", "abc-6"));
    let late = told(&mut of_vrf).await;
    assert_eq!((late.len(), late[0].as_str()), (TOLD_AT_ONCE, "abc-7"), "none of vrf was let go");
    (0..MAX_EVENTS + 4).for_each(|_| happens(&log, "vrf/0"));
    let first_kept = format!("abc-{}", 6 + MAX_EVENTS - 1 + 4 + 1);
    let missed = 6 + MAX_EVENTS - 1 + 4 - (6 + TOLD_AT_ONCE);
    let late = told(&mut of_vrf).await;
    assert_eq!((late[0].clone(), late[1].clone()), (format!("{missed} missed"), first_kept));
}

#[tokio::test]
async fn one_that_comes_back_to_a_place_that_was_let_go_is_told_the_most_that_it_may_have_missed() {
    let log = log();
    (0..3).for_each(|_| happens(&log, "vrf/0"));
    happens(&log, "oracle/0");
    (0..MAX_EVENTS).for_each(|_| happens(&log, "oracle/0"));
    happens(&log, "vrf/0");
    let back = async |service: Option<&str>| {
        let service = service.map(|service| service.parse().unwrap());
        told(&mut log.follow("abc-1", service)).await[0].clone()
    };
    assert_eq!(back(None).await, "4 missed");
    assert_eq!(back(Some("vrf")).await, "3 missed", "two of them, in truth");
    assert_eq!(back(Some("oracle")).await, "2 missed", "so many were let go");
}
