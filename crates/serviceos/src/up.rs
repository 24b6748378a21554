//! What `serviceos up` does: everything that can be refused is refused first, then the replicas are started, and at the end
//! everything is drained in the opposite order.

mod admin_state;
pub(crate) mod adoption;
mod background;
mod claims;
mod client_tls;
mod contents;
mod data_dir;
mod descriptors;
mod desk;
mod elsewhere;
mod explaining;
mod facts;
mod file_watch;
mod files;
mod fleets;
mod from_files;
mod groups;
mod handed_over;
mod handing;
mod joining;
mod kept_rollouts;
mod made;
mod measuring;
mod node;
pub(crate) mod output;
mod pages;
mod patience;
mod plan;
mod provisioning;
pub(crate) mod quoter;
mod reload;
mod replica_process;
mod request_rules;
mod revisions;
mod rolling;
mod screen;
mod service_config;
mod serving;
mod shared_limits;
mod slower_nodes;
mod source;
mod specs;
mod stopping;
mod store;
mod systemd;
mod takeover;
mod taking_back;
mod tokens;
mod told;
mod unusable;
mod upstream_tls;
mod versions;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use access::{Nonces, Users};
use anyhow::{Context, anyhow};
use configuration::Document;
use control::{Logs, StoreView};
use edge_gateway::{ClientBuckets, Gateway, GatewayParts, Shared};
use jiff::Timestamp;
use observability::{AccessLog, Lines, Metrics};
use rustix::process::{Resource, Rlimit, setrlimit};
use service_lifecycle::Fleets;
use service_registry::Registry;
use service_router::{HealthOwner, RouterPlan};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use self::store::Stores;
use crate::failure::Failure;
use crate::hold::Hold;
use crate::known_authority::KnownAuthority;
use crate::signals::{Looks, Orders, Upgrades};
use admin_state::admin_state;
use adoption::LetIn;
use background::{Background, told};
use claims::{Claims, attested_authority};
use data_dir::DataDir;
use facts::Facts;
use files::Files;
pub(crate) use from_files::FromFiles;
use groups::Confinement;
pub(crate) use handed_over::HandedOver;
use handing::Place;
use joining::Mesh;
use kept_rollouts::Kept;
use output::{Destination, Follower};
use pages::own_pages;
use plan::{Plan, Resolving};
use quoter::Quoter;
use reload::{Live, ONCE_MORE};
use replica_process::ReplicaLauncher;
use revisions::{Beginning, BegunWith};
pub(crate) use screen::counted;
use screen::{Expected, Screen};
pub(crate) use service_config::check_service_config;
use slower_nodes::SlowerNodes;
pub(crate) use source::Source;
use source::named_by;
use specs::Specs;
use systemd::Manager;
use takeover::asking::TakenOver;
use takeover::sockets::Listening;
use takeover::standing::{self, Asking};
use takeover::succeeding::{Predecessor, Stage, Succession, alone};
use taking_back::Untaken;
use tokens::Tokens;
use upstream_tls::UpstreamTls;

/// How long the last lines of everything may take.
const LAST_LINES: Duration = Duration::from_secs(1);
/// Suspicions on their way to the health owner, of all workers together.
const QUEUED_SUSPICIONS: usize = 1024;

/// What a start goes by.
pub(crate) struct Given {
    pub(crate) document: Document,
    pub(crate) source: Source,
    pub(crate) place: Whose,
}

/// Whose place is taken.
pub(crate) enum Whose {
    /// Nobody's; these sockets listen already.
    Nobodys(HandedOver),
    /// That of another process on the same data directory.
    Anothers,
    /// That of this process, which nobody else has taken.
    Own(Box<TakenOver>),
}

/// What a process has once, whichever of its starts is at work.
struct Process {
    screen: Screen,
    orders: Orders,
    looks: Looks,
    upgrades: Upgrades,
    manager: Manager,
    /// What shows the service manager that the event loop turns.
    signs_of_life: JoinSet<()>,
    log: Lines,
    /// What earlier starts of this process have yet to finish.
    leaving: JoinSet<()>,
}

