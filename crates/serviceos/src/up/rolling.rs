//! Which services another version is to run of, and what follows once a rollout has ended: only one version is admitted any more,
//! and where it was given up, the configuration says again what runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use configuration::{Runs, ServiceSettings, Settings};
use control::ConfigRefused;
use service_lifecycle::rollout::{Outcome, Stage};
use service_lifecycle::{EndedRollout, FleetHandle, RolloutStatus, Rollouts};
use service_registry::{Actor, Subject, Version, What};
use types::ServiceName;

use super::reload::Live;
use super::revisions::{Candidate, Origin};
use super::versions::Versions;

/// Who makes the revisions that follow from a rollout.
const ROLLOUT: &str = "rollout";

/// Why settings are taken over.
pub(super) enum Reason {
    /// They are another revision.
    Revision(Candidate),
    /// They are one in which this service says again what runs.
    TakenBack(Candidate, ServiceName),
    /// Files are others that those in force name.
    Files,
    /// What this service of those in force runs was measured again, as somebody of this name has asked.
    MeasuredAgain(ServiceName, &'static str),
}

impl Live {
    /// Measures again what a service runs, such as a program that was built anew under the same path, and rolls it out if it is
    /// another version than the one that runs or is on its way. Whether a rollout has begun.
    ///
    /// # Errors
    /// Nothing has changed then.
    pub(crate) async fn roll_again(
        &mut self,
        service: &ServiceName,
        author: &'static str,
    ) -> Result<bool, ConfigRefused> {
        let mut settings = self.settings.services.iter();
        if !settings.any(|settings| settings.name == *service && settings.process().is_some()) {
            return Err(ConfigRefused::UnknownService(service.clone()));
        }
        let before = self.fleets.of(service).map(|fleet| fleet.rollouts().wanted);
        self.manifests.measure_anew(service);
        self.apply(self.settings.clone(), Reason::MeasuredAgain(service.clone(), author)).await?;
        let has_begun = self.fleets.of(service).map(|fleet| fleet.rollouts().wanted) != before;
        // It may be what runs, where something else was given up.
        Box::pin(self.end_rollouts()).await;
        Ok(has_begun)
    }

    /// The services of which another version is to run.
    pub(super) fn rolled(
        &self,
        settings: &Settings,
        versions: &Versions,
        reason: &Reason,
    ) -> BTreeMap<ServiceName, Version> {
        let rolled = settings.services.iter().filter_map(|service| {
            let (rollouts, version) = (self.fleets.of(&service.name)?.rollouts(), versions.get(service));
            let is_another = rollouts.wanted != version;
            let begins = is_another && self.begins(service, &version, &rollouts, reason);
            begins.then(|| (service.name.clone(), version))
        });
        rolled.collect()
    }

    /// Whether a rollout to this version begins. What was given up, or is being given up, is not begun with again by itself: somebody
    /// asks for it, or says something else of the service than before.
    fn begins(
        &self,
        service: &ServiceSettings,
        version: &Version,
        rollouts: &Rollouts,
        reason: &Reason,
    ) -> bool {
        let name = &service.name;
        let on_its_way = rollouts.on_its_way.as_ref().filter(|rollout| rollout.to == *version);
        let is_given_up =
            |rollout: &RolloutStatus| matches!(rollout.stage, Stage::Reverting(_) | Stage::Over(_));
        if on_its_way.is_some_and(|rollout| !is_given_up(rollout)) {
            return false;
        }
        match reason {
            // Where that measures as something else by now, it is none of what is to run.
            Reason::TakenBack(_, taken_back) if taken_back == name => return false,
            Reason::MeasuredAgain(asked, _) if asked == name => return true,
            Reason::Revision(_) | Reason::TakenBack(..) | Reason::Files | Reason::MeasuredAgain(..) => {}
        }
        let said = self.said(name);
        if self.specs.given_up(name).as_ref() == Some(version) {
            return said.is_none_or(|said| self.manifests.versions(&self.settings).get(said) != *version);
        }
        let is_being_given_up =
            on_its_way.is_some() || self.specs.not_taken_over(name, rollouts).as_ref() == Some(version);
        // Until that is over the configuration says it still, and what is mended of it may be something else than what it runs.
        !is_being_given_up || said.is_none_or(|said| !says_the_same_but_for_replicas(said, service))
    }

