//! A takeover that comes to nothing.
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use rustix::process::Signal;
use testkit::{Connection, Mesh, Request, Running, Upstream, eventually};

use super::clients::Clients;
use super::who;

fn socket(mesh: &Running) -> PathBuf {
    mesh.folder().join(".serviceos/run/handover.sock")
}

#[test]
fn where_none_runs_one_is_told_to_start_without() {
    let mesh = Mesh::new().service("vrf", 1).arguments(&["--takeover"]);
    let finished = mesh.up_and_fail();
    assert_eq!(finished.code, 3, "{finished:?}");
    assert!(
        finished.err.contains("there is nothing to take over: start it without --takeover"),
        "{finished:?}"
    );
    let mut mesh = Mesh::new().service("vrf", 1).up();
    mesh.signal(Signal::KILL);
    mesh.wait();
    let mesh = mesh.ended().arguments(&["--takeover"]);
    let finished = mesh.up_and_fail();
    assert_eq!(finished.code, 3, "one that was killed has left its socket: {finished:?}");
}

#[test]
fn whoever_says_something_else_is_refused_and_nothing_happens() {
    let mut mesh = Mesh::new().service("vrf", 1).up();
    let mode = std::fs::metadata(socket(&mesh)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (before, pid) = (who(&mesh, "vrf"), mesh.pid());
    let malformed = |bytes: &[u8]| {
        let seen = mesh.log().len();
        let mut stream = UnixStream::connect(socket(&mesh)).unwrap();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        mesh.until_logged(seen, "somebody asked for the place of this serviceos and was refused");
    };
    let frame = |text: &str| [&u32::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat();
    malformed(b"");
    malformed(b"GET / HTTP/1.1\r\n\r\n");
    malformed(&u32::MAX.to_be_bytes());
    malformed(&frame("{}"));
    malformed(&frame(r#"{"kind":"serving"}"#));
    malformed(&frame(r#"{"kind":"hello","of":{"protocol":99,"version":"9.9.9"}}"#));
    // One that says nothing keeps the next waiting for a moment only.
    let _silent = UnixStream::connect(socket(&mesh)).unwrap();
    assert_eq!((who(&mesh, "vrf"), mesh.pid()), (before, pid));
    assert_eq!(mesh.take_over().wait(&mesh).code, 0);
}

#[test]
fn where_the_next_one_does_not_come_to_serve_the_one_before_goes_on_and_nobody_loses_a_request() {
    let mut mesh = Mesh::new().service("vrf", 2).up();
    // That stays in force for as long as the file says the same.
    assert_eq!(mesh.run(&["scale", "vrf=3"]).code, 0);
    mesh.until_selectable();
    let (before, pid) = (who(&mesh, "vrf"), mesh.pid());
    let clients = Clients::begin(&mesh);
    let mut seen = mesh.log().len();
    for moment in ["takes over", "everything is handed over", "takes over", "refused"] {
        clients.until_more(50);
        let former = match moment {
            // Nobody has this address here, which is found out when everything was handed over.
            "refused" => mesh.begin_takeover_at("192.0.2.1:80"),
            _ => mesh.begin_takeover(),
        };
        if moment != "refused" {
            eventually("the handover", || former.log(&mesh)[seen..].contains(moment).then_some(()));
            // It takes a hundred milliseconds more, and far more here, until it serves.
            mesh.signal(Signal::KILL);
        }
        let failed = mesh.failed_takeover(former);
        if moment == "refused" {
            assert_eq!(failed.code, 1, "{failed:?}");
            assert!(failed.err.contains("192.0.2.1:80 is not an address of this machine"), "{failed:?}");
        }
        mesh.until_logged(seen, "this one takes its place back");
        mesh.until_logged(seen, "the place of another serviceos is taken");
        seen = mesh.log().len();
        clients.until_more(50);
        assert_eq!((who(&mesh, "vrf"), mesh.pid()), (before.clone(), pid), "moment {moment}");
        assert_eq!(mesh.status()["pid"], pid);
        mesh.until_logged(0, "the serviceos whose place was taken has ended");
    }
    let former = mesh.take_over();
    assert_eq!(former.wait(&mesh).code, 0, "it can be taken over after all");
    assert_eq!(who(&mesh, "vrf"), before);
    assert_eq!(clients.end().lost.len(), 0);
}

#[test]
fn where_the_one_before_dies_in_the_midst_the_next_one_has_all_that_it_needs() {
    let mut mesh = Mesh::new().service("vrf", 2).up();
    let before = who(&mesh, "vrf");
    let mut former = mesh.begin_takeover();
    mesh.until_logged(0, "it is taken over");
    former.signal(Signal::KILL);
    eventually("its end", || former.has_ended().then_some(()));
    mesh.until_taken_over(&former);
    assert_eq!(who(&mesh, "vrf"), before);
    assert_eq!(mesh.get("/v1/random/keys").status, 200);
}

#[test]
fn while_one_takes_over_and_until_the_one_before_has_ended_no_other_does() {
    let upstream = Upstream::new();
    let routes = "{match: {path: \"/site/{*rest}\"}, public: true, stripPrefix: true}";
    let keys = format!("drain: {{timeout: 1m}}, routes: [{routes}]");
    let mut mesh = Mesh::new().endpoints_with("site", &[upstream.address], &keys).up();
    let mut waiting = Connection::open(mesh.gateway);
    waiting.write("GET /site/together/2 HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    eventually("the request", || (upstream.count() == 1).then_some(()));
    let first = mesh.take_over();
    let second = mesh.begin_takeover();
    let failed = mesh.failed_takeover(second);
    assert_eq!(failed.code, 1, "{failed:?}");
    let reason =
        format!("it has taken over from the serviceos with pid {}, which has not ended yet", first.pid());
    assert!(failed.err.contains(&reason), "{failed:?}");
    assert_eq!(Request::new("GET", "/site/together/2").send(mesh.gateway).status, 200);
    assert_eq!(waiting.answer().unwrap().status, 200, "both are open at once, in two processes");
    assert_eq!(first.wait(&mesh).code, 0);
    mesh.until_logged(0, "the serviceos whose place was taken has ended");
    assert_eq!(mesh.take_over().wait(&mesh).code, 0);
}
