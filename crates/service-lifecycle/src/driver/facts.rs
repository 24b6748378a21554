//! What a driver writes: the lifecycle of its replica, in the registry and among the events.

use std::sync::Arc;

use jiff::Timestamp;
use service_registry::{
    Actor, Attestation, Change, Channel, CrashLoop, Health, Instance, LifecycleState, Presence, Registration,
    Registry, Subject, Verdict, What,
};
use types::ReplicaId;

use crate::{Event, transition};

/// One replica in the registry.
pub(super) struct Facts {
    pub(super) replica: ReplicaId,
    pub(super) registry: Registry,
}

impl Facts {
    /// Takes the transition and publishes it; returns the epoch from which on it is seen.
    pub(super) fn enter(&self, event: Event, reason: Option<String>, actor: Actor) -> u64 {
        let (mut entered, mut gone) = (None, None);
        let epoch = self.registry.update(&self.replica, |replica| {
            let next = transition(replica.state, event);
            entered = Some((replica.state, next));
            let Ok(state) = next else { return Change::None };
            (replica.state, replica.reason, replica.since) = (state, reason.clone(), Timestamp::now());
            if state == LifecycleState::Stopped {
                replica.pid = None;
                gone = replica.instance.take();
                replica.health.verdict = Verdict::Unknown;
            }
            Change::Made
        });
        // Whoever listens at its address from now on is somebody else.
        if let Some(Channel::Mesh(peer)) = gone.map(|instance| instance.channel.clone()) {
            peer.end();
        }
        match entered {
            Some((from, Ok(to))) => {
                let said = reason.as_deref().unwrap_or_default();
                tracing::info!(replica = %self.replica, state = %to, reason = said, actor = %actor, "the replica changed its state");
                self.record(What::State { from, to }, reason, actor);
            }
            Some((_, Err(denied))) => {
                tracing::error!(replica = %self.replica, %denied, "a driver asked for an impossible transition");
            }
            None => {
                tracing::error!(replica = %self.replica, ?event, "a driver has a replica that nobody else knows");
            }
        }
        epoch
    }

    pub(super) fn record(&self, what: What, cause: Option<String>, actor: Actor) {
        self.registry.events().record(Subject::Replica(self.replica.clone()), what, cause, actor);
    }

    pub(super) fn register(&self, instance: Arc<Instance>, registration: Option<Arc<Registration>>) {
        self.registry.update(&self.replica, |replica| {
            if let Some(registration) = registration {
                replica.register(registration);
            }
            replica.health =
                Health { verdict: Verdict::Unknown, since: Timestamp::now(), reason: None, answered: 0 };
            replica.instance = Some(instance);
            Change::Made
        });
    }

    pub(super) fn attestation(&self) -> Option<Attestation> {
        self.registry.snapshot().replica(&self.replica).map(|replica| replica.attestation.clone())
    }

    pub(super) fn set_restarts(&self, restarts: u32) {
        self.registry.update(&self.replica, |replica| {
            replica.restarts = restarts;
            Change::Made
        });
    }

    pub(super) fn count_restart(&self) {
        self.registry.update(&self.replica, |replica| {
            replica.restarts += 1;
            Change::Made
        });
    }

    /// It is to stay as it is: stopped. That is an event of its own where it has not stopped for this reason.
    pub(super) fn stays_stopped(&self, reason: Option<String>, actor: Actor) {
        let mut is_told = false;
        self.registry.update(&self.replica, |replica| {
            let before = replica.reason.as_deref().unwrap_or_default();
            is_told = reason.as_deref().is_some_and(|reason| before.ends_with(reason));
            let is_as_it_was = replica.reason == reason;
            replica.reason.clone_from(&reason);
            if is_as_it_was { Change::None } else { Change::Made }
        });
        if !is_told {
            let (from, to) = (LifecycleState::Stopped, LifecycleState::Stopped);
            self.record(What::State { from, to }, reason, actor);
        }
    }

    pub(super) fn set_pid(&self, pid: Option<u32>) {
        self.registry.update(&self.replica, |replica| {
            replica.pid = pid;
            Change::Made
        });
    }

    pub(super) fn show_crash_loop(&self, shown: Option<Arc<CrashLoop>>) {
        self.registry.update(&self.replica, |replica| {
            let is_as_it_was = replica.crash_loop == shown;
            replica.crash_loop = shown;
            if is_as_it_was { Change::None } else { Change::Made }
        });
    }

    /// Forgets who had registered as the replica.
    pub(super) fn vacate(&self) {
        self.registry.update(&self.replica, |replica| match replica.presence {
            Presence::Registered(_) => {
                replica.vacate();
                Change::Made
            }
            Presence::Given | Presence::Vacant => Change::None,
        });
    }
}
