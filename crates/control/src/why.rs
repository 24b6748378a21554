//! `serviceos why SERVICE/N --json`, a stable contract: whether a replica is selectable, and what each fact goes by.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use service_registry::{
    Appraised, Attestation, CrashLoop, LastCheck, LastExit, NotSelectable, Replica, ReplicaConfiguration,
    Taken,
};

use crate::admin::config_word;
use crate::health::{milliseconds, rfc3339};

/// One replica as the rule sees it: selectable = Ready and attested and healthy and not gated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Why {
    /// Its id.
    pub id: String,
    /// Whether requests may reach it.
    pub selectable: bool,
    /// Which of `ready`, `attested`, `healthy` and `notGated` are false, in this order.
    pub false_facts: Vec<String>,
    /// Its lifecycle.
    pub ready: WhyReady,
    /// Its attestation.
    pub attested: WhyAttested,
    /// Its health.
    pub healthy: WhyHealthy,
    /// Its gate.
    pub not_gated: WhyNotGated,
    /// Its configuration, which decides nothing here; none for one that is handed none.
    pub config: Option<WhyConfig>,
}

/// The configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyConfig {
    /// The number of the one that it is to work with.
    pub wanted: u64,
    /// The number of the last one that it has said it works with.
    pub applied: Option<u64>,
    /// `applied`, `rejected` or `pending`.
    pub outcome: String,
    /// Why it was rejected.
    pub reason: Option<String>,
    /// When it has said so, or was launched, RFC 3339.
    pub since: Option<String>,
}

/// The lifecycle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WhyReady {
    /// Whether it is Ready, and listens.
    pub holds: bool,
    /// The state.
    pub value: String,
    /// Since when, RFC 3339.
    pub since: String,
    /// Why, where that is not plain.
    pub reason: Option<String>,
    /// How often it was started again.
    pub restarts: u32,
    /// What is known of it where it ends again and again.
    pub crash_loop: Option<WhyCrashLoop>,
    /// Its process, while there is one.
    pub pid: Option<u32>,
    /// Where it listens.
    pub address: Option<SocketAddr>,
    /// What its version is known by, while it listens.
    #[serde(default)]
    pub version_id: Option<String>,
}

/// Ends in a row, none of them after it had served for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WhyCrashLoop {
    /// How many.
    pub ended: u32,
    /// When it ended for the first time of those, RFC 3339.
    pub since: String,
    /// How it ended the last time.
    pub reason: String,
    /// The exit code, where the process exited and this is known.
    pub exit_code: Option<i32>,
    /// The signal, where one killed it.
    pub signal: Option<i32>,
    /// The last lines that it wrote.
    pub last_lines: Vec<String>,
}

/// The attestation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WhyAttested {
    /// Whether it is `valid` or `exempt`.
    pub holds: bool,
    /// `pending`, `valid`, `exempt`, `expired` or `refused`.
    pub value: String,
    /// Since when, RFC 3339.
    pub since: String,
    /// Why it was refused.
    pub refusal: Option<WhyRefused>,
    /// What was appraised last.
    pub evidence: Option<WhyEvidence>,
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyRefused {
    /// The stable code.
    pub code: String,
    /// What was expected, and what was found.
    pub detail: String,
}

/// What was appraised, and the identity that was given for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WhyEvidence {
    /// The kind of the evidence.
    pub kind: String,
    /// The release that the measurement is one of.
    pub release: String,
    /// The measurement, in hex.
    pub measurement: String,
    /// The TCB status of the platform.
    pub tcb: String,
    /// The advisories that apply to it.
    pub advisories: Vec<String>,
    /// When it was appraised, RFC 3339.
    pub appraised_at: String,
    /// When the identity ends, RFC 3339.
    pub expires: String,
    /// The identity.
    pub spiffe_id: String,
    /// The SHA-256 of its certificate, in hex.
    pub leaf_sha256: String,
    /// The id of the record of the appraisal.
    pub record: String,
}

/// The health.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WhyHealthy {
    /// Whether it is `healthy`.
    pub holds: bool,
    /// `unknown`, `healthy`, `unhealthy` or `ejected`.
    pub value: String,
    /// Since when, RFC 3339.
    pub since: String,
    /// Why, where it is not healthy.
    pub reason: Option<String>,
    /// How long the last passed check took, in milliseconds.
    pub last_check_ms: Option<f64>,
    /// How the last failed check failed.
    pub last_error: Option<String>,
}

/// The gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WhyNotGated {
    /// Whether it is `open`.
    pub holds: bool,
    /// `open`.
    pub value: String,
}

