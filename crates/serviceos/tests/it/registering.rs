//! Replicas that are started by hand on another machine than the gateway's, as network namespaces are; they register themselves
//! there, and are missed when the machine is cut off.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::{Etcd, Network, Running, eventually, has_program, kill, processes_of};

use crate::exec::{ByHand, COMMAND, LEASE_TTL, exec, instance, launcher, mesh_at, ticket, web};
use crate::load::under_load;
use crate::nodes::node;

/// What passes between an end and its being seen, on a machine that has much to do.
const SEEN: Duration = Duration::from_secs(3);

/// A gateway with a replica beside it, and another replica on another machine. What is declared first ends first.
struct Place {
    there: ByHand,
    _here: ByHand,
    mesh: Running,
    network: Network,
}

impl Place {
    /// Once both may serve; `None` where the kernel allows no such network.
    fn new() -> Option<Self> {
        if !has_program("python3") {
            return None;
        }
        let network = Network::start(2)?;
        let host = network.host(0);
        let address = format!("{}:0", host.address());
        let keys = "replicas: 2, healthCheck: {path: /}";
        let mesh = host.enter(|| mesh_at(&address, keys, "identityTtl: 1h"));
        let here = host.enter(|| exec(&mesh, &ticket(&mesh, "web/0"), &COMMAND));
        let there = Self::begin(&network, &mesh);
        let place = Self { there, _here: here, mesh, network };
        for id in ["web/0", "web/1"] {
            place.until(id, |entry| entry["selectable"] == true);
        }
        Some(place)
    }

    /// Starts the replica on the other machine, of which nothing is given to it there but what an operator would copy.
    fn begin(network: &Network, mesh: &Running) -> ByHand {
        let host = network.host(1);
        let listen = format!("{}:0", host.address());
        let own = mesh.folder().join("there");
        copy_folder(&mesh.folder().join(".serviceos/development"), &own.join("development"));
        let (own, root) = (own.display().to_string(), own.join("development").display().to_string());
        let said = [
            ["--listen", &listen],
            ["--zone", "b"],
            ["--weight", "3"],
            ["--meta", "rack=7"],
            ["--data-dir", &own],
            ["--development-root", &root],
        ]
        .concat();
        let arguments: Vec<_> =
            ticket(mesh, "web/1").into_iter().chain(said.into_iter().map(str::to_owned)).collect();
        host.enter(|| exec(mesh, &arguments, &COMMAND))
    }

    fn until(&self, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually("the instance to be so", || instance(&self.mesh, id).filter(|entry| wanted(entry)))
    }

    /// Runs `work` while clients ask the gateway.
    fn under_load(&self, work: impl FnOnce(&crate::load::Load) + Send) {
        self.network.host(0).enter(|| under_load(&self.mesh, "/web/x", work));
    }

