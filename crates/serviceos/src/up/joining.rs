//! The authority and what stands around it: quoter, mesh API, the identities of this process, and what is written in the
//! registry.

mod configs;
mod policies;

pub(super) use policies::releases;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use appraisal::Roots;
use configuration::Settings;
use control::ConfigRefused;
use jiff::Timestamp;
use mesh::{Members, MeshApi, OwnIdentity, Registrations};
use mesh_protocol::tls::{Admits, RootPin, client_config};
use mesh_protocol::{Bytes, MeshCoordinates, Subject};
use rustls::ClientConfig;
use secrets::Vault;
use service_registry::{Configurations, Node, Registry};
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use trust::{Authority, CallerSigner, Clocks, Opening, Own, SecretGrant, ServicePolicy, TrustError};
use types::{Mode, ReplicaId, ServiceName};

use super::background::{Background, told};
use super::data_dir::DataDir;
use super::elsewhere;
use super::kept_rollouts::{Kept, Leaving, Resumed};
use super::measuring::{Measurements, runs_the_same};
use super::node;
use super::quoter::Quoter;
use super::store::Stores;
use super::versions::Versions;
use crate::hold::Hold;

/// What an authority is made of that was claimed before.
pub(super) struct Claimed {
    pub(super) stores: Stores,
    /// Its name among others, where there may be some.
    pub(super) node: Option<Node>,
    pub(super) vault: Arc<Mutex<Vault>>,
    pub(super) grants: BTreeMap<ServiceName, Vec<SecretGrant>>,
    pub(super) listener: TcpListener,
}

/// Takes over what another configuration changes about trust.
pub(super) struct Manifests {
    authority: Authority,
    measurements: Arc<Measurements>,
    grants: Arc<BTreeMap<ServiceName, Vec<SecretGrant>>>,
    configurations: Configurations,
    run: PathBuf,
    /// What is measured the next time whatever was measured before.
    anew: BTreeSet<ServiceName>,
    /// What ran before, of services of which another version is on its way.
    leaving: BTreeMap<ServiceName, Leaving>,
}

impl Manifests {
    /// The versions of settings that were measured.
    pub(super) fn versions(&self, settings: &Settings) -> Versions {
        Versions::measured(settings, &self.measurements)
    }

    /// What was measured last of what is in force.
    pub(super) fn measurements(&self) -> &Arc<Measurements> {
        &self.measurements
    }

    /// What this service runs is measured again the next time, though the settings say the same of it.
    pub(super) fn measure_anew(&mut self, service: &ServiceName) {
        self.anew.insert(service.clone());
    }

    /// Measures what other settings say. What is the same, or was there before, was measured before.
    pub(super) async fn measure(&mut self, before: &Settings, settings: &Settings) -> Result<Measurements> {
        let mut anew = std::mem::take(&mut self.anew);
        let labels: BTreeMap<_, _> =
            before.services.iter().map(|service| (&service.name, &service.version)).collect();
        // Whoever gives it another label may have put another program in the place of the one before.
        let relabelled = settings
            .services
            .iter()
            .filter(|service| labels.get(&service.name).is_some_and(|before| **before != service.version));
        anew.extend(relabelled.map(|service| service.name.clone()));
        let mut before = before.clone();
        before.services.retain(|service| !anew.contains(&service.name));
        let mut measured = self.measurements.renewed(Some(&before), settings, &self.run).await?;
        for service in settings.services.iter().filter(|service| !anew.contains(&service.name)) {
            let leaving = self.leaving.get(&service.name).and_then(|leaving| leaving.known.as_ref());
            let Some((said, launchable)) = leaving.filter(|(said, _)| runs_the_same(said, service)) else {
                continue;
            };
            // Where the configuration says the same of both, it is the program that is another.
            let in_force = before.services.iter().find(|before| before.name == service.name);
            if in_force.is_some_and(|in_force| !runs_the_same(in_force, said)) {
                measured.services.insert(service.name.clone(), launchable.clone());
            }
        }
        Ok(measured)
    }

