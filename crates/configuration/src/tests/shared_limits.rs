//! The limits that several gateways share.

use expect_test::expect;

use super::{check, read};
use crate::{ClientTlsFiles, Line, OnSharedFailure, SharedLimitSettings};

fn with(keys: &str) -> String {
    format!("gateway:\n  rateLimits: {{{keys}}}\nservices: {{vrf: }}")
}

#[test]
fn what_is_shared_is_a_url_or_a_mapping_with_one() {
    let shared = |text: &str| read(&with(text)).unwrap().gateway.rate_limits.shared.unwrap();
    let plain = SharedLimitSettings {
        line: Line(0),
        host: "a.example".into(),
        port: 6379,
        database: 0,
        tls: None,
        user: None,
        password_file: None,
        on_failure: OnSharedFailure::Open,
    };
    for text in
        ["redis://a.example", "redis://a.example/", "redis://A.example:6379/0", "{url: redis://a.example}"]
    {
        assert_eq!(shared(&format!("shared: \"{text}\"").replace("\"{", "{").replace("}\"", "}")), plain);
    }
    let closed = shared("shared: \"rediss://[::1]:1/65535\", onSharedFailure: closed");
    assert_eq!(
        closed,
        SharedLimitSettings {
            host: "::1".into(),
            port: 1,
            database: 65_535,
            tls: Some(ClientTlsFiles::default()),
            on_failure: OnSharedFailure::Closed,
            ..plain.clone()
        }
    );
    let login = shared("shared: {url: \"redis://a.example\", passwordFile: redis.password}");
    assert_eq!(login.password_file.unwrap(), std::path::Path::new("/srv/mesh/redis.password"));
    assert_eq!(login.user, None, "the default user may have a password");
}

