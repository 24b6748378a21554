//! TLS on both sides of the gateway, with certificates that are made for the test.

use std::io::Write;

use rustix::fs::{CWD, Mode, mkfifoat};
use testkit::{Authority, Connection, Http2, Mesh, Running, TlsSide, Upstream, checksum, eventually, filler};

const HTTP1: &[&str] = &["http/1.1"];
const PUBLIC: &str = "routes: [{match: {path: '/site/{*rest}'}, stripPrefix: true, public: true}]";

fn get(client: &mut Connection<TlsSide>, path: &str) -> std::io::Result<testkit::Answer> {
    client.write(format!("GET {path} HTTP/1.1\r\nhost: a.test\r\n\r\n"))?;
    client.answer()
}

/// A mesh under TLS whose certificates are `first` and `second` in its folder.
fn mesh(upstream: &Upstream, authority: &Authority, more: &str) -> Running {
    let mesh = Mesh::new();
    authority.certificate(&["a.test", "*.a.test"]).write(mesh.folder(), "first");
    authority.certificate(&["b.test"]).write(mesh.folder(), "second");
    let pair = |name: &str| format!("{{certificate: {name}.pem, key: {name}.key}}");
    let mesh = mesh.gateway(&format!("tls: {{certificates: [{}, {}]{more}}}", pair("first"), pair("second")));
    mesh.endpoints_with("site", &[upstream.address], PUBLIC).up()
}

#[test]
fn the_name_that_a_client_asks_for_chooses_the_certificate() {
    let (upstream, authority) = (Upstream::new(), Authority::new("test authority"));
    let mesh = mesh(&upstream, &authority, "");
    let tls = authority.clients(HTTP1);
    for name in ["a.test", "x.a.test", "b.test"] {
        let mut client = tls.connect(mesh.gateway, name).unwrap();
        assert_eq!(get(&mut client, "/site/echo").unwrap().status, 200, "{name}");
    }
    // The first certificate is for whoever asks for another name, and it is not for that name.
    let unknown = tls.connect(mesh.gateway, "c.test").map(drop);
    assert!(unknown.unwrap_err().to_string().contains("not valid for name"));
    assert!(Authority::new("another").clients(HTTP1).connect(mesh.gateway, "a.test").is_err());
    let seen = upstream.seen();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|seen| seen.header("x-forwarded-proto") == Some("https")), "{seen:?}");
    assert!(seen[0].header("forwarded").unwrap().contains("proto=https"));
    let client = Http2::connect_tls(mesh.gateway, &authority.clients(&["h2", "http/1.1"]), "b.test");
    let answer = client.send(Http2::request("GET", "/site/echo", &[]), Vec::new());
    assert_eq!(answer.status, 200, "HTTP/2 where it is offered");
    let mut plain = Connection::open(mesh.gateway);
    plain.write("GET /site/echo HTTP/1.1\r\nhost: a.test\r\n\r\n").unwrap();
    assert!(plain.answer().is_err(), "nothing is said in the clear");
}

#[test]
fn a_new_certificate_is_shown_to_new_connections_and_old_ones_live_on() {
    let (upstream, authority) = (Upstream::new(), Authority::new("test authority"));
    let mesh = mesh(&upstream, &authority, "");
    let tls = authority.clients(HTTP1);
    let mut old = tls.connect(mesh.gateway, "a.test").unwrap();
    assert_eq!(get(&mut old, "/site/echo").unwrap().status, 200);
    let before = old.peer_certificate();
    let new = authority.certificate(&["a.test"]);
    new.write(mesh.folder(), "first");
    eventually("the new certificate", || {
        let shown = tls.connect(mesh.gateway, "a.test").unwrap().peer_certificate();
        assert!(shown == before || shown == new.der());
        (shown == new.der()).then_some(())
    });
    assert_eq!(get(&mut old, "/site/echo").unwrap().status, 200, "the old connection goes on");

    // A file that is no certificate changes nothing, and is named.
    let seen = mesh.log().len();
    std::fs::write(mesh.folder().join("first.pem"), "no certificate").unwrap();
    mesh.until_logged(seen, "first.pem");
    assert_eq!(tls.connect(mesh.gateway, "a.test").unwrap().peer_certificate(), new.der());
}

