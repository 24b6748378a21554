//! The steps of an appraisal that look at the evidence and at who is expected.

use appraisal::{Anchor, Appraised, Checks, Code, Fault};
use mesh_protocol::{Evidence, EvidenceKind, JoinClaims, JoinRequest, MAX_EVIDENCE_BYTES, SpiffeId};
use types::{NodeName, ReplicaId};

use super::{Begun, Join};
use crate::ca::SubjectKey;

/// The largest certificate request, in bytes: it has a key and a signature and nothing else.
const MAX_CSR_BYTES: usize = 1024;

/// Chain, binding with the certificate request, debug, TCB, platform and release.
pub(super) fn steps(begun: &mut Begun, root: &[u8]) -> Result<Appraised, Fault> {
    let Begun { join, policy, now_ms, checks, .. } = begun;
    let Join { evidence, claims, csr_key, report_data, before, .. } = join;
    let bound = |measurement: &[u8; 32]| {
        if evidence.kind == EvidenceKind::Simulated && claims.workload != *measurement {
            let detail = "the workload digest is not what was measured";
            return Err(Fault::new(Code::BindingMismatch, detail));
        }
        if csr_key.as_ref() == Some(&claims.identity_spki) {
            return Ok(());
        }
        let detail =
            "the certificate request is not one for the key that the evidence names, and signed with it";
        Err(Fault::new(Code::CsrKeyMismatch, detail))
    };
    let anchor = Anchor { root, now: *now_ms / 1000 };
    let appraised = appraisal::verify(evidence, report_data, &policy.policy, anchor, checks, bound);
    let Some(before) = before.filter(|_| is_mismatch(&appraised)) else { return appraised };
    let checks = &mut Checks::default();
    let was_bound = appraisal::verify(evidence, &before, &policy.policy, anchor, checks, |_| Ok(()));
    if is_mismatch(&was_bound) {
        return appraised;
    }
    let detail = "another manifest came into force since the challenge; join again";
    Err(Fault::new(Code::ManifestChanged, detail))
}

fn is_mismatch(appraised: &Result<Appraised, Fault>) -> bool {
    appraised.as_ref().is_err_and(|fault| fault.code == Code::BindingMismatch)
}

/// One of the replicas that are wanted here, or one whose launch was asked for beside them: while one takes another's place there
/// are more. Each has one way to write its instance, or there would be more identities than replicas.
pub(super) fn is_expected(begun: &Begun, node: Option<&NodeName>, is_asked_for: bool) -> Result<(), Fault> {
    let replica = ReplicaId::of_instance(begun.service.clone(), &begun.join.claims.instance);
    let is_identity = begun.id.to_string().parse::<SpiffeId>().as_ref() == Ok(&begun.id);
    let is_wanted = |replica: &ReplicaId| is_asked_for || replica.ordinal < begun.policy.replicas;
    let is_one_of_ours = |replica: &ReplicaId| replica.node.as_ref() == node && is_wanted(replica);
    if is_identity && replica.is_ok_and(|replica| is_one_of_ours(&replica)) {
        return Ok(());
    }
    let detail = format!("{} has {} replicas", begun.service, begun.policy.replicas);
    let on = node.map(|node| format!(" on {node}")).unwrap_or_default();
    Err(Fault::new(Code::ReplicaNotExpected, detail + &on))
}

/// Reads what came, within its limits.
pub(super) fn read(request: &JoinRequest) -> Result<(Evidence, JoinClaims, [u8; 32]), Fault> {
    if request.evidence.0.len() > MAX_EVIDENCE_BYTES {
        let detail = format!("{} bytes are over the limit of {MAX_EVIDENCE_BYTES}", request.evidence.0.len());
        return Err(Fault::new(Code::EvidenceTooLarge, detail));
    }
    let malformed = |detail: &str| Fault::new(Code::EvidenceMalformed, detail);
    if request.csr.0.len() > MAX_CSR_BYTES {
        return Err(malformed("the certificate request is over the limit of 1 KiB"));
    }
    if SubjectKey::of(&request.receipt_spki.0).is_none() {
        return Err(malformed("the receipt key is no P-256 key of 91 bytes"));
    }
    let hpke_public = request.hpke_public_key.0.as_slice().try_into();
    let hpke_public = hpke_public.map_err(|_| malformed("an HPKE key has 32 bytes"))?;
    let (evidence, claims) =
        Evidence::decode_join(&request.evidence.0).map_err(|error| malformed(&error.to_string()))?;
    Ok((evidence, claims, hpke_public))
}
