//! A member's part in another configuration of its service: it learns of it on the watch, fetches it, offers it to the service, and
//! says what became of it. Only then it renews its identity, since its evidence names the configuration that it works with.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use mesh_protocol::tls::Identity;
use mesh_protocol::{
    ConfigAnswer, ConfigOutcome, ConfigReport, MeshCoordinates, WantedConfig, canonical, sha256, told_reason,
};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::StartError;
use crate::config::{Answer, Configs, Offer, Offering, Which};
use crate::mesh_client::{MeshClient, MeshError, retryable};

/// How long a service may take over a configuration. It counts as rejected then, until the service says something else.
const APPLYING: Duration = Duration::from_secs(30);
/// Between tries to fetch one, or to say what became of it, at first and at most.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(10);
/// How long a renewal waits for a configuration that cannot be had. The authority refuses it then, and the replica is started
/// anew with the one that is wanted, which is better than to lose its identity without a word.
const SETTLING: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct State {
    /// As the authority has said it last.
    wanted: Option<Which>,
    /// The digest of what the service works with.
    held: [u8; 32],
    /// What became of which.
    answered: Option<(Which, Result<(), StartError>)>,
    /// Whether the mesh was told.
    is_reported: bool,
}

/// The configuration of a member.
pub(crate) struct Configuring {
    state: watch::Sender<State>,
    offering: Offering,
}

impl State {
    fn unseen(&self) -> Option<Which> {
        let seen = self.answered.as_ref().map(|(which, _)| *which);
        self.wanted.filter(|wanted| Some(*wanted) != seen)
    }

    /// Whether the authority expects what is held. It does so of a member that has rejected something once it was told.
    fn is_settled(&self) -> bool {
        let is_expected = match &self.answered {
            Some((_, Err(_))) => self.is_reported,
            Some((_, Ok(()))) | None => true,
        };
        self.unseen().is_none() && is_expected
    }

    fn due(&self) -> Option<(Which, Result<(), StartError>)> {
        self.answered.clone().filter(|_| !self.is_reported)
    }
}

impl Configuring {
    /// Of a replica that was started with this configuration.
    pub(crate) fn new(config: &Value) -> Self {
        let state = State { wanted: None, held: digest(config), answered: None, is_reported: false };
        Self { state: watch::Sender::new(state), offering: Offering::new() }
    }

    /// The service's end.
    pub(crate) fn configs(&self) -> Configs {
        self.offering.configs()
    }

    /// The digest of what the service works with.
    pub(crate) fn held(&self) -> [u8; 32] {
        self.state.borrow().held
    }

    /// The number of what is wanted, as far as it is known.
    pub(crate) fn known(&self) -> Option<u64> {
        self.state.borrow().wanted.map(|wanted| wanted.revision)
    }

    /// The authority says what is wanted.
    pub(crate) fn wants(&self, wanted: Option<WantedConfig>) {
        let Some(wanted) = wanted.and_then(which) else { return };
        self.state.send_if_modified(|state| state.wanted.replace(wanted) != Some(wanted));
    }

    /// The mesh is to be told once more: it may be another process.
    pub(crate) fn report_again(&self) {
        self.state.send_modify(|state| state.is_reported = false);
    }

    /// Whether nothing else is wanted than what the authority knows to be held.
    pub(crate) fn is_settled(&self) -> bool {
        self.state.borrow().is_settled()
    }

    /// Waits for that, but not for ever; says whether it came.
    pub(crate) async fn settled(&self) -> bool {
        let mut state = self.state.subscribe();
        timeout(SETTLING, state.wait_for(State::is_settled)).await.is_ok()
    }

    /// Takes over what is wanted, and says what became of it. It may be dropped at any time and begun again.
    pub(crate) async fn follow(&self, mesh: &MeshCoordinates, identity: &Identity) -> Infallible {
        tokio::select! {
            never = self.take_over(mesh, identity) => never,
            never = self.report(mesh, identity) => never,
            never = self.hear_late_answers() => never,
        }
    }

