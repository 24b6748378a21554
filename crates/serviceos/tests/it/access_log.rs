//! What the access log says of a request, however it ended.

use http::{HeaderMap, Uri};
use serde_json::Value;
use testkit::{Connection, Http2, Mesh, Running, Upstream, eventually};

use crate::bodies::head;

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
