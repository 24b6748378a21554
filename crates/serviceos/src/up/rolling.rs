//! Which services another version is to run of, and what follows once a rollout has ended: only one version is admitted any more,
//! and where it was given up, the configuration says again what runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use configuration::Settings;
use control::ConfigRefused;
use service_lifecycle::rollout::Outcome;
use service_lifecycle::{EndedRollout, FleetHandle};
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
    /// Files are others that those in force name.
    Files,
    /// What a service of those in force runs was measured again, as somebody of this name has asked.
    MeasuredAgain(&'static str),
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
        let given_up = self.specs.given_up(service);
        // Whoever asks for it wants it once more.
        self.specs.give_up(service, None);
        if let Err(refused) = self.apply(self.settings.clone(), Reason::MeasuredAgain(author)).await {
            self.specs.give_up(service, given_up);
            return Err(refused);
        }
        Ok(self.fleets.of(service).map(|fleet| fleet.rollouts().wanted) != before)
    }

    /// The services of which another version is to run. What was given up, or is being given up, is not begun with again by itself.
    pub(super) fn rolled(&self, settings: &Settings, versions: &Versions) -> BTreeMap<ServiceName, Version> {
        let rolled = settings.services.iter().filter_map(|service| {
            let (rollouts, version) = (self.fleets.of(&service.name)?.rollouts(), versions.get(service));
            let is_on_its_way = rollouts.on_its_way.as_ref().is_some_and(|rollout| rollout.to == version);
            let given_up = self.specs.given_up(&service.name);
            let given_up = given_up.or_else(|| self.specs.not_taken_over(&service.name, &rollouts));
            let is_given_up = given_up.as_ref() == Some(&version);
            let is_taken_back = self.taken_back.as_ref() == Some(&service.name);
            let is_kept = is_on_its_way || is_given_up || is_taken_back;
            let is_another = rollouts.wanted != version && !is_kept;
            is_another.then(|| (service.name.clone(), version))
        });
        rolled.collect()
    }

    /// Takes over how rollouts have ended since the last time.
    pub(crate) async fn end_rollouts(&mut self) {
        for service in self.manifests.leaving() {
            // How that one has ended was taken over.
            if self.specs.given_up(&service).is_some() {
                continue;
            }
            let Some(rollouts) = self.fleets.of(&service).map(FleetHandle::rollouts) else { continue };
            if rollouts.on_its_way.is_some() {
                self.slower_nodes.forget(&service);
                continue;
            }
            if self.slower_nodes.were_awaited(&service) {
                self.has_ended(&service).await;
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
        self.has_ended(service).await;
        self.specs.keep_only(service, &ended.to);
    }

    async fn rolled_back(&mut self, service: &ServiceName, ended: &EndedRollout) {
        let (from, to, outcome) = (ended.from.id(), ended.to.id(), ended.outcome.to_string());
        tracing::error!(%service, from, to, outcome, "the new version is given up, and the one before runs");
        if let Err(reason) = self.take_back(service).await {
            tracing::error!(%service, reason, "the configuration says still what was given up; roll it back with `serviceos config rollback`");
        }
        self.specs.keep_only(service, &ended.from);
        let versions = self.manifests.versions(&self.settings);
        let said = self.settings.services.iter().find(|said| said.name == *service);
        match said.map(|said| versions.get(said)).filter(|version| *version != ended.from) {
            None => self.has_ended(service).await,
            Some(version) => self.runs_another(service, ended, version),
        }
    }

    /// Replicas of the new version serve where those of the old one do not come back: they are admitted, and can be started, until
    /// another rollout has ended.
    async fn rolled_back_in_part(&mut self, service: &ServiceName, ended: &EndedRollout) {
        let (from, to, outcome) = (ended.from.id(), ended.to.id(), ended.outcome.to_string());
        tracing::error!(%service, from, to, outcome, "the new version is given up, and the one before does not serve with every replica");
        if let Err(reason) = self.take_back(service).await {
            tracing::error!(%service, reason, "the configuration says still what was given up; roll it back with `serviceos config rollback`");
        }
        self.texts_before.remove(service);
        self.specs.give_up(service, Some(ended.to.clone()));
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
        self.texts_before.remove(service);
        self.specs.give_up(service, Some(version));
    }

    /// The configuration in force, but for what the service runs, which is as it was before.
    async fn take_back(&mut self, service: &ServiceName) -> Result<(), String> {
        let before = self.texts_before.get(service).ok_or("what it said before is not known any more")?;
        let text = configuration::with_spec_of(&self.revisions.in_force().text, service, before);
        let text = text.ok_or("it cannot be edited")?;
        let document = self.files.read(text.into_bytes(), ROLLOUT.to_owned()).await;
        let document = document.map_err(|error| error.to_string())?;
        if self.revisions.differences(&document.meaning).is_empty() {
            return Ok(());
        }
        let candidate = Candidate::of(&document, Origin::Cli, ROLLOUT);
        // Where that measures as something else by now, it is none of what is to run.
        self.taken_back = Some(service.clone());
        let replaced = self.replace(document.settings, candidate, Instant::now()).await;
        self.taken_back = None;
        replaced.map_err(|refused| refused.to_string())
    }

    /// Only one version of the service is there, and, once other nodes are as far, admitted.
    async fn has_ended(&mut self, service: &ServiceName) {
        self.texts_before.remove(service);
        if self.slower_nodes.are_awaited(service).await {
            return;
        }
        self.manifests.has_left(service);
        let measured = Arc::clone(self.manifests.measurements());
        let revision = self.revisions.in_force().record.revision;
        if let Err(refused) = self.manifests.apply(&self.settings, &measured, revision, ROLLOUT).await {
            tracing::error!(%service, %refused, "a version that does not run any more is still admitted, until another configuration is applied");
        }
    }
}