    async fn take_over(&self, mesh: &MeshCoordinates, identity: &Identity) -> Infallible {
        let (mut state, mut wait) = (self.state.subscribe(), FIRST_RETRY);
        loop {
            let wanted = match state.wait_for(|state| state.unseen().is_some()).await {
                Ok(state) => state.unseen(),
                Err(_) => unreachable!("this holds the sender"),
            };
            let Some(wanted) = wanted else { continue };
            if wanted.digest == self.held() {
                self.became(wanted, Ok(()));
                continue;
            }
            match fetch(mesh, identity).await {
                Ok(offer) => {
                    wait = FIRST_RETRY;
                    self.fetched(wanted, offer).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "another configuration cannot be fetched; it is tried again");
                    sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_RETRY);
                }
            }
        }
    }

    /// Has the service take over what was fetched when something was wanted. It may be newer than that; where the watch has said
    /// meanwhile that something else again is wanted, it is older, and that is fetched in its place.
    async fn fetched(&self, wanted: Which, offer: Offer) {
        let now = self.state.borrow().wanted;
        if [Some(wanted), Some(offer.which)].contains(&now) {
            self.offered(offer).await;
        }
    }

    async fn offered(&self, offer: Offer) {
        let which = offer.which;
        self.state.send_modify(|state| state.wanted = Some(which));
        if which.digest == self.held() {
            return self.became(which, Ok(()));
        }
        self.offering.offer(offer);
        let outcome = tokio::select! {
            outcome = self.offering.answered(which) => outcome,
            () = self.offering.nobody_takes_them() => {
                Err(StartError::new("the service takes no other configuration while it runs; start it anew"))
            }
            () = sleep(APPLYING) => Err(StartError::new(format_args!(
                "the service has not taken it over within {} seconds",
                APPLYING.as_secs()
            ))),
        };
        self.became(which, outcome);
    }

    #[cfg(any(test, feature = "fakes"))]
    pub(crate) async fn offer(&self, revision: u64, config: Value) -> Result<(), StartError> {
        let which = Which { revision, digest: digest(&config) };
        self.offered(Offer { which, config: Arc::new(config) }).await;
        self.state.borrow().answered.clone().map_or(Ok(()), |(_, outcome)| outcome)
    }

    /// A service that was too slow may have taken it over after all.
    async fn hear_late_answers(&self) -> Infallible {
        let (mut state, mut answers) = (self.state.subscribe(), self.offering.answers());
        loop {
            let known = state.borrow_and_update().answered.clone();
            let said = answers.borrow_and_update().clone();
            if let (Some((which, known)), Some(Answer { to, outcome })) = (known, said)
                && which == to
                && known != outcome
            {
                self.became(to, outcome);
            }
            tokio::select! {
                _this_holds_the_sender = state.changed() => {}
                _this_holds_the_sender = answers.changed() => {}
            }
        }
    }

    fn became(&self, which: Which, outcome: Result<(), StartError>) {
        let revision = which.revision;
        match &outcome {
            Ok(()) => tracing::info!(revision, "the configuration is the one that is wanted"),
            Err(reason) => {
                tracing::error!(revision, %reason, "the configuration that is wanted was rejected; the one before stays in force");
            }
        }
        self.state.send_modify(|state| {
            if outcome.is_ok() {
                state.held = which.digest;
            }
            (state.answered, state.is_reported) = (Some((which, outcome)), false);
        });
    }

    async fn report(&self, mesh: &MeshCoordinates, identity: &Identity) -> Infallible {
        let (mut state, mut wait) = (self.state.subscribe(), FIRST_RETRY);
        loop {
            let due = match state.wait_for(|state| state.due().is_some()).await {
                Ok(state) => state.due(),
                Err(_) => unreachable!("this holds the sender"),
            };
            let Some(due) = due else { continue };
            match say(mesh, identity, &due).await {
                Ok(()) => {
                    wait = FIRST_RETRY;
                    self.state.send_if_modified(|state| {
                        let is_it = state.answered.as_ref() == Some(&due);
                        state.is_reported |= is_it;
                        is_it
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "what became of the configuration cannot be said now");
                    sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_RETRY);
                }
            }
        }
    }
}

fn which(wanted: WantedConfig) -> Option<Which> {
    Some(Which { revision: wanted.revision, digest: wanted.digest.0.try_into().ok()? })
}

async fn fetch(mesh: &MeshCoordinates, identity: &Identity) -> Result<Offer, MeshError> {
    let answer: ConfigAnswer = MeshClient::connect(mesh, identity).await?.get("/v1/config").await?;
    if !answer.config.is_object() || canonical(&answer.config).is_err() {
        return Err(retryable("what came is no configuration"));
    }
    let which = Which { revision: answer.revision, digest: digest(&answer.config) };
    Ok(Offer { which, config: Arc::new(answer.config) })
}

async fn say(
    mesh: &MeshCoordinates,
    identity: &Identity,
    (which, outcome): &(Which, Result<(), StartError>),
) -> Result<(), MeshError> {
    let reason = outcome.as_ref().err().map(|reason| told_reason(&reason.to_string()));
    let outcome = if reason.is_none() { ConfigOutcome::Applied } else { ConfigOutcome::Rejected };
    let report = ConfigReport { revision: which.revision, outcome, reason };
    MeshClient::connect(mesh, identity).await?.post("/v1/config", &report).await
}

