//! The documents, and that what a watcher is told leads to what is so.

use std::collections::BTreeMap;

use expect_test::expect;
use jiff::Timestamp;
use proptest::prelude::*;
use service_registry::{Change, Labels, Registration, Replica, Service};
use types::Description;

use super::*;
use crate::client::decode;
use crate::health::tests::service;

fn catalogue(services: Vec<Service>) -> Catalogue {
    let (_, described) = published::channel(Descriptions::default());
    Catalogue::new(Registry::new(services), Timestamp::from_millisecond(0xabc).unwrap(), described)
}

#[test]
fn the_contract_of_instances_json() {
    let mut legacy = Service::clone(&service("legacy", "e", true));
    let metadata = BTreeMap::from([("rack".to_owned(), "7".to_owned())]);
    let labels = Labels { protocol: "http2", zone: Some("eu-1b".into()), metadata };
    (legacy.replicas[0].labels, legacy.replicas[0].weight) = (Some(Arc::new(labels)), 3);
    let mut vrf = Service::clone(&service("vrf", "rx", true));
    let description = Description { weight: 7, ..Description::default() };
    let registration = Registration { lease: "5f3a9c0b1d2e4f60".into(), fencing_token: 42, description };
    vrf.replicas[1].register(Arc::new(registration));
    let catalogue = catalogue(vec![vrf, legacy]);
    expect![[r#"
        {
          "revision": "abc-1",
          "instances": [
            {
              "id": "vrf/0",
              "instance": "abc.1",
              "service": "vrf",
              "version": "1.0.0",
              "versionId": "1.0.0",
              "address": "127.0.0.1:41233",
              "protocol": null,
              "zone": null,
              "weight": 1,
              "priority": 0,
              "metadata": {},
              "identity": "spiffe://test.dev.invalid/service/vrf/0",
              "state": "Ready",
              "reason": null,
              "since": "1970-01-01T00:00:00.000Z",
              "health": "healthy",
              "attestation": "valid",
              "attested": true,
              "gate": "open",
              "selectable": true,
              "inFlight": 0,
              "lease": null,
              "fencingToken": null
            },
            {
              "id": "vrf/1",
              "instance": null,
              "service": "vrf",
              "version": "1.0.0",
              "versionId": "1.0.0",
              "address": null,
              "protocol": null,
              "zone": null,
              "weight": 7,
              "priority": 0,
              "metadata": {},
              "identity": null,
              "state": "Stopped",
              "reason": "exited with code 1",
              "since": "1970-01-01T00:00:00.000Z",
              "health": "unhealthy",
              "attestation": "pending",
              "attested": false,
              "gate": "open",
              "selectable": false,
              "inFlight": 0,
              "lease": "5f3a9c0b1d2e4f60",
              "fencingToken": 42
            },
            {
              "id": "legacy/0",
              "instance": "abc.1",
              "service": "legacy",
              "version": "1.0.0",
              "versionId": "1.0.0",
              "address": "127.0.0.1:41233",
              "protocol": "http2",
              "zone": "eu-1b",
              "weight": 3,
              "priority": 0,
              "metadata": {
                "rack": "7"
              },
              "identity": null,
              "state": "Ready",
              "reason": null,
              "since": "1970-01-01T00:00:00.000Z",
              "health": "unhealthy",
              "attestation": "exempt",
              "attested": true,
              "gate": "open",
              "selectable": false,
              "inFlight": 0,
              "lease": null,
              "fencingToken": null
            }
          ]
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&catalogue.instances(None)).unwrap());
    let of_one = catalogue.instances(Some(&"vrf".parse().unwrap()));
    assert_eq!(
        of_one.instances.iter().map(|entry| entry.id.as_str()).collect::<Vec<_>>(),
        ["vrf/0", "vrf/1"]
    );
}

#[test]
fn the_contract_of_services_json() {
    let described = Described { kind: ServiceKind::Elsewhere, routes: 2 };
    let (_, described) = published::channel(Arc::new([("vrf".parse().unwrap(), described)].into()));
    let services = ["rus", "x"].into_iter().zip(["vrf", "oracle"]);
    let services = services.map(|(replicas, name)| Service::clone(&service(name, replicas, true)));
    let catalogue = Catalogue::new(Registry::new(services.collect()), Timestamp::UNIX_EPOCH, described);
    expect![[r#"
        {
          "services": [
            {
              "name": "vrf",
              "version": "1.0.0",
              "versionId": "1.0.0",
              "kind": "elsewhere",
              "required": true,
              "desired": 3,
              "ready": 2,
              "selectable": 1,
              "routes": 2
            },
            {
              "name": "oracle",
              "version": "1.0.0",
              "versionId": "1.0.0",
              "kind": null,
              "required": true,
              "desired": 1,
              "ready": 0,
              "selectable": 0,
              "routes": 0
            }
          ]
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&catalogue.services()).unwrap());
}

#[test]
fn an_event_reads_back_as_it_is_written_and_a_comment_is_none() {
    let catalogue = catalogue(vec![Service::clone(&service("vrf", "", true))]);
    let mut watch = catalogue.watch(None, "0");
    let event = watch.look().unwrap();
    let written = String::from_utf8(event.encode().to_vec()).unwrap();
    expect![[r#"
        event: snapshot
        id: abc-1
        data: {"revision":"abc-1","instances":[]}

    "#]]
    .assert_eq(&written);
    assert_eq!(decode(&written), Ok(Some(event)));
    assert_eq!(decode::<InstanceEvent>(": still here\n\n"), Ok(None));
    assert!(decode::<InstanceEvent>("event: other\ndata: {}\n\n").is_err());
    assert!(decode::<InstanceEvent>("event: changes\ndata: {}\n\n").is_err());
}

#[test]
fn whoever_knows_nothing_or_a_revision_of_another_run_is_told_everything() {
    let catalogue = catalogue(vec![Service::clone(&service("vrf", "r", true))]);
    for known in ["", "0", "1", "abc-", "abc-0", "abc-2", "abd-1", "abc-18446744073709551616", "-1", "x-1"] {
        let told = catalogue.watch(None, known).look();
        assert!(matches!(told, Some(InstanceEvent::Snapshot(_))), "{known}: {told:?}");
    }
    assert_eq!(catalogue.watch(None, "abc-1").look(), None);
    assert_eq!(catalogue.instances(None).revision, "abc-1");
}

#[test]
fn a_place_that_nobody_has_is_no_instance() {
    let mut web = Service::clone(&service("web", "rr", true));
    web.replicas[1].vacate();
    let catalogue = catalogue(vec![web]);
    let listed = |catalogue: &Catalogue| {
        let all = catalogue.instances(None).instances;
        all.iter().map(|entry| (entry.id.clone(), entry.fencing_token)).collect::<Vec<_>>()
    };
    assert_eq!(listed(&catalogue), [("web/0".into(), None)]);
    assert_eq!(catalogue.services().services[0].desired, 2);
    let mut client = Client::new(&catalogue, Some("web"));
    client.look();
    let register = |replica: &mut Replica| {
        let description = Description::default();
        replica.register(Arc::new(Registration { lease: "a".into(), fencing_token: 7, description }));
        Change::Made
    };
    catalogue.registry.update(&"web/1".parse().unwrap(), register);
    assert_eq!(listed(&catalogue)[1], ("web/1".into(), Some(7)));
    client.look();
    client.agrees(&catalogue);
    catalogue.registry.update(&"web/1".parse().unwrap(), |replica| {
        replica.vacate();
        Change::Made
    });
    client.look();
    client.agrees(&catalogue);
}

#[test]
fn places_are_given_back() {
    let catalogue = catalogue(Vec::new());
    let held: Vec<_> = (0..MAX_WATCHERS).map(|_| catalogue.place().unwrap()).collect();
    assert!(catalogue.clone().place().is_none());
    drop(held);
    assert!(catalogue.place().is_some());
}

/// What may happen between two looks.
#[derive(Debug, Clone)]
enum Step {
    Restart(ReplicaChoice),
    /// It registers itself.
    Register(ReplicaChoice),
    /// Who had registered is forgotten.
    Vacate(ReplicaChoice),
    /// Nothing that anybody sees.
    Answer(ReplicaChoice),
    Replace(Vec<(usize, u32, u32)>),
    Look(usize),
    /// A watcher loses its stream and comes back with the last revision that it was told.
    Resume(usize),
}

type ReplicaChoice = (usize, u32);

const NAMES: [&str; 3] = ["a", "b", "c"];
const WATCHERS: usize = 3;

fn step() -> impl Strategy<Value = Step> {
    let replica = || (0..NAMES.len(), 0_u32..3);
    let services = prop::collection::btree_map(0..NAMES.len(), (0_u32..4, 1_u32..3), 0..=NAMES.len());
    let list = services.prop_map(|services| {
        services.into_iter().map(|(name, (replicas, weight))| (name, replicas, weight)).collect()
    });
    prop_oneof![
        3 => replica().prop_map(Step::Restart),
        1 => replica().prop_map(Step::Register),
        1 => replica().prop_map(Step::Vacate),
        1 => replica().prop_map(Step::Answer),
        2 => list.prop_map(Step::Replace),
        3 => (0..WATCHERS).prop_map(Step::Look),
        1 => (0..WATCHERS).prop_map(Step::Resume),
    ]
}

fn take(catalogue: &Catalogue, step: &Step) {
    let update = |(service, ordinal): ReplicaChoice, change: fn(&mut Replica)| {
        let id = format!("{}/{ordinal}", NAMES[service]).parse().unwrap();
        catalogue.registry.update(&id, |replica| {
            change(replica);
            Change::Made
        });
    };
    match step {
        Step::Restart(replica) => update(*replica, |replica| replica.restarts += 1),
        Step::Register(replica) => update(*replica, |replica| {
            let description = Description::default();
            let registration = Registration { lease: "a".into(), fencing_token: 1, description };
            replica.register(Arc::new(registration));
        }),
        Step::Vacate(replica) => update(*replica, Replica::vacate),
        Step::Answer(replica) => update(*replica, |replica| replica.health.answered += 1),
        Step::Replace(list) => {
            catalogue.registry.replace_services(|known| {
                let next = |&(name, replicas, weight)| replaced(known, NAMES[name], replicas, weight);
                list.iter().map(next).collect()
            });
        }
        Step::Look(_) | Step::Resume(_) => {}
    }
}

/// The service with so many replicas of this weight, of which those that were there stay; the very same where nothing differs.
fn replaced(known: &[Arc<Service>], name: &str, replicas: u32, weight: u32) -> Arc<Service> {
    let before = known.iter().find(|service| service.name.as_str() == name);
    let fresh = service(name, &"r".repeat(usize::try_from(replicas).unwrap()), true);
    let stays = |replica: &Replica| before.and_then(|before| before.replica(&replica.id)).cloned();
    let replicas =
        fresh.replicas.iter().map(|replica| Replica { weight, ..stays(replica).unwrap_or(replica.clone()) });
    let built = Service { replicas: replicas.collect(), ..Service::clone(&fresh) };
    let same = |before: &&Arc<Service>| {
        let weights =
            |service: &Service| service.replicas.iter().map(|replica| replica.weight).collect::<Vec<_>>();
        weights(before) == weights(&built)
    };
    before.filter(same).cloned().unwrap_or_else(|| Arc::new(built))
}

/// A client that keeps what it is told.
struct Client {
    watch: Watch,
    service: Option<ServiceName>,
    revision: String,
    known: BTreeMap<String, InstanceEntry>,
}

impl Client {
    fn new(catalogue: &Catalogue, service: Option<&str>) -> Self {
        let service: Option<ServiceName> = service.map(|name| name.parse().unwrap());
        let (watch, revision) = (catalogue.watch(service.clone(), "0"), "0".to_owned());
        Self { watch, service, revision, known: BTreeMap::new() }
    }

    fn look(&mut self) {
        match self.watch.look() {
            None => {}
            Some(InstanceEvent::Snapshot(all)) => {
                self.known = all.instances.into_iter().map(|entry| (entry.id.clone(), entry)).collect();
                self.revision = all.revision;
            }
            Some(InstanceEvent::Changes(changes)) => {
                // One that came and went again in between was never known.
                self.known.retain(|id, _| !changes.removed.contains(id));
                self.known.extend(changes.changed.into_iter().map(|entry| (entry.id.clone(), entry)));
                self.revision = changes.revision;
            }
        }
        assert_eq!(self.watch.look(), None, "everything was told");
    }

    fn agrees(&self, catalogue: &Catalogue) {
        let all = catalogue.instances(self.service.as_ref()).instances;
        let all: BTreeMap<_, _> = all.into_iter().map(|entry| (entry.id.clone(), entry)).collect();
        assert_eq!(self.known, all);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn what_is_told_leads_to_what_is_so_however_seldom_it_is_read(steps in prop::collection::vec(step(), 1..40)) {
        let services = NAMES.map(|name| Service::clone(&service(name, "rrr", true)));
        let catalogue = catalogue(services.into());
        let mut clients = [None, Some("a"), None].map(|service| Client::new(&catalogue, service));
        for step in &steps {
            take(&catalogue, step);
            match step {
                Step::Look(client) => {
                    clients[*client].look();
                    clients[*client].agrees(&catalogue);
                }
                Step::Resume(client) => {
                    let client = &mut clients[*client];
                    client.watch = catalogue.watch(client.service.clone(), &client.revision);
                }
                Step::Restart(_)
                | Step::Register(_)
                | Step::Vacate(_)
                | Step::Answer(_)
                | Step::Replace(_) => {}
            }
        }
        for client in &mut clients {
            client.look();
            client.agrees(&catalogue);
        }
    }
}
