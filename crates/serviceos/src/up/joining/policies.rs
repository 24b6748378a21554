//! From the settings to what decides who is admitted.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use appraisal::{PlatformAllow, PlatformPolicy, Policy, Release, SgxMeasurement, TcbPolicy, TcbStatus};
use configuration::{AttestationSettings, ReleaseSettings, Releases, Settings, SgxRelease};
use mesh_protocol::{canonical, sha256, to_hex};
use serde_json::{Value, json};
use trust::{SecretGrant, ServicePolicy};
use types::ServiceName;

use crate::up::measuring::{Launchable, Measurements};

/// What the file may hold can be handed to a replica.
const _: () = assert!(configuration::MAX_CONFIG_BYTES <= mesh_protocol::MAX_CONFIG_BYTES);

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
        let version = service.version.to_string();
        let workload = measurements.services.get(&service.name).map(Launchable::workload);
        let policy = ServicePolicy {
            policy: policy(&process.attestation, &version, workload),
            version,
            replicas: process.replicas,
            config_digest: sha256(&config),
            secrets: grants.get(&service.name).cloned().unwrap_or_default(),
        };
        services.insert(service.name.clone(), policy);
    }
    Ok(services)
}

fn policy(settings: &AttestationSettings, version: &str, measured: Option<[u8; 32]>) -> Policy {
    let releases = releases(settings, version, measured);
    let (tcb, platform) = (&settings.tcb, &settings.platform);
    Policy {
        releases,
        tcb: TcbPolicy {
            accept: tcb.accept.iter().map(|status| tcb_status(*status)).collect(),
            grace_days: tcb.grace_days,
            reject_advisories: tcb.reject_advisories.clone(),
        },
        platform: PlatformPolicy {
            smt: platform.smt,
            dynamic_platform: platform.dynamic_platform,
            cached_keys: platform.cached_keys,
            allow: match &platform.allow {
                configuration::PlatformAllow::Any => PlatformAllow::Any,
                configuration::PlatformAllow::Only(ids) => PlatformAllow::Only(ids.clone()),
            },
        },
        identity_ttl: settings.identity_ttl,
    }
}

/// What replicas of a version are admitted by, whose program was measured as this.
pub(in crate::up) fn releases(
    settings: &AttestationSettings,
    version: &str,
    measured: Option<[u8; 32]>,
) -> Vec<Release> {
    match &settings.releases {
        Releases::Measured => {
            measured.into_iter().map(|workload| Release::simulated(version, workload)).collect()
        }
        Releases::Listed(listed) => listed.iter().map(release).collect(),
    }
}

fn release(settings: &ReleaseSettings) -> Release {
    let sgx = settings.sgx.as_ref().map(|sgx| match sgx {
        SgxRelease::Enclave(enclave) => SgxMeasurement::Enclave(enclave.0),
        SgxRelease::Signer { signer, product, least_version } => {
            SgxMeasurement::Signer { signer: signer.0, product: *product, least_version: *least_version }
        }
    });
    let simulated = settings.simulated.map(|workload| workload.0);
    Release { version: settings.version.clone(), simulated, sgx }
}

fn tcb_status(status: configuration::TcbStatus) -> TcbStatus {
    match status {
        configuration::TcbStatus::UpToDate => TcbStatus::UpToDate,
        configuration::TcbStatus::SwHardeningNeeded => TcbStatus::SWHardeningNeeded,
        configuration::TcbStatus::ConfigurationNeeded => TcbStatus::ConfigurationNeeded,
        configuration::TcbStatus::ConfigurationAndSwHardeningNeeded => {
            TcbStatus::ConfigurationAndSWHardeningNeeded
        }
        configuration::TcbStatus::OutOfDate => TcbStatus::OutOfDate,
        configuration::TcbStatus::OutOfDateConfigurationNeeded => TcbStatus::OutOfDateConfigurationNeeded,
    }
}

/// Everything that decides trust, for the chain of transitions.
pub(super) fn manifest(settings: &Settings, services: &BTreeMap<ServiceName, ServicePolicy>) -> Value {
    let allow: BTreeMap<_, Vec<_>> = settings
        .services
        .iter()
        .filter_map(|service| {
            let allow = service.process()?.allow.iter().map(ServiceName::as_str);
            Some((&service.name, allow.collect()))
        })
        .collect();
    let of_service = |(name, policy): (&ServiceName, &ServicePolicy)| {
        let secrets: Vec<_> = policy.secrets.iter().map(|grant| &grant.name).collect();
        let json = json!({
            "version": policy.version,
            "policy": policy.policy,
            "config": to_hex(&policy.config_digest),
            "secrets": secrets,
            "allow": allow.get(name),
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
        "mode": settings.mode,
        "trustDomain": settings.trust_domain,
        "services": services.iter().map(of_service).collect::<serde_json::Map<_, _>>(),
        "routes": routes.collect::<Vec<_>>(),
    })
}
