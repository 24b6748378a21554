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
mod joining;
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
mod shared_limits;
mod source;
mod specs;
mod store;
mod systemd;
mod tokens;
mod told;
mod unusable;
mod upstream_tls;
mod versions;

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ::store::Store;
use access::{Nonces, Users};
use anyhow::{Context, anyhow};
use configuration::Document;
use control::{Logs, StoreView};
use edge_gateway::{ClientBuckets, Gateway, GatewayParts, Shared};
use jiff::Timestamp;
use observability::{AccessLog, Lines, Metrics};
use rustix::process::{Resource, Rlimit, setrlimit};
use service_lifecycle::{Fleets, Wanted};
use service_registry::Registry;
use service_router::{HealthOwner, RouterPlan};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::failure::Failure;
use crate::known_authority::KnownAuthority;
use crate::signals::{Looks, Orders};
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
use joining::Mesh;
use output::{Destination, Follower};
use pages::own_pages;
use patience::Patience;
use plan::{Plan, Resolving};
use quoter::Quoter;
use reload::{Live, ONCE_MORE};
use replica_process::{Kept, ReplicaLauncher};
use revisions::{Beginning, BegunWith};
pub(crate) use screen::counted;
use screen::{Expected, Screen};
pub(crate) use service_config::check_service_config;
pub(crate) use source::Source;
use source::named_by;
use specs::Specs;
use systemd::Manager;
use tokens::Tokens;
use upstream_tls::UpstreamTls;

/// How long the last lines of everything may take.
const LAST_LINES: Duration = Duration::from_secs(1);
/// Suspicions on their way to the health owner, of all workers together.
const QUEUED_SUSPICIONS: usize = 1024;

/// Starts everything, serves until it is told to stop, and drains.
pub(crate) async fn start_and_serve(
    document: Document,
    source: Source,
    sockets: HandedOver,
) -> Result<(), Failure> {
    let settings = &document.settings;
    let began = Instant::now();
    let screen = Screen::detect();
    let log = observability::start_process_log(settings.telemetry.logs, screen.log_level());
    let manager = Manager::of_environment();
    let _signs_of_life = manager.begin();
    let listening = Orders::listen_where(manager.hang_up());
    let (mut orders, looks) = listening.context("failed to listen for signals")?;
    let processes = settings.services.iter().filter_map(|service| service.process());
    let replicas = processes.map(|process| u64::from(process.replicas)).sum();
    descriptors::raise_limit(&settings.gateway.limits, replicas)?;
    let run = settings.data_dir.join("run");
    let ended = tokio::select! {
        started = Running::start(document, source, log.clone(), sockets, (manager.clone(), looks)) => match started {
            Ok(running) => Box::pin(running.serve(&screen, &mut orders, began)).await,
            Err(failure) => Err(failure),
        },
        // Nothing that was begun outlives this: what is dropped half-started ends.
        signal = orders.first() => {
            manager.stopping(None);
            screen.say(&format!("{signal}: stopped before anything was started"));
            if adoption::is_something_left(&run) {
                screen.say("replicas of a serviceos that was killed run on; `serviceos down` ends them");
            }
            Ok(())
        }
    };
    screen.finish();
    log.flush(LAST_LINES);
    ended
}

/// Everything that runs, in the order in which it is stopped.
struct Running {
    gateway: Gateway,
    fleets: fleets::Running,
    background: Background,
    output: Follower,
    access_log: Option<AccessLog>,
    live: Live,
    quoter: Quoter,
    shutdown_requests: mpsc::Receiver<()>,
    orders: mpsc::Receiver<desk::Order>,
    facts: Facts,
    manager: Manager,
    looks: Looks,
    /// Held to the end: the lock on the data directory.
    data_dir: DataDir,
}

