//! Connections of HTTP/1.1 and what happens on them out of turn.

use std::io::ErrorKind;
use std::net::Shutdown;
use std::time::Duration;

use testkit::{Connection, Mesh, Upstream, eventually, filler};

use crate::bodies::{head, site};

#[test]
fn three_requests_sent_at_once_are_answered_in_order() {
    let upstream = Upstream::new();
    let mesh = site(&upstream);
    let mut client = Connection::open(mesh.gateway);
    let post = head(&mesh, "POST /site/mirror HTTP/1.1") + "content-length: 4\r\n\r\nbody";
    let chunked =
        head(&mesh, "POST /site/mirror HTTP/1.1") + "transfer-encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n";
    let get = head(&mesh, "GET /site/fixed/3 HTTP/1.1") + "\r\n";
    client.write(post + &chunked + &get).unwrap();
    let bodies: Vec<_> = (0..3).map(|_| client.answer().unwrap().body).collect();
    assert_eq!(bodies, [b"body".to_vec(), b"two".to_vec(), filler(3)]);
}

#[test]
fn a_connection_is_kept_or_closed_as_the_client_says() {
    let upstream = Upstream::new();
    let mesh = site(&upstream);
    for (first, fields, kept) in [
        ("GET /site/fixed/3 HTTP/1.1", "", true),
        ("GET /site/fixed/3 HTTP/1.1", "connection: close\r\n", false),
        ("GET /site/fixed/3 HTTP/1.0", "", false),
        ("GET /site/fixed/3 HTTP/1.0", "connection: keep-alive\r\n", true),
        ("GET /nowhere HTTP/1.1", "", true),
        ("GET /nowhere HTTP/1.1", "connection: close\r\n", false),
        ("GET /nowhere HTTP/1.0", "connection: keep-alive\r\n", true),
    ] {
        let mut client = Connection::open(mesh.gateway);
        let request = head(&mesh, first) + fields + "\r\n";
        client.write(&request).unwrap();
        let answer = client.answer().unwrap();
        let said = answer.header("connection");
        let expected = match (kept, first.ends_with("1.0")) {
            (true, false) => None,
            (true, true) => Some("keep-alive"),
            (false, _) => Some("close"),
        };
        assert_eq!(said, expected, "{first} {fields}");
        if kept {
            client.write(&request).unwrap();
            assert_eq!(client.answer().unwrap().status, answer.status, "{first} {fields}");
        } else {
            assert_eq!(client.rest().unwrap(), b"", "{first} {fields}");
        }
    }
    assert!(
        upstream.seen().iter().all(|seen| seen.header("connection").is_none()),
        "that is the gateway's own"
    );
}

#[test]
fn a_client_that_waits_to_be_told_is_told_only_once_it_may_send() {
    let upstream = Upstream::new();
    let mesh = site(&upstream);
    let wait = "expect: 100-continue\r\ncontent-length: 4\r\n\r\n";
    let mut client = Connection::open(mesh.gateway);
    client.write(head(&mesh, "POST /site/echo HTTP/1.1") + wait).unwrap();
    assert_eq!(client.answer_head().unwrap().status, 100);
    client.write("body").unwrap();
    assert_eq!(client.answer().unwrap().json()["bodyBytes"], 4);
    assert_eq!(upstream.seen()[0].header("expect"), None, "the gateway has answered it");

    // Refused, it is told nothing else: its body would be taken for the next request.
    client.write(format!("POST /site/mirror HTTP/1.1\r\nhost: localhost\r\n{wait}")).unwrap();
    let refused = client.answer_head().unwrap();
    assert_eq!((refused.status, refused.header("connection")), (401, Some("close")));
    assert_eq!(upstream.count(), 1);

    let mut client = Connection::open(mesh.gateway);
    let large = "expect: 100-continue\r\ncontent-length: 99999999\r\n\r\n";
    client.write(head(&mesh, "POST /site/mirror HTTP/1.1") + large).unwrap();
    assert_eq!(client.answer_head().unwrap().status, 413);
    assert_eq!(upstream.count(), 1);
}

