//! What the admin API is made of.

use std::sync::Arc;

use control::{AdminState, Catalogue, EventLog, Logs, SharedConfigDesk};
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::explaining::explainer;
use super::joining::Begun;
use super::reload::Live;
use super::{Facts, elsewhere};

/// What the admin API shows and changes.
pub(super) fn admin_state(
    live: &Live,
    facts: &Facts,
    mesh: &Arc<Begun>,
    (configuration, logs): (SharedConfigDesk, Logs),
    shutdown: mpsc::Sender<()>,
) -> AdminState {
    AdminState {
        configuration,
        logs,
        events: EventLog::new(live.registry.events().clone(), Timestamp::now()),
        fleets: live.fleets.clone(),
        explain: explainer(live, facts.gateway),
        limits: live.confinement.said(),
        store: live.store.clone(),
        registry: live.registry.clone(),
        catalogue: Catalogue::new(live.registry.clone(), Timestamp::now(), live.described.subscribe()),
        configurations: mesh.configurations.clone(),
        metrics: Arc::clone(&live.metrics),
        keys: Arc::clone(&live.keys),
        authority: mesh.authority.clone(),
        tickets: elsewhere::ticket_office(&live.settings, mesh),
        draining: Arc::clone(&live.draining),
        gateway: facts.gateway,
        admin: facts.admin,
        shutdown,
    }
}
