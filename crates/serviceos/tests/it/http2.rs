//! HTTP/2 on both sides of the gateway.

use std::process::Command;

use http::{HeaderMap, HeaderValue};
use serde_json::json;
use testkit::{
    Answer, Authority, Http2, Mesh, Request, Running, Upstream, checksum, eventually, filler, has_program,
};

use crate::refusal_counts::until_counted;

const LARGE: usize = 8 << 20;

/// A mesh whose services `one` and `two` are servers of HTTP/1.1 and HTTP/2.
fn both(one: &Upstream, two: &Upstream) -> Running {
    let mesh = Mesh::new().gateway("limits: {bodyBytes: 16MiB}").endpoints("one", &[one.address]);
    mesh.endpoints_with("two", &[two.address], "protocol: http2").up()
}

fn request(mesh: &Running, method: &str, path: &str) -> http::Request<()> {
    Http2::request(method, path, &[("x-api-key", &mesh.key)])
}

#[test]
fn large_bodies_arrive_unchanged_in_both_directions() {
    let (one, two) = (Upstream::new(), Upstream::http2());
    let mesh = both(&one, &two);
    let client = Http2::connect(mesh.gateway);
    let body = filler(LARGE);
    for (name, upstream) in [("one", &one), ("two", &two)] {
        let answer = client.send(request(&mesh, "POST", &format!("/{name}/mirror")), body.clone());
        assert_eq!(answer.status, 200, "{name}");
        assert!(answer.body == body, "what came back from {name} is not what was sent");
        let seen = &upstream.seen()[0];
        assert_eq!((seen.body_bytes, seen.checksum), (LARGE as u64, checksum(&body)), "{name}");
        let answer = client.send(request(&mesh, "GET", &format!("/{name}/fixed/{LARGE}")), Vec::new());
        assert!(answer.body == body, "{name}");
        assert_eq!(answer.header("content-length"), Some("8388608"), "{name}");
    }
}

#[test]
fn a_hundred_requests_share_one_connection_at_the_same_time() {
    let (one, two) = (Upstream::new(), Upstream::http2());
    let mesh = both(&one, &two);
    let client = Http2::connect(mesh.gateway);
    for (name, upstream) in [("one", &one), ("two", &two)] {
        let path = format!("/{name}/together/100");
        let requests = (0..100).map(|_| (request(&mesh, "GET", &path), Vec::new(), HeaderMap::new()));
        let answers = client.together(requests.collect());
        assert!(answers.iter().flatten().all(|answer| answer.status == 200), "{answers:?}");
        assert_eq!((answers.iter().flatten().count(), upstream.count()), (100, 100), "{name}");
    }
    let connections = two.seen().iter().map(|seen| seen.connection).max();
    assert!(connections <= Some(4), "calls share connections to the replica, too: {connections:?}");
    // Between large bodies a small one is not kept waiting for their end.
    let mut requests: Vec<_> = (0..8)
        .map(|number| {
            let name = if number % 2 == 0 { "one" } else { "two" };
            (request(&mesh, "POST", &format!("/{name}/mirror")), filler(500_000 + number), HeaderMap::new())
        })
        .collect();
    requests.push((request(&mesh, "GET", "/one/echo"), Vec::new(), HeaderMap::new()));
    for (number, answer) in client.together(requests).into_iter().enumerate() {
        let answer = answer.unwrap();
        assert_eq!(answer.status, 200);
        assert!(number == 8 || answer.body == filler(500_000 + number), "{number}");
    }
}

#[test]
fn head_and_empty_answers_have_no_body() {
    let (one, two) = (Upstream::new(), Upstream::http2());
    let mesh = both(&one, &two);
    let client = Http2::connect(mesh.gateway);
    for name in ["one", "two"] {
        let answer = client.send(request(&mesh, "HEAD", &format!("/{name}/fixed/1234")), Vec::new());
        let length = answer.header("content-length");
        assert_eq!((answer.status, length, answer.body.len()), (200, Some("1234"), 0), "{name}");
        for status in [204, 304, 200, 418] {
            let answer = client.send(request(&mesh, "GET", &format!("/{name}/status/{status}")), Vec::new());
            assert_eq!((answer.status, answer.body.len()), (status, 0), "{name}");
        }
    }
    // No content has no length, whatever the replica says.
    let get = Request::new("GET", "/one/empty").key(&mesh.key);
    for answer in [client.send(request(&mesh, "GET", "/one/empty"), Vec::new()), get.send(mesh.gateway)] {
        assert_eq!((answer.status, answer.header("content-length")), (204, None));
    }
    let own = client.send(request(&mesh, "HEAD", "/nowhere"), Vec::new());
    assert_eq!((own.status, own.body.len()), (404, 0));
    assert!(own.header("content-length").is_some_and(|length| length != "0"));
    assert_eq!(
        client.send(request(&mesh, "GET", "/nowhere"), Vec::new()).problem(),
        (404, "ROUTE_NOT_FOUND".into())
    );
}