/// Starts everything, serves until it is told to stop, and drains.
pub(crate) async fn start_and_serve(given: Given) -> Result<(), Failure> {
    let settings = &given.document.settings;
    let screen = Screen::detect();
    let log = observability::start_process_log(settings.telemetry.logs, screen.log_level());
    let manager = Manager::of_environment();
    let signs_of_life = manager.begin();
    let listening = Orders::listen_where(manager.hang_up());
    let (orders, looks) = listening.context("failed to listen for signals")?;
    let upgrades = Upgrades::listen().context("failed to listen for signals")?;
    let processes = settings.services.iter().filter_map(|service| service.process());
    let replicas = processes.map(|process| u64::from(process.replicas)).sum();
    descriptors::raise_limit(&settings.gateway.limits, replicas)?;
    let leaving = JoinSet::new();
    let mut process = Process { screen, orders, looks, upgrades, manager, signs_of_life, log, leaving };
    let ended = Box::pin(process.run(given)).await;
    // They have had as long as everything else.
    process.leaving.shutdown().await;
    process.screen.finish();
    process.log.flush(LAST_LINES);
    ended
}

impl Process {
    /// One start after the other, as long as nobody else takes the place that was given away.
    async fn run(&mut self, given: Given) -> Result<(), Failure> {
        let mut untaken = Box::pin(self.begin(given)).await?;
        while let Some(place) = untaken {
            untaken = Box::pin(place.take_back(self)).await?;
        }
        Ok(())
    }

    async fn begin(&mut self, given: Given) -> Result<Option<Untaken>, Failure> {
        let (began, run) = (Instant::now(), given.document.settings.data_dir.join("run"));
        let takes_over = matches!(given.place, Whose::Anothers);
        let started = tokio::select! {
            started = Running::start(given, self.log.clone(), self.manager.clone()) => started?,
            // Nothing that was begun outlives this: what is dropped half-started ends.
            signal = self.orders.first() => {
                if takes_over {
                    return Err(anyhow!("the takeover is given up: {signal}; the serviceos that runs goes on").into());
                }
                self.manager.stopping(None);
                self.screen.say(&format!("{signal}: stopped before anything was started"));
                if adoption::is_something_left(&run) {
                    self.screen.say("replicas of a serviceos that was killed run on; `serviceos down` ends them");
                }
                return Ok(None);
            }
        };
        if self.signs_of_life.is_empty() {
            // It was told of the service manager only now.
            self.signs_of_life = self.manager.begin();
        }
        Box::pin(started.serve(self, began)).await
    }
}

/// Everything that runs, in the order in which it is stopped.
struct Running {
    gateway: Gateway,
    fleets: fleets::Running,
    /// What the gateway needs beside it for as long as it has requests.
    beside: Background,
    background: Background,
    output: Follower,
    access_log: Option<AccessLog>,
    live: Live,
    quoter: Quoter,
    hold: Hold,
    shutdown_requests: mpsc::Receiver<()>,
    orders: mpsc::Receiver<desk::Order>,
    facts: Facts,
    manager: Manager,
    /// Whoever asks for the place of this process.
    asked: mpsc::Receiver<Asking>,
    /// How far this process is with taking the place of another.
    stage: watch::Receiver<Stage>,
    nonces: Arc<Nonces>,
    listening: Listening,
    stores: Stores,
    /// Held to the end: the lock on the data directory.
    data_dir: DataDir,
}

