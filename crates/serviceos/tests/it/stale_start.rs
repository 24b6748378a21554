//! A start while etcd is away goes by the mirror that this machine has kept of it.

use serde_json::Value;
use testkit::{Etcd, Mesh, Request, Running, Upstream, eventually};

use crate::fleet::PUBLIC;
use crate::nodes::{PATH, answered, selected, two, until_it_selects};

fn is_stale(status: &Value) -> bool {
    status["store"]["available"] == false && status["store"]["stale"].is_string()
}

/// Starts it again without etcd; it has the same development key.
fn up_without_etcd(mesh: Running) -> Running {
    let key = mesh.key.clone();
    let mut again = mesh.up_again_when("a start from the mirror", is_stale);
    again.key = key;
    again
}

fn is_available(mesh: &Running) {
    eventually("the store to answer", || {
        let store = &mesh.status()["store"];
        (store["available"] == true && store["stale"].is_null()).then_some(())
    });
}

#[test]
fn without_etcd_endpoints_and_keys_are_served_from_the_mirror_and_the_rest_follows_when_it_is_back() {
    let Some(mut etcd) = Etcd::start(1) else { return };
    let site = Upstream::new();
    let mesh = Mesh::new().head(&format!("store: {}\nnode: n1\n", etcd.url())).service("vrf", 1);
    let mesh = mesh.yaml(&format!(
        "    site: {{endpoints: ['http://{}'], attestation: none, {}}}\n",
        site.address,
        PUBLIC.replace("public: true", "scopes: ['site']")
    ));
    let mesh = mesh.up();
    let created = mesh.run(&["keys", "create", "--name", "partner", "--scopes", "site", "--json"]);
    let created: Value = serde_json::from_str(&created.out).unwrap();
    let key = created["key"].as_str().unwrap().to_owned();
    let before = mesh.get(PATH).text();
    assert_eq!(mesh.run(&["down"]).code, 0);
    etcd.kill(0);

    let mesh = up_without_etcd(mesh);
    let get = |mesh: &Running| Request::new("GET", "/site/fixed/10").key(&key).send(mesh.gateway).status;
    eventually("the endpoint", || (get(&mesh) == 200).then_some(()));
    assert_eq!(Request::new("GET", "/site/fixed/10").send(mesh.gateway).status, 401, "keys are asked for");
    let health = mesh.get("/health/detailed").json();
    assert!(is_stale(&health), "{health}");
    let page = Request::new("GET", "/metrics").send(mesh.admin).text();
    assert!(page.contains(r#"serviceos_store_stale{kind="etcd"} 1"#), "{page}");
    let said = mesh.run(&["status"]).out;
    assert!(said.contains("it was away at the start"), "{said}");
    assert!(mesh.log().contains("this start goes by its mirror"), "{}", mesh.log());
    let refused = mesh.run(&["keys", "create", "--name", "other", "--scopes", "site"]);
    assert!(refused.code == 1 && refused.err.contains("STORE_UNAVAILABLE"), "{}", refused.err);
    mesh.until_logged(0, "code=AUTHORITY_UNAVAILABLE");
    assert_eq!(mesh.replicas("vrf")[0]["selectable"], false, "nobody joins without etcd");
    let pid = mesh.pid();

    etcd.restart(0);
    is_available(&mesh);
    mesh.until_selectable();
    assert_eq!((mesh.get(PATH).text(), mesh.pid()), (before, pid), "the same keys, and no other start");
    let created = mesh.run(&["keys", "create", "--name", "other", "--scopes", "site"]);
    assert_eq!(created.code, 0, "{}", created.err);
    mesh.until_logged(0, "the node has its name");
    assert_eq!(get(&mesh), 200);
}

#[test]
fn a_node_that_starts_without_etcd_reaches_the_replicas_of_another() {
    let Some(mut etcd) = Etcd::start(1) else { return };
    let (mut one, two) = two(&etcd);
    assert_eq!(one.run(&["down"]).code, 0);
    one.wait();
    until_it_selects(&two, &["vrf/0@n2"]);
    etcd.kill(0);
    let one = up_without_etcd(one);
    eventually("an answer of the far replica", || (one.get(PATH).status == 200).then_some(()));
    assert_eq!(selected(&one), ["vrf/0@n2".to_owned()].into());
    eventually("it in the access log", || answered(&one).contains("vrf/0@n2").then_some(()));

    etcd.restart(0);
    is_available(&one);
    for mesh in [&one, &two] {
        until_it_selects(mesh, &["vrf/0@n1", "vrf/0@n2"]);
    }
}

#[test]
fn a_file_that_was_changed_while_etcd_was_away_is_in_force_once_it_is_back() {
    let Some(mut etcd) = Etcd::start(1) else { return };
    let site = Upstream::new();
    let service = |name: &str| {
        let routes = PUBLIC.replace("/site/", &format!("/{name}/"));
        format!("  {name}: {{endpoints: ['http://{}'], attestation: none, {routes}}}\n", site.address)
    };
    let file = format!("store: {}\nnode: n1\nservices:\n{}", etcd.url(), service("site"));
    let mesh = Mesh::new();
    mesh.write(&file);
    let mesh = mesh.up();
    assert_eq!(mesh.run(&["down"]).code, 0);
    etcd.kill(0);
    std::fs::write(mesh.folder().join("serviceos.yaml"), file + &service("shop")).unwrap();

    let mesh = up_without_etcd(mesh);
    eventually("the endpoint", || (mesh.get("/site/fixed/10").status == 200).then_some(()));
    assert_eq!(mesh.get("/shop/fixed/10").status, 404, "nothing is in force that is not written down");
    let said = "the file means something else than revision 1, which stays in force until the store answers";
    assert!(mesh.log().contains(said), "{}", mesh.log());

    etcd.restart(0);
    eventually("what the file says", || (mesh.get("/shop/fixed/10").status == 200).then_some(()));
    let history = mesh.run(&["config", "history"]);
    assert!(history.out.contains("shop"), "{}{}", history.out, history.err);
}

#[test]
fn a_start_by_a_mirror_that_is_older_than_etcd_says_so_once_etcd_is_back() {
    let Some(mut etcd) = Etcd::start(1) else { return };
    let site = Upstream::new();
    let file = format!(
        "store: {}\nnode: n1\nservices:\n  site: {{endpoints: ['http://{}'], attestation: none, {PUBLIC}}}\n",
        etcd.url(),
        site.address
    );
    let mesh = Mesh::new();
    mesh.write(&file);
    let mesh = mesh.up();
    assert_eq!(mesh.run(&["down"]).code, 0);
    let mirror = mesh.folder().join(".serviceos/etcd-mirror.redb");
    let older = std::fs::read(&mirror).unwrap();
    let mesh = mesh.up_again();
    let asked = file.replace("stripPrefix: true", "stripPrefix: false");
    std::fs::write(mesh.folder().join("asked.yaml"), asked).unwrap();
    let applied = mesh.run(&["config", "apply", "asked.yaml"]);
    assert_eq!(applied.code, 0, "{}", applied.err);
    assert_eq!(mesh.run(&["down"]).code, 0);
    etcd.kill(0);

    std::fs::write(&mirror, older).unwrap();
    let mesh = up_without_etcd(mesh);
    etcd.restart(0);
    let said = "revision 2 is in force in the store, and this start went by an older one of its mirror";
    mesh.until_logged(0, said);
}
