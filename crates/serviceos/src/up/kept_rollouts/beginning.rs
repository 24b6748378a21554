//! What a start finds: the rows, and the processes that an earlier `up` has left. It decides what each service begins with, before
//! anybody is admitted.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

use appraisal::Release;
use configuration::{ProcessSettings, Program, ServiceSettings, Settings};
use service_lifecycle::{EndedRollout, Fleets, Found, FoundRollout};
use service_registry::Version;
use store::Store;
use types::{NodeName, ReplicaId, ServiceName};

use super::course::Course;
use super::row::{self, KeptVersion, Row};
use super::writing::Place;
use crate::up::adoption::Leftovers;
use crate::up::background::Background;
use crate::up::joining::releases;
use crate::up::measuring::{Launchable, Measurements};
use crate::up::node;
use crate::up::revisions;
use crate::up::slower_nodes;
use crate::up::source::Reader;
use crate::up::specs::{Spec, Specs};
use crate::up::versions::Versions;

/// What was found, until it is known what is wanted.
pub(crate) struct Kept {
    store: Store,
    node: NodeName,
    reader: Reader,
    rows: BTreeMap<ServiceName, Row>,
    /// What other nodes run.
    of_others: BTreeMap<ServiceName, Vec<KeptVersion>>,
    left: Leftovers,
}

/// What every service begins with.
pub(crate) struct Resumed {
    store: Store,
    node: NodeName,
    services: BTreeMap<ServiceName, Begins>,
    rows: BTreeMap<ServiceName, Row>,
    left: Leftovers,
}

/// What a service begins with.
struct Begins {
    course: Course,
    /// Those that were left and are taken over, and what they run.
    left: Vec<(ReplicaId, Version)>,
    /// Rollouts that have ended, the latest last.
    ended: VecDeque<EndedRollout>,
    /// What the configuration does not say any more, and replicas may run.
    specs: Vec<Spec>,
    leaving: Option<Leaving>,
}

/// A version that another one takes the place of.
#[derive(Clone)]
pub(crate) struct Leaving {
    /// What it runs, where that can be started.
    pub(in crate::up) known: Option<(ServiceSettings, Launchable)>,
    /// What its replicas are admitted by until they are gone.
    pub(in crate::up) releases: Vec<Release>,
}

/// A version of an earlier configuration, as far as it can be had again.
struct Earlier {
    spec: Spec,
    releases: Vec<Release>,
    known: Option<(ServiceSettings, Launchable)>,
}

impl Kept {
    /// Reads what there is. What cannot be read is said, and is as if it were not there. Within a runtime.
    pub(crate) async fn read(store: &Store, settings: &Settings, reader: Reader, run: &Path) -> Self {
        let (node, left) = (node::name(settings), Leftovers::find(run));
        let prefix = row::prefix(&node);
        let found = match store.range(prefix.clone()).await {
            Ok(found) => found.rows,
            Err(error) => {
                tracing::warn!(%error, "what ran before cannot be read: what was left and is another by now is started anew");
                Vec::new()
            }
        };
        let read = |(key, value): (Vec<u8>, Vec<u8>)| {
            let service: ServiceName = str::from_utf8(&key).ok()?.strip_prefix(&prefix)?.parse().ok()?;
            match Row::decode(&value) {
                Ok(row) => Some((service, row)),
                Err(error) => {
                    tracing::warn!(%service, %error, "what is kept of its versions is damaged, or of a later version, and counts for nothing");
                    None
                }
            }
        };
        let rows = found.into_iter().filter_map(|row| read((row.key, row.value))).collect();
        let of_others = match node::among_others(settings) {
            Some(own) => of_others(store, &own).await,
            None => BTreeMap::new(),
        };
        Self { store: store.clone(), node, reader, rows, of_others, left }
    }

    /// Decides by what is wanted, as it was measured.
    pub(in crate::up) async fn decide(
        self,
        settings: &Settings,
        measurements: &Measurements,
        run: &Path,
    ) -> Resumed {
        let versions = Versions::measured(settings, measurements);
        let mut services = BTreeMap::new();
        for service in &settings.services {
            let is_started = service.process().is_some_and(|process| process.program != Program::Elsewhere);
            let Some(launchable) = measurements.services.get(&service.name).filter(|_| is_started) else {
                continue;
            };
            let wanted = Spec::of(service, launchable, versions.get(service), 0);
            if let Some(wanted) = wanted {
                services.insert(service.name.clone(), self.begins(settings, service, &wanted, run).await);
            }
        }
        let Self { store, node, rows, left, .. } = self;
        Resumed { store, node, services, rows, left }
    }

