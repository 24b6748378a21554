//! What a mesh of 1,000 services with 10 replicas each costs the registry: how long a snapshot of it takes to be built and
//! to be used by every worker, how many replicas register in a second, and what an instance takes in memory.
//!
//! ```text
//! cargo run --release -p service-registry --example large_mesh
//! ```
//!
//! A worker here is a thread that follows snapshots as the gateway's do, looks at every service, and confirms. What it makes
//! of a service that it is asked for is no part of this. Memory is the process's resident memory, what the allocator adds
//! included.

#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use service_registry::{
    Attestation, Change, Confirmed, Instance, LifecycleState, Registry, Replica, Service, Snapshot, Verdict,
    Version, WorkerSubscription,
};
use types::ReplicaId;

const SERVICES: u32 = 1_000;
const REPLICAS: u32 = 10;
const WORKERS: usize = 2;
/// So many measurements, of which the middle one and the slowest are shown.
const ROUNDS: usize = 21;
/// Meshes at once for the memory of one: a single one is small beside what the process has anyway.
const MESHES: usize = 10;
const LIMIT: Duration = Duration::from_secs(5);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    memory();
    publication().await;
    registration().await;
    updates().await;
}

/// Resident memory of so many meshes in which every replica listens and serves, beside the bytes of their data.
fn memory() {
    let before = resident();
    let meshes: Vec<_> = (0..MESHES).map(|_| Registry::new(services(Wanted::Serving))).collect();
    let instances = MESHES * usize::try_from(SERVICES * REPLICAS).expect("a small number");
    let all = (resident() - before) / instances;
    let data: usize = meshes.iter().map(|mesh| data(&mesh.snapshot())).sum::<usize>() / instances;
    let (replica, instance) = (size_of::<Replica>(), size_of::<Instance>());
    println!(
        "memory of an instance: {all} bytes, of which {data} are its data (Replica {replica}, Instance {instance}, the rest text); {} beyond",
        all.saturating_sub(data)
    );
}

/// The bytes of the fixed structs and of the text of every replica.
fn data(snapshot: &Snapshot) -> usize {
    let replicas = snapshot.services.iter().flat_map(|service| &service.replicas);
    let text = |instance: &Instance| instance.identity.len() + instance.authority.len();
    let of_instance = |replica: &Replica| {
        replica.instance.as_ref().map_or(0, |instance| size_of::<Instance>() + text(instance))
    };
    replicas.map(|replica| size_of::<Replica>() + of_instance(replica)).sum()
}

/// From the first replica that is made until every worker uses the snapshot of all of them.
async fn publication() {
    let (mut built, mut used) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let registry = Registry::default();
        let workers = Workers::of(&registry);
        let began = Instant::now();
        let services = services(Wanted::Serving).into_iter().map(Arc::new).collect();
        let epoch = registry.replace_services(|_none| services);
        built.push(began.elapsed());
        assert_eq!(registry.confirmed(epoch, LIMIT).await, Confirmed::ByAll);
        used.push(began.elapsed());
        workers.end(registry);
    }
    println!("a snapshot built: {}; used by {WORKERS} workers: {}", middle(built), middle(used));
}

/// Every replica becomes Ready with an instance, one after the other, and each is published.
async fn registration() {
    let mut times = Vec::new();
    for _ in 0..5 {
        let registry = Registry::new(services(Wanted::Stopped));
        let workers = Workers::of(&registry);
        let version = Version::from("1.0.0");
        let began = Instant::now();
        let mut epoch = 0;
        for id in ids() {
            epoch = registry.update(&id, |replica| {
                serve(replica, registry.next_incarnation(), &version);
                Change::Made
            });
        }
        assert_eq!(registry.confirmed(epoch, LIMIT).await, Confirmed::ByAll);
        times.push(began.elapsed());
        workers.end(registry);
    }
    let per_second = |time: &Duration| f64::from(SERVICES * REPLICAS) / time.as_secs_f64();
    times.sort_unstable();
    println!(
        "registrations a second: {:.0}, each published by itself, the last used by all",
        per_second(&times[2])
    );
}

