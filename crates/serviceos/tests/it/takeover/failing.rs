//! A takeover that comes to nothing.
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use rustix::process::Signal;
use testkit::{Mesh, Running, eventually};

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
    assert!(finished.err.contains("there is nothing to take over: start it without --takeover"), "{finished:?}");
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
    let mut mesh = Mesh::new().service("vrf", 3).up();
    let (before, pid) = (who(&mesh, "vrf"), mesh.pid());
    let clients = Clients::begin(&mesh);
    for moment in 0..6 {
        clients.until_more(50);
        let former = mesh.begin_takeover();
        let seen = former.log(&mesh).len();
        eventually("the handover", || former.log(&mesh)[seen..].contains("takes over").then_some(()));
        // Wherever it is by then.
        std::thread::sleep(std::time::Duration::from_millis(25 * moment));
        let is_over = mesh.log().contains("the place of another serviceos is taken");
        mesh.signal(Signal::KILL);
        if is_over {
            panic!("the machine is too fast for this test: {moment}");
        }
        mesh.failed_takeover(former);
        mesh.until_logged(seen, "this one takes its place back");
        mesh.until_logged(seen, "the place of another serviceos is taken");
        clients.until_more(50);
        assert_eq!((who(&mesh, "vrf"), mesh.pid()), (before.clone(), pid), "moment {moment}");
        assert_eq!(mesh.status()["pid"], pid);
    }
    let former = mesh.take_over();
    assert_eq!(former.wait(&mesh).code, 0, "it can be taken over after all");
    assert_eq!(who(&mesh, "vrf"), before);
    assert_eq!(clients.end().lost.len(), 0);
}