impl Why {
    /// The names of the facts, in the order of the rule.
    const FACTS: [&str; 4] = ["ready", "attested", "healthy", "notGated"];

    /// What there is to say of a replica.
    pub fn new(replica: &Replica, configuration: Option<ReplicaConfiguration>) -> Self {
        let name = |fact| match fact {
            NotSelectable::State(_) => Self::FACTS[0],
            NotSelectable::Attestation(_) => Self::FACTS[1],
            NotSelectable::Health(_) => Self::FACTS[2],
        };
        let false_facts: Vec<_> = replica.false_facts().map(name).collect();
        let [ready, attested, healthy, not_gated] = Self::FACTS.map(|fact| !false_facts.contains(&fact));
        Self {
            id: replica.id.to_string(),
            selectable: replica.selectable().is_ok(),
            false_facts: false_facts.into_iter().map(str::to_owned).collect(),
            ready: WhyReady::new(replica, ready),
            attested: WhyAttested::new(&replica.attestation, attested),
            healthy: WhyHealthy::new(replica, healthy),
            not_gated: WhyNotGated { holds: not_gated, value: replica.gate.as_str().to_owned() },
            config: configuration.map(WhyConfig::new),
        }
    }
}

impl WhyConfig {
    fn new(configuration: ReplicaConfiguration) -> Self {
        let ReplicaConfiguration { wanted, applied, taken, since } = configuration;
        let outcome = config_word(&taken).to_owned();
        let reason = match taken {
            Taken::Rejected(reason) => Some(reason),
            Taken::Pending | Taken::Applied => None,
        };
        Self { wanted, applied, outcome, reason, since: since.map(rfc3339) }
    }
}

impl WhyReady {
    fn new(replica: &Replica, holds: bool) -> Self {
        Self {
            holds,
            value: replica.state.as_str().to_owned(),
            since: rfc3339(replica.since),
            reason: replica.reason.clone(),
            restarts: replica.restarts,
            crash_loop: replica.crash_loop.as_deref().map(WhyCrashLoop::new),
            pid: replica.pid,
            address: replica.instance.as_ref().map(|instance| instance.address),
            version_id: replica.instance.as_ref().map(|instance| instance.version.id().to_owned()),
        }
    }
}

impl WhyCrashLoop {
    fn new(found: &CrashLoop) -> Self {
        let LastExit { reason, code, signal, last_lines } = found.last.clone();
        Self { ended: found.ended, since: rfc3339(found.since), reason, exit_code: code, signal, last_lines }
    }
}

impl WhyAttested {
    pub(crate) fn new(attestation: &Attestation, holds: bool) -> Self {
        let refusal = attestation.reason.as_ref();
        let refusal =
            refusal.map(|refusal| WhyRefused { code: refusal.code.clone(), detail: refusal.detail.clone() });
        Self {
            holds,
            value: attestation.value.as_str().to_owned(),
            since: rfc3339(attestation.since),
            refusal,
            evidence: attestation.appraised.as_deref().map(WhyEvidence::new),
        }
    }
}

impl WhyEvidence {
    fn new(appraised: &Appraised) -> Self {
        let Appraised { kind, release, measurement, tcb, advisories, .. } = appraised.clone();
        Self {
            kind,
            release,
            measurement,
            tcb,
            advisories,
            appraised_at: rfc3339(appraised.appraised_at),
            expires: rfc3339(appraised.expires),
            spiffe_id: appraised.spiffe_id.clone(),
            leaf_sha256: appraised.leaf_sha256.clone(),
            record: appraised.record.clone(),
        }
    }
}