#[test]
fn an_early_answer_reaches_a_client_that_still_sends() {
    let upstream = Upstream::new();
    let mesh = site(&upstream);
    let mut client = Connection::open(mesh.gateway);
    client.write(head(&mesh, "POST /site/refuse HTTP/1.1") + "content-length: 8388608\r\n\r\n").unwrap();
    let mut socket = client.socket().try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        // Whether all of it is taken is for the gateway to say; the answer counts.
        let _taken = std::io::Write::write_all(&mut socket, &filler(8 << 20)).is_ok();
    });
    let answer = client.answer().unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (413, "too much"));
    sending.join().unwrap();
    let mut client = Connection::open(mesh.gateway);
    client
        .write(head(&mesh, "POST /site/refuse HTTP/1.1") + "transfer-encoding: chunked\r\n\r\n4\r\nbody\r\n")
        .unwrap();
    assert_eq!(client.answer().unwrap().status, 413, "the rest of the body never comes");
}

#[test]
fn a_client_that_goes_away_ends_the_call_on_the_replica() {
    let upstream = Upstream::new();
    let mesh = site(&upstream);
    let mut client = Connection::open(mesh.gateway);
    client.write(head(&mesh, "GET /site/wait HTTP/1.1") + "\r\n").unwrap();
    upstream.until_seen("the request", |seen| seen.target == "/wait");
    drop(client);
    upstream.until_seen("the end of the connection", |seen| seen.gone);
    eventually("the call to be no longer in flight", || {
        (mesh.replicas("site")[0]["inFlight"] == 0).then_some(())
    });
}

#[test]
fn a_client_that_goes_away_is_noticed_while_its_answer_says_nothing_and_behind_its_next_request() {
    let upstream = Upstream::new();
    let mesh = site(&upstream);
    let next = head(&mesh, "GET /site/fixed/3 HTTP/1.1") + "\r\n";
    for (number, (path, next, end)) in [
        ("/wait/begun", "", Shutdown::Both),
        ("/wait/begun", "", Shutdown::Write),
        ("/wait/begun", next.as_str(), Shutdown::Both),
        ("/wait", next.as_str(), Shutdown::Both),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = Connection::open(mesh.gateway);
        client.write(head(&mesh, &format!("GET /site{path} HTTP/1.1")) + "\r\n" + next).unwrap();
        if path == "/wait/begun" {
            assert_eq!(client.answer_head().unwrap().status, 200);
            assert_eq!(client.chunk().unwrap().as_deref(), Some(&b"first"[..]));
        }
        eventually("the request", || (upstream.count() == number + 1).then_some(()));
        client.socket().shutdown(end).unwrap();
        eventually("the end of the call", || upstream.seen()[number].gone.then_some(()));
    }
    assert!(upstream.seen().iter().all(|seen| seen.target != "/fixed/3"), "nobody is left who asked for it");
}

#[test]
fn a_request_that_comes_while_the_answer_before_it_passes_is_kept_for_its_turn() {
    let upstream = Upstream::new();
    let mesh = site(&upstream);
    let mut client = Connection::open(mesh.gateway);
    client.write(head(&mesh, "GET /site/command HTTP/1.1") + "\r\n").unwrap();
    assert_eq!(client.answer_head().unwrap().status, 200);
    // More than is read ahead, so that the gateway stops reading in the middle of it.
    let large = head(&mesh, "POST /site/mirror HTTP/1.1") + "content-length: 300000\r\n\r\n";
    client.write([large.as_bytes(), &filler(300_000)].concat()).unwrap();
    for word in ["one", "two"] {
        upstream.say(word);
        assert_eq!(client.chunk().unwrap().as_deref(), Some(word.as_bytes()));
    }
    upstream.end();
    assert_eq!((client.chunk().unwrap(), client.fields().unwrap()), (None, Vec::new()));
    assert!(client.answer().unwrap().body == filler(300_000));
}

