//! What the access log says of the call behind a request: who was asked, how often, how long it took, and how it ended.

use serde_json::{Value, json};
use testkit::{Connection, Request, eventually};

use crate::access_log::lines;
use crate::fleet::{Fleet, PUBLIC, get};

/// One worker, so that the lines are in the order in which requests end.
fn fleet(servers: usize, keys: &str) -> Fleet {
    let one_worker = testkit::Mesh::new().gateway("workers: 1");
    Fleet::behind(one_worker, &vec![""; servers], &format!("version: 2.5.0, {PUBLIC}{keys}"))
}

/// Those of a line's fields that are times, which must be numbers.
fn times(line: &Value) -> Vec<&str> {
    let names =
        ["queueMs", "connectMs", "firstByteMs", "totalMs"].into_iter().filter(|name| !line[*name].is_null());
    names.inspect(|name| assert!(line[*name].as_f64() >= Some(0.0), "{line}")).collect()
}

/// No part of the time is counted twice. Each is cut off to a microsecond.
fn assert_parts_fit(line: &Value) {
    let ms = |name: &str| line[name].as_f64().unwrap_or_default();
    let parts = ms("queueMs") + ms("connectMs") + ms("firstByteMs");
    assert!(0.0 < parts && parts <= ms("totalMs") + 0.001, "{line}");
}

/// Fields of a line, null where there is none.
fn fields<const COUNT: usize>(line: &Value, names: [&str; COUNT]) -> [Value; COUNT] {
    names.map(|name| line[name].clone())
}

#[test]
fn an_answered_call_has_its_replica_version_bytes_and_times() {
    let fleet = fleet(1, "");
    let mut client = fleet.client();
    let body = Request::new("GET", "/site/fixed/1234");
    let chunked = Request::new("GET", "/site/chunked/100000");
    let without_body = Request::new("HEAD", "/site/fixed/1234");
    for request in [&body, &chunked, &without_body] {
        assert_eq!(client.send(request).unwrap().status, 200);
    }
    let lines = lines(&fleet.mesh, 3);
    for (line, (bytes, connects)) in lines.iter().zip([(1234, true), (100_000, false), (0, false)]) {
        let shown = fields(line, ["replica", "attempts", "version", "status", "bytes", "error", "code"]);
        let expected =
            [json!("site/0"), json!(1), json!("2.5.0"), json!(200), json!(bytes), json!(null), json!(null)];
        assert_eq!(shown, expected);
        let expected = ["connectMs", "firstByteMs", "totalMs"];
        assert_eq!(times(line), expected[usize::from(!connects)..], "the first call makes the connection");
        assert_parts_fit(line);
    }
}

#[test]
fn a_trace_that_the_client_began_is_named() {
    let fleet = fleet(1, "");
    let mut client = fleet.client();
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let own = format!("00-{trace}-b7ad6b7169203331-01");
    for given in [Some(own.as_str()), None, Some("00-not-a-trace")] {
        let request = given.map_or_else(get, |given| get().header("traceparent", given));
        assert_eq!(client.send(&request).unwrap().status, 200);
    }
    let shown: Vec<_> = lines(&fleet.mesh, 3).iter().map(|line| line["traceId"].clone()).collect();
    assert_eq!(shown, [json!(trace), json!(null), json!(null)]);
}

#[test]
fn a_call_that_another_replica_answered_says_how_often_it_was_sent_and_how_long_that_took() {
    let fleet = fleet(2, ", retry: {on: ['500']}, outlier: {consecutiveFailures: 0}");
    fleet.servers[0].set_failing(true);
    let mut client = fleet.client();
    let mut sent = 0;
    eventually("a call that is sent twice", || {
        sent += 1;
        assert_eq!(client.send(&get()).unwrap().status, 200);
        (fleet.servers[0].count() > 0).then_some(())
    });
    let line = lines(&fleet.mesh, sent).remove(sent - 1);
    assert_eq!(fields(&line, ["replica", "attempts", "status"]), [json!("site/1"), json!(2), json!(200)]);
    assert!(line["queueMs"].is_number() && line["firstByteMs"].is_number(), "{line}");
    assert_parts_fit(&line);
}

#[test]
fn a_call_that_fails_says_to_the_operator_what_happened() {
    let fleet = fleet(1, ", retry: {attempts: 0}, outlier: {consecutiveFailures: 0}");
    let answer =
        fleet.client().send(&Request::new("POST", "/site/break/before").header("content-length", "0"));
    let answer = answer.unwrap();
    assert_eq!(answer.problem(), (502, "UPSTREAM_FAILED".into()));
    let line = lines(&fleet.mesh, 1).remove(0);
    let shown = fields(&line, ["replica", "attempts", "status", "code", "bytes"]);
    let bytes = answer.body.len();
    assert_eq!(shown, [json!("site/0"), json!(1), json!(502), json!("UPSTREAM_FAILED"), json!(bytes)]);
    let error = line["error"].as_str().expect("what happened");
    assert!(!error.is_empty() && !answer.text().contains(error), "{error}");
    assert_eq!(times(&line), ["totalMs"]);
}

#[test]
fn an_answer_that_breaks_off_has_the_bytes_that_came_and_what_happened() {
    let fleet = fleet(1, ", outlier: {consecutiveFailures: 0}");
    let mut client = Connection::open(fleet.mesh.gateway);
    client.write("GET /site/break/fixed HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert_eq!(client.answer_head().unwrap().status, 200);
    assert!(client.exactly(100).is_err());
    let line = lines(&fleet.mesh, 1).remove(0);
    assert_eq!(
        fields(&line, ["attempts", "status", "bytes", "code"]),
        [json!(1), json!(200), json!(10), json!("UPSTREAM_FAILED")]
    );
    assert!(line["error"].is_string(), "{line}");
    assert_eq!(times(&line), ["connectMs", "firstByteMs", "totalMs"]);
}

#[test]
fn a_client_that_goes_away_before_its_answer_is_499() {
    let fleet = fleet(1, ", retry: {attempts: 0}");
    let mut client = Connection::open(fleet.mesh.gateway);
    client.write("GET /site/wait HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    fleet.servers[0].until_seen("the request", |seen| seen.target == "/wait");
    drop(client);
    let line = lines(&fleet.mesh, 1).remove(0);
    let shown = fields(&line, ["replica", "attempts", "status", "bytes", "code", "version"]);
    assert_eq!(shown, [json!("site/0"), json!(1), json!(499), json!(0), json!(null), json!("2.5.0")]);
    assert_eq!(times(&line), ["totalMs"]);
}
