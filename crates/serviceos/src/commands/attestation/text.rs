//! What `serviceos attestation` says to people.

use std::path::Path;

use control::{
    AllowedRelease, AllowedTcb, AttestationReport, AttestedPolicy, AttestedService, RevocationAnswer,
    SgxRelease,
};
use mesh_protocol::{LaunchTicket, RevokedType, sha256, to_hex};

use crate::commands::why;
use crate::up::counted;

/// The mesh, then the services with what they may run and what their replicas showed.
pub(super) fn report(report: &AttestationReport) -> String {
    let mut lines = vec![
        format!("trust domain  {} ({})", report.trust_domain, report.mode),
        format!("transition    {}", report.transition.n),
        format!("T_n           {}", report.transition.t_n),
        format!("T_0           {}", report.genesis),
        format!("root key      {} (SHA-256)", report.root_spki_sha256),
        format!(
            "revocations   epoch {}, {}",
            report.revocations.epoch,
            counted_entries(report.revocations.entries.len())
        ),
    ];
    lines.extend(
        report.revocations.entries.iter().map(|entry| {
            format!("              {} {} since {}", word(entry.about), entry.value, entry.since)
        }),
    );
    for service in &report.services {
        lines.push(String::new());
        lines.extend(of_service(service));
    }
    lines.join("\n")
}

fn counted_entries(count: usize) -> String {
    if count == 1 { "1 entry".to_owned() } else { format!("{count} entries") }
}

fn of_service(service: &AttestedService) -> Vec<String> {
    let mut lines = vec![format!("{} {}", service.name, service.version)];
    match &service.policy {
        Some(policy) => lines.extend(of_policy(policy)),
        None => lines.push("  nobody attests it, as the file says: attestation: none".to_owned()),
    }
    for replica in &service.replicas {
        let mut said = why::attested(&replica.attested);
        if !replica.platform.is_empty() {
            said.push(format!("platform     {}", replica.platform.join(", ")));
        }
        let mut said = said.into_iter();
        lines.push(format!("  {}  {}", replica.id, said.next().unwrap_or_default()));
        lines.extend(said.map(|line| format!("      {line}")));
    }
    lines
}

/// In the words of the file, so that a release can be copied into it.
fn of_policy(policy: &AttestedPolicy) -> Vec<String> {
    let mut lines = vec!["  releases:".to_owned()];
    lines.extend(policy.releases.iter().map(|release| format!("    - {}", of_release(release))));
    let AllowedTcb { accept, grace_days, reject_advisories } = &policy.tcb;
    let mut tcb = vec![format!("accept: [{}]", accept.join(", "))];
    if *grace_days > 0 {
        tcb.push(format!("graceDays: {grace_days}"));
    }
    if !reject_advisories.is_empty() {
        tcb.push(format!("rejectAdvisories: [{}]", reject_advisories.join(", ")));
    }
    lines.push(format!("  tcb: {{{}}}", tcb.join(", ")));
    if let Some(allowed) = &policy.platform.allow {
        lines.push(format!("  platform: {{allow: [{}]}}", allowed.join(", ")));
    }
    lines.push(format!("  identityTtl: {}", policy.identity_ttl));
    lines
}

fn of_release(release: &AllowedRelease) -> String {
    let mut parts = vec![format!("version: {:?}", release.version)];
    parts.extend(release.simulated.as_ref().map(|simulated| format!("simulated: {{w: {:?}}}", simulated.w)));
    parts.extend(release.sgx.as_ref().map(|sgx| format!("sgx: {{{}}}", of_sgx(sgx).join(", "))));
    format!("{{{}}}", parts.join(", "))
}