#[test]
fn a_certificate_is_renewed_whatever_the_file_says_by_then() {
    let (upstream, authority) = (Upstream::new(), Authority::new("test authority"));
    let mesh = mesh(&upstream, &authority, "");
    let file = mesh.folder().join("serviceos.yaml");
    let valid = std::fs::read_to_string(&file).unwrap();
    let tls = authority.clients(HTTP1);
    let more = std::thread::available_parallelism().unwrap().get() + 1;
    let moved = valid.replace("gateway: {", &format!("gateway: {{workers: {more}, "));
    for (text, said) in [("services: [", "is not valid"), (&moved, "can be changed only by a new start")] {
        let seen = mesh.log().len();
        std::fs::write(&file, text).unwrap();
        mesh.until_logged(seen, said);
        let new = authority.certificate(&["a.test"]);
        new.write(mesh.folder(), "first");
        eventually("the new certificate", || {
            (tls.connect(mesh.gateway, "a.test").ok()?.peer_certificate() == new.der()).then_some(())
        });
    }
}

#[test]
fn a_file_that_names_a_certificate_before_it_is_there_is_taken_over_when_it_comes() {
    let (upstream, authority) = (Upstream::new(), Authority::new("test authority"));
    let mesh = mesh(&upstream, &authority, "");
    let file = mesh.folder().join("serviceos.yaml");
    let valid = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, valid.replace("first", "third")).unwrap();
    mesh.until_logged(0, "third.pem");
    let third = authority.certificate(&["a.test"]);
    third.write(mesh.folder(), "third");
    let tls = authority.clients(HTTP1);
    eventually("the new certificate", || {
        (tls.connect(mesh.gateway, "a.test").ok()?.peer_certificate() == third.der()).then_some(())
    });
}

#[test]
fn a_pipe_in_the_place_of_a_key_is_refused_and_stops_nothing() {
    let (upstream, authority) = (Upstream::new(), Authority::new("test authority"));
    let mesh = mesh(&upstream, &authority, "");
    let (pipe, key) = (mesh.folder().join("pipe"), mesh.folder().join("first.key"));
    mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
    std::fs::rename(pipe, &key).unwrap();
    mesh.until_logged(0, "first.key: this is a directory, a pipe or a device");
    mesh.until_selectable();
    std::fs::remove_file(key).unwrap();
    let (tls, new) = (authority.clients(HTTP1), authority.certificate(&["a.test"]));
    new.write(mesh.folder(), "first");
    eventually("the new certificate", || {
        (tls.connect(mesh.gateway, "a.test").ok()?.peer_certificate() == new.der()).then_some(())
    });
}

#[test]
fn a_client_may_show_a_certificate_but_not_a_wrong_one() {
    let (upstream, authority, clients) =
        (Upstream::new(), Authority::new("servers"), Authority::new("clients"));
    let folder = tempfile::tempdir().unwrap();
    let ca = clients.write(folder.path(), "clients.pem");
    let mesh = mesh(&upstream, &authority, &format!(", clientCa: {}", ca.display()));
    let own = clients.certificate(&["client"]);
    let foreign = Authority::new("others").certificate(&["client"]);
    let ask = |tls: testkit::Tls| {
        tls.connect(mesh.gateway, "a.test")
            .and_then(|mut client| get(&mut client, "/site/echo"))
            .map(|answer| answer.status)
    };
    assert_eq!(ask(authority.clients(HTTP1)).unwrap(), 200, "without a certificate");
    assert_eq!(ask(authority.clients_with(HTTP1, &own)).unwrap(), 200, "with one of the right authority");
    let refused = ask(authority.clients_with(HTTP1, &foreign));
    assert!(refused.is_err(), "with one of another authority: {refused:?}");
    assert_eq!(upstream.count(), 2);
}

