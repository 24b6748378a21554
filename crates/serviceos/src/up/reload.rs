//! Another configuration while everything runs: read, checked whole, and taken over whole, or not at all. No connection is
//! touched by it.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use access::ApiKeys;
use anyhow::{Result, bail};
use configuration::{LoadError, Overrides, Settings};
use edge_gateway::Gateway;
use observability::Metrics;
use service_registry::Registry;
use service_router::{CheckPolicies, ServicePlans};
use tokio::sync::watch;
use types::ServiceName;

use super::contents::Contents;
use super::file_watch::FileWatch;
use super::plan::{Plan, Previous, Resolving, TlsClients, Unresolved};
use super::{check_service_config, health_pages, provisioning};

/// How long the workers may take until all of them use another configuration.
const TAKE_OVER: Duration = Duration::from_secs(10);

/// Where the configuration comes from.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    path: PathBuf,
    overrides: Overrides,
    contents: Contents,
}

impl Source {
    /// A file, looked at before it is read.
    pub(crate) fn new(path: PathBuf, overrides: Overrides) -> Self {
        let mut source = Self { path, overrides, contents: Contents::default() };
        source.contents.follow(&[source.file()]);
        source
    }

    /// Reads the file and checks it whole.
    pub(crate) fn load(&self) -> Result<Settings, LoadError> {
        configuration::load(&self.path, &self.overrides, check_service_config)
    }

    /// The files that these settings consist of are those that matter. Returns them.
    pub(crate) fn follow(&mut self, settings: &Settings) -> Vec<PathBuf> {
        let paths = self.paths(settings);
        self.contents.follow(&paths);
        paths
    }

    fn paths(&self, settings: &Settings) -> Vec<PathBuf> {
        let tls = settings.gateway.tls.iter();
        let certificates = tls.clone().flat_map(|tls| &tls.certificates);
        let files = certificates.flat_map(|files| [files.certificate.clone(), files.key.clone()]);
        let authorities = tls.filter_map(|tls| tls.client_ca.clone());
        std::iter::once(self.file()).chain(files).chain(authorities).collect()
    }

    fn file(&self) -> PathBuf {
        std::path::absolute(&self.path).unwrap_or_else(|_| self.path.clone())
    }
}

/// The configuration in force, and everything that another one changes.
pub(crate) struct Live {
    pub(crate) source: Source,
    pub(crate) settings: Settings,
    pub(crate) registry: Registry,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) keys: Arc<ApiKeys>,
    pub(crate) draining: Arc<AtomicBool>,
    pub(crate) checks: watch::Sender<CheckPolicies>,
    pub(crate) router: Arc<ServicePlans>,
    pub(crate) tls: TlsClients,
    pub(crate) resolving: Resolving,
    pub(crate) files: FileWatch,
}

impl Live {
    /// From now on the files are watched, and these endpoints looked up.
    pub(crate) fn begin(&mut self, unresolved: Vec<Unresolved>) {
        self.resolving.begin(unresolved, &self.registry);
        self.watch();
    }

    fn watch(&mut self) {
        self.files.follow(&self.source.follow(&self.settings));
    }

    /// Returns when one of the files holds something else than what is in force.
    pub(crate) async fn changed(&mut self) {
        loop {
            self.files.changed().await;
            // A link may lead elsewhere now.
            self.watch();
            if self.source.contents.look() {
                return;
            }
        }
    }

    /// Reads the file again and takes it over. What is wrong with it is said, and everything stays as it is.
    pub(crate) async fn reload(&mut self, gateway: &Gateway) {
        let began = Instant::now();
        let source = self.source.clone();
        let loaded = tokio::task::spawn_blocking(move || source.load());
        let file = self.source.path.display().to_string();
        let settings = match loaded.await {
            Ok(Ok(settings)) => settings,
            Ok(Err(report)) => {
                tracing::error!(
                    "{file} has changed and is not valid; the configuration before stays in force:\n{report}"
                );
                return;
            }
            Err(error) => {
                tracing::error!(%error, "{file} has changed and could not be read; the configuration before stays in force");
                return;
            }
        };
        // The files that it names are looked at before they are read, as it was itself.
        let paths = [self.source.paths(&self.settings), self.source.paths(&settings)].concat();
        self.files.follow(&paths);
        self.source.contents.follow(&paths);
        let services = settings.services.len();
        match self.apply(settings, gateway).await {
            Ok(()) => {
                let elapsed_ms = began.elapsed().as_millis();
                tracing::info!(elapsed_ms, services, "the configuration was applied");
            }
            Err(error) => {
                let (services, routes) = labels(&self.settings);
                self.metrics.retain(&services, &routes);
                tracing::error!(
                    "{file} has changed and cannot be applied: {error:#}; the configuration before stays in force"
                );
            }
        }
        self.watch();
    }

    /// Takes other settings over. Everything that can fail, and that can keep it waiting, comes first.
    async fn apply(&mut self, settings: Settings, gateway: &Gateway) -> Result<()> {
        let waiting = self.settings.restart_needed(&settings);
        if !waiting.is_empty() {
            bail!(
                "{} can be changed only by a new start (`serviceos down`, then `serviceos up`); undo that to have the rest applied now",
                waiting.join(", ")
            );
        }
        let tiers = self.keys.begin_tiers().await;
        let checks = Arc::clone(&self.checks.borrow());
        let previous = Previous { settings: &self.settings, checks: &checks, router: &self.router };
        let plan = Plan::of(&settings, &self.registry, &self.metrics, &self.tls, Some(&previous))?;
        let Plan { services, router, checks, routes, unresolved, .. } = plan;
        let labels = labels(&settings);
        let own = health_pages(&self.registry, &self.draining);
        let gateway_plan = Plan::gateway(routes, Arc::clone(&router), &settings, &self.metrics, own)?;

        // What was looked up for the configuration before is nothing to this one.
        self.resolving.end();
        // Those that go stay until no worker sends requests there any more.
        let names: BTreeSet<ServiceName> = services.iter().map(|service| service.name.clone()).collect();
        self.registry.replace_services(|known| {
            let going = known.iter().filter(|service| !names.contains(&service.name));
            services.iter().chain(going).cloned().collect()
        });
        self.checks.send_replace(checks);
        tiers.set(provisioning::tiers(&settings), edge_gateway::nanoseconds_now());
        if !gateway.apply(gateway_plan, TAKE_OVER).await {
            tracing::warn!("a gateway worker has not taken the configuration over in time");
        }
        let order: Vec<ServiceName> = services.iter().map(|service| service.name.clone()).collect();
        self.registry.replace_services(|known| {
            let known: HashMap<_, _> = known.iter().map(|service| (&service.name, service)).collect();
            order.iter().filter_map(|name| known.get(name).copied().cloned()).collect()
        });
        self.metrics.retain(&labels.0, &labels.1);
        self.resolving.begin(unresolved, &self.registry);
        (self.settings, self.router) = (settings, router);
        Ok(())
    }
}

/// The services and routes that metrics are kept of.
fn labels(settings: &Settings) -> (BTreeSet<String>, BTreeSet<(String, String)>) {
    let services = settings.services.iter().map(|service| service.name.to_string()).collect();
    let routes = settings.services.iter().flat_map(|service| {
        service.routes.iter().map(|route| (service.name.to_string(), route.path.clone()))
    });
    (services, routes.collect())
}
