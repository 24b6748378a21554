//! What valid files mean.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use expect_test::expect;
use types::{ByteSize, Mode};

use super::{FULL, read};
use crate::{Builtin, Overrides, ProcessSettings, Program, RouteAccess, Settings, any_config, load};

fn process(settings: &Settings, service: usize) -> &ProcessSettings {
    settings.services[service].process().unwrap()
}

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
    assert_eq!(process(&settings, 3).program, Program::Builtin(Builtin::Vrf));
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
fn empty_mappings_mean_their_defaults() {
    let short = read("services: {vrf: }").unwrap();
    let long = "mode: development\ngateway:\nadmin:\nmesh:\nsecrets:\ntelemetry: {}\nservices:\n  vrf:\n    healthCheck:\n    retry:\n    drain: {}\n    restart:\n    config:\n    builtin:\n    attestation:\n    secrets:\n    allow: []\n";
    assert_eq!(read(long).unwrap(), short);
    assert_eq!(read("gateway: {limits: }\nservices: {vrf: }").unwrap(), short);
}

#[test]
fn an_empty_list_of_routes_leaves_a_service_without_any() {
    assert_eq!(read("services: {vrf: {routes: []}}").unwrap().services[0].routes, []);
}

#[test]
fn a_list_whose_items_are_all_commented_out_is_empty() {
    let routes = "services:\n  vrf:\n    routes:\n      # - match: {path: /v1/random}\n";
    assert_eq!(read(routes).unwrap().services[0].routes, []);
    let causes = &read("services: {vrf: {retry: {on: }}}").unwrap().services[0].retry.on;
    assert_eq!((causes.connect, causes.reset, &causes.statuses[..]), (false, false, &[][..]));
    let listen = read("gateway: {listen: }\nservices: {vrf: }").unwrap_err().to_string();
    assert!(listen.contains("gateway.listen: expected at least one address"), "{listen}");
}

#[test]
fn anchors_and_merges_work() {
    let text = "services:\n  vrf: &base\n    replicas: 4\n    drain: {grace: 1s}\n  dice:\n    <<: *base\n    builtin: vrf\n    replicas: 2\n";
    let settings = read(text).unwrap();
    let [vrf, dice] = &settings.services[..] else { panic!("two services") };
    assert_eq!((vrf.replicas(), dice.replicas()), (4, 2));
    assert_eq!(process(&settings, 1).grace, Duration::from_secs(1));
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_change_nothing() {
    assert_eq!(read(&format!("\u{feff}{}", FULL.replace('\n', "\r\n"))).unwrap(), read(FULL).unwrap());
}

#[test]
fn port_zero_may_repeat() {
    let text = "gateway: {listen: [\"127.0.0.1:0\", \"127.0.0.1:0\"]}\nadmin: {listen: \"127.0.0.1:0\"}\nmesh: {listen: \"127.0.0.1:0\"}\nservices: {vrf: }";
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
    let program = &process(&settings, 0).program;
    assert_eq!((vrf.name.as_str(), vrf.replicas(), program), ("vrf", 3, &Program::Builtin(Builtin::Vrf)));
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
        "mode: production\ngateway: {listen: [\"127.0.0.1:7000\", bad]}\nadmin: {listen: \"127.0.0.1:7000\"}\nmesh: {listen: 5}\nservices: {vrf: }",
    )
    .unwrap();
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    let overrides = Overrides {
        data_dir: None,
        gateway: Some(address("127.0.0.1:1234")),
        admin: Some(address("[::1]:0")),
        mesh: Some(address("127.0.0.1:4321")),
        mode: Some("development".to_owned()),
    };
    let settings = load(&file, &overrides, any_config).unwrap();
    assert_eq!(settings.gateway.listen, [address("127.0.0.1:1234")]);
    assert_eq!((settings.admin, settings.mesh), (address("[::1]:0"), address("127.0.0.1:4321")));
    assert_eq!(settings.mode, Mode::Development);
}

#[test]
fn public_routes_and_sizes_are_read() {
    let settings = read(FULL).unwrap();
    let [first, second, ..] = &settings.services[0].routes[..] else { panic!("two routes") };
    assert_eq!((first.access, first.body_bytes), (RouteAccess::Callers, Some(ByteSize(16 * 1024))));
    assert_eq!((second.access, second.body_bytes), (RouteAccess::Public, None));
}

#[test]
fn the_file_at_the_root_of_the_workspace_is_valid() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../serviceos.yaml");
    assert!(!load(&path, &Overrides::default(), any_config).unwrap().services.is_empty());
}