    async fn begins(
        &self,
        settings: &Settings,
        service: &ServiceSettings,
        wanted: &Spec,
        run: &Path,
    ) -> Begins {
        let row = self.rows.get(&service.name);
        let kept: Vec<Version> =
            row.iter().flat_map(|row| row.versions()).map(KeptVersion::version).collect();
        let is_known = |version: &Version| *version == wanted.version || kept.contains(version);
        let left: Vec<(ReplicaId, Version)> = self
            .left
            .of_service(&service.name)
            .into_iter()
            .filter_map(|(id, record)| {
                let is_wanted = wanted.starts.as_ref().is_ok_and(|starts| starts.id == record.spec);
                let version = record.version().or_else(|| is_wanted.then(|| wanted.version.clone()))?;
                is_known(&version).then_some((id, version))
            })
            .collect();
        let others = row.iter().flat_map(|row| row.versions());
        let others = others.filter(|kept| kept.version() != wanted.version);
        let mut earlier = BTreeMap::new();
        for kept in others {
            let is_stable = row.is_some_and(|row| row.stable == *kept);
            let runs = left.iter().any(|(_, version)| *version == kept.version());
            if is_stable || runs {
                earlier
                    .insert(kept.version().id().to_owned(), self.earlier(settings, service, kept, run).await);
            }
        }
        let stable = row.and_then(|row| earlier.get(row.stable.version().id()));
        let starts = stable.is_some_and(|stable| stable.spec.starts.is_ok());
        let runs: Vec<Version> = left.iter().map(|(_, version)| version.clone()).collect();
        let course = Course::of(row, &wanted.version, &runs, starts);
        let ended = row.into_iter().flat_map(|row| row.ended().chain(course.ended(row))).collect();
        let others = self.of_others.get(&service.name).into_iter().flatten();
        let others = others.filter(|kept| !kept.is(wanted));
        let mut releases: Vec<Release> =
            others.flat_map(|kept| releases_of(service, &kept.version(), kept.workload())).collect();
        let is_alone = course.rollout.is_none() && course.given_up.is_none();
        if is_alone {
            let left = left.into_iter().filter(|(_, version)| *version == course.stable).collect();
            let leaving = (!releases.is_empty()).then_some(Leaving { known: None, releases });
            return Begins { course, left, ended, specs: Vec::new(), leaving };
        }
        say(service, &course, left.len(), stable.map(|stable| &stable.spec));
        let known = stable.and_then(|stable| stable.known.clone());
        releases.extend(earlier.values().flat_map(|earlier| earlier.releases.clone()));
        let specs = earlier.into_values().map(|earlier| earlier.spec).collect();
        Begins { course, left, ended, specs, leaving: Some(Leaving { known, releases }) }
    }

    /// What is kept of a version, and what its configuration says of it where that can be read and measures the same today.
    async fn earlier(
        &self,
        settings: &Settings,
        service: &ServiceSettings,
        kept: &KeptVersion,
        run: &Path,
    ) -> Earlier {
        let (version, workload, revision) = (kept.version(), kept.workload(), kept.revision);
        let text = revisions::text_of(&self.store, self.node.as_str(), revision).await.ok();
        let said = text.and_then(|text| {
            let document = self.reader.read(text.as_bytes(), &format!("revision {revision}")).ok()?;
            document.settings.services.into_iter().find(|said| said.name == service.name)
        });
        let releases = releases_of(said.as_ref().unwrap_or(service), &version, workload);
        let kept_said = said.clone().map(Box::new);
        let measured = match &said {
            Some(said) => measured(settings, said, &version, run).await,
            None => Err(format!("revision {revision}, which said what it runs, cannot be read")),
        };
        let (starts, known) = match (measured, said) {
            (Ok(launchable), Some(said)) => {
                let spec = Spec::of(&said, &launchable, version.clone(), revision);
                let starts = spec.map_or_else(|| Err("it has no process".to_owned()), |spec| spec.starts);
                (starts, Some((said, launchable)))
            }
            (Ok(_), None) => (Err("it is not known what it runs".to_owned()), None),
            (Err(reason), _) => (Err(reason), None),
        };
        let spec = Spec { version, revision, workload, said: kept_said, starts };
        Earlier { spec, releases, known }
    }
}

/// What other nodes that live run, and are about to run: until all run the same the manifest of the mesh admits it, also here. What
/// cannot be read is none.
async fn of_others(store: &Store, own: &NodeName) -> BTreeMap<ServiceName, Vec<KeptVersion>> {
    let mut of_others: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for node in slower_nodes::others(store, own).await.unwrap_or_default() {
        let prefix = row::prefix(&node);
        let Ok(found) = store.range(prefix.clone()).await else { continue };
        for found in found.rows {
            let service =
                str::from_utf8(&found.key).ok().and_then(|key| key.strip_prefix(&prefix)?.parse().ok());
            if let (Some(service), Ok(row)) = (service, Row::decode(&found.value)) {
                of_others.entry(service).or_default().extend(row.versions().cloned());
            }
        }
    }
    of_others
}

/// What replicas of a version are admitted by, as this is said of the service.
fn releases_of(said: &ServiceSettings, version: &Version, workload: [u8; 32]) -> Vec<Release> {
    let of = |process: &ProcessSettings| releases(&process.attestation, version.label(), Some(workload));
    said.process().map(of).unwrap_or_default()
}