fn of_sgx(sgx: &SgxRelease) -> Vec<String> {
    let texts = [("mrenclave", &sgx.mrenclave), ("mrsigner", &sgx.mrsigner)];
    let texts = texts.into_iter().filter_map(|(key, value)| Some(format!("{key}: {:?}", value.as_ref()?)));
    let numbers = [("prodId", sgx.prod_id), ("minSvn", sgx.min_svn)];
    texts.chain(numbers.into_iter().filter_map(|(key, value)| Some(format!("{key}: {}", value?)))).collect()
}

/// What was revoked, and whom it was about.
/// What to do with a ticket.
pub(super) fn ticket(ticket: &LaunchTicket, file: &Path) -> String {
    let (replica, mesh) = (&ticket.assignment.replica, &ticket.assignment.mesh);
    format!(
        "{} lets {replica} join once, within 120 seconds:\n  serviceos exec --service {} --mesh {} --authority {} --ticket-file {} -- COMMAND",
        file.display(),
        replica.service,
        mesh.address,
        to_hex(&sha256(&mesh.root_spki.0)),
        file.display()
    )
}

pub(super) fn revoked(answer: &RevocationAnswer) -> String {
    let RevocationAnswer { about, value, epoch, .. } = answer;
    if !answer.changed {
        return format!("the {} {value} is revoked already (epoch {epoch})", word(*about));
    }
    let said = format!("the {} {value} is revoked (epoch {epoch})", word(*about));
    match &answer.replicas[..] {
        [] => format!("{said}; no replica has an identity that this is about"),
        some => {
            let gone = counted(some.len(), "replica");
            format!("{said}; {gone} cut off, and refused from now on: {}", some.join(", "))
        }
    }
}

/// What is trusted again.
pub(super) fn restored(answer: &RevocationAnswer) -> String {
    let RevocationAnswer { about, value, epoch, .. } = answer;
    format!(
        "the {} {value} is no longer revoked (epoch {epoch}); replicas that it was about join again with their next start",
        word(*about)
    )
}

