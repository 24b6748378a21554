use std::time::Duration;

use expect_test::expect;

use super::*;

fn line(replica: &str, message: &str) -> LogLine {
    let replica: ReplicaId = replica.parse().unwrap();
    LogLine {
        timestamp: Timestamp::from_second(5).unwrap(),
        level: LogLevel::Info,
        service: replica.service.clone(),
        replica,
        version: "1.0.0".into(),
        message: message.to_owned(),
        fields: Map::new(),
    }
}

fn all(logs: &Logs, whose: WhoseLines) -> Vec<String> {
    let document: LogLines = serde_json::from_slice(&logs.follow(whose, None).all()).unwrap();
    document.lines.into_iter().map(|line| format!("{} {}", line.replica, line.message)).collect()
}

async fn next(follow: &mut Follow) -> String {
    let text = String::from_utf8(follow.next().await.to_vec()).unwrap();
    let event = |event: &str| {
        let (name, data) = event.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
        match LogEvent::decode(name, data).unwrap() {
            LogEvent::Line(line) => line.message,
            LogEvent::Missed(lines) => format!("({lines} missed)"),
        }
    };
    text.split_terminator("\n\n").map(event).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_line_is_a_document_that_keeps_what_it_does_not_know() {
    let mut line = line("vrf/0", "hello");
    line.fields.insert("user".into(), 7.into());
    let text = serde_json::to_string(&line).unwrap();
    expect![[r#"{"timestamp":"1970-01-01T00:00:05Z","level":"INFO","service":"vrf","replica":"vrf/0","version":"1.0.0","message":"hello","fields":{"user":7}}"#]].assert_eq(&text);
    assert_eq!(serde_json::from_str::<LogLine>(&text).unwrap(), line);
}

#[test]
fn lines_are_kept_in_order_and_can_be_had_of_one_service_or_one_replica() {
    let logs = Logs::default();
    logs.push(&[line("vrf/0", "a"), line("oracle/0", "b"), line("vrf/1", "c")]);
    logs.push(&[line("vrf/0", "d")]);
    assert_eq!(all(&logs, WhoseLines::All), ["vrf/0 a", "oracle/0 b", "vrf/1 c", "vrf/0 d"]);
    assert_eq!(all(&logs, WhoseLines::OfService("vrf".parse().unwrap())), ["vrf/0 a", "vrf/1 c", "vrf/0 d"]);
    assert_eq!(all(&logs, WhoseLines::OfReplica("vrf/0".parse().unwrap())), ["vrf/0 a", "vrf/0 d"]);
    assert_eq!(all(&logs, WhoseLines::OfService("datafeed".parse().unwrap())), [""; 0]);
}

#[test]
fn no_more_is_kept_of_a_service_than_its_limits_say() {
    let logs = Logs::default();
    logs.push(&[line("oracle/0", "of another")]);
    for number in 0..MAX_LINES + 5 {
        logs.push(&[line("vrf/0", &number.to_string())]);
    }
    let kept = all(&logs, WhoseLines::OfService("vrf".parse().unwrap()));
    assert_eq!((kept.len(), kept[0].as_str()), (MAX_LINES, "vrf/0 5"));
    let long = "x".repeat(100_000);
    logs.push(&vec![line("vrf/0", &long); 30]);
    assert_eq!(all(&logs, WhoseLines::OfService("vrf".parse().unwrap())).len(), MAX_BYTES / 100_200);
    assert_eq!(all(&logs, WhoseLines::OfService("oracle".parse().unwrap())).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_follower_is_told_what_there_is_and_then_what_comes() {
    let logs = Logs::default();
    logs.push(&[line("vrf/0", "a"), line("vrf/1", "b")]);
    let mut follow = logs.follow(WhoseLines::All, None);
    let mut of_one = logs.follow(WhoseLines::OfReplica("vrf/1".parse().unwrap()), None);
    assert_eq!((next(&mut follow).await, next(&mut of_one).await), ("a b".into(), "b".into()));
    let waits = tokio::time::timeout(Duration::from_secs(9), follow.next()).await;
    assert!(waits.is_err());
    logs.push(&[line("vrf/0", "c"), line("vrf/2", "d")]);
    assert_eq!(next(&mut follow).await, "c d");
    let waits = tokio::time::timeout(Duration::from_secs(9), of_one.next()).await;
    assert!(waits.is_err());
}

#[tokio::test]
async fn a_follower_that_is_slow_is_told_how_much_it_has_missed() {
    let logs = Logs::default();
    logs.push(&[line("vrf/0", "gone before anybody asked")]);
    for number in 0..MAX_LINES {
        logs.push(&[line("vrf/0", &number.to_string())]);
    }
    let mut follow = logs.follow(WhoseLines::All, None);
    let mut of_other = logs.follow(WhoseLines::OfReplica("vrf/1".parse().unwrap()), None);
    let mut told = String::new();
    while !told.ends_with(" 999") {
        told = next(&mut follow).await;
        assert!(!told.contains("missed"), "{told}");
    }
    for number in 0..MAX_LINES + 7 {
        logs.push(&[line("vrf/0", &format!("n{number}"))]);
    }
    assert!(next(&mut follow).await.starts_with("(7 missed) n7 n8 "));
    assert!(of_other.look(usize::MAX).1.is_empty());
    logs.push(&[line("vrf/1", "mine")]);
    assert_eq!(next(&mut of_other).await, "mine", "what others have written it does not miss");
}

#[tokio::test]
async fn a_reader_that_cannot_take_all_at_once_is_told_the_rest_next() {
    let logs = Logs::default();
    let long = "x".repeat(TOLD_AT_ONCE / 2);
    logs.push(&[line("vrf/0", &long), line("vrf/0", &long), line("vrf/0", "rest")]);
    let mut follow = logs.follow(WhoseLines::All, None);
    assert_eq!(next(&mut follow).await.len(), TOLD_AT_ONCE + 1);
    assert_eq!(next(&mut follow).await, "rest");
}

#[test]
fn what_is_too_old_is_not_told() {
    let logs = Logs::default();
    logs.push(&[line("vrf/0", "old"), line("oracle/0", "old")]);
    let since = Timestamp::now();
    let soon = since.checked_add(Duration::from_secs(60)).unwrap();
    while Timestamp::now() == since {}
    logs.push(&[line("vrf/0", "new")]);
    let lines = |since| {
        let document: LogLines =
            serde_json::from_slice(&logs.follow(WhoseLines::All, Some(since)).all()).unwrap();
        document.lines.into_iter().map(|line| line.message).collect::<Vec<_>>()
    };
    assert_eq!((lines(since), lines(soon)), (vec!["new".to_owned()], vec![]));
}

#[test]
fn output_that_was_not_passed_on_is_counted_by_service() {
    let logs = Logs::default();
    logs.dropped(&"vrf".parse().unwrap(), 7);
    logs.dropped(&"vrf".parse().unwrap(), 2);
    logs.dropped(&"oracle".parse().unwrap(), 0);
    assert_eq!(logs.dropped_bytes(), [("vrf".parse().unwrap(), 9)].into());
}