#[test]
fn an_upgrade_becomes_a_tunnel_for_bytes_in_both_directions() {
    let upstream = Upstream::new();
    let mesh = site(&upstream);
    let mut client = Connection::open(mesh.gateway);
    client
        .write(
            head(&mesh, "GET /site/upgrade HTTP/1.1") + "connection: upgrade\r\nupgrade: echo/1\r\n\r\nearly",
        )
        .unwrap();
    let answer = client.answer_head().unwrap();
    assert_eq!((answer.status, answer.header("upgrade")), (101, Some("echo/1")));
    assert_eq!(client.exactly(5).unwrap(), b"early");
    client.write("more").unwrap();
    assert_eq!(client.exactly(4).unwrap(), b"more");
    eventually("the tunnel to count as in flight", || {
        (mesh.replicas("site")[0]["inFlight"] == 1).then_some(())
    });
    client.socket().shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.rest().unwrap(), b"", "the end passes through, too");
    eventually("the tunnel to be over", || (mesh.replicas("site")[0]["inFlight"] == 0).then_some(()));
}

#[test]
fn a_replica_that_changes_the_protocol_unasked_is_refused() {
    let upstream = Upstream::new();
    let mesh = site(&upstream);
    let get = |path: &str| {
        let mut client = Connection::open(mesh.gateway);
        client.write(head(&mesh, &format!("GET /site{path} HTTP/1.1")) + "\r\n").unwrap();
        client.answer_head().unwrap().status
    };
    assert_eq!(get("/upgrade"), 502);
    assert_eq!(get("/fixed/1"), 200);
}

#[test]
fn a_route_strips_its_prefix_and_is_found_by_host_path_and_header() {
    let (site, other) = (Upstream::new(), Upstream::new());
    let routes = "routes: [\
         {match: {path: '/exact'}, public: true}, \
         {match: {path: '/users/{id}/orders'}, public: true}, \
         {match: {path: '/kept/{*rest}'}, public: true}, \
         {match: {path: '/cut/{*rest}'}, stripPrefix: true, public: true}, \
         {match: {path: '/cut2', methods: [POST]}, stripPrefix: true, public: true}]";
    let others = "routes: [\
         {match: {host: api.example.org, path: '/exact'}, public: true}, \
         {match: {host: '*.example.org', path: '/exact'}, public: true}, \
         {match: {path: '/kept/{*rest}', headers: {x-beta: '1'}}, public: true}]";
    let mesh = Mesh::new().endpoints_with("site", &[site.address], routes);
    let mesh = mesh.endpoints_with("other", &[other.address], others).up();
    // Whom a request reaches with which target, or the status of its refusal.
    let ask = |host: &str, first: &str, fields: &str| -> String {
        let mut client = Connection::open(mesh.gateway);
        let before = (site.count(), other.count());
        client.write(format!("{first} HTTP/1.1\r\nhost: {host}\r\n{fields}\r\n")).unwrap();
        let answer = client.answer().unwrap();
        let target = |upstream: &Upstream| upstream.seen().pop().unwrap().target;
        match (site.count() - before.0, other.count() - before.1) {
            (0, 0) => answer.status.to_string(),
            (1, 0) => format!("site {}", target(&site)),
            (0, 1) => format!("other {}", target(&other)),
            both => panic!("{both:?}"),
        }
    };
    for (host, first, fields, expected) in [
        ("a", "GET /exact?q=1", "", "site /exact?q=1"),
        ("a", "GET /users/7/orders", "", "site /users/7/orders"),
        ("a", "GET /kept/a/b?c", "", "site /kept/a/b?c"),
        ("a", "GET /cut/a/b?c", "", "site /a/b?c"),
        ("a", "GET /%6bept/%61?%62", "", "site /%6bept/%61?%62"),
        ("a", "GET /%63ut/%61?%62", "", "site /%61?%62"),
        ("a", "POST /cut2?c", "content-length: 0\r\n", "site /?c"),
        ("a", "GET /users//orders", "", "400"),
        ("a", "GET /users/7", "", "404"),
        ("a", "GET /cut2", "", "405"),
        ("api.example.org", "GET /exact", "", "other /exact"),
        ("API.example.org:8080", "GET /exact", "", "other /exact"),
        ("b.example.org", "GET /exact", "", "other /exact"),
        ("example.org", "GET /exact", "", "site /exact"),
        ("a", "GET /kept/x", "x-beta: 1\r\n", "other /kept/x"),
        ("a", "GET /kept/y", "x-beta: 2\r\n", "site /kept/y"),
    ] {
        assert_eq!(ask(host, first, fields), expected, "{host} {first} {fields}");
    }
}