/// One replica changes, again and again, while nobody follows and while the workers do; then until all of them use it.
async fn updates() {
    let registry = Registry::new(services(Wanted::Serving));
    let change = |id: &ReplicaId| {
        registry.update(id, |replica| {
            replica.restarts += 1;
            Change::Made
        })
    };
    let ids: Vec<_> = ids().collect();
    let began = Instant::now();
    for id in &ids {
        change(id);
    }
    let alone = began.elapsed() / (SERVICES * REPLICAS);
    let workers = Workers::of(&registry);
    let mut used = Vec::new();
    for id in ids.iter().take(1_000) {
        let began = Instant::now();
        let epoch = change(id);
        assert_eq!(registry.confirmed(epoch, LIMIT).await, Confirmed::ByAll);
        used.push(began.elapsed());
    }
    println!("an update: {alone:.1?}; used by {WORKERS} workers: {}", middle(used));
    workers.end(registry);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Stopped,
    Serving,
}

fn services(wanted: Wanted) -> Vec<Service> {
    let now = Timestamp::now();
    let mut incarnation = 0;
    let mut replica = |id: ReplicaId, version: &Version| {
        let mut replica = Replica::stopped(id, now);
        if wanted == Wanted::Serving {
            incarnation += 1;
            serve(&mut replica, incarnation, version);
        }
        replica
    };
    let service = |number: u32| {
        let name: types::ServiceName = format!("service-{number:04}").parse().expect("a name");
        let ids = (0..REPLICAS).map(|ordinal| ReplicaId::new(name.clone(), ordinal));
        let version = Version::from("1.0.0");
        let replicas: Vec<_> = ids.map(|id| replica(id, &version)).collect();
        Service { name, version, split: None, required: true, desired: replicas.len(), replicas }
    };
    (0..SERVICES).map(service).collect()
}

fn ids() -> impl Iterator<Item = ReplicaId> {
    let names = (0..SERVICES).map(|number| format!("service-{number:04}").parse().expect("a name"));
    names.flat_map(|name: types::ServiceName| {
        (0..REPLICAS).map(move |ordinal| ReplicaId::new(name.clone(), ordinal))
    })
}

fn serve(replica: &mut Replica, incarnation: u64, version: &Version) {
    let port = u16::try_from(incarnation % 60_000).expect("below 60,000");
    let address = SocketAddr::from(([10, 0, 0, 1], port));
    let instance = Instance::new(replica.id.clone(), incarnation, address, version.clone());
    (replica.state, replica.reason) = (LifecycleState::Ready, None);
    replica.instance = Some(Arc::new(instance));
    replica.health.verdict = Verdict::Healthy;
    replica.attestation = Attestation::exempt(replica.since);
}

/// Threads that follow and confirm until the registry is gone.
struct Workers(Vec<std::thread::JoinHandle<()>>);

impl Workers {
    fn of(registry: &Registry) -> Self {
        let follow = |subscription: WorkerSubscription| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            runtime.block_on(follow(subscription));
        };
        let subscriptions: Vec<_> = (0..WORKERS).map(|_| registry.subscribe_worker()).collect();
        Self(subscriptions.into_iter().map(|one| std::thread::spawn(move || follow(one))).collect())
    }

    fn end(self, registry: Registry) {
        drop(registry);
        self.0.into_iter().for_each(|thread| thread.join().expect("a worker that ends"));
    }
}

async fn follow(mut subscription: WorkerSubscription) {
    let mut followed = Arc::<Snapshot>::default();
    loop {
        let snapshot = Arc::clone(&subscription.snapshots.borrow_and_update());
        let before = std::mem::replace(&mut followed, Arc::clone(&snapshot));
        let is_as_it_was = |(place, service): &(usize, &Arc<Service>)| {
            before.services.get(*place).is_some_and(|known| Arc::ptr_eq(known, service))
        };
        let changed = snapshot.services.iter().enumerate().filter(|pair| !is_as_it_was(pair)).count();
        std::hint::black_box(changed);
        subscription.confirm(snapshot.epoch);
        if subscription.snapshots.changed().await.is_err() {
            return;
        }
    }
}

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("a kernel that tells");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
}

fn middle(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    format!("{:.1?} (at most {:.1?})", times[times.len() / 2], times[times.len() - 1])
}
