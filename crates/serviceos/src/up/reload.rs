//! Another configuration while everything runs: read, checked whole, and taken over whole, or not at all. No connection is
//! touched by it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use access::ApiKeys;
use configuration::{Document, Settings};
use control::{ConfigChange, ConfigChanged, ConfigRefused, ConfigWanted, Descriptions, StoreView};
use edge_gateway::Plans;
use observability::Metrics;
use service_lifecycle::Fleets;
use service_registry::{Actor, Registry, Version};
use service_router::{CheckPolicies, ServicePlans};
use tokio::sync::watch;
use trust::TrustError;
use types::ServiceName;

use super::client_tls::ClientTls;
use super::files::Files;
use super::fleets;
use super::groups::Confinement;
use super::joining::Manifests;
use super::made::Broken;
use super::measuring::Measurements;
use super::plan::{self, Plan, Previous, Resolving, RouteLimits, descriptions};
use super::request_rules::RequestRules;
use super::revisions::{Candidate, Committed, FileMeans, Origin, Revisions};
use super::rolling::Reason;
use super::shared_limits::SharedFiles;
use super::slower_nodes::SlowerNodes;
use super::source::{Found, named};
use super::specs::Specs;
use super::systemd::Manager;
use super::tokens::Tokens;
use super::unusable::Unusable;
use super::upstream_tls::UpstreamTls;
use super::versions::Versions;
use super::{own_pages, provisioning};

/// How long the workers may take until all of them use another configuration.
const TAKE_OVER: Duration = Duration::from_secs(10);
/// After how long a file is tried again that only the store kept from being applied.
pub(super) const ONCE_MORE: Duration = Duration::from_secs(10);

/// The configuration in force, and everything that another one changes.
pub(crate) struct Live {
    pub(crate) settings: Settings,
    /// The revisions, one of which it is.
    pub(crate) revisions: Revisions,
    /// What the file says, where it is valid and could not be taken over.
    pub(crate) refused: Option<Document>,
    /// When that is tried again, where only the store was in the way.
    pub(crate) again: Option<tokio::time::Instant>,
    pub(crate) registry: Registry,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) keys: Arc<ApiKeys>,
    pub(crate) tokens: Tokens,
    pub(crate) store: StoreView,
    pub(crate) draining: Arc<AtomicBool>,
    pub(crate) checks: watch::Sender<CheckPolicies>,
    pub(crate) described: watch::Sender<Descriptions>,
    pub(crate) gateway: Plans,
    pub(crate) router: Arc<ServicePlans>,
    pub(crate) limits: RouteLimits,
    pub(crate) upstream_tls: UpstreamTls,
    pub(crate) client_tls: ClientTls,
    pub(super) shared: SharedFiles,
    pub(crate) rules: RequestRules,
    pub(crate) resolving: Resolving,
    pub(crate) files: Files,
    /// The replicas that are looked after here.
    pub(crate) fleets: Fleets,
    pub(super) manifests: Manifests,
    /// What the versions of each service run.
    pub(super) specs: Specs,
    pub(super) slower_nodes: SlowerNodes,
    pub(super) confinement: Arc<Confinement>,
    /// Changes whenever a rollout has ended.
    pub(super) rollouts: watch::Receiver<u64>,
}

/// What became of other settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Applied {
    Yes,
    No,
}

/// What became of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileIs {
    InForce,
    Refused,
    /// Nothing else than before.
    AsBefore,
}

impl Live {
    /// Takes over what was found, and tells the service manager that, and what became of it. Where somebody has asked for a look that
    /// has found nothing, what was refused before is tried again.
    pub(crate) async fn take_over_and_tell(&mut self, found: Found, manager: &Manager) {
        manager.reloading();
        if found.is_nothing() && self.refused.is_some() {
            self.try_again_and_tell(manager).await;
        } else {
            match self.take_over(found).await {
                FileIs::AsBefore => {}
                file => manager.file_is_refused(file == FileIs::Refused),
            }
        }
        if !self.files.is_asked() {
            manager.reloaded();
        }
    }

    /// The same for what was refused before.
    pub(crate) async fn try_again_and_tell(&mut self, manager: &Manager) {
        let was_refused = self.refused.is_some();
        self.try_again().await;
        if was_refused {
            manager.file_is_refused(self.refused.is_some());
        }
    }

    /// The same where secrets that issuers of tokens sign with are others, or may be.
    pub(crate) async fn renew_secrets_and_tell(&mut self, manager: &Manager) {
        let was_refused = self.refused.is_some();
        self.renew_secrets_of_issuers().await;
        if was_refused {
            manager.file_is_refused(self.refused.is_some());
        }
    }