impl Running {
    /// Refuses first, starts then: whatever can be in the way is met before the first replica is launched.
    async fn start(given: Given, log: Lines, manager: Manager) -> Result<Self, Failure> {
        let Given { document, mut source, place } = given;
        attested_authority(document.settings.mode)?;
        // A dump would hold every key.
        let none = Rlimit { current: Some(0), maximum: Some(0) };
        setrlimit(Resource::Core, none).context("failed to forbid core dumps")?;
        // What is wrong with the file is found before anything is made.
        let name = source.name();
        let made = FromFiles::default().of(&document.settings).await.map_err(|wrong| wrong.in_file(&name))?;
        let Place { data_dir, sockets, predecessor, measured, hold } =
            Place::take(&document.settings, place).await?;
        if let Some((notify, watchdog)) = predecessor.as_ref().and_then(Predecessor::manager) {
            manager.inherit(&notify, watchdog);
        }
        // Before anything is started, which would be where this process is.
        let confinement = Arc::new(Confinement::prepare(data_dir.run()));
        let waits = if predecessor.is_some() { store::IN_USE } else { Duration::ZERO };
        let stores = store::open(&data_dir, &document.settings, waits).await;
        let stores = stores.context("failed to open the store")?;
        let kept_stores = stores.clone();
        let node = node::claim(&document.settings, &stores.mesh, &data_dir.node_id()).await?;
        let beginning = Beginning::of_start(&stores.mesh, document, &source).await;
        let beginning = beginning.context("failed to read the revisions of the configuration")?;
        let settings = beginning.document().settings.clone();
        let kept = Kept::read(&stores.mesh, &settings, source.reader(), data_dir.run()).await;
        // Before they are read.
        let named = named_by([&settings]);
        let source = tokio::task::spawn_blocking(move || {
            source.keep(named);
            source
        });
        let source = source.await.context("failed to look at the files of the configuration")?;
        let made = made.of(&settings).await.map_err(|wrong| wrong.in_file(&name))?;
        let FromFiles { client_tls, shared, rules } = made;
        let upstream_tls = UpstreamTls::default().of(&settings).await?;
        let claims = Claims::make(&settings, data_dir, stores, node, sockets).await?;
        let Claims {
            data_dir,
            listeners,
            gateway_is_held,
            admin_port,
            admin,
            keys,
            mesh,
            access_log,
            token,
            socket,
            takeover: takeover_socket,
            listening,
        } = claims;
        let (vault, users) = (Arc::clone(&mesh.vault), Arc::new(Users::new(provisioning::tiers(&settings))));
        let issuers = tokens::read(&settings, &vault).await.map_err(|wrong| wrong.in_file(&name))?;
        let store = StoreView::new(store::kind(&settings), mesh.stores.mesh.availability());
        let (mesh, mut resumed) =
            Mesh::open(&settings, beginning.number(), &data_dir, mesh, kept, (measured, hold.clone()))
                .await?;
        let upstream_tls =
            upstream_tls.with_mesh(mesh.client(b"http/1.1")?, mesh.client(b"h2")?, mesh.caller_signer()?);
        let (manifests, specs) = (mesh.manifests(), Specs::default());
        let versions = manifests.versions(&settings);
        specs.add(&settings, manifests.measurements(), &versions, beginning.number());
        resumed.add_to(&specs);
        let (tokens, owner) = Tokens::begin(issuers, users, vault, mesh.authority.secret_changes());
        let (token_keys, users) = tokens.for_gateway();
        let (access_log, access_log_handle) = access_log.unzip();
        let registry = Registry::default();
        let metrics = Arc::new(Metrics::new(settings.gateway.workers.get()));
        let Plan { router, checks, terms, routes, limits, example } =
            Plan::of(&settings, &metrics, &upstream_tls, &rules, &specs.former(&versions), None);
        let (services, unresolved) = plan::services(&settings, &registry, &versions, None);
        registry.replace_services(|_none| services);
        let draining = Arc::new(AtomicBool::new(false));
        let (suspicions, suspected) = mpsc::channel(QUEUED_SUSPICIONS);
        let own = own_pages(settings.mode, &registry, &draining, &store);
        let (router_plan, tls) = (Arc::clone(&router), client_tls.config());
        let plan = Plan::gateway(routes, router_plan, &settings, &metrics, tls, own, shared.limits())?;
        let mut random = fastrand::Rng::new();
        let nonces = Arc::new(Nonces::new(Timestamp::now()));
        let parts = GatewayParts {
            shared: Shared {
                router: RouterPlan { registry: registry.clone(), suspicions },
                keys: keys.subscribe(),
                tokens: token_keys,
                users,
                nonces: Arc::clone(&nonces),
                client_buckets: Arc::new(ClientBuckets::new(&plan.rate_limits)),
                metrics: Arc::clone(&metrics),
                access_log: access_log_handle,
            },
            plan,
            random: random.fork(),
        };
        let BegunWith { revisions, waits: refused, is_stale } =
            beginning.commit(&mesh.authority).await.context("failed to begin with the configuration")?;
        let gateway = Gateway::start_waiting(listeners, parts).context("failed to start the gateway")?;

        let (checks, policies) = watch::channel(checks);
        let described = watch::Sender::new(plan::descriptions(&settings));
        // A key that opens nothing is shown to nobody.
        let development_key =
            keys.development_key().filter(|_| settings.gateway.authentication.api_keys).cloned();
        let keys = Arc::new(keys);
        let again = is_stale.then(|| tokio::time::Instant::now() + ONCE_MORE);
        let (files, mut resolving) = (Files::new(source), Resolving::default());
        let (desk, orders) = desk::open(revisions.history());
        resolving.begin(unresolved, &registry);
        let slower_nodes =
            SlowerNodes::of(&kept_stores.mesh, node::among_others(&settings), resumed.awaits_others());
        let mut live = Live {
            settings,
            revisions,
            refused,
            again,
            registry,
            metrics,
            keys,
            tokens,
            store,
            draining,
            checks,
            described,
            gateway: gateway.plans(),
            router,
            limits,
            client_tls,
            shared,
            rules,
            upstream_tls,
            resolving,
            files,
            fleets: Fleets::default(),
            manifests,
            specs,
            slower_nodes,
            confinement,
            rollouts: watch::channel(0).1,
        };
        let (address, data_path) = (gateway.addresses()[0], live.settings.data_dir.clone());
        let elsewhere = elsewhere::places(&live.settings).replicas().cloned().collect();
        let expected = Expected { node: node::among_others(&live.settings), elsewhere };
        let facts =
            Facts { gateway: address, admin, data_dir: data_path, development_key, expected, example };
        let (registry, metrics) = (live.registry.clone(), Arc::clone(&live.metrics));
        let health = HealthOwner::new(registry, policies, suspected, metrics, random.fork());
        let (beside, mut background) = (Background::of_gateway(&live.metrics, health), Background::default());
        background.add(|stopped| owner.run(told(stopped)));
        let (shutdown, shutdown_requests) = mpsc::channel(1);
        if facts.expected.node.is_some() {
            let keys = Arc::clone(&live.keys);
            background.add(|stopped| keys.follow(told(stopped)));
        }
        let mesh = Arc::new(mesh.begin(&live.settings, &live.registry, &mut background));
        // Before anybody can ask: what commands know the authority by.
        KnownAuthority::from(mesh.coordinates()).write(data_dir.run())?;
        let logs = Logs::default();
        let into = Destination { log, format: live.settings.telemetry.logs, kept: logs.clone() };
        let output = Follower::start(into).context("failed to start the thread that follows outputs")?;
        live.confinement.say(&live.settings);
        let kept = replica_process::Kept {
            run: data_dir.run().to_owned(),
            outputs: output.outputs(),
            hold: hold.clone(),
            read: predecessor.as_ref().map(Predecessor::read).unwrap_or_default(),
        };
        let let_in = match &predecessor {
            Some(_) => LetIn::ByTheTakeover,
            None => LetIn::by(gateway.opener(), gateway_is_held, &live.settings),
        };
        let launcher = ReplicaLauncher::new(kept, &live, &mesh, resumed.take_leftovers())?;
        let (stage, stages) = Stage::begin(predecessor.as_ref());
        // What an earlier one drains may have requests of it.
        let alone = alone(stages.clone());
        let launcher = adoption::begin(launcher, &live.registry, &resumed, (let_in, alone), &mut background);
        let begin = fleets::Begin {
            settings: &live.settings,
            terms: &terms,
            node: facts.expected.node.as_ref(),
            registry: &live.registry,
            mesh: &mesh,
            versions: &versions,
            resumed: &resumed,
            launcher: &launcher,
            random: &mut random,
        };
        let (running, handles) = fleets::Running::begin(begin);
        (live.fleets, live.rollouts) = (handles, running.ended());
        resumed.keep(&live.fleets, &live.specs, &mut background);
        let state = admin_state(&live, &facts, &mesh, (desk, logs), shutdown);
        background.add(|stopped| control::serve_tcp(admin_port, state.clone(), token, stopped));
        background.add(|stopped| control::serve_socket(socket, state, stopped));
        manager.follow(&live.registry, &facts.expected, &mut background);
        let succession = Succession {
            registry: live.registry.clone(),
            opener: gateway.opener(),
            hold: hold.clone(),
            nonces: Arc::clone(&nonces),
        };
        succession.begin(predecessor, stage, &mut background);
        let asked = standing::begin(takeover_socket, stages.clone(), &mut background);
        let quoter = mesh.quoter.clone();
        Ok(Self {
            gateway,
            fleets: running,
            beside,
            background,
            output,
            access_log,
            live,
            quoter,
            hold,
            shutdown_requests,
            orders,
            facts,
            manager,
            asked,
            stage: stages,
            nonces,
            listening,
            stores: kept_stores,
            data_dir,
        })
    }
}
