//! `serviceos attestation show --json`, a stable contract: what the authority says of each replica, what it goes by, and what is
//! revoked.

use appraisal::{PlatformAllow, Policy, Release, SgxMeasurement};
use jiff::Timestamp;
use mesh_protocol::{Bytes, Revocations, RevokedType, sha256, to_hex};
use serde::{Deserialize, Serialize};
use service_registry::{Replica, Service, Snapshot};
use trust::{Authority, ServicePolicy, Standing};
use types::Mode;

use crate::health::rfc3339;
use crate::why::WhyAttested;

/// The mesh as its authority sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttestationReport {
    /// Whose roots judge evidence.
    pub mode: Mode,
    /// The trust domain.
    pub trust_domain: String,
    /// T_0, which names the mesh for ever, in hex.
    pub genesis: String,
    /// The transition of the manifest in force.
    pub transition: TransitionInForce,
    /// The key of the mesh's root, as DER SubjectPublicKeyInfo in base64url.
    pub root_spki: Bytes,
    /// Its SHA-256, in hex.
    pub root_spki_sha256: String,
    /// What is revoked.
    pub revocations: RevocationList,
    /// The services in the order of the configuration.
    pub services: Vec<AttestedService>,
}

/// A transition of the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TransitionInForce {
    /// Its number, from 1.
    pub n: u64,
    /// T_n, in hex.
    pub t_n: String,
}

/// What is no longer trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationList {
    /// Grows with each change.
    pub epoch: u64,
    /// In the order in which they were revoked.
    pub entries: Vec<RevocationEntry>,
}

/// One thing that is no longer trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationEntry {
    /// What it is about.
    #[serde(rename = "type")]
    pub about: RevokedType,
    /// Which one.
    pub value: String,
    /// Since when, RFC 3339.
    pub since: String,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttestedService {
    /// Its name.
    pub name: String,
    /// The label of its version.
    pub version: String,
    /// What its replicas must be; none where nobody attests them.
    pub policy: Option<AttestedPolicy>,
    /// Its replicas.
    pub replicas: Vec<AttestedReplica>,
}

/// What replicas must show to be admitted, in the words of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttestedPolicy {
    /// What may run.
    pub releases: Vec<AllowedRelease>,
    /// How current a platform must be.
    pub tcb: AllowedTcb,
    /// Which platforms.
    pub platform: AllowedPlatform,
    /// The longest life of an identity, such as `1h`.
    pub identity_ttl: String,
}

/// How current a platform must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AllowedTcb {
    /// The statuses that are accepted.
    pub accept: Vec<String>,
    /// For how many days after the date of its TCB level a platform that is out of date is accepted all the same.
    pub grace_days: u32,
    /// The advisories that must not apply.
    pub reject_advisories: Vec<String>,
}

/// Which platforms are allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AllowedPlatform {
    /// Whether hyper-threading may be on.
    pub smt: bool,
    /// Whether packages may be added to a platform while it runs.
    pub dynamic_platform: bool,
    /// Whether the vendor may keep a platform's root keys.
    pub cached_keys: bool,
    /// The hardware ids of those that are; none where each one is.
    pub allow: Option<Vec<String>>,
}

/// A release, as it can be written under `attestation.releases`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllowedRelease {
    /// Its label.
    pub version: String,
    /// As simulated evidence measures it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub simulated: Option<SimulatedRelease>,
    /// As SGX measures it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sgx: Option<SgxRelease>,
}

/// A release as simulated evidence measures it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimulatedRelease {
    /// The workload digest W, in hex.
    pub w: String,
}

/// A release as SGX measures it: an enclave, or whatever a signer has signed from a version on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SgxRelease {
    /// MRENCLAVE, in hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mrenclave: Option<String>,
    /// MRSIGNER, in hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mrsigner: Option<String>,
    /// ISVPRODID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prod_id: Option<u16>,
    /// The least ISVSVN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_svn: Option<u16>,
}