    /// Takes over what was found. What is wrong with it is said, and everything stays as it is.
    async fn take_over(&mut self, found: Found) -> FileIs {
        let concerns = |settings: &Settings| named(settings).any(|file| found.others.contains(file));
        let renewed = concerns(&self.settings);
        if renewed {
            self.client_tls.note_change(&found.others);
            self.shared.note_change(&found.others);
            self.rules.note_change(&found.others);
            self.tokens.note_change(&self.settings, &found.others);
        }
        let mut file = FileIs::AsBefore;
        let wanted = match found.document {
            None => self.refused.take_if(|refused| concerns(&refused.settings)),
            Some(Ok(document)) => Some(document),
            Some(Err(report)) => {
                tracing::error!(
                    "{} has changed and is not valid; the configuration before stays in force:\n{report}",
                    self.files.name()
                );
                (self.refused, self.again) = (None, None);
                file = FileIs::Refused;
                None
            }
        };
        let applied = match wanted {
            Some(document) => {
                let applied = self.follow(document, found.began).await;
                file = if self.refused.is_some() { FileIs::Refused } else { FileIs::InForce };
                applied
            }
            None => Applied::No,
        };
        if renewed && applied == Applied::No {
            self.renew_files().await;
        }
        self.keep_files();
        file
    }

    /// Returns when what the store kept from being applied is to be tried again; never where there is nothing like that.
    pub(crate) async fn due(again: Option<tokio::time::Instant>) {
        match again {
            Some(again) => tokio::time::sleep_until(again).await,
            None => std::future::pending().await,
        }
    }

    /// Tries once more what the file says, if the store answers: each try has its lines in the audit trail. After a start without the
    /// store it is looked at here whether what that went by is in force at all.
    async fn try_again(&mut self) {
        self.again = None;
        if !self.store.state().available {
            self.again = Some(tokio::time::Instant::now() + ONCE_MORE);
            return;
        }
        match self.revisions.unknown().await {
            Err(_) => {
                self.again = Some(tokio::time::Instant::now() + ONCE_MORE);
                return;
            }
            Ok(Some(number)) if self.refused.is_none() => tracing::error!(
                "revision {number} is in force in the store, and this start went by an older one of its mirror: start serviceos again"
            ),
            // The file replaces it.
            Ok(_) => {}
        }
        if let Some(document) = self.refused.take() {
            self.follow(document, Instant::now()).await;
            self.keep_files();
        }
    }

    /// What somebody asks for in the place of what is in force.
    ///
    /// # Errors
    /// Nothing has changed then.
    pub(crate) async fn change(&mut self, change: ConfigChange) -> Result<ConfigChanged, ConfigRefused> {
        let changed = self.changed(change).await;
        self.keep_files();
        changed
    }

    async fn changed(&mut self, change: ConfigChange) -> Result<ConfigChanged, ConfigRefused> {
        let began = Instant::now();
        Box::pin(self.end_rollouts()).await;
        let before = self.revisions.in_force().record.revision;
        if change.if_revision.is_some_and(|expected| expected != before) {
            return Err(ConfigRefused::Conflict { in_force: before });
        }
        let (text, name) = match change.wanted {
            ConfigWanted::MeasuredAgain(service) => {
                let has_begun = self.roll_again(&service, change.author).await?;
                return Ok(ConfigChanged::new(before, has_begun, Vec::new()));
            }
            ConfigWanted::Text(text) => (text, "configuration".to_owned()),
            ConfigWanted::Revision(number) => {
                (self.revisions.history().text(number).await?.into_bytes(), format!("revision {number}"))
            }
            ConfigWanted::Scaled(service, replicas) => {
                let text = &self.revisions.in_force().text;
                let scaled = configuration::with_replicas(text, &service, replicas);
                let scaled = scaled.ok_or(ConfigRefused::UnknownService(service))?;
                (scaled.into_bytes(), "configuration".to_owned())
            }
        };
        let document = self.files.read(text, name).await?;
        let diff = self.revisions.differences(&document.meaning);
        if change.dry_run {
            let refuses = Broken::Refuses;
            let client_tls = self.client_tls.of(document.settings.gateway.tls.as_ref(), refuses);
            client_tls.await.map_err(unusable)?;
            self.tokens.read(&document.settings).await.map_err(unusable)?;
            self.shared.of(&document.settings, refuses).await.map_err(unusable)?;
            self.rules.of(&document.settings, refuses).await.map_err(unusable)?;
            let restart_needed = self.settings.restart_needed(&document.settings);
            let changed = !diff.is_empty();
            return Ok(ConfigChanged {
                dry_run: true,
                restart_needed,
                ..ConfigChanged::new(before, changed, diff)
            });
        }
        if diff.is_empty() {
            return Ok(ConfigChanged::new(before, false, diff));
        }
        let candidate = Candidate::of(&document, Origin::Cli, change.author);
        self.replace(document.settings, Reason::Revision(candidate), began).await?;
        Ok(ConfigChanged::new(self.revisions.in_force().record.revision, true, diff))
    }