    /// What the configuration in force says of a service.
    fn said(&self, service: &ServiceName) -> Option<&ServiceSettings> {
        self.settings.services.iter().find(|said| said.name == *service)
    }

    /// Takes over how rollouts have ended since the last time.
    pub(crate) async fn end_rollouts(&mut self) {
        for service in self.manifests.leaving() {
            let Some(rollouts) = self.fleets.of(&service).map(FleetHandle::rollouts) else { continue };
            // Whoever is only started again runs the same.
            if rollouts.on_its_way.as_ref().is_some_and(|rollout| rollout.from != rollout.to) {
                continue;
            }
            // How that one has ended was taken over.
            if self.specs.given_up(&service).is_some() {
                if self.is_alone(&service, &rollouts.wanted) {
                    self.specs.give_up(&service, None);
                    self.has_ended(&service, &rollouts.wanted).await;
                } else if self.says(&service, &rollouts.wanted) {
                    // Others of it go by themselves.
                    self.slower_nodes.look_again(&service);
                }
                continue;
            }
            if self.slower_nodes.were_awaited(&service) {
                self.has_ended(&service, &rollouts.wanted).await;
                continue;
            }
            let Some(ended) = rollouts.decided() else { continue };
            match &ended.outcome {
                Outcome::Done => self.rolled_out(&service, ended).await,
                Outcome::Reverted(_) => self.rolled_back(&service, ended).await,
                Outcome::Incomplete(_) => self.rolled_back_in_part(&service, ended).await,
                Outcome::Replaced => {}
            }
        }
    }

    async fn rolled_out(&mut self, service: &ServiceName, ended: &EndedRollout) {
        tracing::info!(%service, from = ended.from.id(), to = ended.to.id(), "the new version runs");
        self.has_ended(service, &ended.to).await;
    }

    async fn rolled_back(&mut self, service: &ServiceName, ended: &EndedRollout) {
        let (from, to, outcome) = (ended.from.id(), ended.to.id(), ended.outcome.to_string());
        tracing::error!(%service, from, to, outcome, "the new version is given up, and the one before runs");
        self.take_back_or_say_why(service, ended).await;
        let versions = self.manifests.versions(&self.settings);
        let said = self.said(service).map(|said| versions.get(said));
        match said.filter(|version| *version != ended.from) {
            None => self.has_ended(service, &ended.from).await,
            Some(version) => self.runs_another(service, ended, version),
        }
    }

    /// Replicas of the new version serve where those of the old one do not come back: they are admitted as long as they are there.
    async fn rolled_back_in_part(&mut self, service: &ServiceName, ended: &EndedRollout) {
        let (from, to, outcome) = (ended.from.id(), ended.to.id(), ended.outcome.to_string());
        tracing::error!(%service, from, to, outcome, "the new version is given up, and the one before does not serve with every replica");
        self.manifests.leave(&self.settings, std::slice::from_ref(service));
        self.take_back_or_say_why(service, ended).await;
        self.specs.give_up(service, Some(ended.to.clone()));
    }

    async fn take_back_or_say_why(&mut self, service: &ServiceName, ended: &EndedRollout) {
        let others_know = match self.specs.of(service, &ended.to) {
            Some(given_up) => self.slower_nodes.know(service, &given_up).await,
            None => false,
        };
        if others_know {
            // The manifest is one for all nodes: what is taken back here would be admitted nowhere any more.
            self.manifests.leave(&self.settings, std::slice::from_ref(service));
            tracing::error!(
                %service,
                "other nodes run what was given up here, or say it: both versions are admitted until all files say the same of one"
            );
        } else if let Err(reason) = self.take_back(service, &ended.from).await {
            tracing::error!(%service, reason, "the configuration says still what was given up; roll it back with `serviceos config rollback`");
        }
    }