    fn processes(&self) -> Vec<u32> {
        let mut processes = processes_of(self.mesh.folder());
        processes.sort_unstable();
        processes
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn token(entry: &Value) -> u64 {
    entry["fencingToken"].as_u64().expect("a fencing token")
}

#[test]
fn a_replica_on_another_machine_is_missed_when_that_is_cut_off_and_registers_again_when_it_is_back() {
    let Some(place) = Place::new() else { return };
    let (mesh, network) = (&place.mesh, &place.network);
    let there = instance(mesh, "web/1").unwrap();
    let address = there["address"].as_str().unwrap();
    assert!(address.starts_with(&format!("{}:", network.host(1).address())), "{address}");
    assert_eq!(
        (&there["zone"], &there["weight"], &there["metadata"]),
        (&"b".into(), &3.into(), &json!({"rack": "7"}))
    );
    assert_eq!(there["lease"].as_str().map(str::len), Some(16));
    let here = instance(mesh, "web/0").unwrap();
    assert_eq!((&here["zone"], &here["weight"], &here["metadata"]), (&Value::Null, &1.into(), &json!({})));
    let table = mesh.run(&["instances", "web"]).out;
    assert!(table.contains("rack=7") && table.contains(there["lease"].as_str().unwrap()), "{table}");
    let processes = place.processes();

    place.under_load(|load| {
        load.until_more(200);
        network.cut(0, 1);
        let cut = Instant::now();
        place.until("web/1", |entry| entry["selectable"] == false);
        assert!(cut.elapsed() < LEASE_TTL, "{:?}", cut.elapsed());
        let gone = place.until("web/1", |entry| entry["state"] == "Stopped");
        assert!(cut.elapsed() < LEASE_TTL + SEEN, "{:?}", cut.elapsed());
        assert_eq!(gone["reason"], "its lease ended: it was not renewed within 10s");
        assert_eq!((&gone["lease"], &gone["address"]), (&there["lease"], &Value::Null));
        load.until_more(200);
        network.heal();
        let back = place.until("web/1", |entry| entry["selectable"] == true);
        assert!(token(&back) > token(&there), "{there} {back}");
        assert_ne!(back["lease"], there["lease"]);
        assert_eq!((&back["address"], &back["zone"]), (&there["address"], &"b".into()));
        load.until_more(200);
    });
    assert_eq!(place.processes(), processes, "nothing was started again");
}

#[test]
fn a_process_on_another_machine_that_is_killed_is_missed_before_its_lease_is_over() {
    let Some(mut place) = Place::new() else { return };
    let before = instance(&place.mesh, "web/1").unwrap();
    let beside = launcher(&place.there);
    place.under_load(|load| {
        load.until_more(200);
        let killed = Instant::now();
        kill(beside, Signal::KILL);
        place.until("web/1", |entry| entry["state"] == "Stopped");
        assert!(killed.elapsed() < LEASE_TTL / 2, "{:?}", killed.elapsed());
        load.until_more(200);
    });
    assert_eq!(place.there.ended().0, Some(128 + 9));
    place.there = Place::begin(&place.network, &place.mesh);
    let again = place.until("web/1", |entry| entry["selectable"] == true);
    assert!(token(&again) > token(&before), "{before} {again}");
}

#[test]
fn what_nobody_can_connect_to_is_not_registered() {
    let Some(mut place) = Place::new() else { return };
    kill(place.there.child.id(), Signal::INT);
    assert_eq!(place.there.ended().0, Some(0));
    place.until("web/1", |entry| entry["state"] == "Stopped");
    let mut arguments = ticket(&place.mesh, "web/1");
    arguments.extend(["--listen", "127.0.0.1:0"].map(str::to_owned));
    let mut refused = place.network.host(1).enter(|| exec(&place.mesh, &arguments, &COMMAND));
    let (code, err) = refused.ended();
    assert!(code == Some(1) && err.contains("REGISTRATION_INVALID"), "{code:?}: {err}");
    assert!(err.contains("the gateway's own machine"), "{err}");
    let said = place.mesh.run(&[
        "exec",
        "--service",
        "web",
        "--mesh",
        "127.0.0.1:1",
        "--authority",
        &"ab".repeat(32),
        "--ticket-file",
        "ticket.json",
        "--weight",
        "0",
        "--",
        "true",
    ]);
    assert!(said.code == 1 && said.err.contains("a weight is a whole number from 1 to 1000"), "{said:?}");
}

#[test]
fn a_replica_that_registers_with_one_node_is_seen_by_the_others_with_all_that_it_says() {
    if !has_program("python3") {
        return;
    }
    let Some(etcd) = Etcd::start(1) else { return };
    let serves = |status: &Value| status["services"][0]["replicas"][0]["selectable"] == true;
    let first = node(&etcd, "n1", None);
    let web = web(&first, "healthCheck: {path: /}", "identityTtl: 1h");
    let one = first.yaml(&web).up_when("its vrf", serves);
    let two = node(&etcd, "n2", Some(&one)).yaml(&web).up_when("its vrf", serves);
    assert_eq!(instance(&two, "web/0@n1"), None, "nobody has the place");
    let mut arguments = ticket(&one, "web/0");
    arguments.extend(["--zone", "b", "--weight", "3", "--meta", "rack=7"].map(str::to_owned));
    let mut by_hand = exec(&one, &arguments, &COMMAND);
    let serves = |mesh: &Running| {
        eventually("a selectable instance", || {
            instance(mesh, "web/0@n1").filter(|entry| entry["selectable"] == true)
        })
    };
    let (near, far) = (serves(&one), serves(&two));
    for key in ["address", "zone", "weight", "metadata", "lease", "fencingToken", "protocol", "identity"] {
        assert_eq!(far[key], near[key], "{key}");
    }
    assert_eq!((&far["zone"], &far["metadata"]), (&"b".into(), &json!({"rack": "7"})));
    assert!(token(&far) > 0 && far["lease"].is_string());
    kill(launcher(&by_hand), Signal::KILL);
    let gone = eventually("its end at the other node", || {
        instance(&two, "web/0@n1").filter(|entry| entry["state"] == "Stopped")
    });
    assert!(gone["reason"].as_str().unwrap().starts_with("its lease ended"), "{gone}");
    assert_eq!(by_hand.ended().0, Some(128 + 9));
}