    /// Takes over what the file means, where it means something else than before.
    async fn follow(&mut self, document: Document, began: Instant) -> Applied {
        (self.refused, self.again) = (None, None);
        Box::pin(self.end_rollouts()).await;
        let followed = match self.revisions.file_means(&document.meaning) {
            FileMeans::TheSame => Ok(Applied::No),
            FileMeans::WhatIsInForce => self.revisions.file_has_caught_up().await.map(|()| Applied::No),
            FileMeans::Another => {
                let candidate = Candidate::of_file(&document);
                let reason = Reason::Revision(candidate);
                self.replace(document.settings.clone(), reason, began).await.map(|()| Applied::Yes)
            }
        };
        let file = self.files.name();
        match followed {
            Ok(Applied::Yes) => Applied::Yes,
            Ok(Applied::No) => {
                let revision = self.revisions.in_force().record.revision;
                tracing::info!(
                    "{file} has changed and means the same as before; revision {revision} stays in force"
                );
                Applied::No
            }
            Err(refused) => {
                tracing::error!(
                    "{file} has changed and cannot be applied: {refused}; the configuration before stays in force"
                );
                self.again = refused.may_pass().then(|| tokio::time::Instant::now() + ONCE_MORE);
                self.refused = Some(document);
                Applied::No
            }
        }
    }

    pub(super) async fn replace(
        &mut self,
        settings: Settings,
        reason: Reason,
        began: Instant,
    ) -> Result<(), ConfigRefused> {
        let (services, before) = (settings.services.len(), self.revisions.in_force());
        if let Err(refused) = self.apply(settings, reason).await {
            let (services, routes) = labels(&self.settings);
            self.metrics.retain(&services, &routes);
            return Err(refused);
        }
        let (revision, elapsed_ms) = (self.revisions.in_force().record.revision, began.elapsed().as_millis());
        tracing::info!(elapsed_ms, services, revision, "the configuration was applied");
        self.revisions.in_force().say_what_replaces(&before);
        Ok(())
    }

    fn keep_files(&self) {
        let refused = self.refused.iter().map(|document| &document.settings);
        self.files.keep(std::iter::once(&self.settings).chain(refused));
    }

    /// The configuration in force once more, since files that it names are others. Whatever it says by now, they must not run out for
    /// that; what cannot be used of them says so, and keeps nothing else waiting.
    async fn renew_files(&mut self) {
        if let Err(error) = self.apply(self.settings.clone(), Reason::Files).await {
            tracing::error!("changed files cannot be taken over: {error}; those before stay in force");
        }
    }

    /// Secrets that issuers of tokens sign with are others, or may be. What was refused may have waited for one.
    async fn renew_secrets_of_issuers(&mut self) {
        self.tokens.renew_secrets(&self.settings).await;
        if let Some(document) = self.refused.take_if(|refused| Tokens::need_secrets(&refused.settings)) {
            self.follow(document, Instant::now()).await;
            self.keep_files();
        }
    }

