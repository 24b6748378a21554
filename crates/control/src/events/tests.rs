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

#[tokio::test]
async fn a_follower_is_told_what_comes_and_what_it_has_missed() {
    let log = log();
    happens(&log, "vrf/0");
    let mut follower = log.follow("", Some("vrf".parse().unwrap()));
    let told = async |follower: &mut FollowEvents| -> Vec<ToldEvent> {
        let told = follower.next().await;
        let text = str::from_utf8(&told).unwrap();
        text.split_terminator("\n\n").map(|event| decode(event).unwrap().unwrap()).collect()
    };
    let id = |event: &ToldEvent| match event {
        ToldEvent::Happened(entry) => entry.id.clone(),
        ToldEvent::Missed(missed) => format!("{missed} missed"),
    };
    let first: Vec<_> = told(&mut follower).await.iter().map(id).collect();
    assert_eq!(first, ["abc-1"]);
    happens(&log, "oracle/0");
    happens(&log, "vrf/0");
    let next: Vec<_> = told(&mut follower).await.iter().map(id).collect();
    assert_eq!(next, ["abc-3"]);
    (0..MAX_EVENTS + 2).for_each(|_| happens(&log, "vrf/0"));
    let late: Vec<_> = told(&mut follower).await.iter().map(id).collect();
    assert_eq!((late.len(), late[0].as_str(), late[1].as_str()), (TOLD_AT_ONCE + 1, "2 missed", "abc-6"));
}