#[test]
fn trailers_pass_from_and_to_both_versions() {
    let (one, two) = (Upstream::new(), Upstream::http2());
    let mesh = both(&one, &two);
    let client = Http2::connect(mesh.gateway);
    let fields = [("x-sum", "7"), ("x-other", "1"), ("grpc-extra", "2")];
    let named = |(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value));
    for (name, upstream) in [("one", &one), ("two", &two)] {
        let answer = client.send(request(&mesh, "GET", &format!("/{name}/trailers")), Vec::new());
        assert_eq!(answer.text(), "body");
        let trailers =
            (answer.trailer("x-sum"), answer.trailer("grpc-status"), answer.trailer("x-undeclared"));
        assert_eq!(trailers, (Some("7"), Some("0"), None), "{name}");

        let with = Http2::request(
            "POST",
            &format!("/{name}/echo"),
            &[("x-api-key", &mesh.key), ("trailer", "x-sum")],
        );
        let sent = (with, b"body".to_vec(), HeaderMap::from_iter(fields.map(named)));
        let answer = client.together(vec![sent]).remove(0).unwrap();
        assert_eq!(answer.status, 200);
        let mut got = upstream.seen().last().unwrap().trailers.clone();
        got.sort();
        assert_eq!(got, [("grpc-extra".into(), "2".into()), ("x-sum".into(), "7".into())], "{name}");
    }
}

#[test]
fn an_upload_over_the_limit_is_refused_and_the_connection_goes_on() {
    let two = Upstream::http2();
    let mesh = Mesh::new().gateway("limits: {bodyBytes: 1KiB}").endpoints_with(
        "two",
        &[two.address],
        "protocol: http2",
    );
    let mesh = mesh.up();
    let client = Http2::connect(mesh.gateway);
    let refused: Answer = client.send(request(&mesh, "POST", "/two/echo"), filler(1025));
    assert_eq!(refused.problem(), (413, "BODY_TOO_LARGE".into()));
    assert_eq!(client.send(request(&mesh, "POST", "/two/echo"), filler(1024)).status, 200);
    let announced = [("x-api-key", mesh.key.as_str()), ("content-length", "1025")];
    let refused = client.send(Http2::request("POST", "/two/echo", &announced), filler(1025));
    assert_eq!(refused.problem(), (413, "BODY_TOO_LARGE".into()));
}

#[test]
fn a_client_that_waits_for_a_word_before_it_sends_its_body_gets_it() {
    if !has_program("curl") {
        return;
    }
    let one = Upstream::new();
    let mesh = Mesh::new().endpoints("one", &[one.address]).up();
    let (url, key) = (format!("http://{}/one/echo", mesh.gateway), format!("x-api-key: {}", mesh.key));
    // By itself curl would wait longer than the whole call may take.
    let output = Command::new("curl")
        .args(["-sS", "--http2-prior-knowledge", "-D", "-", "-o", "/dev/null", "-H", &key, "-m", "60"])
        .args(["-H", "expect: 100-continue", "--expect100-timeout", "600", "-d", "some body", &url])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let statuses: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("HTTP/2 ")).map(str::trim).collect();
    assert_eq!(statuses, ["100", "200"]);
    assert_eq!((one.seen()[0].body_bytes, one.seen()[0].header("expect")), (9, None));
}

#[test]
fn a_stream_that_the_client_resets_ends_the_call_on_the_replica() {
    let (one, two) = (Upstream::new(), Upstream::http2());
    let mesh = both(&one, &two);
    for (name, upstream) in [("one", &one), ("two", &two)] {
        let client = Http2::connect(mesh.gateway);
        let request = request(&mesh, "GET", &format!("/{name}/wait"));
        client
            .reset_after(request, || drop(upstream.until_seen("the request", |seen| seen.target == "/wait")));
        upstream.until_seen("the end of the call", |seen| seen.gone);
        assert_eq!(client.send(self::request(&mesh, "GET", "/one/echo"), Vec::new()).status, 200);
    }
}

#[test]
fn a_client_that_takes_back_whatever_it_asks_for_is_told_to_calm_down() {
    let two = Upstream::http2();
    let mesh = Mesh::new().endpoints_with("two", &[two.address], "protocol: http2").up();
    let client = Http2::connect(mesh.gateway);
    for number in 1..=1000 {
        let request = request(&mesh, "GET", &format!("/two/wait/{number}"));
        client.reset_after(request, || eventually("the request", || (two.count() == number).then_some(())));
    }
    until_counted(&mesh, "serviceos_http2_refused_total", "flood", 1);
    let refused = (request(&mesh, "GET", "/two/echo"), Vec::new(), HeaderMap::new());
    let error = client.together(vec![refused]).remove(0).unwrap_err();
    // ENHANCE_YOUR_CALM
    assert_eq!(error.reason().map(u32::from), Some(11), "{error}");
}