    /// Takes other settings over. Everything that can fail, and that can keep it waiting, comes first; then the revision is
    /// written down, if it is one, and a start that follows a crash from there on goes by it.
    pub(super) async fn apply(&mut self, settings: Settings, reason: Reason) -> Result<(), ConfigRefused> {
        let waiting = self.settings.restart_needed(&settings);
        if !waiting.is_empty() {
            return Err(ConfigRefused::NewStart(waiting));
        }
        // What is in force already goes on with what was made of it.
        let (broken, actor) = match &reason {
            Reason::Revision(candidate) | Reason::TakenBack(candidate, _) => {
                (Broken::Refuses, candidate.actor())
            }
            Reason::Files => (Broken::Stays, Actor::Configuration),
            Reason::MeasuredAgain(..) => (Broken::Stays, Actor::Operator),
        };
        // Before the tiers, which keep everybody else who changes a key waiting.
        let client_tls = self.client_tls.of(settings.gateway.tls.as_ref(), broken).await.map_err(unusable)?;
        let upstream_tls = self.upstream_tls.of(&settings).await.map_err(not_applied)?;
        let issuers = self.tokens.of(&settings, broken).await.map_err(unusable)?;
        let shared = self.shared.of(&settings, broken).await.map_err(unusable)?;
        let rules = self.rules.of(&settings, broken).await.map_err(unusable)?;
        let keys = Arc::clone(&self.keys);
        let tiers = keys.begin_tiers().await;
        let checks = Arc::clone(&self.checks.borrow());
        let previous = Previous { checks: &checks, router: &self.router, limits: &self.limits };
        let measured = self.manifests.measure(&self.settings, &settings).await.map_err(not_applied)?;
        let versions = Versions::measured(&settings, &measured);
        let rolled = self.rolled(&settings, &versions, &reason);
        let former = self.specs.former(&versions);
        let plan = Plan::of(&settings, &self.metrics, &upstream_tls, &rules, &former, Some(&previous));
        let Plan { router, checks, terms, routes, limits, .. } = plan;
        let labels = labels(&settings);
        let own = own_pages(settings.mode, &self.registry, &self.draining, &self.store);
        let tls = client_tls.config();
        let router_plan = Arc::clone(&router);
        let gateway_plan =
            Plan::gateway(routes, router_plan, &settings, &self.metrics, tls, own, shared.limits())
                .map_err(not_applied)?;
        let committed = self.commit(&settings, &measured, &rolled, reason).await?;

        // What was looked up for the configuration before is nothing to this one.
        self.resolving.end();
        let (services, unresolved) =
            plan::services(&settings, &self.registry, &versions, Some(&self.settings));
        // Those that go stay until no worker sends requests there any more.
        let names: BTreeSet<ServiceName> = services.iter().map(|service| service.name.clone()).collect();
        self.registry.replace_services(|known| {
            let going = known.iter().filter(|service| !names.contains(&service.name));
            services.iter().chain(going).cloned().collect()
        });
        self.checks.send_replace(checks);
        let number = committed.as_ref().map_or(self.revisions.in_force().record.revision, Committed::number);
        self.specs.add(&settings, &measured, &versions, number);
        self.manifests.take_measurements(measured);
        fleets::take_over(&self.fleets, terms, rolled, &actor).await;
        self.described.send_replace(descriptions(&settings));
        let (wanted, now_ns) = (provisioning::tiers(&settings), edge_gateway::nanoseconds_now());
        self.tokens.set(issuers, &wanted, now_ns);
        tiers.set(wanted, now_ns);
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
        if client_tls.renews(&self.client_tls) {
            tracing::info!("a certificate has changed and was taken over");
        }
        if shared.renews(&self.shared) {
            tracing::info!("a file of gateway.rateLimits.shared has changed and was taken over");
        }
        rules.renewed(&self.rules).for_each(|key| {
            tracing::info!("{key}: a schema has changed and was taken over");
        });
        self.confinement.say(&settings);
        (self.settings, self.router, self.limits) = (settings, router, limits);
        (self.client_tls, self.upstream_tls) = (client_tls, upstream_tls);
        (self.shared, self.rules) = (shared, rules);
        if let Some(committed) = committed {
            self.revisions.put_in_force(committed);
        }
        Ok(())
    }

    /// Writes the revision down, and what it changes about trust; both, or neither. Where it is no other, nothing is asked of the
    /// store, which may be away: certificates are renewed all the same.
    async fn commit(
        &mut self,
        settings: &Settings,
        measured: &Measurements,
        rolled: &BTreeMap<ServiceName, Version>,
        reason: Reason,
    ) -> Result<Option<Committed>, ConfigRefused> {
        let (committed, author) = match reason {
            Reason::Revision(candidate) | Reason::TakenBack(candidate, _) => {
                let author = candidate.author;
                (Some(self.revisions.commit(candidate, self.manifests.authority()).await?), author)
            }
            Reason::MeasuredAgain(_, author) => (None, author),
            Reason::Files => return Ok(None),
        };
        let before = self.revisions.in_force().record.revision;
        let number = committed.as_ref().map_or(before, Committed::number);
        let services: Vec<_> = rolled.keys().cloned().collect();
        let left_before = self.manifests.leave(&self.settings, &services);
        match self.manifests.apply(settings, measured, number, author).await {
            Ok(()) => {
                for service in services {
                    self.specs.give_up(&service, None);
                    self.slower_nodes.forget(&service);
                }
                Ok(committed)
            }
            Err(refused) => {
                self.manifests.leave_as_before(left_before);
                if let Some(committed) = committed {
                    self.revisions.take_back(committed, &refused, self.manifests.authority()).await;
                }
                Err(refused)
            }
        }
    }
}

fn unusable(wrong: Unusable) -> ConfigRefused {
    ConfigRefused::NotApplied(wrong.to_string())
}

fn not_applied(error: anyhow::Error) -> ConfigRefused {
    // What the authority refuses has codes of its own.
    match error.downcast::<TrustError>() {
        Ok(error) => ConfigRefused::Trust(error),
        Err(error) => ConfigRefused::NotApplied(format!("{error:#}")),
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
