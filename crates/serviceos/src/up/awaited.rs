//! What a drain still waits for, as whoever looks at it is told.

use std::time::Duration;

use service_registry::Registry;
use types::NodeName;

use super::screen::{Screen, counted};

/// Says every few seconds what a drain still waits for. Never returns.
pub(super) async fn say_what_is_awaited(registry: &Registry, node: Option<&NodeName>, screen: &Screen) {
    loop {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let snapshot = registry.snapshot();
        let all = || snapshot.services.iter().flat_map(|service| &service.replicas);
        let replicas =
            || all().filter(|replica| replica.id.node.is_none() || replica.id.node.as_ref() == node);
        let instances = replicas().filter_map(|replica| replica.instance.as_ref());
        let requests: usize = instances.map(|instance| instance.in_flight.count()).sum();
        let running: Vec<_> = replicas()
            .filter(|replica| replica.pid.is_some() || replica.instance.is_some())
            .map(|replica| replica.id.to_string())
            .collect();
        screen.say(&format!(
            "waiting for {} in flight, and for {}",
            counted(requests, "request"),
            running.join(" ")
        ));
    }
}