/// Measures what an earlier configuration says of a service, which must be what it was.
async fn measured(
    settings: &Settings,
    said: &ServiceSettings,
    version: &Version,
    run: &Path,
) -> Result<Launchable, String> {
    let alone = Settings { services: vec![said.clone()], ..settings.clone() };
    let measured = Measurements::take(&alone, run).await.map_err(|error| format!("{error:#}"))?;
    if Versions::measured(&alone, &measured).get(said) == *version {
        let launchable = measured.services.get(&said.name).cloned();
        return launchable.ok_or_else(|| "it has no process".to_owned());
    }
    Err(match said.process().map(|process| &process.program) {
        Some(Program::Builtin(_)) => {
            "this serviceos is another program than the one that started it".to_owned()
        }
        _ => "what it runs was replaced by something else".to_owned(),
    })
}

/// What the operator is told at the start.
fn say(service: &ServiceSettings, course: &Course, left: usize, stable: Option<&Spec>) {
    let (service, stable_id) = (&service.name, course.stable.id());
    match &course.rollout {
        Some(FoundRollout { to, reached: Some(reached), .. }) => {
            let (to, stage) = (to.id(), reached.stage.to_string());
            tracing::info!(%service, from = stable_id, to, stage, left, "the rollout goes on that was on its way");
        }
        Some(FoundRollout { to, reached: None, .. }) => {
            let to = to.id();
            tracing::info!(%service, from = stable_id, to, left, "what was left runs another version than is wanted now, which is rolled out");
        }
        None => {
            tracing::warn!(%service, runs = stable_id, "what the configuration says was given up, and is not begun with by itself");
        }
    }
    if let Some(Err(reason)) = stable.map(|stable| stable.starts.as_ref()) {
        tracing::warn!(%service, version = stable_id, reason, "replicas of the version that ran are taken over, and none can be started any more");
    }
}

impl Resumed {
    /// What is admitted beside what the configuration says.
    pub(in crate::up) fn leaving(&self) -> BTreeMap<ServiceName, Leaving> {
        let leaving = |(name, begins): (&ServiceName, &Begins)| Some((name.clone(), begins.leaving.clone()?));
        self.services.iter().filter_map(leaving).collect()
    }

    /// The services of which only other nodes exchange what they run.
    pub(in crate::up) fn awaits_others(&self) -> BTreeSet<ServiceName> {
        let is_done = |begins: &Begins| begins.course.rollout.is_none() && begins.course.given_up.is_none();
        let awaits = self.services.iter().filter(|(_, begins)| is_done(begins) && begins.leaving.is_some());
        awaits.map(|(name, _)| name.clone()).collect()
    }

    /// Makes known what replicas run of which the configuration does not say it any more.
    pub(in crate::up) fn add_to(&mut self, specs: &Specs) {
        for (name, begins) in &mut self.services {
            begins.specs.drain(..).for_each(|spec| specs.add_left(name, spec));
            specs.give_up(name, begins.course.given_up.clone());
        }
    }

    /// Those that were left and are taken over, also where there are more than are wanted.
    pub(in crate::up) fn stay(&self) -> impl Iterator<Item = &ReplicaId> {
        let rolled = self.services.values().filter(|begins| begins.course.rollout.is_some());
        rolled.flat_map(|begins| &begins.left).map(|(id, _)| id)
    }

    /// The version that a service runs, where it is another than is wanted.
    pub(in crate::up) fn stable(&self, service: &ServiceName) -> Option<Version> {
        Some(self.services.get(service)?.course.stable.clone())
    }

    /// What is there of a service, of those that have a place.
    pub(in crate::up) fn found(
        &self,
        service: &ServiceName,
        has_place: impl Fn(&ReplicaId) -> bool,
    ) -> Found {
        let Some(begins) = self.services.get(service) else { return Found::default() };
        let left = begins.left.iter().filter(|(id, _)| has_place(id));
        let left = left.map(|(id, version)| (id.ordinal, version.clone())).collect();
        Found { left, rollout: begins.course.rollout.clone(), ended: begins.ended.clone() }
    }

    /// The processes, for whoever takes them over.
    pub(in crate::up) fn take_leftovers(&mut self) -> Leftovers {
        std::mem::take(&mut self.left)
    }

    /// From now on the rows are kept as things are.
    pub(in crate::up) fn keep(self, fleets: &Fleets, specs: &Specs, background: &mut Background) {
        let prefix = row::prefix(&self.node);
        for service in self.services.into_keys() {
            let Some(fleet) = fleets.of(&service) else { continue };
            let (rollouts, specs) = (fleet.watch_rollouts(), specs.clone());
            let written = self.rows.get(&service).cloned();
            let place = Place { store: self.store.clone(), key: format!("{prefix}{service}"), service };
            background.add(|stopped| place.keep(rollouts, specs, written, stopped));
        }
    }
}