    /// Another version of these services is on its way: those of the one before are admitted as long as they are there. Gives what
    /// was left before that, for whoever has to [take it back](Self::leave_as_before).
    pub(super) fn leave(
        &mut self,
        before: &Settings,
        services: &[ServiceName],
    ) -> BTreeMap<ServiceName, Leaving> {
        let known = self.leaving.clone();
        let policies = policies::services(before, &self.measurements, &self.grants).unwrap_or_default();
        for service in before.services.iter().filter(|service| services.contains(&service.name)) {
            let (Some(launchable), Some(policy)) =
                (self.measurements.services.get(&service.name), policies.get(&service.name))
            else {
                continue;
            };
            let mut releases = policy.policy.releases.clone();
            // One that is replaced before it was there itself.
            let known = self.leaving.get(&service.name).into_iter().flat_map(|known| &known.releases);
            for release in known {
                if !releases.contains(release) {
                    releases.push(release.clone());
                }
            }
            let leaving = Leaving { known: Some((service.clone(), launchable.clone())), releases };
            self.leaving
                .entry(service.name.clone())
                .and_modify(|known| known.releases.clone_from(&leaving.releases))
                .or_insert(leaving);
        }
        known
    }

    /// Nothing came of what was about to leave.
    pub(super) fn leave_as_before(&mut self, known: BTreeMap<ServiceName, Leaving>) {
        self.leaving = known;
    }

    /// The services of which another version is on its way.
    pub(super) fn leaving(&self) -> Vec<ServiceName> {
        self.leaving.keys().cloned().collect()
    }

    /// Only one version of the service is there any more.
    pub(super) fn has_left(&mut self, service: &ServiceName) -> Option<Leaving> {
        self.leaving.remove(service)
    }

    /// It is admitted after all.
    pub(super) fn leave_still(&mut self, service: &ServiceName, left: Option<Leaving>) {
        self.leaving.extend(left.map(|left| (service.clone(), left)));
    }

    /// What is measured anew is in force.
    pub(super) fn take_measurements(&mut self, measurements: Measurements) {
        self.measurements = Arc::new(measurements);
    }

    /// Who keeps the audit trail.
    pub(super) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The operator's word is the transition; the same manifest is none. Replicas learn of it, and of another `config` of theirs,
    /// once it is in force, by the number of its revision.
    pub(super) async fn apply(
        &mut self,
        settings: &Settings,
        measured: &Measurements,
        revision: u64,
        actor: &'static str,
    ) -> Result<(), ConfigRefused> {
        let services = policies::services(settings, measured, &self.grants);
        let latest = services.map_err(|error| ConfigRefused::NotApplied(format!("{error:#}")))?;
        let mut services = latest.clone();
        admit_too(&mut services, &self.leaving);
        let manifest = policies::manifest(settings, &services);
        let prepared = configs::prepare(&self.configurations, revision, settings, &services);
        let latest = (policies::manifest(settings, &latest), latest);
        let is_all = latest.0 == manifest;
        match self.authority.apply(manifest, services, actor).await {
            // Other nodes have ended what begins here.
            Err(other @ TrustError::OtherManifest { .. }) if !is_all => {
                let (manifest, services) = latest.clone();
                self.authority.apply(manifest, services, actor).await.map_err(|_| other)?;
                admitted_no_more(&mut self.leaving);
            }
            applied => applied?,
        }
        self.authority.expect((!is_all).then_some(latest));
        prepared.take_over();
        self.authority.schedule_rotations(rotations(settings));
        Ok(())
    }
}

/// Those that leave are admitted as well.
fn admit_too(services: &mut BTreeMap<ServiceName, ServicePolicy>, leaving: &BTreeMap<ServiceName, Leaving>) {
    for (name, leaving) in leaving {
        let Some(policy) = services.get_mut(name) else { continue };
        let releases = &mut policy.policy.releases;
        let others = leaving.releases.iter().filter(|release| !releases.contains(release));
        let mut others: Vec<_> = others.cloned().collect();
        // By whichever way a node has come to them, the manifest is the same.
        others.sort_by(|one, other| (&one.version, one.simulated).cmp(&(&other.version, other.simulated)));
        releases.extend(others);
    }
}

/// Other nodes have ended what is on its way here: whoever brought it into force again would leave them behind.
fn admitted_no_more(leaving: &mut BTreeMap<ServiceName, Leaving>) {
    leaving.values_mut().for_each(|leaving| leaving.releases.clear());
}

/// The mesh of this process.
pub(super) struct Mesh {
    pub(super) authority: Authority,
    pub(super) quoter: Quoter,
    pub(super) members: Members,
    measurements: Arc<Measurements>,
    grants: Arc<BTreeMap<ServiceName, Vec<SecretGrant>>>,
    configurations: Configurations,
    gateway: OwnIdentity,
    listener: OwnIdentity,
    api: MeshApi,
    run: PathBuf,
    node: Option<Node>,
    pub(super) address: SocketAddr,
    leaving: BTreeMap<ServiceName, Leaving>,
}