impl WhyHealthy {
    fn new(replica: &Replica, holds: bool) -> Self {
        let last_check = replica.instance.as_ref().map(|instance| &instance.last_check);
        let passed = last_check.and_then(LastCheck::latency);
        Self {
            holds,
            value: replica.health.verdict.as_str().to_owned(),
            since: rfc3339(replica.health.since),
            reason: replica.health.reason.clone(),
            last_check_ms: passed.map(milliseconds),
            last_error: last_check.and_then(LastCheck::error),
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use jiff::Timestamp;
    use service_registry::{LifecycleState, Refusal};

    use super::*;
    use crate::health::tests::{appraised, service};

    fn check(replica: &Replica, expected: Expect) {
        let taken = Taken::Rejected("depth: expected at most 9".into());
        let since = Some(Timestamp::UNIX_EPOCH);
        let configuration = ReplicaConfiguration { wanted: 5, applied: Some(4), taken, since };
        expected.assert_eq(&serde_json::to_string_pretty(&Why::new(replica, Some(configuration))).unwrap());
    }

    #[test]
    fn the_contract_of_why_json() {
        let service = service("vrf", "r", true);
        check(
            &service.replicas[0],
            expect![[r#"
                {
                  "id": "vrf/0",
                  "selectable": true,
                  "falseFacts": [],
                  "ready": {
                    "holds": true,
                    "value": "Ready",
                    "since": "1970-01-01T00:00:00.000Z",
                    "reason": null,
                    "restarts": 0,
                    "crashLoop": null,
                    "pid": 4711,
                    "address": "127.0.0.1:41233",
                    "versionId": "1.0.0"
                  },
                  "attested": {
                    "holds": true,
                    "value": "valid",
                    "since": "1970-01-01T00:00:00.000Z",
                    "refusal": null,
                    "evidence": {
                      "kind": "simulated",
                      "release": "1.0.0",
                      "measurement": "0909090909090909090909090909090909090909090909090909090909090909",
                      "tcb": "UpToDate",
                      "advisories": [
                        "INTEL-SA-00001"
                      ],
                      "appraisedAt": "1970-01-01T00:00:00.000Z",
                      "expires": "1970-01-01T01:00:00.000Z",
                      "spiffeId": "spiffe://test.dev.invalid/service/vrf/0",
                      "leafSha256": "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a",
                      "record": "01JD00000000000000000000AA"
                    }
                  },
                  "healthy": {
                    "holds": true,
                    "value": "healthy",
                    "since": "1970-01-01T00:00:00.000Z",
                    "reason": null,
                    "lastCheckMs": 12.345,
                    "lastError": null
                  },
                  "notGated": {
                    "holds": true,
                    "value": "open"
                  },
                  "config": {
                    "wanted": 5,
                    "applied": 4,
                    "outcome": "rejected",
                    "reason": "depth: expected at most 9",
                    "since": "1970-01-01T00:00:00.000Z"
                  }
                }"#]],
        );
    }

    #[test]
    fn every_false_fact_is_named_with_what_it_goes_by() {
        let mut replica = service("vrf", "u", true).replicas[0].clone();
        let refusal = Refusal { code: "RELEASE_NOT_ALLOWED".into(), detail: "expected aa, found bb".into() };
        let before = replica.attestation.valid(appraised(), Timestamp::UNIX_EPOCH);
        replica.attestation = before.refused(refusal, Timestamp::UNIX_EPOCH);
        (replica.state, replica.instance) = (LifecycleState::Stopped, None);
        replica.reason = Some("exited with code 1".into());
        replica.health.reason = Some("GET /health answered 500".into());
        check(
            &replica,
            expect![[r#"
                {
                  "id": "vrf/0",
                  "selectable": false,
                  "falseFacts": [
                    "ready",
                    "attested",
                    "healthy"
                  ],
                  "ready": {
                    "holds": false,
                    "value": "Stopped",
                    "since": "1970-01-01T00:00:00.000Z",
                    "reason": "exited with code 1",
                    "restarts": 0,
                    "crashLoop": null,
                    "pid": 4711,
                    "address": null,
                    "versionId": null
                  },
                  "attested": {
                    "holds": false,
                    "value": "refused",
                    "since": "1970-01-01T00:00:00.000Z",
                    "refusal": {
                      "code": "RELEASE_NOT_ALLOWED",
                      "detail": "expected aa, found bb"
                    },
                    "evidence": {
                      "kind": "simulated",
                      "release": "1.0.0",
                      "measurement": "0909090909090909090909090909090909090909090909090909090909090909",
                      "tcb": "UpToDate",
                      "advisories": [
                        "INTEL-SA-00001"
                      ],
                      "appraisedAt": "1970-01-01T00:00:00.000Z",
                      "expires": "1970-01-01T01:00:00.000Z",
                      "spiffeId": "spiffe://test.dev.invalid/service/vrf/0",
                      "leafSha256": "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a",
                      "record": "01JD00000000000000000000AA"
                    }
                  },
                  "healthy": {
                    "holds": false,
                    "value": "unhealthy",
                    "since": "1970-01-01T00:00:00.000Z",
                    "reason": "GET /health answered 500",
                    "lastCheckMs": null,
                    "lastError": null
                  },
                  "notGated": {
                    "holds": true,
                    "value": "open"
                  },
                  "config": {
                    "wanted": 5,
                    "applied": 4,
                    "outcome": "rejected",
                    "reason": "depth: expected at most 9",
                    "since": "1970-01-01T00:00:00.000Z"
                  }
                }"#]],
        );
    }
}