impl Running {
    /// Refuses first, starts then: whatever can be in the way is met before the first replica is launched.
    async fn start(
        document: Document,
        mut source: Source,
        log: Lines,
        sockets: HandedOver,
        (manager, looks): (Manager, Looks),
    ) -> Result<Self, Failure> {
        attested_authority(document.settings.mode)?;
        // A dump would hold every key.
        let none = Rlimit { current: Some(0), maximum: Some(0) };
        setrlimit(Resource::Core, none).context("failed to forbid core dumps")?;
        // What is wrong with the file is found before anything is made.
        let name = source.name();
        let made = FromFiles::default().of(&document.settings).await.map_err(|wrong| wrong.in_file(&name))?;
        let data_dir = DataDir::open(&document.settings.data_dir)?;
        // Before anything is started, which would be where this process is.
        let confinement = Confinement::prepare(data_dir.run());
        let stores = store::open(&data_dir, &document.settings).await.context("failed to open the store")?;
        let node = node::claim(&document.settings, &stores.mesh, &data_dir.node_id()).await?;
        let beginning = begin(&stores.mesh, document, &source).await?;
        let settings = beginning.document().settings.clone();
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
        } = claims;
        let (vault, users) = (Arc::clone(&mesh.vault), Arc::new(Users::new(provisioning::tiers(&settings))));
        let issuers = tokens::read(&settings, &vault).await.map_err(|wrong| wrong.in_file(&name))?;
        let store = StoreView::new(store::kind(&settings), mesh.stores.mesh.availability());
        let mesh = Mesh::open(&settings, beginning.number(), &data_dir, mesh).await?;
        let upstream_tls =
            upstream_tls.with_mesh(mesh.client(b"http/1.1")?, mesh.client(b"h2")?, mesh.caller_signer()?);
        let (manifests, specs) = (mesh.manifests(), Specs::default());
        let versions = manifests.versions(&settings);
        specs.add(&settings, manifests.measurements(), &versions);
        let (tokens, owner) = Tokens::begin(issuers, users, vault, mesh.authority.secret_changes());
        let (token_keys, users) = tokens.for_gateway();
        let (access_log, access_log_handle) = access_log.unzip();
        let registry = Registry::default();
        let metrics = Arc::new(Metrics::new(settings.gateway.workers.get()));
        let Plan { router, checks, terms, routes, limits, example } =
            Plan::of(&settings, &metrics, &upstream_tls, &rules, None);
        let (services, unresolved) = plan::services(&settings, &registry, &versions, None);
        registry.replace_services(|_none| services);
        let draining = Arc::new(AtomicBool::new(false));
        let (suspicions, suspected) = mpsc::channel(QUEUED_SUSPICIONS);
        let own = own_pages(settings.mode, &registry, &draining, &store);
        let (router_plan, tls) = (Arc::clone(&router), client_tls.config());
        let plan = Plan::gateway(routes, router_plan, &settings, &metrics, tls, own, shared.limits())?;
        let mut random = fastrand::Rng::new();
        let parts = GatewayParts {
            shared: Shared {
                router: RouterPlan { registry: registry.clone(), suspicions },
                keys: keys.subscribe(),
                tokens: token_keys,
                users,
                nonces: Arc::new(Nonces::new(Timestamp::now())),
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
            texts_before: BTreeMap::new(),
            rollouts: watch::channel(0).1,
        };
        let (address, data_path) = (gateway.addresses()[0], live.settings.data_dir.clone());
        let elsewhere = elsewhere::places(&live.settings).replicas().cloned().collect();
        let expected = Expected { node: node::among_others(&live.settings), elsewhere };
        let facts =
            Facts { gateway: address, admin, data_dir: data_path, development_key, expected, example };
        let (registry, metrics) = (live.registry.clone(), Arc::clone(&live.metrics));
        let health = HealthOwner::new(registry, policies, suspected, metrics, random.fork());
        let mut background = Background::begin(&live.metrics, health);
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
        let limits = confinement.say(&live.settings);
        let kept = Kept { run: data_dir.run().to_owned(), outputs: output.outputs(), confinement };
        let let_in = LetIn::by(gateway.opener(), gateway_is_held, &live.settings);
        let launcher = ReplicaLauncher::new(kept, &live, &mesh)?;
        let launcher = adoption::begin(launcher, &live.registry, let_in, &mut background);
        let begin = fleets::Begin {
            settings: &live.settings,
            terms: &terms,
            node: facts.expected.node.as_ref(),
            registry: &live.registry,
            mesh: &mesh,
            versions: &versions,
            launcher: &launcher,
            random: &mut random,
        };
        let (running, handles) = fleets::Running::begin(begin);
        (live.fleets, live.rollouts) = (handles, running.ended());
        let state = admin_state(&live, &facts, &mesh, (desk, logs, limits), shutdown);
        background.add(|stopped| control::serve_tcp(admin_port, state.clone(), token, stopped));
        background.add(|stopped| control::serve_socket(socket, state, stopped));
        manager.follow(&live.registry, &facts.expected, &mut background);
        let quoter = mesh.quoter.clone();
        Ok(Self {
            gateway,
            fleets: running,
            background,
            output,
            access_log,
            live,
            quoter,
            shutdown_requests,
            orders,
            facts,
            manager,
            looks,
            data_dir,
        })
    }

    /// Serves until it is told to stop, or until a part ends by itself, which is a failure.
    async fn serve(mut self, screen: &Screen, orders: &mut Orders, began: Instant) -> Result<(), Failure> {
        let reason = Box::pin(self.until_told(screen, orders, began)).await;
        let (told_by, failed) = match reason {
            Ok(order) => (order.to_owned(), None),
            Err(part) => (format!("{part} ended by itself, which is a bug"), Some(part)),
        };
        self.manager.stopping(Some(&self.live.settings));
        screen.say(&format!("{told_by}: draining; once more stops at once"));
        self.stop(screen, orders).await?;
        failed.map_or(Ok(()), |part| Err(anyhow!("{part} ended by itself; everything was drained").into()))
    }