impl Mesh {
    /// Opens the authority, and makes everything ready that replicas need to join; the settings have this number. What earlier ones
    /// have left is admitted too.
    pub(super) async fn open(
        settings: &Settings,
        revision: u64,
        data_dir: &DataDir,
        claimed: Claimed,
        kept: Kept,
        (measured, hold): (Option<(Settings, Measurements)>, Hold),
    ) -> Result<(Self, Resumed)> {
        let Claimed { stores, node: claimed, vault, grants, listener } = claimed;
        let address = listener.local_addr().context("failed to open the mesh port")?;
        let measurements = match measured {
            Some((of, measured)) => measured.renewed(Some(&of), settings, data_dir.run()).await?,
            None => Measurements::take(settings, data_dir.run()).await?,
        };
        let quoter = Quoter::reach(data_dir.run(), data_dir.development(), hold).await?;
        let resumed = kept.decide(settings, &measurements, data_dir.run()).await;
        let mut leaving = resumed.leaving();
        let latest = policies::services(settings, &measurements, &grants)?;
        let mut services = latest.clone();
        admit_too(&mut services, &leaving);
        let manifest = policies::manifest(settings, &services);
        let latest = (policies::manifest(settings, &latest), latest);
        let expected = (latest.0 != manifest).then_some(latest);
        let opening = |manifest, services| Opening {
            node: node::among_others(settings),
            store: stores.mesh.clone(),
            vault: Arc::clone(&vault),
            roots: Roots::Development(quoter.root().to_vec()),
            clocks: Clocks { wall: Arc::new(milliseconds), boot: Arc::new(since_boot) },
            audit: data_dir.audit(),
            manifest,
            services,
            own: own_evidence(&quoter, measurements.authority),
        };
        let opened = match (Authority::open(opening(manifest, services.clone())).await, &expected) {
            (Err(TrustError::OtherManifest { .. }), Some((manifest, latest))) => {
                admitted_no_more(&mut leaving);
                services.clone_from(latest);
                Authority::open(opening(manifest.clone(), latest.clone())).await
            }
            (opened, _) => opened,
        };
        let authority = opened.context("failed to open the authority")?;
        authority.expect(expected);
        authority.schedule_rotations(rotations(settings));
        let configurations = Configurations::of_node(node::among_others(settings));
        configs::prepare(&configurations, revision, settings, &services).take_over();
        let name = node::name(settings).to_string();
        let failed = "failed to make an identity for this process";
        let own = |subject| OwnIdentity::new(authority.clone(), subject).context(failed);
        let (gateway, own_listener) = (own(Subject::Gateway(name.clone()))?, own(Subject::Authority(name))?);
        let api = MeshApi::new(listener, authority.clone(), own_listener.identity(), own_listener.spki())
            .context("failed to open the mesh API")?
            .with_store(stores.mesh)
            .with_state(stores.services);
        let members = Members::default();
        let (measurements, grants) = (Arc::new(measurements), Arc::new(grants));
        let listener = own_listener;
        let mesh = Self {
            authority,
            quoter,
            members,
            measurements,
            grants,
            configurations,
            gateway,
            listener,
            api,
            run: data_dir.run().to_owned(),
            node: claimed,
            address,
            leaving,
        };
        Ok((mesh, resumed))
    }

    /// What replicas are called with: the gateway's identity, and whichever replica has a valid one. Which one it must be is
    /// compared with the registry when a connection is made.
    pub(super) fn client(&self, protocol: &[u8]) -> Result<ClientConfig> {
        let admits: Admits = Arc::new(|peer| match peer.id.subject {
            Subject::Service { .. } => Ok(()),
            _ => Err(format!("{} is no replica", peer.id)),
        });
        let root = RootPin::Spki(self.authority.root_spki().to_vec());
        let domain = &self.authority.domain().trust_domain;
        client_config(self.gateway.identity(), root, domain, admits, &[protocol])
            .context("failed to set up TLS to the replicas")
    }

    /// Says who calls, with the gateway's key.
    pub(super) fn caller_signer(&self) -> Result<CallerSigner> {
        self.gateway.caller_signer().context("failed to set up the gateway's identity")
    }

    /// What another configuration goes through.
    pub(super) fn manifests(&self) -> Manifests {
        Manifests {
            authority: self.authority.clone(),
            measurements: Arc::clone(&self.measurements),
            grants: Arc::clone(&self.grants),
            configurations: self.configurations.clone(),
            run: self.run.clone(),
            anew: BTreeSet::new(),
            leaving: self.leaving.clone(),
        }
    }