#[test]
fn an_endpoint_under_tls_is_called_if_its_certificate_is_for_its_name() {
    let authority = Authority::new("endpoints");
    let (right, wrong) = (
        Upstream::tls(&authority.certificate(&["127.0.0.1"])),
        Upstream::tls(&authority.certificate(&["other.test"])),
    );
    let mesh = Mesh::new();
    let roots = authority.write(mesh.folder(), "roots.pem");
    let service = |name: &str, upstream: &Upstream| {
        let routes = PUBLIC.replace("/site/", &format!("/{name}/"));
        let check = "healthCheck: {interval: 1s, timeout: 1s}";
        format!(
            "    {name}: {{endpoints: ['https://{}'], attestation: none, {check}, {routes}}}\n",
            upstream.address
        )
    };
    let mesh = mesh.env("SSL_CERT_FILE", roots.to_str().unwrap());
    let mesh = mesh.yaml(&service("right", &right)).yaml(&service("wrong", &wrong));
    let replica = |status: &serde_json::Value, place: usize| status["services"][place]["replicas"][0].clone();
    let mesh = mesh.up_when("both to be checked", |status| {
        replica(status, 0)["selectable"] == true && replica(status, 1)["reason"].is_string()
    });
    let reason = replica(&mesh.status(), 1)["reason"].to_string();
    assert!(reason.contains("TLS") && reason.contains("not valid for name"), "{reason}");
    assert_eq!(mesh.get("/right/echo").status, 200);
    assert_eq!(mesh.get("/wrong/echo").problem(), (503, "NO_REPLICA_SELECTABLE".into()));
    assert_eq!(wrong.count(), 0);
}

#[test]
fn roots_on_a_disk_that_does_not_answer_hold_up_nothing_but_the_configuration_that_needs_them() {
    let authority = Authority::new("test authority");
    let (plain, secured) = (Upstream::new(), Upstream::tls(&authority.certificate(&["127.0.0.1"])));
    let mesh = Mesh::new();
    let roots = std::fs::read(authority.write(mesh.folder(), "authority.pem")).unwrap();
    let pipe = mesh.folder().join("roots.pem");
    mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
    let check = "healthCheck: {interval: 1s, timeout: 1s}";
    let service = |name: &str, url: String| {
        format!(
            "{name}: {{endpoints: ['{url}'], attestation: none, {check}, routes: [{{match: {{path: '/{name}/{{*rest}}'}}, stripPrefix: true, public: true}}]}}"
        )
    };
    let site = service("site", format!("http://{}", plain.address));
    let mesh = mesh.env("SSL_CERT_FILE", pipe.to_str().unwrap()).yaml(&format!("    {site}\n")).up();
    let both =
        format!("services: {{{site}, {}}}", service("secured", format!("https://{}", secured.address)));
    std::fs::write(mesh.folder().join("serviceos.yaml"), both).unwrap();
    // It opens once somebody reads there.
    let mut roots_of_the_machine = std::fs::File::options().write(true).open(pipe).unwrap();
    plain.set_healthy(false);
    eventually("a health check in between", || {
        (mesh.replicas("site")[0]["health"] == "unhealthy").then_some(())
    });
    roots_of_the_machine.write_all(&roots).unwrap();
    drop(roots_of_the_machine);
    eventually("the service over TLS", || (mesh.get("/secured/echo").status == 200).then_some(()));
}

