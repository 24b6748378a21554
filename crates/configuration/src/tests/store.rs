//! Where state is kept, and what a machine is called.

use expect_test::expect;

use super::{check, read};
use crate::{ClientTlsFiles, EtcdStore, Line, StoreSettings};

#[test]
fn a_store_is_a_word_or_a_url() {
    let store = |text: &str| read(&format!("store: {text}\nservices: {{vrf: }}")).unwrap().store;
    for embedded in ["embedded", ""] {
        assert_eq!(store(embedded), StoreSettings::Embedded);
    }
    let etcd = |hosts: &[(&str, u16)], tls| {
        let end_points = hosts.iter().map(|(host, port)| ((*host).to_owned(), *port)).collect();
        StoreSettings::Etcd(EtcdStore { line: Line(0), end_points, tls, login: None })
    };
    assert_eq!(store("etcd://A.example,10.0.0.6:1"), etcd(&[("a.example", 2379), ("10.0.0.6", 1)], None));
    assert_eq!(store("{url: \"etcd://[::1]:5/\"}"), etcd(&[("::1", 5)], None));
    assert_eq!(store("etcds://a"), etcd(&[("a", 2379)], Some(ClientTlsFiles::default())));
}

#[test]
fn what_is_wrong_with_a_store_is_said_at_each_part() {
    for (text, expected) in [
        (
            "imbedded",
            expect![[r#"
                serviceos.yaml:1:8: store: expected `embedded`, a URL such as etcd://10.0.0.5:2379, or a mapping, found `imbedded`
                  1 | store: imbedded
                    |        ^^^^^^^^
                help: did you mean `embedded`?"#]],
        ),
        (
            "[a]",
            expect![[r#"
            serviceos.yaml:1:8: store: expected `embedded`, a URL such as etcd://10.0.0.5:2379, or a mapping, found a list
              1 | store: [a]
                |        ^"#]],
        ),
        (
            "http://a",
            expect![[r#"
            serviceos.yaml:1:8: store: the URL of a store begins with etcd:// or etcds://, found `http://a`
              1 | store: http://a
                |        ^^^^^^^^
            help: write etcd://10.0.0.5:2379,10.0.0.6:2379, or etcds:// for TLS"#]],
        ),
        (
            "etcd://",
            expect![[r#"
            serviceos.yaml:1:8: store: the URL of a store has IP addresses or DNS names, with commas between, found `etcd://`
              1 | store: etcd://
                |        ^^^^^^^
            help: write etcd://10.0.0.5:2379,10.0.0.6:2379, or etcds:// for TLS"#]],
        ),
        (
            "etcd://a:0",
            expect![[r#"
            serviceos.yaml:1:8: store: the port of a store is from 1 to 65535, found `etcd://a:0`
              1 | store: etcd://a:0
                |        ^^^^^^^^^^
            help: write etcd://10.0.0.5:2379,10.0.0.6:2379, or etcds:// for TLS"#]],
        ),
        (
            "etcd://a,b,a",
            expect![[r#"
            serviceos.yaml:1:8: store: the URL of a store names each host once, found `etcd://a,b,a`
              1 | store: etcd://a,b,a
                |        ^^^^^^^^^^^^
            help: write etcd://10.0.0.5:2379,10.0.0.6:2379, or etcds:// for TLS"#]],
        ),
        (
            "etcd://me:secret@a",
            expect![[r#"
                serviceos.yaml:1:8: store: the URL of a store has no user and no password; they stand in `user` and `passwordFile`, found `etcd://me:secret@a`
                  1 | store: etcd://me:secret@a
                    |        ^^^^^^^^^^^^^^^^^^
                help: write etcd://10.0.0.5:2379,10.0.0.6:2379, or etcds:// for TLS"#]],
        ),
        (
            "etcd://a/b",
            expect![[r#"
            serviceos.yaml:1:8: store: the URL of a store has no path, no query and no fragment, found `etcd://a/b`
              1 | store: etcd://a/b
                |        ^^^^^^^^^^
            help: write etcd://10.0.0.5:2379,10.0.0.6:2379, or etcds:// for TLS"#]],
        ),
        (
            "{tls: }",
            expect![[r#"
            serviceos.yaml:1:8: store.url: a store that is a mapping needs a URL
              1 | store: {tls: }
                |        ^
            help: write etcd://10.0.0.5:2379,10.0.0.6:2379, or etcds:// for TLS"#]],
        ),
        (
            "{url: etcd://a, tls: {ca: b}, user: c}",
            expect![[r#"
            serviceos.yaml:1:8: store: a user and the file with its password belong together
              1 | store: {url: etcd://a, tls: {ca: b}, user: c}
                |        ^
            help: write both, `user: serviceos` and `passwordFile: etcd.password`, or neither

            serviceos.yaml:1:29: store.tls: the URL begins with etcd://, which is without TLS
              1 | store: {url: etcd://a, tls: {ca: b}, user: c}
                |                             ^
            help: write etcds:// in the URL, or leave `tls` out"#]],
        ),
        (
            "{url: etcds://a, tls: {certificate: b}, passwordFile: c}",
            expect![[r#"
            serviceos.yaml:1:8: store: a user and the file with its password belong together
              1 | store: {url: etcds://a, tls: {certificate: b}, passwordFile: c}
                |        ^
            help: write both, `user: serviceos` and `passwordFile: etcd.password`, or neither

            serviceos.yaml:1:30: store.tls: a certificate and its key belong together
              1 | store: {url: etcds://a, tls: {certificate: b}, passwordFile: c}
                |                              ^
            help: write both, `{certificate: client.pem, key: client.key}`, or neither"#]],
        ),
        (
            "{url: etcds://a, password: c}",
            expect![[r#"
            serviceos.yaml:1:25: unknown key `password`
              1 | store: {url: etcds://a, password: c}
                |                         ^^^^^^^^
            help: did you mean `passwordFile`?"#]],
        ),
    ] {
        check(&format!("store: {text}\nservices: {{vrf: }}\n"), expected);
    }
}

#[test]
fn a_node_is_a_name_that_fits_an_identity() {
    let node = |text: &str| read(&format!("{text}services: {{vrf: }}")).unwrap().node;
    assert_eq!(node(""), None);
    assert_eq!(node("node: Rack-2\n").unwrap().as_str(), "Rack-2");
    let long = "n".repeat(64);
    for text in ["rack_2", "a.b", "\"\"", &long] {
        let wrong = read(&format!("node: {text}\nservices: {{vrf: }}")).unwrap_err().to_string();
        assert!(wrong.contains("node: expected a name such as rack-2"), "{wrong}");
    }
}
