//! Those who say whether a replica may serve: the health owner, and the authority once a replica has joined.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use service_registry::{Change, LifecycleState, Refusal, Replica, Verdict};
use tokio::time::{Instant, sleep};

use crate::world::{Quality, World, service};

fn replicas(world: &World) -> Vec<Replica> {
    world.snapshot().service(&service()).unwrap().replicas.clone()
}

/// Checks each replica now and then, and loses sight of some for a while.
pub(crate) async fn check_health(world: Arc<World>, up: u32) {
    let mut unseen: BTreeMap<u32, Instant> = BTreeMap::new();
    let dice = world.dice(&format!("health of {up}"));
    loop {
        sleep(dice.millis(200..1_500)).await;
        let now = Instant::now();
        unseen.retain(|_, until| *until > now && !world.is_calm());
        for replica in replicas(&world) {
            let Some(instance) = &replica.instance else { continue };
            if world.strikes(&dice, world.faults.partitions, 0.002) {
                world.books().trouble += 1;
                unseen.insert(replica.id.ordinal, now + dice.millis(500..120_000));
            }
            let is_unwell = world.quality(&instance.version) == Quality::Unwell;
            let is_seen = !is_unwell && !unseen.contains_key(&replica.id.ordinal);
            let verdict = if is_seen { Verdict::Healthy } else { Verdict::Unhealthy };
            world.registry().update(&replica.id, |replica| {
                let is_news = replica.instance.is_some() && replica.health.verdict != verdict;
                replica.health.verdict = verdict;
                if is_news { Change::Made } else { Change::None }
            });
        }
    }
}

/// Refuses replicas that serve, and lets identities expire.
pub(crate) async fn revoke(world: Arc<World>, up: u32) {
    let dice = world.dice(&format!("authority of {up}"));
    loop {
        sleep(dice.millis(10_000..300_000)).await;
        let ready = replicas(&world).into_iter().filter(|replica| replica.state == LifecycleState::Ready);
        let ready: Vec<_> = ready.collect();
        if ready.is_empty() || !world.strikes(&dice, world.faults.expiry, 0.5) {
            continue;
        }
        let id = &ready[dice.between(0..ready.len() as u64) as usize].id;
        world.books().trouble += 1;
        world.note(format!("{id} is attested no more"));
        let expires = dice.chance(0.5);
        world.registry().update(id, |replica| {
            let now = Timestamp::UNIX_EPOCH;
            let refusal = Refusal { code: "REVOKED".into(), detail: String::new() };
            let attestation = &replica.attestation;
            replica.attestation =
                if expires { attestation.expired(now) } else { attestation.refused(refusal, now) };
            Change::Made
        });
    }
}