#[test]
fn large_bodies_and_single_events_pass_under_tls_on_both_sides() {
    const LARGE: usize = 4 << 20;
    let authority = Authority::new("test authority");
    let certificate = authority.certificate(&["127.0.0.1"]);
    let (one, two) = (Upstream::tls(&certificate), Upstream::http2_tls(&certificate));
    let mesh = Mesh::new();
    let roots = authority.write(mesh.folder(), "roots.pem");
    certificate.write(mesh.folder(), "own");
    let service = |name: &str, upstream: &Upstream, more: &str| {
        let routes = PUBLIC.replace("/site/", &format!("/{name}/"));
        format!(
            "    {name}: {{endpoints: ['https://{}'], attestation: none, {routes}{more}}}\n",
            upstream.address
        )
    };
    let mesh = mesh.env("SSL_CERT_FILE", roots.to_str().unwrap());
    let tls = "tls: {certificates: [{certificate: own.pem, key: own.key}]}, limits: {bodyBytes: 16MiB}";
    let mesh = mesh
        .gateway(tls)
        .yaml(&service("one", &one, ""))
        .yaml(&service("two", &two, ", protocol: http2"))
        .up();
    let body = filler(LARGE);
    let client = Http2::connect_tls(mesh.gateway, &authority.clients(&["h2"]), "127.0.0.1");
    for name in ["one", "two"] {
        let answer = client.send(Http2::request("POST", &format!("/{name}/mirror"), &[]), body.clone());
        assert_eq!(answer.status, 200);
        assert!(answer.body == body, "what came back from {name} is not what was sent");
        let mut client = authority.clients(HTTP1).connect(mesh.gateway, "127.0.0.1").unwrap();
        client
            .write(format!("POST /{name}/echo HTTP/1.1\r\nhost: a\r\ncontent-length: {LARGE}\r\n\r\n"))
            .unwrap();
        client.write(&body).unwrap();
        assert_eq!(client.answer().unwrap().json()["checksum"], checksum(&body));
        assert!(get(&mut client, &format!("/{name}/fixed/{LARGE}")).unwrap().body == body, "{name}");
    }
    let mut client = authority.clients(HTTP1).connect(mesh.gateway, "127.0.0.1").unwrap();
    assert!(get(&mut client, &format!("/one/chunked/{LARGE}")).unwrap().body == body);
    client.write("GET /one/command HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert_eq!(client.answer_head().unwrap().status, 200);
    for event in ["data: 1\n\n", "data: 2\n\n"] {
        one.say(event);
        assert_eq!(client.chunk().unwrap().as_deref(), Some(event.as_bytes()), "no event waits for the next");
    }
    one.end();
    assert_eq!(client.chunk().unwrap(), None);
    assert_eq!(client.fields().unwrap(), []);
    client
        .write("GET /one/upgrade HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
        .unwrap();
    assert_eq!(client.answer_head().unwrap().status, 101);
    for size in [1, 100_000, 1] {
        client.write(filler(size)).unwrap();
        assert!(client.exactly(size).unwrap() == filler(size), "{size}");
    }
}

#[test]
fn a_certificate_that_cannot_be_used_is_a_wrong_configuration() {
    let mesh = Mesh::new();
    let authority = Authority::new("tests");
    authority.certificate(&["localhost"]).write(mesh.folder(), "one");
    authority.certificate(&["localhost"]).write(mesh.folder(), "two");
    mkfifoat(CWD, mesh.folder().join("pipe"), Mode::RUSR | Mode::WUSR).unwrap();
    let file = |certificate: &str, key: &str| {
        format!(
            "gateway: {{tls: {{certificates: [{{certificate: {certificate}, key: {key}}}]}}}}\nservices: {{vrf: }}\n"
        )
    };
    for (certificate, key, reason) in [
        ("one.pem", "two.key", "it is not the key of the certificate"),
        ("nowhere.pem", "one.key", "nowhere.pem"),
        (".", "one.key", "directory"),
        ("one.pem", "pipe", "pipe: this is a directory, a pipe or a device"),
    ] {
        mesh.write(&file(certificate, key));
        for refused in [mesh.up_and_fail(), mesh.run(&["config", "validate"])] {
            assert_eq!(refused.code, 2, "{certificate} and {key}: {}", refused.err);
            assert!(refused.err.contains(reason), "{}", refused.err);
        }
        assert!(!mesh.folder().join(".serviceos").exists(), "nothing is left behind");
    }
    mesh.write(&file("one.pem", "one.key"));
    assert_eq!(mesh.run(&["config", "validate"]).code, 0);
}
