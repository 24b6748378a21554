//! The mesh on a store in etcd, and what becomes of it when etcd is gone.

use rustix::process::Signal;
use serde_json::Value;
use testkit::{Authority, Etcd, Finished, Mesh, Running, eventually, kill};

use crate::load::under_load;
use crate::takeover::Clients;

const PATH: &str = "/v1/random/keys";

fn mesh_on(etcd: &Etcd) -> Mesh {
    Mesh::new().head(&format!("store: {}\n", etcd.url())).service("vrf", 2)
}

fn create_key(mesh: &Running) -> Finished {
    mesh.run(&["keys", "create", "--name", "partner", "--scopes", "vrf:random"])
}

/// The line of a metric that has one sample.
fn metric(mesh: &Running, name: &str) -> String {
    let page = testkit::Request::new("GET", "/metrics").send(mesh.admin).text();
    page.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned()
}

#[test]
fn without_etcd_requests_go_on_and_changes_are_refused_until_it_is_back() {
    let Some(mut etcd) = Etcd::start(1) else { return };
    let mesh = mesh_on(&etcd).up();
    assert!(!mesh.folder().join(".serviceos/store.redb").exists());
    assert_eq!(
        mesh.status()["store"],
        serde_json::json!({"kind": "etcd", "available": true, "reason": null, "stale": null})
    );
    assert_eq!(metric(&mesh, "serviceos_store_available"), r#"serviceos_store_available{kind="etcd"} 1"#);
    let created = create_key(&mesh);
    assert_eq!(created.code, 0, "{}", created.err);

    under_load(&mesh, PATH, |load| {
        load.until_more(200);
        etcd.kill(0);
        let refused = create_key(&mesh);
        assert_eq!(refused.code, 1, "{}", refused.out);
        assert!(refused.err.contains("STORE_UNAVAILABLE"), "{}", refused.err);
        load.until_more(200);
        let health = mesh.get("/health/detailed").json();
        assert_eq!(
            (&health["store"]["kind"], &health["store"]["available"]),
            (&"etcd".into(), &false.into())
        );
        let reason = health["store"]["reason"].as_str().unwrap();
        assert!(reason.contains(&etcd.addresses()[0].to_string()), "{reason}");
        assert_eq!(metric(&mesh, "serviceos_store_available"), r#"serviceos_store_available{kind="etcd"} 0"#);
        let said = mesh.run(&["status"]).out;
        assert!(said.contains("the store (etcd) does not answer, and every change is refused"), "{said}");
        let rotated = mesh.run(&["secrets", "rotate", "vrf-signing"]);
        assert!(rotated.code == 1 && rotated.err.contains("STORE_UNAVAILABLE"), "{}", rotated.err);

        etcd.restart(0);
        eventually("the store to answer", || {
            (mesh.status()["store"]["available"] == Value::Bool(true)).then_some(())
        });
        let created = create_key(&mesh);
        assert_eq!(created.code, 0, "{}", created.err);
        load.until_more(200);
    });
    let listed: Value = serde_json::from_str(&mesh.run(&["keys", "list", "--json"]).out).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 2, "what was refused was not made: {listed}");
}

#[test]
fn without_etcd_certificates_are_renewed_and_a_changed_file_is_applied_once_it_is_back() {
    let Some(mut etcd) = Etcd::start(1) else { return };
    let authority = Authority::new("test authority");
    let mesh = mesh_on(&etcd).gateway("tls: {certificates: [{certificate: own.pem, key: own.key}]}");
    authority.certificate(&["a.test"]).write(mesh.folder(), "own");
    let mesh = mesh.up();
    etcd.kill(0);
    let new = authority.certificate(&["a.test"]);
    new.write(mesh.folder(), "own");
    let clients = authority.clients(&["http/1.1"]);
    let shown = || clients.connect(mesh.gateway, "a.test").unwrap().peer_certificate();
    eventually("the new certificate", || (shown() == new.der()).then_some(()));

    let file = mesh.folder().join("serviceos.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(
        &file,
        format!("{text}    far: {{endpoints: ['http://127.0.0.1:1'], attestation: none}}\n"),
    )
    .unwrap();
    let said = mesh.until_logged(0, "cannot be applied: the revision could not be kept");
    assert!(said.contains("the configuration before stays in force"), "{said}");
    let services = || mesh.status()["services"].as_array().map_or(0, Vec::len);
    assert_eq!(services(), 1);
    etcd.restart(0);
    // Nobody touches the file again.
    eventually("the file to be applied", || (services() == 2).then_some(()));
    assert_eq!(metric(&mesh, "serviceos_config_revision"), "serviceos_config_revision 2");
    let trail = std::fs::read_to_string(mesh.folder().join(".serviceos/audit.jsonl")).unwrap();
    let changes = trail.lines().filter(|line| line.contains(r#""kind":"config-change""#));
    let failed: Vec<_> = changes.map(|line| line.contains(r#""outcome":"failed""#)).collect();
    assert_eq!(failed, [false, false, true, false], "nothing was tried while etcd was known to be away");
}

#[test]
fn another_up_takes_the_place_of_one_on_etcd_under_load_even_while_etcd_is_away() {
    let Some(mut etcd) = Etcd::start(1) else { return };
    let mut mesh = mesh_on(&etcd).up();
    let pids = mesh.pids("vrf");
    for _ in 0..3 {
        let clients = Clients::begin(&mesh);
        clients.until_more(100);
        let former = mesh.take_over();
        clients.until_more(100);
        assert_eq!(former.wait(&mesh).code, 0);
        let fared = clients.end();
        assert!(fared.lost.is_empty(), "{fared:?}");
        assert_eq!(mesh.pids("vrf"), pids);
    }
    assert_eq!(create_key(&mesh).code, 0, "it may write");

    // Without etcd the next one lives by what the one before knew last, as any start does.
    etcd.kill(0);
    let former = mesh.take_over();
    assert_eq!(mesh.get(PATH).status, 200);
    assert_eq!(former.wait(&mesh).code, 0);
    assert_eq!((mesh.get(PATH).status, mesh.pids("vrf")), (200, pids));
    assert_eq!(mesh.status()["store"]["available"], false);
    etcd.restart(0);
    eventually("a change to be taken", || (create_key(&mesh).code == 0).then_some(()));
}

#[test]
fn the_leader_is_killed_under_load_and_a_replica_that_dies_with_it_joins_again() {
    let Some(mut etcd) = Etcd::start(3) else { return };
    let mesh = mesh_on(&etcd).up();
    under_load(&mesh, PATH, |load| {
        load.until_more(200);
        let leader = etcd.leader();
        etcd.kill(leader);
        kill(mesh.pids("vrf")[0], Signal::KILL);
        eventually("the replacement", || {
            (mesh.replicas("vrf")[0]["restarts"].as_u64() >= Some(1)).then_some(())
        });
        mesh.until_selectable();
        load.until_more(200);
        let created = create_key(&mesh);
        assert_eq!(created.code, 0, "{}", created.err);
    });
}

#[test]
fn a_replica_that_dies_while_etcd_is_gone_joins_once_it_is_back() {
    let Some(mut etcd) = Etcd::start(1) else { return };
    let mesh = mesh_on(&etcd).up();
    etcd.kill(0);
    kill(mesh.pids("vrf")[0], Signal::KILL);
    mesh.until_logged(
        0,
        "code=AUTHORITY_UNAVAILABLE detail=\"the authority cannot decide now: the store cannot be reached",
    );
    assert_eq!(mesh.get(PATH).status, 200, "the other one serves");
    etcd.restart(0);
    mesh.until_selectable();
}

#[test]
fn what_etcd_keeps_is_there_again_after_a_new_start() {
    let Some(etcd) = Etcd::start(1) else { return };
    let mesh = mesh_on(&etcd).up();
    let before = (mesh.get(PATH).text(), mesh.key.clone());
    mesh.run(&["down"]);
    let mesh = mesh.up_again();
    assert_eq!((mesh.get(PATH).text(), mesh.key.clone()), before);
}

#[test]
fn another_master_key_is_refused_with_what_to_do() {
    let Some(etcd) = Etcd::start(1) else { return };
    let mut first = mesh_on(&etcd).up();
    first.run(&["down"]);
    first.wait();
    let without = mesh_on(&etcd);
    let refused = without.up_and_fail();
    assert_eq!(refused.code, 1);
    assert!(
        refused.err.contains("master.key is missing") && refused.err.contains("copy master.key"),
        "{}",
        refused.err
    );
    // One of another mesh.
    let other = Mesh::new().service("vrf", 1).up();
    let key = |folder: &std::path::Path| folder.join(".serviceos/master.key");
    std::fs::copy(key(other.folder()), key(without.folder())).unwrap();
    let refused = without.up_and_fail();
    assert!(refused.err.contains("sealed under another master key"), "{}", refused.err);
    assert!(refused.err.contains("copy master.key from the machine that made the mesh"), "{}", refused.err);
    std::fs::copy(key(first.folder()), key(without.folder())).unwrap();
    assert_eq!(without.up().get(PATH).status, 200);
}

#[test]
fn a_start_without_etcd_says_so_and_starts_nothing() {
    let Some(mut etcd) = Etcd::start(1) else { return };
    etcd.kill(0);
    let refused = mesh_on(&etcd).up_and_fail();
    assert_eq!(refused.code, 1);
    let address = etcd.addresses()[0].to_string();
    assert!(
        refused.err.contains("the store cannot be reached") && refused.err.contains(&address),
        "{}",
        refused.err
    );
    assert!(refused.err.contains("is no use: there is none"), "{}", refused.err);
}

#[test]
fn etcd_is_reached_over_tls_and_a_user_logs_in_with_a_password_out_of_a_file() {
    let authority = Authority::new("etcd");
    let Some(secured) = Etcd::start_secured(&authority) else { return };
    let mesh = Mesh::new().head(&format!(
        "store: {{url: \"{}\", tls: {{ca: ca.pem, certificate: client.pem, key: client.key}}}}\nnode: rack-2\n",
        secured.url()
    ));
    authority.write(mesh.folder(), "ca.pem");
    authority.certificate(&["serviceos"]).write(mesh.folder(), "client");
    let mesh = mesh.service("vrf", 1).up();
    assert_eq!(mesh.get(PATH).status, 200);
    drop(mesh);

    let etcd = Etcd::start(1).unwrap();
    let namespace = (&b"/serviceos/serviceos.dev.invalid/"[..], &b"/serviceos/serviceos.dev.invalid0"[..]);
    etcd.enable_users("serviceos", "correct horse", namespace);
    let mesh = Mesh::new()
        .head(&format!("store: {{url: \"{}\", user: serviceos, passwordFile: password}}\n", etcd.url()))
        .service("vrf", 1);
    std::fs::write(mesh.folder().join("password"), "battery staple\n").unwrap();
    let refused = mesh.up_and_fail();
    assert!(
        refused.err.contains("the store refuses it") && !refused.err.contains("battery"),
        "{}",
        refused.err
    );
    std::fs::write(mesh.folder().join("password"), "correct horse\n").unwrap();
    assert_eq!(mesh.up().get(PATH).status, 200);
}