#[test]
fn a_connection_that_ends_ends_all_of_its_calls() {
    let (one, two) = (Upstream::new(), Upstream::http2());
    let mesh = both(&one, &two);
    let client = Http2::connect(mesh.gateway);
    let mut open = Vec::new();
    for (name, upstream) in [("one", &one), ("two", &two)] {
        open.push(client.begin(request(&mesh, "GET", &format!("/{name}/wait"))));
        upstream.until_seen("the request", |seen| seen.target == "/wait");
    }
    drop((open, client));
    for upstream in [&one, &two] {
        upstream.until_seen("the end of the call", |seen| seen.gone);
    }
}

#[test]
fn an_early_answer_reaches_a_client_that_still_sends() {
    let (one, two) = (Upstream::new(), Upstream::http2());
    let mesh = both(&one, &two);
    let client = Http2::connect(mesh.gateway);
    for _ in 0..3 {
        let answer = client.send(request(&mesh, "POST", "/one/refuse"), filler(LARGE));
        assert_eq!((answer.status, answer.text().as_str()), (413, "too much"));
    }
    assert_eq!(client.send(request(&mesh, "GET", "/one/echo"), Vec::new()).status, 200);
}

#[test]
fn an_answer_that_breaks_off_is_seen_to_be_broken() {
    let (one, two) = (Upstream::new(), Upstream::http2());
    let mesh = both(&one, &two);
    let client = Http2::connect(mesh.gateway);
    for how in ["fixed", "chunked"] {
        let broken = (request(&mesh, "GET", &format!("/one/break/{how}")), Vec::new(), HeaderMap::new());
        let answer = client.together(vec![broken]).remove(0);
        assert!(answer.is_err(), "{how}: {answer:?}");
    }
    assert_eq!(client.send(request(&mesh, "GET", "/one/echo"), Vec::new()).status, 200);
}

#[test]
fn a_refusal_in_grpc_says_what_it_says_otherwise() {
    let (one, two) = (Upstream::new(), Upstream::http2());
    let mesh = both(&one, &two);
    let client = Http2::connect(mesh.gateway);
    let ask = |method: &str, path: &str, key: &str| {
        let fields = [("content-type", "application/grpc"), ("x-api-key", key)];
        client.send(Http2::request(method, path, &fields), Vec::new())
    };
    let refused = ask("POST", "/one/echo", "sk_test_wrong");
    assert_eq!((refused.status, refused.header("grpc-status")), (200, Some("16")));
    assert_eq!(refused.header("www-authenticate"), Some("Bearer error=\"invalid_token\""));
    let refused = ask("TRACE", "/one/echo", &mesh.key);
    assert_eq!(refused.header("grpc-status"), Some("12"));
    assert!(refused.header("allow").is_some_and(|allow| allow.contains("POST")), "{refused:?}");
}

#[test]
fn curl_speaks_http2_in_the_clear_and_under_tls() {
    if !has_program("curl") {
        return;
    }
    let (one, authority) = (Upstream::new(), Authority::new("test authority"));
    let curl = |arguments: &[&str], mesh: &Running, scheme: &str, path: &str| -> (String, String) {
        let url = format!("{scheme}://{}{path}", mesh.gateway);
        let key = format!("x-api-key: {}", mesh.key);
        let common = ["-sS", "-w", "%{stderr}%{http_version} %{http_code}", "-H", &key, &url];
        let output = Command::new("curl").args(common).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&output.stderr), text(&output.stdout))
    };
    let mesh = Mesh::new().endpoints("one", &[one.address]).up();
    let (version, body) = curl(&["--http2-prior-knowledge", "-d", "body"], &mesh, "http", "/one/mirror");
    assert_eq!((version.as_str(), body.as_str()), ("2 200", "body"));
    let (version, body) = curl(&["--http2-prior-knowledge", "-I"], &mesh, "http", "/one/fixed/1234");
    assert!(version == "2 200" && body.contains("content-length: 1234"), "{version} {body}");
    // An upgrade to HTTP/2 is not offered, so a client that proposes it is served in HTTP/1.1.
    let (version, body) = curl(&["--http2"], &mesh, "http", "/one/echo");
    assert_eq!(version, "1.1 200");
    let seen: serde_json::Value = serde_json::from_str(&body).unwrap();
    let fields: Vec<&str> =
        seen["headers"].as_array().unwrap().iter().filter_map(|field| field[0].as_str()).collect();
    assert!(
        !fields.iter().any(|name| ["upgrade", "http2-settings", "connection"].contains(name)),
        "{fields:?}"
    );

    let mesh = Mesh::new();
    authority.certificate(&["localhost"]).write(mesh.folder(), "own");
    let mesh = mesh.gateway("tls: {certificates: [{certificate: own.pem, key: own.key}]}");
    let mesh = mesh.endpoints("one", &[one.address]).up();
    let (version, body) = curl(&["--http2", "-k"], &mesh, "https", "/one/echo");
    let seen: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((version.as_str(), &seen["method"]), ("2 200", &json!("GET")));
    let (version, _) = curl(&["--http1.1", "-k"], &mesh, "https", "/one/echo");
    assert_eq!(version, "1.1 200");
}