    fn says(&self, service: &ServiceName, version: &Version) -> bool {
        let versions = self.manifests.versions(&self.settings);
        self.said(service).is_some_and(|said| versions.get(said) == *version)
    }

    /// Whether the configuration says this version, and no replica runs another.
    fn is_alone(&self, service: &ServiceName, version: &Version) -> bool {
        let snapshot = self.registry.snapshot();
        let replicas = snapshot.service(service).into_iter().flat_map(|service| &service.replicas);
        let mut instances = replicas.filter_map(|replica| replica.instance.as_ref());
        self.says(service, version) && instances.all(|instance| instance.version == *version)
    }

    /// The configuration cannot say what runs, such as where the program is another one. Those that run are admitted as long as they
    /// are there, and nothing begins by itself.
    fn runs_another(&mut self, service: &ServiceName, ended: &EndedRollout, version: Version) {
        let told = format!(
            "{} runs on, and {} is not begun with by itself, though the configuration says it; `serviceos rollout start {service}` does",
            ended.from.id(),
            version.id()
        );
        tracing::error!(%service, "{told}");
        let subject = Subject::Service(service.clone());
        self.registry.events().record(subject, What::Rollout(told), None, Actor::Rollout);
        self.specs.give_up(service, Some(version));
    }

    /// The configuration in force, but for what the service runs, which is this version: the last revision that said so says it again.
    async fn take_back(&mut self, service: &ServiceName, version: &Version) -> Result<(), String> {
        let spec = self.specs.of(service, version).ok_or("what it said before is not known any more")?;
        let before = self.revisions.history().text(spec.revision).await;
        let before = before.map_err(|error| error.to_string())?;
        let text = configuration::with_spec_of(&self.revisions.in_force().text, service, &before);
        let text = text.ok_or("it cannot be edited")?;
        let document = self.files.read(text.into_bytes(), ROLLOUT.to_owned()).await;
        let document = document.map_err(|error| error.to_string())?;
        if self.revisions.differences(&document.meaning).is_empty() {
            return Ok(());
        }
        let candidate = Candidate::of(&document, Origin::Cli, ROLLOUT);
        let reason = Reason::TakenBack(candidate, service.clone());
        let replaced = self.replace(document.settings, reason, Instant::now()).await;
        replaced.map_err(|refused| refused.to_string())
    }

    /// Only this version of the service is there, and, once other nodes are as far, known and admitted.
    async fn has_ended(&mut self, service: &ServiceName, version: &Version) {
        if let Some(runs) = self.specs.of(service, version)
            && self.slower_nodes.are_awaited(service, &runs).await
        {
            return;
        }
        let left = self.manifests.has_left(service);
        let measured = Arc::clone(self.manifests.measurements());
        let revision = self.revisions.in_force().record.revision;
        match self.manifests.apply(&self.settings, &measured, revision, ROLLOUT).await {
            Ok(()) => {
                self.slower_nodes.forget(service);
                self.specs.keep_only(service, version);
            }
            Err(refused) => {
                tracing::error!(%service, %refused, "a version that does not run any more is still admitted; it is tried again");
                self.manifests.leave_still(service, left);
                self.slower_nodes.look_again(service);
            }
        }
    }
}

/// Whether two configurations want the same of a service, of however many replicas.
fn says_the_same_but_for_replicas(one: &ServiceSettings, other: &ServiceSettings) -> bool {
    let of_none = |service: &ServiceSettings| {
        let mut service = service.clone();
        if let Runs::Process(process) = &mut service.runs {
            process.replicas = 0;
        }
        service
    };
    of_none(one) == of_none(other)
}