/// One replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttestedReplica {
    /// Its id.
    pub id: String,
    /// What the authority says of it, as in `why`.
    pub attested: WhyAttested,
    /// The hardware ids of its platform, while its identity holds.
    pub platform: Vec<String>,
}

impl AttestationReport {
    /// What there is to say now.
    pub fn new(authority: &Authority, snapshot: &Snapshot) -> Self {
        let (n, t_n) = authority.transition();
        let (domain, root_spki) = (authority.domain(), authority.root_spki());
        Self {
            mode: domain.mode,
            trust_domain: domain.trust_domain.clone(),
            genesis: to_hex(&authority.genesis()),
            transition: TransitionInForce { n, t_n: to_hex(&t_n) },
            root_spki: Bytes(root_spki.to_vec()),
            root_spki_sha256: to_hex(&sha256(root_spki)),
            revocations: RevocationList::new(&authority.revocations().borrow().revocations),
            services: snapshot.services.iter().map(|service| attested(authority, service)).collect(),
        }
    }
}

impl RevocationList {
    fn new(list: &Revocations) -> Self {
        let entries = list.entries.iter().map(|entry| RevocationEntry {
            about: entry.about,
            value: entry.value.clone(),
            since: i64::try_from(entry.at)
                .ok()
                .and_then(|at| Timestamp::from_second(at).ok())
                .map(rfc3339)
                .unwrap_or_default(),
        });
        Self { epoch: list.epoch, entries: entries.collect() }
    }
}

fn attested(authority: &Authority, service: &Service) -> AttestedService {
    let policies = authority.services();
    AttestedService {
        name: service.name.to_string(),
        version: service.version.label().to_owned(),
        policy: policies.get(&service.name).map(|policy| AttestedPolicy::new(policy)),
        replicas: service.replicas.iter().map(|replica| AttestedReplica::new(authority, replica)).collect(),
    }
}

impl AttestedReplica {
    fn new(authority: &Authority, replica: &Replica) -> Self {
        let key = (replica.id.service.clone(), replica.id.instance());
        let platform = match authority.standings().borrow().get(&key) {
            Some(Standing::Valid(admission) | Standing::Expired(admission)) => {
                admission.appraised.platform.clone()
            }
            Some(Standing::Pending { .. } | Standing::Refused { .. }) | None => Vec::new(),
        };
        let attested = WhyAttested::new(&replica.attestation, replica.attestation.holds());
        Self { id: replica.id.to_string(), attested, platform }
    }
}

impl AttestedPolicy {
    fn new(ServicePolicy { policy, .. }: &ServicePolicy) -> Self {
        let Policy { releases, tcb, platform, identity_ttl } = policy;
        Self {
            releases: releases.iter().map(AllowedRelease::new).collect(),
            tcb: AllowedTcb {
                accept: tcb.accept.iter().map(ToString::to_string).collect(),
                grace_days: tcb.grace_days,
                reject_advisories: tcb.reject_advisories.clone(),
            },
            platform: AllowedPlatform {
                smt: platform.smt,
                dynamic_platform: platform.dynamic_platform,
                cached_keys: platform.cached_keys,
                allow: match &platform.allow {
                    PlatformAllow::Any => None,
                    PlatformAllow::Only(ids) => Some(ids.clone()),
                },
            },
            identity_ttl: types::duration::text(*identity_ttl),
        }
    }
}

impl AllowedRelease {
    fn new(release: &Release) -> Self {
        let nothing = SgxRelease { mrenclave: None, mrsigner: None, prod_id: None, min_svn: None };
        let sgx = release.sgx.as_ref().map(|sgx| match sgx {
            SgxMeasurement::Enclave(enclave) => SgxRelease { mrenclave: Some(to_hex(enclave)), ..nothing },
            SgxMeasurement::Signer { signer, product, least_version } => SgxRelease {
                mrsigner: Some(to_hex(signer)),
                prod_id: Some(*product),
                min_svn: Some(*least_version),
                ..nothing
            },
        });
        let simulated = release.simulated.as_ref().map(|w| SimulatedRelease { w: to_hex(w) });
        Self { version: release.version.clone(), simulated, sgx }
    }
}