    /// Shows the start, takes over what changes in the configuration, and returns when it is over: who said so, or which part
    /// ended by itself.
    async fn until_told(
        &mut self,
        screen: &Screen,
        orders: &mut Orders,
        began: Instant,
    ) -> Result<&'static str, &'static str> {
        let Self { gateway, fleets, background, live, shutdown_requests, orders: changes, facts, .. } = self;
        let (manager, looks) = (&self.manager, &mut self.looks);
        let registry = live.registry.clone();
        let mut shown = pin!(screen.show_start(&registry, facts, began));
        let mut is_shown = false;
        let mut over = pin!(async {
            tokio::select! {
                signal = orders.first() => Ok(signal),
                _ = shutdown_requests.recv() => Ok("serviceos down"),
                () = gateway.worker_ended() => Err("a gateway worker"),
                () = fleets.one_ended() => Err("the driver of a replica"),
                () = background.one_ended() => Err("the health owner or the admin API"),
            }
        });
        loop {
            tokio::select! {
                over = &mut over => return over,
                found = live.files.changed() => tokio::select! {
                    () = live.take_over_and_tell(found, manager) => {}
                    // What it has begun need not come to its end: nothing is served by it but what is in flight.
                    over = &mut over => return over,
                },
                () = looks.asked() => {
                    manager.reloading_as_asked();
                    live.files.ask();
                }
                Some(desk::Order { change, answer }) = changes.recv() => tokio::select! {
                    changed = live.change(change) => {
                        let _nobody_waits = answer.send(changed).is_err();
                    }
                    over = &mut over => {
                        let _nobody_waits = answer.send(Err(desk::cut_off())).is_err();
                        return over;
                    }
                },
                () = live.tokens.secret_changed() => tokio::select! {
                    () = live.renew_secrets_of_issuers() => {}
                    over = &mut over => return over,
                },
                Ok(()) = live.rollouts.changed() => tokio::select! {
                    () = live.end_rollouts() => {}
                    over = &mut over => return over,
                },
                () = Live::due(live.again) => tokio::select! {
                    () = live.try_again_and_tell(manager) => {}
                    over = &mut over => return over,
                },
                () = &mut shown, if !is_shown => {
                    is_shown = true;
                    manager.ready();
                }
            }
        }
    }

    /// The gateway first, so that requests in flight still have their replicas; then the replicas; then the rest. A second
    /// order stops at once, a third does not even wait for that.
    async fn stop(mut self, screen: &Screen, orders: &mut Orders) -> Result<(), Failure> {
        self.live.draining.store(true, Ordering::Relaxed);
        self.live.resolving.end();
        // Whoever waits for another configuration is told that there is none.
        drop(self.orders);
        let drain_limits = self.live.settings.services.iter().map(|service| service.drain_timeout);
        self.gateway.drain(drain_limits.max().unwrap_or_default());
        let mut patience = Patience::Has;
        let (registry, requests) = (self.live.registry.clone(), self.gateway.requests_in_flight());
        loop {
            tokio::select! {
                () = self.gateway.ended() => break,
                () = screen.say_what_is_awaited(&registry, self.facts.expected.node.as_ref(), &requests) => {}
                () = orders.again() => {
                    patience = patience.lose(&self.quoter, &mut self.fleets).await;
                    self.gateway.drain(Duration::ZERO);
                }
            }
        }
        self.fleets.stop(if patience == Patience::Lost { Wanted::GoneAtOnce } else { Wanted::Gone });
        loop {
            tokio::select! {
                ended = self.fleets.next_end() => match ended {
                    None => break,
                    Some(Ok(())) => {}
                    Some(Err(error)) => tracing::error!(%error, "the replicas of a service are not looked after any more"),
                },
                () = screen.say_what_is_awaited(&registry, self.facts.expected.node.as_ref(), &requests) => {}
                () = orders.again() => {
                    patience = patience.lose(&self.quoter, &mut self.fleets).await;
                    self.fleets.stop(Wanted::GoneAtOnce);
                }
            }
        }
        // Whoever follows the logs is told the last words of the replicas before the admin API ends.
        let output = tokio::task::spawn_blocking(move || self.output.finish());
        if timeout(LAST_LINES, output).await.is_err() {
            tracing::warn!("the last lines of the replicas could not be read in time");
        }
        self.background.stop().await;
        // What an earlier one has left, and this one has not come to look at.
        match patience {
            Patience::Has => adoption::end_all_until(self.data_dir.run(), orders.again()).await,
            Patience::Lost => adoption::end_all_until(self.data_dir.run(), std::future::ready(())).await,
        }
        self.quoter.stop().await;
        if let Some(log) = self.access_log {
            let written = tokio::task::spawn_blocking(move || log.finish());
            if timeout(LAST_LINES, written).await.is_err() {
                tracing::warn!("the access log's last lines could not be written in time");
            }
        }
        match patience {
            Patience::Has => {
                screen.say("stopped: no replica is left");
                Ok(())
            }
            Patience::Lost => {
                Err(anyhow!("stopped at once; requests in flight may have been cut off").into())
            }
        }
    }
}

/// Which configuration is to be in force: the file's, or a revision that it has not replaced.
async fn begin(store: &Store, file: Document, source: &Source) -> Result<Beginning, Failure> {
    let reader = source.reader();
    let read = move |text: &str, name: &str| reader.read(text.as_bytes(), name);
    let node = node::name(&file.settings);
    let begun = Beginning::decide(store.clone(), node.as_str(), file, read).await;
    Ok(begun.context("failed to read the revisions of the configuration")?)
}
