//! Another configuration while everything runs: read, checked whole, and taken over whole, or not at all. No connection is
//! touched by it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use access::ApiKeys;
use anyhow::{Result, bail};
use configuration::Settings;
use control::{Descriptions, StoreView};
use edge_gateway::Plans;
use observability::Metrics;
use service_registry::Registry;
use service_router::{CheckPolicies, ServicePlans};
use tokio::sync::watch;
use types::ServiceName;

use super::client_tls::ClientTls;
use super::files::Files;
use super::joining::Manifests;
use super::plan::{Plan, Previous, Resolving, descriptions};
use super::source::{Found, named};
use super::upstream_tls::UpstreamTls;
use super::{health_pages, provisioning};

/// How long the workers may take until all of them use another configuration.
const TAKE_OVER: Duration = Duration::from_secs(10);

/// The configuration in force, and everything that another one changes.
pub(crate) struct Live {
    pub(crate) settings: Settings,
    /// What the file says, where it is valid and could not be taken over.
    pub(crate) refused: Option<Settings>,
    pub(crate) registry: Registry,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) keys: Arc<ApiKeys>,
    pub(crate) store: StoreView,
    pub(crate) draining: Arc<AtomicBool>,
    pub(crate) checks: watch::Sender<CheckPolicies>,
    pub(crate) described: watch::Sender<Descriptions>,
    pub(crate) gateway: Plans,
    pub(crate) router: Arc<ServicePlans>,
    pub(crate) upstream_tls: UpstreamTls,
    pub(crate) client_tls: ClientTls,
    pub(crate) resolving: Resolving,
    pub(crate) files: Files,
    pub(super) manifests: Manifests,
}

/// What became of other settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Applied {
    Yes,
    No,
}

impl Live {
    /// Takes over what was found. What is wrong with it is said, and everything stays as it is.
    pub(crate) async fn take_over(&mut self, found: Found) {
        let concerns = |settings: &Settings| named(settings).any(|file| found.others.contains(file));
        let renewed = concerns(&self.settings);
        if renewed {
            self.client_tls.forget();
        }
        let wanted = match found.settings {
            None => self.refused.take_if(|refused| concerns(refused)),
            Some(Ok(settings)) => Some(settings),
            Some(Err(report)) => {
                tracing::error!(
                    "{} has changed and is not valid; the configuration before stays in force:\n{report}",
                    self.files.name()
                );
                self.refused = None;
                None
            }
        };
        let applied = match wanted {
            Some(settings) => self.replace(settings, found.began).await,
            None => Applied::No,
        };
        if renewed && applied == Applied::No {
            self.renew_certificates().await;
        }
        self.files.keep(std::iter::once(&self.settings).chain(&self.refused));
    }

    async fn replace(&mut self, settings: Settings, began: Instant) -> Applied {
        let services = settings.services.len();
        self.refused = None;
        match self.apply(settings.clone()).await {
            Ok(()) => {
                let elapsed_ms = began.elapsed().as_millis();
                tracing::info!(elapsed_ms, services, "the configuration was applied");
                Applied::Yes
            }
            Err(error) => {
                let (services, routes) = labels(&self.settings);
                self.metrics.retain(&services, &routes);
                tracing::error!(
                    "{} has changed and cannot be applied: {error:#}; the configuration before stays in force",
                    self.files.name()
                );
                self.refused = Some(settings);
                Applied::No
            }
        }
    }

    /// The configuration in force once more, since its certificates are others. Whatever the file says by now, they must not
    /// run out for that.
    async fn renew_certificates(&mut self) {
        match self.apply(self.settings.clone()).await {
            Ok(()) => tracing::info!("changed certificates were taken over"),
            Err(error) => tracing::error!(
                "a certificate has changed and cannot be taken over: {error:#}; the one before stays in force"
            ),
        }
    }

    /// Takes other settings over. Everything that can fail, and that can keep it waiting, comes first.
    async fn apply(&mut self, settings: Settings) -> Result<()> {
        let waiting = self.settings.restart_needed(&settings);
        if !waiting.is_empty() {
            bail!(
                "{} can be changed only by a new start (`serviceos down`, then `serviceos up`); undo that to have the rest applied now",
                waiting.join(", ")
            );
        }
        // Before the tiers, which keep everybody else who changes a key waiting.
        let client_tls = self.client_tls.of(settings.gateway.tls.as_ref()).await?;
        let upstream_tls = self.upstream_tls.of(&settings).await?;
        let tiers = self.keys.begin_tiers().await;
        let checks = Arc::clone(&self.checks.borrow());
        let previous = Previous { settings: &self.settings, checks: &checks, router: &self.router };
        let plan = Plan::of(&settings, &self.registry, &self.metrics, &upstream_tls, Some(&previous));
        let Plan { services, router, checks, routes, unresolved, .. } = plan;
        let labels = labels(&settings);
        let own = health_pages(&self.registry, &self.draining, &self.store);
        let tls = client_tls.config();
        let gateway_plan = Plan::gateway(routes, Arc::clone(&router), &settings, &self.metrics, tls, own)?;
        self.manifests.apply(&settings).await?;

        // What was looked up for the configuration before is nothing to this one.
        self.resolving.end();
        // Those that go stay until no worker sends requests there any more.
        let names: BTreeSet<ServiceName> = services.iter().map(|service| service.name.clone()).collect();
        self.registry.replace_services(|known| {
            let going = known.iter().filter(|service| !names.contains(&service.name));
            services.iter().chain(going).cloned().collect()
        });
        self.checks.send_replace(checks);
        self.described.send_replace(descriptions(&settings));
        tiers.set(provisioning::tiers(&settings), edge_gateway::nanoseconds_now());
        if !self.gateway.apply(gateway_plan, TAKE_OVER).await {
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
        (self.client_tls, self.upstream_tls) = (client_tls, upstream_tls);
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
