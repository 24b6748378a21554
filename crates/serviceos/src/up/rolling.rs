//! Which services another version is to run of, and what follows once a rollout has ended: only one version is admitted any more,
//! and where it was given up, the configuration says again what runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use configuration::Settings;
use control::ConfigRefused;
use service_lifecycle::rollout::Outcome;
use service_lifecycle::{EndedRollout, FleetHandle};
use service_registry::Version;
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
        self.apply(self.settings.clone(), Reason::MeasuredAgain(author)).await?;
        Ok(self.fleets.of(service).map(|fleet| fleet.rollouts().wanted) != before)
    }

    /// The services of which another version is to run.
    pub(super) fn rolled(&self, settings: &Settings, versions: &Versions) -> BTreeMap<ServiceName, Version> {
        let rolled = settings.services.iter().filter_map(|service| {
            let (wanted, version) = (self.fleets.of(&service.name)?.rollouts().wanted, versions.get(service));
            (wanted != version).then(|| (service.name.clone(), version))
        });
        rolled.collect()
    }

    /// Takes over how rollouts have ended since the last time.
    pub(crate) async fn end_rollouts(&mut self) {
        for service in self.manifests.leaving() {
            let Some(rollouts) = self.fleets.of(&service).map(FleetHandle::rollouts) else { continue };
            let ended = rollouts.ended.back().filter(|_| rollouts.on_its_way.is_none());
            let Some(ended) = ended else { continue };
            match &ended.outcome {
                Outcome::Done => self.rolled_out(&service, ended).await,
                Outcome::Reverted(_) | Outcome::Incomplete(_) => self.rolled_back(&service, ended).await,
            }
        }
    }

    async fn rolled_out(&mut self, service: &ServiceName, ended: &EndedRollout) {
        tracing::info!(%service, from = ended.from.id(), to = ended.to.id(), "the new version runs");
        self.has_ended(service);
        self.specs.keep_only(service, &ended.to);
        let measured = Arc::clone(self.manifests.measurements());
        let revision = self.revisions.in_force().record.revision;
        if let Err(refused) = self.manifests.apply(&self.settings, &measured, revision, ROLLOUT).await {
            tracing::error!(%service, %refused, "the version that was replaced is still admitted, until another configuration is applied");
        }
    }

    async fn rolled_back(&mut self, service: &ServiceName, ended: &EndedRollout) {
        let (from, to, outcome) = (ended.from.id(), ended.to.id(), ended.outcome.to_string());
        tracing::error!(%service, from, to, outcome, "the new version is given up, and the one before runs");
        if let Err(reason) = self.take_back(service).await {
            tracing::error!(%service, reason, "the configuration says still what was given up; roll it back with `serviceos config rollback`");
            return;
        }
        self.has_ended(service);
        self.specs.keep_only(service, &ended.from);
    }

    /// The configuration in force, but for what the service runs, which is as it was before.
    async fn take_back(&mut self, service: &ServiceName) -> Result<(), String> {
        let before = self.texts_before.get(service).ok_or("what it said before is not known any more")?;
        let text = configuration::with_spec_of(&self.revisions.in_force().text, service, before);
        let text = text.ok_or("it cannot be edited")?;
        let document = self.files.read(text.into_bytes(), ROLLOUT.to_owned()).await;
        let document = document.map_err(|error| error.to_string())?;
        let candidate = Candidate::of(&document, Origin::Cli, ROLLOUT);
        self.replace(document.settings, candidate, Instant::now())
            .await
            .map_err(|refused| refused.to_string())
    }

    fn has_ended(&mut self, service: &ServiceName) {
        self.manifests.has_left(service);
        self.texts_before.remove(service);
    }
}