#[test]
fn no_spelling_of_a_guarded_path_reaches_a_route_for_everything_else() {
    let upstream = Upstream::new();
    let routes = "routes: [{match: {path: '/v1/feeds'}}, {match: {path: '/{*rest}'}, public: true}]";
    let mesh = Mesh::new().endpoints_with("site", &[upstream.address], routes).up();
    for (path, status) in
        [("/v1/feeds", 401), ("/v1/%66eeds", 401), ("/%761/feed%73", 401), ("/v1/feeds/", 404)]
    {
        let mut client = Connection::open(mesh.gateway);
        client.write(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).unwrap();
        assert_eq!(client.answer().unwrap().status, status, "{path}");
    }
    assert_eq!(upstream.count(), 1, "a slash at the end makes another path");
}

#[test]
fn what_is_over_a_limit_is_refused_and_what_is_at_it_passes() {
    let upstream = Upstream::new();
    let limits = "limits: {bodyBytes: 1KiB, headerBytes: 4KiB, headers: 20, urlBytes: 256B}";
    let small = "routes: [{match: {path: '/small/{*rest}'}, stripPrefix: true, request: {bodyBytes: 8B}}, \
                 {match: {path: '/site/{*rest}'}, stripPrefix: true}]";
    let mesh = Mesh::new().gateway(limits).endpoints_with("site", &[upstream.address], small).up();
    let ask = |first: &str, rest: &str| {
        let mut client = Connection::open(mesh.gateway);
        client.write(head(&mesh, first) + rest).unwrap();
        client.answer().unwrap()
    };
    let fixed = |size: usize| format!("content-length: {size}\r\n\r\n{}", "b".repeat(size));
    let chunked = |size: usize| {
        format!("transfer-encoding: chunked\r\n\r\n{size:x}\r\n{}\r\n0\r\n\r\n", "b".repeat(size))
    };
    for (path, limit) in [("/site/mirror", 1024), ("/small/mirror", 8)] {
        let post = format!("POST {path} HTTP/1.1");
        assert_eq!(ask(&post, &fixed(limit)).body.len(), limit);
        assert_eq!(ask(&post, &chunked(limit)).body.len(), limit);
        assert_eq!(ask(&post, &fixed(limit + 1)).problem(), (413, "BODY_TOO_LARGE".into()));
    }
    // The mirror has begun to answer by the time the limit is passed, so that only breaking off is left.
    let late = std::panic::catch_unwind(|| ask("POST /site/mirror HTTP/1.1", &chunked(1025)).status);
    assert!(!matches!(late, Ok(200)), "{late:?}");
    assert_eq!(ask("POST /site/echo HTTP/1.1", &chunked(1025)).problem(), (413, "BODY_TOO_LARGE".into()));
    let long = |size: usize| format!("GET /site/echo?{} HTTP/1.1", "q".repeat(size - 11));
    assert_eq!(ask(&long(256), "\r\n").status, 200);
    assert_eq!(ask(&long(257), "\r\n").problem(), (414, "URL_TOO_LONG".into()));
    let many =
        |count: usize| (2..count).map(|number| format!("x-{number}: 1\r\n")).collect::<String>() + "\r\n";
    assert_eq!(ask("GET /site/echo HTTP/1.1", &many(20)).status, 200);
    assert_eq!(ask("GET /site/echo HTTP/1.1", &many(21)).problem(), (431, "HEADERS_TOO_LARGE".into()));
    let wide = format!("x-wide: {}\r\n\r\n", "w".repeat(4096));
    assert_eq!(ask("GET /site/echo HTTP/1.1", &wide).problem(), (431, "HEADERS_TOO_LARGE".into()));
}

