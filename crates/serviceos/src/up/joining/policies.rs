//! From the settings to what decides who is admitted.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use appraisal::{Policy, Release};
use configuration::Settings;
use mesh_protocol::{canonical, sha256, to_hex};
use serde_json::{Value, json};
use trust::{SecretGrant, ServicePolicy};
use types::ServiceName;

use crate::up::measuring::Measurements;

/// What the replicas of each service must be.
pub(super) fn services(
    settings: &Settings,
    measurements: &Measurements,
    grants: &BTreeMap<ServiceName, Vec<SecretGrant>>,
) -> Result<BTreeMap<ServiceName, ServicePolicy>> {
    let mut services = BTreeMap::new();
    for service in &settings.services {
        let Some(process) = service.process() else { continue };
        let config = canonical(&process.config).with_context(|| {
            format!("services.{}.config has a number that cannot be signed", service.name)
        })?;
        let measured = &measurements.services[&service.name];
        let version = service.version.to_string();
        let release = Release::simulated(version.clone(), measured.workload_digest());
        let policy = ServicePolicy {
            policy: Policy::of_releases(vec![release]),
            version,
            replicas: process.replicas,
            config_digest: sha256(&config),
            secrets: grants.get(&service.name).cloned().unwrap_or_default(),
        };
        services.insert(service.name.clone(), policy);
    }
    Ok(services)
}

/// Everything that decides trust, for the chain of transitions.
pub(super) fn manifest(settings: &Settings, services: &BTreeMap<ServiceName, ServicePolicy>) -> Value {
    let of_service = |(name, policy): (&ServiceName, &ServicePolicy)| {
        let secrets: Vec<_> = policy.secrets.iter().map(|grant| &grant.name).collect();
        let json = json!({
            "version": policy.version,
            "policy": policy.policy,
            "config": to_hex(&policy.config_digest),
            "secrets": secrets,
        });
        (name.to_string(), json)
    };
    let routes = settings.services.iter().flat_map(|service| {
        service.routes.iter().map(|route| {
            json!({
                "service": service.name.as_str(),
                "path": route.path,
                "methods": route.methods,
                "scopes": route.scopes,
                "public": route.access == configuration::RouteAccess::Public,
            })
        })
    });
    json!({
        "v": 1,
        "trustDomain": settings.trust_domain,
        "services": services.iter().map(of_service).collect::<serde_json::Map<_, _>>(),
        "routes": routes.collect::<Vec<_>>(),
    })
}