fn word(about: RevokedType) -> &'static str {
    match about {
        RevokedType::Instance => "instance",
        RevokedType::Leaf => "leaf",
        RevokedType::Measurement => "measurement",
        RevokedType::Platform => "platform",
        RevokedType::Advisory => "advisory",
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::{Value, json};

    use super::*;

    fn attested() -> Value {
        json!({
            "holds": true, "value": "valid", "since": "2026-01-01T00:00:01.000Z", "refusal": null,
            "evidence": {
                "kind": "simulated", "release": "1.0.0", "measurement": "09".repeat(32), "tcb": "UpToDate",
                "advisories": ["INTEL-SA-00001"], "appraisedAt": "2026-01-01T00:00:01.000Z",
                "expires": "2026-01-01T01:00:01.000Z", "spiffeId": "spiffe://test.dev.invalid/service/vrf/0",
                "leafSha256": "0a".repeat(32), "record": "apr_0",
            },
        })
    }

    #[test]
    fn a_newcomer_finds_the_release_as_it_is_written_in_the_file() {
        let revoked = json!({
            "holds": false, "value": "refused", "since": "2026-01-01T00:00:02.000Z", "evidence": null,
            "refusal": {"code": "REVOKED", "detail": "the instance x is revoked"},
        });
        let exempt = json!({
            "holds": true, "value": "exempt", "since": "2026-01-01T00:00:00.000Z", "refusal": null, "evidence": null,
        });
        let sgx = json!({"version": "1.1.0", "sgx": {"mrsigner": "0b".repeat(32), "prodId": 7, "minSvn": 2}});
        let shown = json!({
            "mode": "development", "trustDomain": "test.dev.invalid", "genesis": "01".repeat(32),
            "transition": {"n": 3, "tN": "02".repeat(32)}, "rootSpki": "AA", "rootSpkiSha256": "03".repeat(32),
            "revocations": {"epoch": 1, "entries": [
                {"type": "instance", "value": "spiffe://test.dev.invalid/service/vrf/1", "since": "2026-01-01T00:00:02.000Z"},
            ]},
            "services": [
                {"name": "vrf", "version": "1.0.0", "policy": {
                    "releases": [{"version": "1.0.0", "simulated": {"w": "09".repeat(32)}}, sgx],
                    "tcb": {"accept": ["UpToDate", "OutOfDate"], "graceDays": 7, "rejectAdvisories": ["INTEL-SA-00002"]},
                    "platform": {"smt": true, "dynamicPlatform": true, "cachedKeys": true, "allow": ["0c0d"]},
                    "identityTtl": "1h",
                }, "replicas": [
                    {"id": "vrf/0", "attested": attested(), "platform": ["0c0d"]},
                    {"id": "vrf/1", "attested": revoked, "platform": []},
                ]},
                {"name": "legacy", "version": "1", "policy": null, "replicas": [
                    {"id": "legacy/0", "attested": exempt, "platform": []},
                ]},
            ],
        });
        let text = report(&serde_json::from_value(shown).unwrap());
        assert!(text.lines().all(|line| line.trim_end() == line), "{text}");
        expect![[r#"
            trust domain  test.dev.invalid (development)
            transition    3
            T_n           0202020202020202020202020202020202020202020202020202020202020202
            T_0           0101010101010101010101010101010101010101010101010101010101010101
            root key      0303030303030303030303030303030303030303030303030303030303030303 (SHA-256)
            revocations   epoch 1, 1 entry
                          instance spiffe://test.dev.invalid/service/vrf/1 since 2026-01-01T00:00:02.000Z

            vrf 1.0.0
              releases:
                - {version: "1.0.0", simulated: {w: "0909090909090909090909090909090909090909090909090909090909090909"}}
                - {version: "1.1.0", sgx: {mrsigner: "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", prodId: 7, minSvn: 2}}
              tcb: {accept: [UpToDate, OutOfDate], graceDays: 7, rejectAdvisories: [INTEL-SA-00002]}
              platform: {allow: [0c0d]}
              identityTtl: 1h
              vrf/0  valid since 2026-01-01T00:00:01.000Z
                  evidence     simulated, release 1.0.0
                  measurement  0909090909090909090909090909090909090909090909090909090909090909
                  TCB          UpToDate
                  advisories   INTEL-SA-00001
                  appraised    2026-01-01T00:00:01.000Z
                  expires      2026-01-01T01:00:01.000Z
                  identity     spiffe://test.dev.invalid/service/vrf/0
                  certificate  0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a (SHA-256)
                  record       apr_0
                  platform     0c0d
              vrf/1  refused since 2026-01-01T00:00:02.000Z
                  code         REVOKED
                  detail       the instance x is revoked

            legacy 1
              nobody attests it, as the file says: attestation: none
              legacy/0  exempt since 2026-01-01T00:00:00.000Z"#]].assert_eq(&text);
    }

    #[test]
    fn what_a_revocation_did_is_said() {
        let answer = |changed, replicas: &[&str]| RevocationAnswer {
            about: RevokedType::Measurement,
            value: "09".repeat(4),
            epoch: 2,
            changed,
            replicas: replicas.iter().map(|&id| id.to_owned()).collect(),
            in_force: true,
        };
        let said = [
            revoked(&answer(true, &["vrf/0", "vrf/2"])),
            revoked(&answer(true, &["vrf/0"])),
            revoked(&answer(true, &[])),
            revoked(&answer(false, &[])),
            restored(&answer(true, &[])),
        ];
        expect![[r#"
            the measurement 09090909 is revoked (epoch 2); 2 replicas cut off, and refused from now on: vrf/0, vrf/2
            the measurement 09090909 is revoked (epoch 2); 1 replica cut off, and refused from now on: vrf/0
            the measurement 09090909 is revoked (epoch 2); no replica has an identity that this is about
            the measurement 09090909 is revoked already (epoch 2)
            the measurement 09090909 is no longer revoked (epoch 2); replicas that it was about join again with their next start"#]].assert_eq(&said.join("\n"));
    }
}
