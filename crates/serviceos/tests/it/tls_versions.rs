//! Which versions of TLS are spoken, and certificates that are links to those that change.

use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::Path;

use testkit::{Authority, Certificate, Connection, Mesh, Running, TlsVersion, Upstream, eventually};

use crate::fleet::PUBLIC;

const HTTP1: &[&str] = &["http/1.1"];
/// Record types, handshake types and alerts of RFC 5246.
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const SERVER_HELLO: u8 = 2;
const PROTOCOL_VERSION: u8 = 70;

/// A mesh under TLS whose certificate is what `own` in its folder is, or is a link to.
fn up(mesh: Mesh, upstream: &Upstream) -> Running {
    let mesh = mesh.gateway("tls: {certificates: [{certificate: own.pem, key: own.key}]}");
    mesh.endpoints_with("site", &[upstream.address], PUBLIC).up()
}

/// The first message of a client whose best version is this one, and which knows one cipher suite of TLS 1.0 and 1.1 and
/// one of TLS 1.2.
fn client_hello(version: [u8; 2]) -> Vec<u8> {
    let sized = |body: &[u8]| [&u16::try_from(body.len()).unwrap().to_be_bytes()[..], body].concat();
    let extension = |kind: u8, body: &[u8]| [&[0, kind][..], &sized(body)].concat();
    let groups = extension(10, &sized(&[0, 23, 0, 29]));
    let signatures = extension(13, &sized(&[4, 3, 2, 3]));
    let suites = sized(&[0xc0, 0x09, 0xc0, 0x2b]);
    let hello =
        [&version[..], &[7; 32], &[0], &suites, &[1, 0], &sized(&[groups, signatures].concat())].concat();
    let message = [&[1, 0][..], &sized(&hello)].concat();
    [&[HANDSHAKE, 3, 1][..], &sized(&message)].concat()
}

/// The type of the first record of an answer, and what is in it.
fn record(client: &mut Connection<TcpStream>) -> (u8, Vec<u8>) {
    let head = client.exactly(5).unwrap();
    (head[0], client.exactly(usize::from(u16::from_be_bytes([head[3], head[4]]))).unwrap())
}

#[test]
fn tls_1_2_and_1_3_are_spoken() {
    let (upstream, authority) = (Upstream::new(), Authority::new("test authority"));
    let mesh = Mesh::new();
    authority.certificate(&["a.test"]).write(mesh.folder(), "own");
    let mesh = up(mesh, &upstream);
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let tls = authority.clients_of_version(HTTP1, version);
        // The second connection goes on with the session of the first.
        for _ in 0..2 {
            let mut client = tls.connect(mesh.gateway, "a.test").unwrap();
            client.write("GET /site/fixed/3 HTTP/1.1\r\nhost: a.test\r\n\r\n").unwrap();
            assert_eq!(client.answer().unwrap().status, 200, "{version:?}");
            assert_eq!(client.version(), version);
        }
    }
    let mut best = authority.clients(HTTP1).connect(mesh.gateway, "a.test").unwrap();
    assert_eq!(best.version(), TlsVersion::Tls13, "where both know both");
}

#[test]
fn tls_1_1_and_1_0_are_refused() {
    let (upstream, authority) = (Upstream::new(), Authority::new("test authority"));
    let mesh = Mesh::new();
    authority.certificate(&["a.test"]).write(mesh.folder(), "own");
    let mesh = up(mesh, &upstream);
    let hello = |minor: u8| {
        let mut client = Connection::open(mesh.gateway);
        client.write(client_hello([3, minor])).unwrap();
        (record(&mut client), client)
    };
    for minor in [1, 2] {
        let ((kind, alert), mut client) = hello(minor);
        assert_eq!((kind, alert.as_slice()), (ALERT, &[2, PROTOCOL_VERSION][..]), "3.{minor}");
        assert_eq!(client.rest().unwrap_or_default(), b"");
    }
    // It is the version alone that is refused.
    let ((kind, message), _) = hello(3);
    assert_eq!((kind, message[0], &message[4..6]), (HANDSHAKE, SERVER_HELLO, &[3, 3][..]));
}

/// Waits until new connections are shown a certificate; meanwhile each is shown this one or the one before.
fn until_shown(mesh: &Running, authority: &Authority, before: &Certificate, new: &Certificate) {
    let tls = authority.clients(HTTP1);
    eventually("the new certificate", || {
        let shown = tls.connect(mesh.gateway, "a.test").unwrap().peer_certificate();
        assert!(shown == before.der() || shown == new.der());
        (shown == new.der()).then_some(())
    });
}

/// Puts a link in the place of another in one step.
fn link(folder: &Path, target: &str, name: &str) {
    symlink(target, folder.join("new-link")).unwrap();
    std::fs::rename(folder.join("new-link"), folder.join(name)).unwrap();
}

#[test]
fn a_certificate_is_taken_over_when_its_link_leads_elsewhere_as_certbot_does_it() {
    let (upstream, authority) = (Upstream::new(), Authority::new("test authority"));
    let mesh = Mesh::new();
    let folder = mesh.folder().to_owned();
    std::fs::create_dir(folder.join("archive")).unwrap();
    let version = |number: u32| {
        let certificate = authority.certificate(&["a.test"]);
        certificate.write(&folder.join("archive"), &format!("own{number}"));
        // One after the other: for a moment the key is not the certificate's.
        for kind in ["key", "pem"] {
            link(&folder, &format!("archive/own{number}.{kind}"), &format!("own.{kind}"));
        }
        certificate
    };
    let mut before = version(1);
    let mesh = up(mesh, &upstream);
    until_shown(&mesh, &authority, &before, &before);
    for number in 2..5 {
        let new = version(number);
        until_shown(&mesh, &authority, &before, &new);
        before = new;
    }
}

#[test]
fn a_certificate_is_taken_over_when_the_folder_behind_it_is_another_as_kubernetes_does_it() {
    let (upstream, authority) = (Upstream::new(), Authority::new("test authority"));
    let mesh = Mesh::new();
    let folder = mesh.folder().to_owned();
    let version = |number: u32| {
        let certificate = authority.certificate(&["a.test"]);
        let name = format!("..{number}");
        std::fs::create_dir(folder.join(&name)).unwrap();
        certificate.write(&folder.join(&name), "own");
        link(&folder, &name, "..data");
        certificate
    };
    let mut before = version(1);
    for kind in ["key", "pem"] {
        symlink(format!("..data/own.{kind}"), folder.join(format!("own.{kind}"))).unwrap();
    }
    let mesh = up(mesh, &upstream);
    until_shown(&mesh, &authority, &before, &before);
    for number in 2..5 {
        let new = version(number);
        until_shown(&mesh, &authority, &before, &new);
        std::fs::remove_dir_all(folder.join(format!("..{}", number - 1))).unwrap();
        before = new;
    }
}
