//! Another configuration while everything runs.

use std::fs::File;

use rustix::fs::{CWD, Mode, mkfifoat};
use serde_json::Value;
use testkit::{Client, Mesh, Request, Running, Upstream, eventually};

/// Puts another file in the place of the configuration, as editors do.
fn change(mesh: &Running, text: &str) {
    let (new, file) = (mesh.folder().join("new.yaml"), mesh.folder().join("serviceos.yaml"));
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, file).unwrap();
}

fn until_said(mesh: &Running, words: &str) {
    eventually(words, || {
        let said = std::fs::read_to_string(mesh.folder().join("up.err")).unwrap();
        said.contains(words).then_some(())
    });
}

fn keys_at(mesh: &Running, path: &str) -> Request {
    Request::new("GET", path).key(&mesh.key)
}

#[test]
fn other_routes_are_taken_over_without_ending_a_connection_or_a_replica() {
    let mesh = Mesh::new().service("vrf", 1).up();
    let (before, after) = (keys_at(&mesh, "/v1/random/keys"), keys_at(&mesh, "/dice/v1/random/keys"));
    let (mut client, pids) = (Client::connect(mesh.gateway).unwrap(), mesh.pids("vrf"));
    let mut status = |request: &Request| client.send(request).unwrap().status;
    assert_eq!((status(&before), status(&after)), (200, 404));
    let dice = "match: {path: \"/dice/{*rest}\"}, stripPrefix: true, scopes: [randomness]";
    change(&mesh, &format!("services:\n  vrf:\n    replicas: 1\n    routes:\n      - {{{dice}}}\n"));
    eventually("the new route", || (status(&after) == 200).then_some(()));
    assert_eq!((status(&before), mesh.pids("vrf")), (404, pids));
}

#[test]
fn an_edit_while_it_still_starts_is_taken_over() {
    let mesh = Mesh::new();
    // A start waits until somebody reads the pipe that is its access log.
    let pipe = mesh.folder().join("pipe");
    mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
    let log = format!("telemetry: {{accessLog: '{}'}}", pipe.display());
    let file = |routes: &str| format!("{log}\nservices:\n  vrf: {{replicas: 1{routes}}}\n");
    mesh.write(&file(""));
    let lock = mesh.folder().join(".serviceos/run/lock");
    let reader = std::thread::spawn({
        let folder = mesh.folder().to_owned();
        let edited = file(", routes: []");
        move || {
            eventually("the start to have read its file", || lock.exists().then_some(()));
            std::fs::write(folder.join("new.yaml"), edited).unwrap();
            std::fs::rename(folder.join("new.yaml"), folder.join("serviceos.yaml")).unwrap();
            let _lines = std::io::copy(&mut File::open(pipe).unwrap(), &mut std::io::sink()).unwrap();
        }
    });
    let mesh = mesh.up();
    eventually("the edit to be taken over", || (mesh.get("/v1/random/keys").status == 404).then_some(()));
    drop(mesh);
    reader.join().unwrap();
}

#[test]
fn endpoints_come_and_go_while_everything_runs() {
    let elsewhere = Upstream::new();
    let address = elsewhere.address;
    let mesh = Mesh::new().service("oracle", 1).up();
    let with = format!(
        "services:\n  oracle: {{replicas: 1}}\n  dice: {{endpoints: [\"http://{address}\"], attestation: none}}\n"
    );
    let dice = || mesh.get("/dice/echo").status;
    assert_eq!(dice(), 404);
    change(&mesh, &with);
    eventually("the endpoint to serve", || (dice() == 200).then_some(()));
    change(&mesh, "services:\n  oracle: {replicas: 1}\n");
    eventually("the route to be gone", || (dice() == 404).then_some(()));
    // It stays until no worker sends requests there, and this was the answer of one.
    eventually("the endpoint to be gone", || {
        let metrics = Request::new("GET", "/metrics").send(mesh.admin).text();
        (!metrics.contains("service=\"dice\"")).then_some(())
    });
}

#[test]
fn a_file_that_is_not_valid_changes_nothing() {
    let mesh = Mesh::new().service("vrf", 1).up();
    change(&mesh, "services:\n  vrf: {replicas: 1, rotues: []}\n");
    until_said(&mesh, "unknown key `rotues`");
    assert_eq!(mesh.get("/v1/random/keys").status, 200);
    change(&mesh, "services:\n  vrf: {replicas: 1, routes: []}\n");
    eventually("the next file to be read", || (mesh.get("/v1/random/keys").status == 404).then_some(()));
}