#[test]
fn only_a_call_that_may_be_repeated_is_sent_again_and_then_whole() {
    let body = "a body that is kept for another try";
    for (method, fields, tries) in [("POST", "", 1), ("PUT", "", 2), ("POST", "idempotency-key: 1\r\n", 2)] {
        let upstreams = [Upstream::new(), Upstream::new()];
        let addresses = upstreams.each_ref().map(|upstream| upstream.address);
        let mesh = Mesh::new().endpoints("site", &addresses).up();
        let mut client = Connection::open(mesh.gateway);
        let length = format!("content-length: {}\r\n\r\n{body}", body.len());
        client
            .write(head(&mesh, &format!("{method} /site/break/before HTTP/1.1")) + fields + &length)
            .unwrap();
        assert_eq!(client.answer().unwrap().problem(), (502, "UPSTREAM_FAILED".into()));
        let seen: Vec<_> = upstreams.iter().flat_map(Upstream::seen).collect();
        assert_eq!(seen.len(), tries, "{method} {fields}");
        let whole = testkit::checksum(body.as_bytes());
        assert!(seen.iter().all(|seen| seen.checksum == whole && seen.whole), "{seen:?}");
    }
}

#[test]
fn fields_of_the_connection_stay_on_it() {
    let upstream = Upstream::new();
    let mesh = site(&upstream);
    let mut client = Connection::open(mesh.gateway);
    let fields = "connection: keep-alive, x-secret\r\nx-secret: 1\r\nkeep-alive: timeout=5\r\nte: trailers\r\n\
                  proxy-authorization: Basic YTpi\r\nproxy-connection: keep-alive\r\nx-public: 1\r\n\r\n";
    client.write(head(&mesh, "GET /site/echo HTTP/1.1") + fields).unwrap();
    assert_eq!(client.answer().unwrap().status, 200);
    let seen = upstream.seen().pop().unwrap();
    let left: Vec<&str> = seen.headers.iter().map(|(name, _)| name.as_str()).collect();
    for gone in
        ["connection", "x-secret", "keep-alive", "proxy-authorization", "proxy-connection", "x-api-key"]
    {
        assert!(!left.contains(&gone), "{gone}: {left:?}");
    }
    assert_eq!(seen.header("x-public"), Some("1"));
}

#[test]
fn the_time_of_one_try_ends_a_try_only_where_another_replica_can_be_asked() {
    let upstreams = [Upstream::new(), Upstream::new()];
    let addresses = upstreams.each_ref().map(|upstream| upstream.address);
    let keys = "retry: {perTryTimeout: 200ms}, routes: [{match: {path: '/NAME/{*rest}'}, stripPrefix: true}]";
    let mesh = Mesh::new()
        .endpoints_with("alone", &addresses[..1], &keys.replace("NAME", "alone"))
        .endpoints_with("both", &addresses, &keys.replace("NAME", "both"))
        .up();
    let begin = |first: &str, body: usize| {
        let mut client = Connection::open(mesh.gateway);
        client.write(head(&mesh, first) + &format!("content-length: {body}\r\n\r\n")).unwrap();
        client.write(filler(body)).unwrap();
        client
    };
    // One that can be asked nowhere else, and one that cannot be sent twice.
    for (first, body) in [("GET /alone/late HTTP/1.1", 0), ("PUT /both/late HTTP/1.1", 100_000)] {
        let before = upstreams.each_ref().map(Upstream::count);
        let mut client = begin(first, body);
        client.socket().set_read_timeout(Some(Duration::from_millis(600))).unwrap();
        assert_eq!(client.some(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock, "{first}");
        client.socket().set_read_timeout(Some(testkit::LIMIT)).unwrap();
        let asked = [0, 1].map(|place| upstreams[place].count() - before[place]);
        assert_eq!(asked[0] + asked[1], 1, "{first}");
        upstreams[asked[1]].say("answer");
        assert_eq!(client.answer().unwrap().status, 200, "{first}");
    }
}

#[test]
fn a_slow_try_is_given_up_for_another_replica() {
    let upstreams = [Upstream::new(), Upstream::new()];
    let addresses = upstreams.each_ref().map(|upstream| upstream.address);
    let mesh = Mesh::new().endpoints_with("site", &addresses, "retry: {perTryTimeout: 200ms}").up();
    let mut client = Connection::open(mesh.gateway);
    client.write(head(&mesh, "GET /site/late HTTP/1.1") + "\r\n").unwrap();
    eventually("both to be asked", || upstreams.iter().all(|upstream| upstream.count() == 1).then_some(()));
    upstreams.iter().for_each(|upstream| upstream.say("answer"));
    assert_eq!(client.answer().unwrap().status, 200);
}
