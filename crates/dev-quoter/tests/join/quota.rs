//! Too many at once: whoever finds no room is told to try again, and can.

use std::sync::Arc;

use appraisal::Code;
use tokio::task::JoinSet;

use crate::mesh::{Mesh, everything_waits};

/// First joins that are appraised at the same time, and those that may wait.
const TURNS: u32 = 2;
const WAITING: u32 = 256;

#[tokio::test(start_paused = true)]
async fn whoever_finds_no_room_is_told_to_try_again_and_members_have_room_of_their_own() {
    let mesh = Mesh::with(|setup| setup.vrf.replicas = 1000).await;
    let member = mesh.applicant("0").joined().await;
    // Nobody is admitted while somebody else has the secrets.
    let vault = Arc::clone(&mesh.vault);
    let held = vault.lock().await;
    let mut crowd = JoinSet::new();
    for instance in 1..=TURNS + WAITING {
        let sent = mesh.applicant(&instance.to_string()).prepare().await.unwrap();
        let authority = mesh.authority.clone();
        crowd.spawn(async move { sent.show(&authority).await.map(drop) });
    }
    everything_waits().await;
    let ticket = mesh.ticket("vrf", "999");
    let refused = mesh.applicant("999").ticket(ticket.clone()).refused().await;
    assert_eq!(refused, Code::JoinQuota);
    assert!(refused.is_retryable());
    let renewal = mesh.applicant("0").known_by(&member.leaf).prepare().await.unwrap();
    let authority = mesh.authority.clone();
    let renewal = tokio::spawn(async move { renewal.show(&authority).await.map(drop) });
    everything_waits().await;
    // The crowd waits on, and the member is through.
    drop(held);
    renewal.await.unwrap().unwrap();
    crowd.shutdown().await;
    // The ticket of whoever was sent away is good.
    mesh.applicant("999").ticket(ticket).joined().await;
}