    /// Begins what runs beside the rest. What is left over is needed to launch replicas.
    pub(super) fn begin(
        self,
        settings: &Settings,
        registry: &Registry,
        background: &mut Background,
    ) -> Begun {
        let allow = settings.services.iter().filter_map(|service| {
            let allow = service.process()?.allow.iter().cloned().collect();
            Some((service.name.clone(), allow))
        });
        let allow = allow.collect();
        let Self { authority, quoter, members, measurements, gateway, listener, node, address, .. } = self;
        let (api, configurations) = (self.api, self.configurations);
        let registrations = elsewhere::places(settings);
        let api = api.with_calls(registry.clone(), Arc::new(allow)).with_registrations(registrations.clone());
        let api = api.with_configurations(configurations.clone());
        let shared = registry.clone();
        let (writer, registry, written) = (authority.clone(), registry.clone(), members.clone());
        background.add(|stopped| mesh::write_attestation(writer, registry, written, told(stopped)));
        background.add(|stopped| gateway.keep(told(stopped)));
        background.add(|stopped| listener.keep(told(stopped)));
        background.add(|stopped| api.serve(told(stopped)));
        if let Some(node) = node {
            let seal = node::seal(authority.clone());
            background.add_abiding(|stopped| node.run(shared, seal, told(stopped)));
        }
        let running = authority.clone();
        background.add(|stopped| running.run(told(stopped)));
        Begun { authority, quoter, members, registrations, configurations, measurements, address }
    }
}

/// What replicas are launched with.
pub(super) struct Begun {
    pub(super) authority: Authority,
    pub(super) quoter: Quoter,
    pub(super) members: Members,
    /// The places of those that are started elsewhere.
    pub(super) registrations: Registrations,
    /// What each service is to work with.
    pub(super) configurations: Configurations,
    pub(super) measurements: Arc<Measurements>,
    /// Where the mesh API listens.
    pub(super) address: SocketAddr,
}

/// What is in force when a replica is launched.
pub(super) struct InForce {
    /// Where the mesh is, and its transition.
    pub(super) mesh: MeshCoordinates,
    /// The configuration of its service.
    pub(super) config: serde_json::Value,
}

impl Begun {
    /// What a replica that is launched now is told; what it has said of its configuration before is over.
    pub(super) fn launched(&self, replica: &ReplicaId) -> InForce {
        self.configurations.launched(replica, Timestamp::now());
        loop {
            // Both of one transition, or the replica would be refused.
            let (mesh, digest) = (self.coordinates(), self.authority.config_digest(&replica.service));
            let found = digest.and_then(|digest| self.configurations.of_digest(&replica.service, &digest));
            if self.coordinates().transition == mesh.transition {
                let config = found.map(|found| found.value.as_ref().clone());
                return InForce { mesh, config: config.unwrap_or_else(|| serde_json::json!({})) };
            }
        }
    }

    /// What a replica that is launched now is told of the mesh.
    pub(super) fn coordinates(&self) -> MeshCoordinates {
        let (_, transition) = self.authority.transition();
        let domain = self.authority.domain();
        MeshCoordinates {
            address: self.address,
            root_spki: Bytes(self.authority.root_spki().to_vec()),
            trust_domain: domain.trust_domain.clone(),
            mode: domain.mode,
            transition: Bytes(transition.to_vec()),
            evidence_root: (domain.mode == Mode::Development).then(|| Bytes(self.quoter.root().to_vec())),
            authority_workload: Bytes(self.measurements.authority.to_vec()),
        }
    }
}

/// After how long which secrets are rotated.
fn rotations(settings: &Settings) -> BTreeMap<String, Duration> {
    settings.secrets.iter().filter_map(|(name, secret)| Some((name.clone(), secret.rotate?))).collect()
}

fn own_evidence(quoter: &Quoter, workload: [u8; 32]) -> Own {
    let quoter = quoter.clone();
    let evidence = Arc::new(move |report_data| {
        let quoter = quoter.clone();
        Box::pin(async move { quoter.evidence(report_data, workload).await }) as Pin<Box<_>>
    });
    Own { workload, evidence }
}

fn milliseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds since the machine was started, its sleep included.
fn since_boot() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    seconds * 1000 + u64::try_from(time.tv_nsec / 1_000_000).unwrap_or_default()
}
