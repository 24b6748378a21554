//! What valid files mean.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use expect_test::expect;
use types::ByteSize;

use super::{FULL, read};
use crate::{Builtin, Overrides, RouteAccess, Settings, any_config, load};

fn routes(settings: &Settings) -> String {
    let mut text = String::new();
    for service in &settings.services {
        for route in &service.routes {
            text.push_str(&format!(
                "{}: {} {:?} {:?} {:?} {:?} strip={} body={:?}\n",
                service.name,
                route.path,
                route.methods,
                route.scopes,
                route.timeout,
                route.access,
                route.strip_prefix,
                route.body_bytes,
            ));
        }
    }
    text
}

#[test]
fn names_alone_are_enough_and_bring_the_default_routes() {
    let settings = read("services:\n  vrf:\n  oracle: {}\n  datafeed: ~\n  dice: {builtin: vrf}\n").unwrap();
    let names: Vec<&str> = settings.services.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(names, ["vrf", "oracle", "datafeed", "dice"], "the order of the file");
    assert_eq!(settings.services[3].builtin, Builtin::Vrf);
    expect![[r#"
        vrf: /v1/random [] ["randomness"] None Callers strip=false body=None
        vrf: /v1/random/{*rest} [] ["randomness"] None Callers strip=false body=None
        oracle: /v1/oracle/{*rest} [] ["oracle"] Some(12s) Callers strip=false body=None
        datafeed: /v1/feeds [] ["datafeed"] None Callers strip=false body=None
        datafeed: /v1/price/{*rest} [] ["datafeed"] None Callers strip=false body=None
        dice: /dice [] ["dice"] None Callers strip=true body=None
        dice: /dice/{*rest} [] ["dice"] None Callers strip=true body=None
    "#]]
    .assert_eq(&routes(&settings));
}

#[test]
fn what_is_left_out_has_its_documented_default() {
    let settings = read("services: {vrf: }").unwrap();
    expect![[r#"
        Settings {
            trust_domain: "serviceos.dev.invalid",
            data_dir: "/srv/mesh/.serviceos",
            gateway: GatewaySettings {
                listen: [
                    127.0.0.1:8080,
                ],
                workers: 4,
                limits: GatewayLimits {
                    header_bytes: ByteSize(
                        65536,
                    ),
                    headers: 100,
                    url_bytes: ByteSize(
                        8192,
                    ),
                    body_bytes: ByteSize(
                        1048576,
                    ),
                    header_timeout: 10s,
                    idle_timeout: 300s,
                    request_timeout: 15s,
                    connections: 10000,
                    requests: 10000,
                },
            },
            admin: 127.0.0.1:7070,
            telemetry: Telemetry {
                logs: Text,
                access_log: Some(
                    "/srv/mesh/.serviceos/logs/access.jsonl",
                ),
            },
            services: [
                ServiceSettings {
                    name: vrf,
                    version: "1.0.0",
                    replicas: 1,
                    required: true,
                    builtin: Vrf,
                    config: Object {},
                    health_check: HealthCheck {
                        path: "/health",
                        interval: 10s,
                        timeout: 5s,
                        healthy_threshold: 1,
                        unhealthy_threshold: 3,
                    },
                    routes: [
                        RouteSettings {
                            path: "/v1/random",
                            methods: [],
                            scopes: [
                                "randomness",
                            ],
                            body_bytes: None,
                            timeout: None,
                            access: Callers,
                            strip_prefix: false,
                        },
                        RouteSettings {
                            path: "/v1/random/{*rest}",
                            methods: [],
                            scopes: [
                                "randomness",
                            ],
                            body_bytes: None,
                            timeout: None,
                            access: Callers,
                            strip_prefix: false,
                        },
                    ],
                    retry: Retry {
                        attempts: 1,
                        per_try_timeout: 2s,
                    },
                    drain: Drain {
                        timeout: 30s,
                        grace: 10s,
                    },
                    restart: Restart {
                        min: 100ms,
                        max: 30s,
                        reset_after: 60s,
                    },
                    start_timeout: 60s,
                },
            ],
        }
    "#]]
    .assert_eq(&format!("{settings:#?}\n"));
}

#[test]
fn every_key_arrives_where_it_belongs() {
    let settings = read(FULL).unwrap();
    expect![[r#"
        Settings {
            trust_domain: "lab.dev.invalid",
            data_dir: "/srv/mesh/state",
            gateway: GatewaySettings {
                listen: [
                    0.0.0.0:9000,
                    [::1]:9001,
                ],
                workers: 2,
                limits: GatewayLimits {
                    header_bytes: ByteSize(
                        32768,
                    ),
                    headers: 50,
                    url_bytes: ByteSize(
                        4096,
                    ),
                    body_bytes: ByteSize(
                        2097152,
                    ),
                    header_timeout: 5s,
                    idle_timeout: 90s,
                    request_timeout: 20s,
                    connections: 500,
                    requests: 600,
                },
            },
            admin: 127.0.0.1:7171,
            telemetry: Telemetry {
                logs: Json,
                access_log: None,
            },
            services: [
                ServiceSettings {
                    name: vrf,
                    version: "1.10",
                    replicas: 3,
                    required: false,
                    builtin: Vrf,
                    config: Object {
                        "suite": String("ed25519"),
                        "weights": Array [
                            Number(1),
                            Number(2.5),
                            Null,
                        ],
                    },
                    health_check: HealthCheck {
                        path: "/ready",
                        interval: 2s,
                        timeout: 500ms,
                        healthy_threshold: 2,
                        unhealthy_threshold: 4,
                    },
                    routes: [
                        RouteSettings {
                            path: "/v1/random",
                            methods: [
                                "GET",
                                "POST",
                            ],
                            scopes: [
                                "randomness",
                                "beta:x",
                            ],
                            body_bytes: Some(
                                ByteSize(
                                    16384,
                                ),
                            ),
                            timeout: Some(
                                5s,
                            ),
                            access: Callers,
                            strip_prefix: true,
                        },
                        RouteSettings {
                            path: "/v1/random",
                            methods: [
                                "DELETE",
                            ],
                            scopes: [],
                            body_bytes: None,
                            timeout: None,
                            access: Public,
                            strip_prefix: false,
                        },
                    ],
                    retry: Retry {
                        attempts: 0,
                        per_try_timeout: 1s,
                    },
                    drain: Drain {
                        timeout: 20s,
                        grace: 5s,
                    },
                    restart: Restart {
                        min: 200ms,
                        max: 10s,
                        reset_after: 30s,
                    },
                    start_timeout: 15s,
                },
                ServiceSettings {
                    name: feed-2,
                    version: "1.0.0",
                    replicas: 1,
                    required: true,
                    builtin: Datafeed,
                    config: Object {},
                    health_check: HealthCheck {
                        path: "/health",
                        interval: 10s,
                        timeout: 5s,
                        healthy_threshold: 1,
                        unhealthy_threshold: 3,
                    },
                    routes: [
                        RouteSettings {
                            path: "/feed-2",
                            methods: [],
                            scopes: [
                                "feed-2",
                            ],
                            body_bytes: None,
                            timeout: None,
                            access: Callers,
                            strip_prefix: true,
                        },
                        RouteSettings {
                            path: "/feed-2/{*rest}",
                            methods: [],
                            scopes: [
                                "feed-2",
                            ],
                            body_bytes: None,
                            timeout: None,
                            access: Callers,
                            strip_prefix: true,
                        },
                    ],
                    retry: Retry {
                        attempts: 1,
                        per_try_timeout: 2s,
                    },
                    drain: Drain {
                        timeout: 30s,
                        grace: 10s,
                    },
                    restart: Restart {
                        min: 100ms,
                        max: 30s,
                        reset_after: 60s,
                    },
                    start_timeout: 60s,
                },
            ],
        }
    "#]]
    .assert_eq(&format!("{settings:#?}\n"));
}

#[test]
fn empty_mappings_and_lists_mean_their_defaults() {
    let short = read("services: {vrf: }").unwrap();
    let long = "mode: development\ngateway:\nadmin:\ntelemetry: {}\nservices:\n  vrf:\n    healthCheck:\n    retry:\n    drain: {}\n    restart:\n    routes:\n    config:\n    builtin:\n";
    assert_eq!(read(long).unwrap(), short);
    assert_eq!(read("gateway: {listen: , limits: }\nservices: {vrf: }").unwrap(), short);
}

#[test]
fn an_empty_list_of_routes_leaves_a_service_without_any() {
    assert_eq!(read("services: {vrf: {routes: []}}").unwrap().services[0].routes, []);
}

#[test]
fn anchors_and_merges_work() {
    let text = "services:\n  vrf: &base\n    replicas: 4\n    drain: {grace: 1s}\n  dice:\n    <<: *base\n    builtin: vrf\n    replicas: 2\n";
    let settings = read(text).unwrap();
    let [vrf, dice] = &settings.services[..] else { panic!("two services") };
    assert_eq!((vrf.replicas, dice.replicas), (4, 2));
    assert_eq!(dice.drain.grace, Duration::from_secs(1));
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_change_nothing() {
    assert_eq!(read(&format!("\u{feff}{}", FULL.replace('\n', "\r\n"))).unwrap(), read(FULL).unwrap());
}

#[test]
fn port_zero_may_repeat() {
    let text = "gateway: {listen: [\"127.0.0.1:0\", \"127.0.0.1:0\"]}\nadmin: {listen: \"127.0.0.1:0\"}\nservices: {vrf: }";
    assert_eq!(read(text).unwrap().gateway.listen.len(), 2);
}

#[test]
fn the_seed_s_example_is_a_complete_file() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/seed/ServiceOS-Layer.md");
    let Ok(document) = std::fs::read_to_string(path) else {
        assert!(std::env::var_os("CI").is_none(), "the seed is missing: {path}");
        eprintln!("skipped: the seed is not beside the workspace");
        return;
    };
    let (_, rest) = document.split_once("```yaml\n").unwrap();
    let (yaml, _) = rest.split_once("```").unwrap();
    let settings = read(yaml).unwrap();
    let [vrf] = &settings.services[..] else { panic!("one service") };
    assert_eq!((vrf.name.as_str(), vrf.replicas, vrf.builtin), ("vrf", 3, Builtin::Vrf));
    let check = &vrf.health_check;
    assert_eq!((check.interval, check.timeout), (Duration::from_secs(10), Duration::from_secs(5)));
}

#[test]
fn the_data_directory_comes_from_the_option_then_the_file_then_beside_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let root = std::path::absolute(folder.path()).unwrap();
    let file = root.join("serviceos.yaml");
    let with = |text: &str, overrides: &Overrides| {
        std::fs::write(&file, text).unwrap();
        load(&file, overrides, any_config).unwrap()
    };
    let none = Overrides::default();
    let beside = with("services: {vrf: }", &none);
    assert_eq!(beside.data_dir, root.join(".serviceos"));
    assert_eq!(beside.telemetry.access_log, Some(root.join(".serviceos/logs/access.jsonl")));

    let text = "dataDir: ./state\ntelemetry: {accessLog: a.jsonl}\nservices: {vrf: }";
    assert_eq!(with(text, &none).data_dir, root.join("state"));

    let given = Overrides { data_dir: Some(PathBuf::from("here")), ..Overrides::default() };
    let settings = with(text, &given);
    assert_eq!(settings.data_dir, std::env::current_dir().unwrap().join("here"));
    assert_eq!(settings.telemetry.access_log, Some(settings.data_dir.join("a.jsonl")));
    assert_eq!(with("dataDir: /var/lib/s\nservices: {vrf: }", &none).data_dir, Path::new("/var/lib/s"));
}

#[test]
fn options_take_the_place_of_what_the_file_says() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("serviceos.yaml");
    std::fs::write(
        &file,
        "mode: production\ngateway: {listen: [\"127.0.0.1:7000\", bad]}\nadmin: {listen: \"127.0.0.1:7000\"}\nservices: {vrf: }",
    )
    .unwrap();
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    let overrides = Overrides {
        data_dir: None,
        gateway: Some(address("127.0.0.1:1234")),
        admin: Some(address("[::1]:0")),
        mode: Some("development".to_owned()),
    };
    let settings = load(&file, &overrides, any_config).unwrap();
    assert_eq!(settings.gateway.listen, [address("127.0.0.1:1234")]);
    assert_eq!(settings.admin, address("[::1]:0"));
}

#[test]
fn public_routes_and_sizes_are_read() {
    let settings = read(FULL).unwrap();
    let [first, second] = &settings.services[0].routes[..] else { panic!("two routes") };
    assert_eq!((first.access, first.body_bytes), (RouteAccess::Callers, Some(ByteSize(16 * 1024))));
    assert_eq!((second.access, second.body_bytes), (RouteAccess::Public, None));
}

#[test]
fn the_file_at_the_root_of_the_workspace_is_valid() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../serviceos.yaml");
    assert!(!load(&path, &Overrides::default(), any_config).unwrap().services.is_empty());
}