/// SHA-256 of the canonical JSON. What cannot be written so is nothing that an authority has admitted anybody with.
fn digest(config: &Value) -> [u8; 32] {
    canonical(config).map(|bytes| sha256(&bytes)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::FakeMesh;

    fn offer(revision: u64, config: Value) -> Offer {
        Offer { which: Which { revision, digest: digest(&config) }, config: Arc::new(config) }
    }

    fn configuring() -> Configuring {
        Configuring::new(&json!({"depth": 1}))
    }

    fn answered(configuring: &Configuring) -> Option<Result<(), String>> {
        let state = configuring.state.borrow();
        state.answered.as_ref().map(|(_, outcome)| outcome.clone().map_err(|error| error.to_string()))
    }

    /// Takes what has no depth, and nothing that is deeper than 9.
    fn service(offer: &Offer) -> Result<(), StartError> {
        match offer.value()["depth"].as_u64() {
            Some(10..) => Err(StartError::new("depth: expected at most 9")),
            Some(_) | None => Ok(()),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_service_takes_over_is_held_and_what_it_rejects_is_not() {
        let configuring = configuring();
        let _service = tokio::spawn(configuring.configs().follow(service));
        let next = offer(2, json!({"depth": 2}));
        configuring.offered(next.clone()).await;
        assert_eq!((answered(&configuring), configuring.held()), (Some(Ok(())), next.which.digest));
        assert!(configuring.is_settled(), "the authority expects it, whoever was told");
        configuring.offered(offer(3, json!({"depth": 10}))).await;
        let rejected = Some(Err("depth: expected at most 9".to_owned()));
        assert_eq!((answered(&configuring), configuring.held()), (rejected, next.which.digest));
        assert!(!configuring.is_settled(), "the authority has to know of it first");
        configuring.state.send_modify(|state| state.is_reported = true);
        assert!(configuring.is_settled());
        // Back to what it works with: the service is not asked.
        configuring.offered(offer(4, json!({"depth": 2}))).await;
        assert_eq!(answered(&configuring), Some(Ok(())));
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_takes_none_or_does_not_answer_has_rejected_it() {
        let configuring = configuring();
        configuring.offered(offer(2, json!({}))).await;
        assert!(answered(&configuring).unwrap().unwrap_err().contains("start it anew"));
        let mut configs = configuring.configs();
        configuring.offered(offer(3, json!({}))).await;
        assert!(answered(&configuring).unwrap().unwrap_err().contains("within 30 seconds"));
        // Its answer counts when it comes.
        let late = configs.changed().await.unwrap();
        configs.answer(&late, Ok(()));
        let heard = timeout(Duration::from_secs(1), configuring.hear_late_answers()).await;
        assert!(heard.is_err());
        assert_eq!((answered(&configuring), configuring.held()), (Some(Ok(())), digest(&json!({}))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_take_over_that_was_dropped_is_gone_on_with_and_offers_nothing_twice() {
        let configuring = configuring();
        let mut configs = configuring.configs();
        let next = offer(2, json!({"depth": 2}));
        let dropped = timeout(Duration::from_secs(1), configuring.offered(next.clone())).await;
        assert!(dropped.is_err());
        let seen = configs.changed().await.unwrap();
        configs.answer(&seen, Ok(()));
        configuring.offered(next).await;
        assert_eq!(answered(&configuring), Some(Ok(())));
        assert!(timeout(Duration::from_secs(1), configs.changed()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_fetched_is_dropped_where_the_watch_wants_something_else_by_then() {
        let configuring = configuring();
        let _service = tokio::spawn(configuring.configs().follow(service));
        let (older, newer) = (offer(2, json!({"depth": 2})), offer(3, json!({"depth": 3})));
        let wants = |offer: &Offer| {
            let Which { revision, digest } = offer.which;
            configuring.wants(Some(WantedConfig { revision, digest: mesh_protocol::Bytes(digest.to_vec()) }));
        };
        wants(&older);
        // The answer is on its way.
        wants(&newer);
        configuring.fetched(older.which, older).await;
        assert_eq!(
            (configuring.known(), answered(&configuring), configuring.is_settled()),
            (Some(3), None, false)
        );
        configuring.fetched(newer.which, newer.clone()).await;
        assert_eq!((configuring.held(), configuring.is_settled()), (newer.which.digest, true));
        // What is fetched may be newer than what was wanted.
        let (wanted, newest) = (offer(4, json!({"depth": 4})), offer(5, json!({"depth": 5})));
        wants(&wanted);
        configuring.fetched(wanted.which, newest.clone()).await;
        assert_eq!((configuring.known(), configuring.held()), (Some(5), newest.which.digest));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_settled_while_something_else_is_wanted_but_a_renewal_waits_a_minute_at_most() {
        let configuring = configuring();
        assert!(configuring.is_settled(), "nothing was said yet");
        let digest = mesh_protocol::Bytes(vec![7; 32]);
        configuring.wants(Some(WantedConfig { revision: 2, digest }));
        assert!(!configuring.is_settled());
        let begun = tokio::time::Instant::now();
        assert!(!configuring.settled().await);
        assert_eq!(begun.elapsed(), SETTLING);
    }

    #[tokio::test(start_paused = true)]
    async fn what_it_was_started_with_is_said_to_be_applied_without_being_fetched() {
        let configuring = configuring();
        let (member, _leaf) = FakeMesh::new().member("vrf", &[]);
        let digest = mesh_protocol::Bytes(configuring.held().to_vec());
        configuring.wants(Some(WantedConfig { revision: 2, digest }));
        // Nobody is there to be fetched from.
        let follows = configuring.follow(member.mesh(), member.identity());
        assert!(timeout(Duration::from_millis(500), follows).await.is_err());
        assert_eq!((answered(&configuring), configuring.is_settled()), (Some(Ok(())), true));
    }
}
