//! One `up`: what it knows, what goes on in it, and what it leaves when it is killed.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use service_lifecycle::rollout::{Failure, Reached, Stage};
use service_lifecycle::{
    Fleet, FleetHandle, Found, FoundRollout, ReplicasOf, RolloutStatus, Rollouts, Terms, Wanted,
};
use service_registry::{Registry, Replica, Service, Version};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use types::ReplicaId;

use crate::operator::Operator;
use crate::processes::Processes;
use crate::world::{World, service};
use crate::{authority, checks, gateway};

/// The fleet of an `up`, as those who ask it have it.
pub(crate) struct Asked {
    pub(crate) fleet: FleetHandle,
    pub(crate) status: watch::Receiver<Rollouts>,
}

pub(crate) struct Up {
    pub(crate) fleet: JoinHandle<()>,
    pub(crate) stop: watch::Sender<Wanted>,
    pub(crate) asked: Arc<Asked>,
}

impl Up {
    /// The one of this number, with what was found.
    pub(crate) fn begin(
        world: &Arc<World>,
        number: u32,
        terms: &Terms,
        stable: Version,
        found: Found,
    ) -> Self {
        let row = |(ordinal, _): &(u32, Version)| {
            Replica::stopped(ReplicaId::new(service(), *ordinal), Timestamp::UNIX_EPOCH)
        };
        let registry = Registry::new(vec![Service {
            name: service(),
            version: stable.clone(),
            split: None,
            required: true,
            desired: terms.plan.replicas as usize,
            replicas: found.left.iter().map(row).collect(),
        }]);
        world.begin_with(registry.clone());
        let launcher = Arc::new(Processes::new(world));
        let of = ReplicasOf { service: service(), node: None, labels: None, version: stable };
        let (stop, stopping) = watch::channel(Wanted::Running);
        let random = fastrand::Rng::with_seed(world.dice(&format!("fleet {number}")).between(0..u64::MAX));
        let fleet = Fleet::new(of, launcher, terms.clone(), registry, random).with(found);
        let (handle, end) = FleetHandle::of(fleet.rollouts(), watch::Sender::new(0));
        let status = handle.watch_rollouts();
        let asked = Arc::new(Asked { fleet: handle, status });
        world.spawn_beside(checks::Checks::new(world, &asked).run());
        world.spawn_beside(authority::check_health(Arc::clone(world), number));
        world.spawn_beside(authority::revoke(Arc::clone(world), number));
        gateway::begin(world, number);
        Self { fleet: tokio::spawn(fleet.run(stopping, end)), stop, asked }
    }

    /// It is killed. Gives what the next one begins with: what was written down of its rollouts, the processes that are there, and
    /// what the operator wants by then.
    pub(crate) async fn dies(self, world: &Arc<World>, operator: &mut Operator) -> (Version, Found) {
        world.note("up dies".to_owned());
        let rollouts = self.asked.fleet.rollouts();
        world.books().is_dying = true;
        self.fleet.abort();
        let _aborted = self.fleet.await.is_err();
        world.end_beside().await;
        // Until every driver has let go.
        sleep(Duration::from_millis(1)).await;
        world.books().is_dying = false;
        // Of a restart nothing is written down.
        let on_its_way = rollouts.on_its_way.filter(|rollout| rollout.from != rollout.to);
        let stable = on_its_way.as_ref().map_or(&rollouts.wanted, |rollout| &rollout.from).clone();
        let wanted = on_its_way.as_ref().map_or(&stable, |rollout| &rollout.to).clone();
        let wanted = operator.after_a_death(wanted);
        let (stable, found) = course(world, stable, on_its_way, (wanted, operator.terms().plan.replicas));
        world.books().forget_the_up(&found.left);
        world.note(format!("begins with {stable:?}, {found:?}"));
        (stable, found)
    }
}

/// What the next one begins with.
fn course(
    world: &Arc<World>,
    stable: Version,
    on_its_way: Option<RolloutStatus>,
    (wanted, replicas): (Version, u32),
) -> (Version, Found) {
    let left: Vec<_> = world.left().into_iter().collect();
    let is_reverting =
        on_its_way.as_ref().is_some_and(|rollout| matches!(rollout.stage, Stage::Reverting(_)));
    if left.is_empty() && !is_reverting {
        // There is nobody to be replaced.
        world.books().stable = Some(wanted.clone());
        return (wanted, Found::default());
    }
    let since = Timestamp::UNIX_EPOCH;
    let rollout = match on_its_way {
        Some(RolloutStatus { to, stage, pace, percent, .. }) if wanted == to || wanted == stable => {
            let is_undone = wanted == stable && !is_reverting;
            let stage = if is_undone { Stage::Reverting(Failure::Undone) } else { stage };
            Some(FoundRollout { to, reached: Some(Reached { stage, pace, percent }), since })
        }
        _ => (wanted != stable).then_some(FoundRollout { to: wanted, reached: None, since }),
    };
    // Without a rollout whatever runs something else, or has no place, is ended.
    let has_place =
        |(ordinal, version): &(u32, Version)| rollout.is_some() || *version == stable && *ordinal < replicas;
    let (left, others): (Vec<_>, Vec<_>) = left.into_iter().partition(has_place);
    others.iter().for_each(|(ordinal, _)| world.end_left(*ordinal));
    (stable, Found { left, rollout, ..Found::default() })
}