#[test]
fn what_needs_a_new_start_is_named_and_nothing_of_it_is_taken_over() {
    let mesh = Mesh::new().service("vrf", 1).up();
    change(&mesh, "services:\n  vrf: {replicas: 2, allow: [vrf], routes: []}\n");
    until_said(&mesh, "services.vrf.allow can be changed only by a new start");
    assert_eq!((mesh.get("/v1/random/keys").status, mesh.replicas("vrf").len()), (200, 1));
}

#[test]
fn a_key_is_held_to_its_tier_and_another_file_changes_what_the_tier_allows() {
    let limited = |rate: &str| {
        let tiers = format!("gateway: {{rateLimits: {{tiers: {{slow: {{rate: {rate}, burst: 2}}}}}}}}\n");
        format!("{tiers}services:\n  vrf: {{replicas: 1}}\n")
    };
    let mesh = Mesh::new();
    mesh.write(&limited("1/d"));
    let mesh = mesh.up();
    let created = ["keys", "create", "--name", "t", "--scopes", "randomness", "--tier", "slow", "--json"];
    let created: Value = serde_json::from_str(&mesh.run(&created).out).unwrap();
    let ask =
        || Request::new("GET", "/v1/random/keys").key(created["key"].as_str().unwrap()).send(mesh.gateway);
    assert_eq!((ask().status, ask().status), (200, 200));
    let refused = ask();
    assert_eq!(refused.problem(), (429, "RATE_LIMITED".into()));
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((86_000..=86_401).contains(&wait), "{wait}");
    assert_eq!(mesh.get("/v1/random/keys").status, 200, "the development key has no limit");
    change(&mesh, &limited("1000000/s"));
    eventually("the tier to allow more", || (ask().status == 200).then_some(()));
}

#[test]
fn a_file_that_goes_changes_nothing_and_is_taken_when_it_is_back() {
    let mesh = Mesh::new().service("vrf", 1).up();
    std::fs::remove_file(mesh.folder().join("serviceos.yaml")).unwrap();
    until_said(&mesh, "there is no such file");
    assert_eq!(mesh.get("/v1/random/keys").status, 200);
    change(&mesh, "services:\n  vrf: {replicas: 1, routes: []}\n");
    eventually("the next file to be read", || (mesh.get("/v1/random/keys").status == 404).then_some(()));
    assert_eq!(mesh.log().matches("there is no such file").count(), 1);
}

/// A mesh whose configuration is what `--config` names.
fn configured_by(path: &str) -> Mesh {
    Mesh::new().arguments(&[
        "--gateway=127.0.0.1:0",
        "--admin=127.0.0.1:0",
        "--mesh=127.0.0.1:0",
        "--data-dir=.serviceos",
        "--config",
        path,
    ])
}

#[test]
fn a_folder_that_is_replaced_is_followed() {
    let mesh = configured_by("conf/serviceos.yaml");
    let folder = |name: &str, routes: &str| {
        std::fs::create_dir(mesh.folder().join(name)).unwrap();
        let file = mesh.folder().join(name).join("serviceos.yaml");
        std::fs::write(file, format!("services:\n  vrf: {{replicas: 1{routes}}}\n")).unwrap();
    };
    folder("conf", "");
    folder("new", ", routes: []");
    let mesh = mesh.up();
    let rename = |from: &str, to: &str| {
        std::fs::rename(mesh.folder().join(from), mesh.folder().join(to)).unwrap();
    };
    rename("conf", "old");
    rename("new", "conf");
    let served = |status: u16| (mesh.get("/v1/random/keys").status == status).then_some(());
    eventually("the new folder to be looked at", || served(404));
    std::fs::remove_dir_all(mesh.folder().join("conf")).unwrap();
    rename("old", "conf");
    eventually("the old folder to be looked at", || served(200));
}

#[test]
fn a_configuration_out_of_a_pipe_is_read_once() {
    let mesh = configured_by("pipe");
    let pipe = mesh.folder().join("pipe");
    mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
    let writer = std::thread::spawn(|| std::fs::write(pipe, "services:\n  vrf: {replicas: 1}\n").unwrap());
    let mesh = mesh.up();
    writer.join().unwrap();
    assert_eq!(mesh.get("/v1/random/keys").status, 200);
    assert!(mesh.log().contains("pipe is no file: it was read once"), "{}", mesh.log());
}