#[test]
fn what_is_wrong_with_it_is_said_at_each_part() {
    for (text, expected) in [
        (
            "shared: redis, onSharedFailure: shut",
            expect![[r#"
            serviceos.yaml:2:24: gateway.rateLimits.shared: expected a URL such as redis://10.0.0.5:6379, or a mapping, found `redis`
              2 |   rateLimits: {shared: redis, onSharedFailure: shut}
                |                        ^^^^^

            serviceos.yaml:2:48: gateway.rateLimits.onSharedFailure: expected `open` or `closed`, found `shut`
              2 |   rateLimits: {shared: redis, onSharedFailure: shut}
                |                                                ^^^^"#]],
        ),
        (
            "shared: \"etcd://a\"",
            expect![[r#"
            serviceos.yaml:2:24: gateway.rateLimits.shared: the URL of Redis begins with redis:// or rediss://, found `etcd://a`
              2 |   rateLimits: {shared: "etcd://a"}
                |                        ^^^^^^^^^^
            help: write redis://10.0.0.5:6379, or rediss:// for TLS; a database may follow, as in redis://10.0.0.5/1"#]],
        ),
        (
            "shared: \"redis://me:secret@a\"",
            expect![[r#"
            serviceos.yaml:2:24: gateway.rateLimits.shared: the URL of Redis has no user and no password; they stand in `user` and `passwordFile`, found `redis://me:secret@a`
              2 |   rateLimits: {shared: "redis://me:secret@a"}
                |                        ^^^^^^^^^^^^^^^^^^^^^
            help: write redis://10.0.0.5:6379, or rediss:// for TLS; a database may follow, as in redis://10.0.0.5/1"#]],
        ),
        (
            "shared: \"redis://a,b\"",
            expect![[r#"
            serviceos.yaml:2:24: gateway.rateLimits.shared: the URL of Redis has one IP address or one DNS name, found `redis://a,b`
              2 |   rateLimits: {shared: "redis://a,b"}
                |                        ^^^^^^^^^^^^^
            help: write redis://10.0.0.5:6379, or rediss:// for TLS; a database may follow, as in redis://10.0.0.5/1"#]],
        ),
        (
            "shared: \"redis://a:0\"",
            expect![[r#"
            serviceos.yaml:2:24: gateway.rateLimits.shared: the port of Redis is from 1 to 65535, found `redis://a:0`
              2 |   rateLimits: {shared: "redis://a:0"}
                |                        ^^^^^^^^^^^^^
            help: write redis://10.0.0.5:6379, or rediss:// for TLS; a database may follow, as in redis://10.0.0.5/1"#]],
        ),
        (
            "shared: \"redis://a/one\"",
            expect![[r#"
            serviceos.yaml:2:24: gateway.rateLimits.shared: after the host of Redis stands the number of a database, or nothing, found `redis://a/one`
              2 |   rateLimits: {shared: "redis://a/one"}
                |                        ^^^^^^^^^^^^^^^
            help: write redis://10.0.0.5:6379, or rediss:// for TLS; a database may follow, as in redis://10.0.0.5/1"#]],
        ),
        (
            "shared: \"redis://a/65536\"",
            expect![[r#"
            serviceos.yaml:2:24: gateway.rateLimits.shared: the database of Redis is a number of at most 65535, found `redis://a/65536`
              2 |   rateLimits: {shared: "redis://a/65536"}
                |                        ^^^^^^^^^^^^^^^^^
            help: write redis://10.0.0.5:6379, or rediss:// for TLS; a database may follow, as in redis://10.0.0.5/1"#]],
        ),
        (
            "shared: \"redis://a?db=1\"",
            expect![[r#"
            serviceos.yaml:2:24: gateway.rateLimits.shared: the URL of Redis has no query and no fragment, found `redis://a?db=1`
              2 |   rateLimits: {shared: "redis://a?db=1"}
                |                        ^^^^^^^^^^^^^^^^
            help: write redis://10.0.0.5:6379, or rediss:// for TLS; a database may follow, as in redis://10.0.0.5/1"#]],
        ),
        (
            "shared: ",
            expect![[r#"
                serviceos.yaml:2:22: gateway.rateLimits.shared.url: what is shared needs a URL
                  2 |   rateLimits: {shared: }
                    |                      ^
                help: write redis://10.0.0.5:6379, or rediss:// for TLS; a database may follow, as in redis://10.0.0.5/1"#]],
        ),
        (
            "onSharedFailure: closed",
            expect![[r#"
                serviceos.yaml:2:33: gateway.rateLimits.onSharedFailure: nothing is shared here
                  2 |   rateLimits: {onSharedFailure: closed}
                    |                                 ^^^^^^
                help: write `shared: redis://10.0.0.5:6379` as well, or leave it out"#]],
        ),
        (
            "shared: {user: me, tls: }",
            expect![[r#"
            serviceos.yaml:2:24: gateway.rateLimits.shared.url: what is shared needs a URL
              2 |   rateLimits: {shared: {user: me, tls: }}
                |                        ^
            help: write redis://10.0.0.5:6379, or rediss:// for TLS; a database may follow, as in redis://10.0.0.5/1"#]],
        ),
        (
            "shared: {url: \"redis://a\", user: me, tls: {ca: ca.pem}}",
            expect![[r#"
            serviceos.yaml:2:49: gateway.rateLimits.shared.user: a user has a password
              2 |   rateLimits: {shared: {url: "redis://a", user: me, tls: {ca: ca.pem}}}
                |                                                 ^^
            help: write `passwordFile: redis.password` as well

            serviceos.yaml:2:58: gateway.rateLimits.shared.tls: the URL begins with redis://, which is without TLS
              2 |   rateLimits: {shared: {url: "redis://a", user: me, tls: {ca: ca.pem}}}
                |                                                          ^
            help: write rediss:// in the URL, or leave `tls` out"#]],
        ),
        (
            "shared: {url: \"rediss://a\", password: secret, tls: {key: a.key}}",
            expect![[r#"
            serviceos.yaml:2:44: unknown key `password`
              2 |   rateLimits: {shared: {url: "rediss://a", password: secret, tls: {key: a.key}}}
                |                                            ^^^^^^^^
            help: did you mean `passwordFile`?"#]],
        ),
        (
            "shared: {url: \"rediss://a\", tls: {key: a.key}}",
            expect![[r#"
            serviceos.yaml:2:49: gateway.rateLimits.shared.tls: a certificate and its key belong together
              2 |   rateLimits: {shared: {url: "rediss://a", tls: {key: a.key}}}
                |                                                 ^
            help: write both, `{certificate: client.pem, key: client.key}`, or neither"#]],
        ),
    ] {
        check(&with(text), expected);
    }
}
