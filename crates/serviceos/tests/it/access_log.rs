//! What the access log says of a request, however it ended.

use http::{HeaderMap, Uri};
use serde_json::Value;
use testkit::{Connection, Http2, Mesh, Request, Running, Upstream, eventually};

use crate::bodies::head;
use crate::refusal_counts::{until_counted, until_counted_of_upstream};

/// The first lines of the access log, once there are so many.
pub(crate) fn lines(mesh: &Running, wanted: usize) -> Vec<Value> {
    eventually("lines of the access log", || {
        let log = std::fs::read_to_string(mesh.folder().join(".serviceos/logs/access.jsonl")).ok()?;
        let whole = log.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let lines: Vec<Value> =
            whole.map(|line| serde_json::from_str(line).expect("every line is JSON")).collect();
        (lines.len() >= wanted).then_some(lines)
    })
}

#[test]
fn a_head_that_is_refused_has_a_line_of_its_own_with_nothing_of_another_request() {
    let upstream = Upstream::new();
    let mesh = Mesh::new().endpoints("site", &[upstream.address]).up();
    let client = Http2::connect(mesh.gateway);
    let plain = || Http2::request("GET", "/site/echo?secret", &[("x-api-key", &mesh.key)]);
    let many: Vec<String> = (0..101).map(|number| format!("x-{number}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "1")).collect();
    let at = |path: &str| {
        let mut request = plain();
        let uri = Uri::builder().scheme("http").authority("localhost").path_and_query(path);
        *request.uri_mut() = uri.build().unwrap();
        request
    };
    let refused = [
        (Http2::request("GET", "/site/echo", &many), 431),
        (at(&format!("/site/{}", "a".repeat(9 << 10))), 414),
        (at("*"), 400),
        (at("/site/\u{e9}"), 400),
    ];
    for (request, status) in refused {
        assert_eq!(client.send(plain(), Vec::new()).status, 200);
        let answer = client.together(vec![(request, Vec::new(), HeaderMap::new())]).remove(0);
        assert_eq!(answer.unwrap().status, status);
    }
    let shown: Vec<_> = lines(&mesh, 8)
        .iter()
        .map(|line| (line["status"].as_u64().unwrap(), line["path"].as_str().unwrap().to_owned()))
        .collect();
    let of = |status: u64, path: &str| (status, path.to_owned());
    let expected = [431, 414, 400, 400].map(|status| [of(200, "/site/echo"), of(status, "")]);
    assert_eq!(shown, expected.concat());
}

#[test]
fn a_head_that_cannot_be_read_has_a_line_without_a_path() {
    let upstream = Upstream::new();
    let mesh = Mesh::new().endpoints("site", &[upstream.address]).up();
    let mut client = Connection::open(mesh.gateway);
    client.write(head(&mesh, "GET /site/echo HTTP/1.1") + "\r\n").unwrap();
    assert_eq!(client.answer().unwrap().status, 200);
    client.write("POST /site/echo HTTP/1.1\r\nhost: a\r\nx : y\r\n\r\n").unwrap();
    assert_eq!(client.answer().unwrap().status, 400);
    let line = &lines(&mesh, 2)[1];
    assert_eq!((&line["method"], &line["path"], &line["status"]), (&"GET".into(), &"".into(), &400.into()));
}

#[test]
fn a_client_that_goes_away_in_the_middle_of_its_body_has_broken_nothing() {
    let upstream = Upstream::new();
    let mesh = Mesh::new().endpoints("site", &[upstream.address]).up();
    for begun in ["content-length: 9\r\n\r\nhalf", "transfer-encoding: chunked\r\n\r\n9\r\nhalf"] {
        let mut client = Connection::open(mesh.gateway);
        client.write(head(&mesh, "POST /site/echo HTTP/1.1") + begun).unwrap();
    }
    for line in lines(&mesh, 2) {
        assert_eq!((&line["status"], &line["code"]), (&499.into(), &Value::Null), "{line}");
    }
    let metrics = Request::new("GET", "/metrics").send(mesh.admin).text();
    assert!(!metrics.contains("serviceos_requests_refused_total{"), "{metrics}");
}

#[test]
fn an_answer_that_breaks_off_says_whose_doing_it_was() {
    let upstream = Upstream::new();
    let limits = "limits: {idleTimeout: 500ms, bodyBytes: 1KiB}";
    let mesh = Mesh::new().gateway(limits).endpoints("site", &[upstream.address]).up();
    let refused = "serviceos_requests_refused_total";
    let begin = |request: &str, rest: &str| {
        let mut client = Connection::open(mesh.gateway);
        client.write(head(&mesh, request) + rest).unwrap();
        client
    };
    let broken = begin("GET /site/break/fixed HTTP/1.1", "\r\n");
    let last = || lines(&mesh, 1).pop().unwrap();
    let line = last();
    assert_eq!((&line["status"], &line["code"]), (&200.into(), &"UPSTREAM_FAILED".into()), "{line}");

    let late = begin("GET /site/wait/begun HTTP/1.1", "\r\n");
    let line = lines(&mesh, 2).pop().unwrap();
    assert_eq!(line["code"], "UPSTREAM_TIMEOUT", "{line}");
    assert_eq!(line["error"], "the replica sent nothing for the idle timeout");
    until_counted_of_upstream(&mesh);

    let deaf = begin("GET /site/fixed/50000000 HTTP/1.1", "\r\n");
    let line = lines(&mesh, 3).pop().unwrap();
    assert_eq!((&line["status"], &line["code"]), (&200.into(), &Value::Null), "{line}");
    assert_eq!(line["error"], "the client took and sent nothing for the idle timeout");
    until_counted(&mesh, refused, "idle_timeout", 1);

    let tunnel = begin("GET /site/upgrade HTTP/1.1", "connection: upgrade\r\nupgrade: echo\r\n\r\n");
    assert_eq!(lines(&mesh, 4).pop().unwrap()["status"], 101);
    until_counted(&mesh, refused, "idle_timeout", 2);

    let mut large = begin("POST /site/mirror HTTP/1.1", "transfer-encoding: chunked\r\n\r\n1\r\nb\r\n");
    assert_eq!(large.answer_head().unwrap().status, 200);
    large.write(format!("401\r\n{}\r\n", "b".repeat(1025))).unwrap();
    let line = lines(&mesh, 5).pop().unwrap();
    assert_eq!((&line["status"], &line["code"]), (&200.into(), &"BODY_TOO_LARGE".into()), "{line}");
    until_counted(&mesh, refused, "body_bytes", 1);
    drop((broken, late, deaf, tunnel));
}

/// Waits for the error rate of the only service.
fn until_error_rate(mesh: &Running, service: &str, rate: &str) {
    let sample = format!("error_rate{{service=\"{service}\"}} {rate}");
    eventually(&sample, || {
        let page = Request::new("GET", "/metrics").send(mesh.admin).text();
        page.lines().any(|line| line == sample).then_some(())
    });
}

#[test]
fn calls_that_fail_behind_a_good_status_are_part_of_the_error_rate() {
    let (one, two) = (Upstream::new(), Upstream::http2());
    let mesh = Mesh::new().endpoints("one", &[one.address]);
    let mesh = mesh.endpoints_with("two", &[two.address], "protocol: http2").up();
    for path in ["/one/break/chunked", "/one/fixed/3"] {
        let mut client = Connection::open(mesh.gateway);
        client.write(head(&mesh, &format!("GET {path} HTTP/1.1")) + "\r\n").unwrap();
        let _whole_or_not = client.answer().is_ok();
    }
    until_error_rate(&mesh, "one", "0.5");
    two.set_failing(true);
    let client = Http2::connect(mesh.gateway);
    for status in ["0", "3", "13", "14"] {
        let call = Http2::request("POST", &format!("/two/grpc/{status}"), &[("x-api-key", &mesh.key)]);
        let answer = client.send(call, Vec::new());
        assert_eq!((answer.status, answer.trailer("grpc-status")), (200, Some(status)));
    }
    until_error_rate(&mesh, "two", "0.5");
}

#[test]
fn a_line_names_the_version_that_answered_and_the_parts_of_its_time() {
    let (old, new) = (Upstream::new(), Upstream::new());
    let mesh = Mesh::new().yaml(&format!(
        "    site:\n      attestation: none\n      healthCheck: {{protocol: tcp}}\n      traffic: {{weights: {{1.0.0: 1, 1.1.0: 1}}}}\n\
         \x20     endpointSet: [{{url: 'http://{}'}}, {{url: 'http://{}', version: 1.1.0}}]\n",
        old.address, new.address
    ));
    let mesh = mesh.up();
    // One connection, so that one worker has those to the replicas.
    let mut client = Connection::open(mesh.gateway);
    for version in ["1.0.0", "1.1.0", "1.1.0"] {
        let fields = format!("service-version: {version}\r\n\r\n");
        client.write(head(&mesh, "GET /site/fixed/3 HTTP/1.1") + &fields).unwrap();
        assert_eq!(client.answer().unwrap().status, 200);
    }
    client.write(head(&mesh, "GET /nowhere HTTP/1.1") + "\r\n").unwrap();
    assert_eq!(client.answer().unwrap().status, 404);
    let lines = lines(&mesh, 4);
    let versions: Vec<_> = lines.iter().map(|line| line["version"].clone()).collect();
    assert_eq!(versions, ["1.0.0".into(), "1.1.0".into(), "1.1.0".into(), Value::Null]);
    let connected: Vec<_> = lines.iter().map(|line| line["connectMs"].is_number()).collect();
    assert_eq!(connected, [true, true, false, false]);
    for line in &lines[..3] {
        let part = |name: &str| line[name].as_f64().unwrap_or_default();
        let parts = part("queueMs") + part("connectMs") + part("firstByteMs");
        assert!(parts > 0.0 && parts <= part("totalMs") + 0.01, "{line}");
    }
}

#[test]
fn a_trace_that_has_another_id_than_its_request_is_named() {
    let upstream = Upstream::new();
    let mesh = Mesh::new().gateway("trustedProxies: [127.0.0.0/8]").endpoints("site", &[upstream.address]);
    let mesh = mesh.up();
    for fields in ["x-request-id: given-1\r\n\r\n", "\r\n"] {
        let mut client = Connection::open(mesh.gateway);
        client.write(head(&mesh, "GET /site/fixed/3 HTTP/1.1") + fields).unwrap();
        assert_eq!(client.answer().unwrap().status, 200);
    }
    let traces: Vec<String> =
        upstream.seen().iter().map(|seen| seen.header("traceparent").unwrap()[3..35].to_owned()).collect();
    let (given, own) = {
        let lines = lines(&mesh, 2);
        let (given, own): (Vec<_>, Vec<_>) =
            lines.into_iter().partition(|line| line["requestId"] == "given-1");
        (given[0].clone(), own[0].clone())
    };
    assert_eq!((&given["traceId"], &own["traceId"]), (&traces[0].as_str().into(), &Value::Null));
    assert_eq!(own["requestId"].as_str().unwrap().replace('-', ""), traces[1]);
}
