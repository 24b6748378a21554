//! Evidence of the wrong kind, under another root, with other collateral, from other platforms or of other code.

use std::time::Duration;

use appraisal::{Anchor, Checks, Code, PlatformAllow, Policy, Release, Roots, TcbStatus};
use dev_quoter::{PlatformTcb, Profile, Quoter, TCB_DATE, Validity};
use expect_test::expect;
use mesh_protocol::{DcapCollateral, Evidence, EvidenceKind};
use serde_json::json;
use types::Mode;

use crate::mesh::{Mesh, NOW, ORACLE_W, Setup, VERSION, W};

const DAY: u64 = 24 * 3600;

/// Changes the collateral.
fn collateral(change: impl FnOnce(&mut DcapCollateral)) -> impl FnOnce(&mut Evidence) {
    move |evidence| {
        let mut collateral: DcapCollateral = serde_json::from_slice(&evidence.collateral).unwrap();
        change(&mut collateral);
        evidence.collateral = serde_json::to_vec(&collateral).unwrap();
    }
}

/// How a replica of a platform that pretends something is refused.
async fn pretending(profile: Profile) -> Code {
    Mesh::pretending(profile).await.applicant("0").refused().await
}

#[tokio::test]
async fn production_takes_no_simulated_evidence_and_no_version_takes_what_it_cannot_verify() {
    let in_production = |setup: &mut Setup| {
        (setup.mode, setup.roots) = (Mode::Production, Some(Roots::Vendors));
    };
    let production = Mesh::with(in_production).await;
    assert_eq!(production.applicant("0").refused().await, Code::EvidenceKindForbidden);
    let development = Mesh::new().await;
    for kind in [EvidenceKind::Tdx, EvidenceKind::SevSnp, EvidenceKind::Nitro] {
        let applicant = development.applicant("0").evidence(move |evidence| evidence.kind = kind);
        assert_eq!(applicant.refused().await, Code::EvidenceKindForbidden, "{kind}");
    }
    // Under another name it meets another root.
    for mesh in [production, development] {
        let named = mesh.applicant("0").evidence(|evidence| evidence.kind = EvidenceKind::Sgx);
        let bound = named.bound(|binding| binding.kind = EvidenceKind::Sgx);
        assert_eq!(bound.refused().await, Code::ChainUntrusted);
    }
}

#[tokio::test]
async fn evidence_of_another_quoter_is_not_trusted() {
    let mesh = Mesh::new().await;
    let mut other = Quoter::generate(NOW).unwrap();
    let theirs = other.evidence([9; 64], [9; 32], NOW).unwrap();
    let replace = |evidence: &mut Evidence| evidence.collateral = theirs.collateral;
    assert_eq!(mesh.applicant("0").evidence(replace).refused().await, Code::ChainUntrusted);
    let replace = |evidence: &mut Evidence| evidence.quote = theirs.quote;
    assert_eq!(mesh.applicant("0").evidence(replace).refused().await, Code::ChainUntrusted);
    *mesh.quoter.lock().unwrap() = other;
    assert_eq!(mesh.applicant("0").refused().await, Code::ChainUntrusted);
}

#[test]
fn evidence_of_hardware_leads_to_its_vendor_whatever_root_was_given() {
    let mut quoter = Quoter::generate(NOW).unwrap();
    let mut evidence = quoter.evidence([9; 64], W, NOW).unwrap();
    let root = quoter.root().to_vec();
    let policy = Policy::of_releases(vec![Release::simulated(VERSION, W)]);
    let verified = |evidence: &Evidence| {
        let anchor = Anchor { root: &root, now: NOW };
        appraisal::verify(evidence, &[9; 64], &policy, anchor, &mut Checks::default(), |_| Ok(()))
    };
    assert!(verified(&evidence).is_ok());
    evidence.kind = EvidenceKind::Sgx;
    assert_eq!(verified(&evidence).unwrap_err().code, Code::ChainUntrusted);
}

#[tokio::test]
async fn an_evaluation_of_the_vendor_s_is_never_followed_by_an_older_one() {
    let of = |evaluation| Profile { evaluation, ..Profile::default() };
    let outdated = async |mesh: &Mesh| {
        let fault = mesh.applicant("0").join().await.map(|_joined| ()).unwrap_err();
        assert_eq!((fault.code, fault.is_retryable()), (Code::CollateralOutdated, false));
        assert_eq!(mesh.stands("0"), Err(Code::CollateralOutdated));
    };
    let mesh = Mesh::pretending(of(7)).await;
    let _joined = mesh.applicant("0").joined().await;
    mesh.pretend(of(6));
    outdated(&mesh).await;
    let mesh = mesh.restarted(|_| {}).await;
    outdated(&mesh).await;
    mesh.pretend(of(8));
    let _joined = mesh.applicant("0").joined().await;
}

#[tokio::test]
async fn a_member_whose_collateral_alone_is_behind_tries_again_and_keeps_its_standing() {
    let of = |evaluation| Profile { evaluation, ..Profile::default() };
    let mesh = Mesh::pretending(of(7)).await;
    let member = mesh.applicant("0").joined().await;
    let stood = mesh.standing("0");
    mesh.pretend(of(8));
    let ahead = mesh.applicant("1").joined().await;
    let rises: Vec<_> =
        mesh.audit().into_iter().filter(|record| record["kind"] == "tcb-evaluation").collect();
    assert_eq!(rises.len(), 1, "the first number is no rise");
    assert_eq!(rises[0]["actor"], json!(ahead.peer.id.to_string()));
    assert_eq!(rises[0]["data"], json!({"kind": "simulated", "before": 7, "now": 8}));
    mesh.pretend(of(7));
    let lines = mesh.audit().len();
    for _again in 0..2 {
        let renewal = mesh.applicant("0").known_by(&member.leaf).join().await;
        let fault = renewal.map(|_joined| ()).unwrap_err();
        assert_eq!((fault.code, fault.is_retryable()), (Code::CollateralOutdated, true));
        assert_eq!(mesh.standing("0"), stood);
    }
    assert_eq!(mesh.audit().len(), lines, "nothing was decided");
    mesh.pretend(of(8));
    let member = mesh.applicant("0").known_by(&member.leaf).joined().await;
    mesh.pretend(of(7));
    let other_code = mesh.applicant("0").known_by(&member.leaf).running([9; 32]).join().await;
    let fault = other_code.map(|_joined| ()).unwrap_err();
    assert_eq!((fault.code, fault.is_retryable()), (Code::ReleaseNotAllowed, false));
    assert_eq!(mesh.stands("0"), Err(Code::ReleaseNotAllowed));
}

#[tokio::test]
async fn a_changed_quote_or_document_is_signed_by_nobody() {
    let mesh = Mesh::new().await;
    let report = mesh.applicant("0").evidence(|evidence| evidence.quote[48 + 64] ^= 1);
    assert_eq!(report.refused().await, Code::SignatureInvalid);
    let rename = |text: &mut String| *text = text.replace("OutOfDate", "UpToDate");
    mesh.pretend(Profile { tcb: PlatformTcb::OutOfDate, ..Profile::default() });
    let levels = mesh.applicant("0").evidence(collateral(move |collateral| rename(&mut collateral.tcb_info)));
    assert_eq!(levels.refused().await, Code::SignatureInvalid);
}

#[tokio::test]
async fn without_revocation_lists_nothing_is_known() {
    let mesh = Mesh::new().await;
    let platforms = mesh.applicant("0").evidence(collateral(|collateral| collateral.pck_crl.0.clear()));
    assert_eq!(platforms.refused().await, Code::RevocationUnknown);
    let roots = mesh.applicant("0").evidence(collateral(|collateral| collateral.root_ca_crl.0.clear()));
    assert_eq!(roots.refused().await, Code::RevocationUnknown);
}

#[tokio::test]
async fn collateral_holds_at_its_time_and_for_its_platform() {
    let dated = async |issued, next_update| {
        let validity = Some(Validity { issued, next_update });
        pretending(Profile { validity, ..Profile::default() }).await
    };
    assert_eq!(dated(NOW - DAY, NOW - 1).await, Code::CollateralExpired);
    assert_eq!(dated(NOW + 1, NOW + DAY).await, Code::CollateralNotYetValid);
    let profile = Profile { tcb_info_fmspc: [0; 6], ..Profile::default() };
    assert_eq!(pretending(profile).await, Code::CollateralMismatch);
}

#[tokio::test]
async fn collateral_ends_with_a_code_of_its_own_to_the_second() {
    let ends = async |next_update| {
        let validity = Some(Validity { issued: NOW - DAY, next_update });
        let mesh = Mesh::pretending(Profile { validity, ..Profile::default() }).await;
        mesh.applicant("0").join().await.map(|_joined| ()).map_err(|fault| fault.code)
    };
    assert_eq!(ends(NOW).await, Err(Code::CollateralExpired));
    assert_eq!(ends(NOW + 1).await, Ok(()));
}

#[tokio::test]
async fn certificates_expire() {
    let mesh = Mesh::new().await;
    mesh.clock.forward(Duration::from_secs(3653 * DAY + 1));
    assert_eq!(mesh.applicant("0").refused().await, Code::CertificateExpired);
}

#[tokio::test]
async fn a_revoked_platform_is_refused() {
    assert_eq!(pretending(Profile { revoked: true, ..Profile::default() }).await, Code::CertificateRevoked);
}

#[tokio::test]
async fn a_platform_is_as_current_as_the_policy_wants() {
    let of = |tcb| Profile { tcb, ..Profile::default() };
    assert_eq!(pretending(of(PlatformTcb::BelowEveryLevel)).await, Code::TcbUnmatched);
    for tcb in [
        PlatformTcb::OutOfDate,
        PlatformTcb::SwHardeningNeeded,
        PlatformTcb::ConfigurationNeeded,
        PlatformTcb::Revoked,
    ] {
        assert_eq!(pretending(of(tcb)).await, Code::TcbNotAccepted, "{tcb:?}");
    }
    let mesh = Mesh::with(|setup| setup.vrf.policy.tcb.accept.push(TcbStatus::SWHardeningNeeded)).await;
    mesh.pretend(of(PlatformTcb::SwHardeningNeeded));
    mesh.applicant("0").joined().await;
}

#[tokio::test]
async fn no_policy_accepts_a_platform_whose_keys_are_lost() {
    let everything = |setup: &mut Setup| {
        setup.vrf.policy.tcb.accept = vec![TcbStatus::UpToDate, TcbStatus::Revoked, TcbStatus::OutOfDate];
        setup.vrf.policy.tcb.grace_days = u32::MAX;
    };
    let mesh = Mesh::with(everything).await;
    mesh.pretend(Profile { tcb: PlatformTcb::Revoked, ..Profile::default() });
    assert_eq!(mesh.applicant("0").refused().await, Code::TcbNotAccepted);
}

#[tokio::test]
async fn what_is_out_of_date_is_accepted_in_its_days_of_grace() {
    let days = u32::try_from((NOW - TCB_DATE) / DAY).unwrap();
    let mesh = Mesh::with(|setup| setup.vrf.policy.tcb.grace_days = days).await;
    let of = |tcb| Profile { tcb, ..Profile::default() };
    mesh.pretend(of(PlatformTcb::OutOfDate));
    assert_eq!(mesh.applicant("0").refused().await, Code::TcbNotAccepted);
    let mesh = mesh.restarted(|setup| setup.vrf.policy.tcb.grace_days = days + 1).await;
    mesh.applicant("0").joined().await;
    mesh.pretend(of(PlatformTcb::ConfigurationNeeded));
    assert_eq!(mesh.applicant("0").refused().await, Code::TcbNotAccepted, "grace is for what is out of date");
}

#[tokio::test]
async fn an_advisory_that_the_policy_rejects_is_refused_on_a_platform_that_is_accepted() {
    let profile = Profile { advisories: vec!["INTEL-SA-00001".into()], ..Profile::default() };
    let mesh = Mesh::pretending(profile).await;
    mesh.applicant("0").joined().await;
    let rejects = |setup: &mut Setup| setup.vrf.policy.tcb.reject_advisories = vec!["intel-sa-00001".into()];
    let mesh = mesh.restarted(rejects).await;
    assert_eq!(mesh.applicant("0").refused().await, Code::AdvisoryRejected);
}

#[tokio::test]
async fn a_debug_enclave_is_refused() {
    assert_eq!(pretending(Profile { debug: true, ..Profile::default() }).await, Code::EvidenceDebug);
}

#[tokio::test]
async fn a_policy_names_the_machines_that_it_allows() {
    let allows =
        |id: String| move |setup: &mut Setup| setup.vrf.policy.platform.allow = PlatformAllow::Only(vec![id]);
    let mesh = Mesh::with(allows("00".repeat(16))).await;
    assert_eq!(mesh.applicant("0").refused().await, Code::PlatformNotAllowed);
    let own = mesh.platform();
    let mesh = mesh.restarted(allows(own)).await;
    mesh.applicant("0").joined().await;
}

#[tokio::test]
async fn other_code_is_refused_with_what_was_expected_and_what_was_found() {
    let mesh = Mesh::new().await;
    let refused = mesh.applicant("0").running([9; 32]).join().await.map(|joined| joined.peer).unwrap_err();
    expect![[r#"RELEASE_NOT_ALLOWED: expected 0707070707070707070707070707070707070707070707070707070707070707 (1.4.2), found 0909090909090909090909090909090909090909090909090909090909090909"#]]
        .assert_eq(&refused.to_string());
    let of_another_service = mesh.applicant("0").running(ORACLE_W).refused().await;
    assert_eq!(of_another_service, Code::ReleaseNotAllowed);
}

#[tokio::test]
async fn a_service_has_the_replicas_that_its_manifest_says() {
    let mesh = Mesh::new().await;
    mesh.applicant("1").joined().await;
    for instance in ["00", "+1", "-1", "", "x", "a b.0", "a/b.0", "4294967296"] {
        let refused = mesh.applicant(instance).refused().await;
        assert_eq!(refused, Code::ReplicaNotExpected, "{instance:?}");
    }
    assert_eq!(mesh.applicant_of("unknown", "0").refused().await, Code::ReplicaNotExpected);
    mesh.applicant_of("oracle", "0").joined().await;
}

#[tokio::test]
async fn one_more_than_the_manifest_says_joins_only_while_its_launch_is_asked_for() {
    let mesh = Mesh::new().await;
    let vrf = "vrf".parse().unwrap();
    let ticket = mesh.ticket("vrf", "2");
    mesh.authority.dismiss(&vrf, "2");
    assert_eq!(mesh.applicant("2").ticket(ticket).refused().await, Code::ReplicaNotExpected);
    mesh.authority.dismiss(&vrf, "2");
    let joined = mesh.applicant("2").joined().await;
    mesh.authority.dismiss(&vrf, "2");
    assert!(!mesh.authority.has_admitted(&joined.peer), "it is nobody any more");
}

/// How a join is refused of which so many steps go wrong, from the last of them towards the first.
async fn wrong(mesh: &Mesh, steps: usize) -> &'static str {
    let ticket = mesh.ticket("vrf", "2");
    mesh.authority.dismiss(&"vrf".parse().unwrap(), "2");
    let mut applicant = mesh.applicant("2").ticket(ticket);
    if steps > 1 {
        applicant = applicant.running([9; 32]);
    }
    if steps > 2 {
        applicant = applicant.bound(|binding| binding.instance = "0");
    }
    if steps > 3 {
        applicant = applicant.evidence(collateral(|collateral| collateral.pck_crl.0.clear()));
    }
    if steps > 4 {
        applicant = applicant.joining_over([9; 32]);
    }
    if steps > 5 {
        applicant = applicant.evidence(|evidence| evidence.kind = EvidenceKind::Nitro);
    }
    if steps > 6 {
        applicant = applicant.request(|request| request.evidence.0.push(0));
    }
    applicant.refused().await.as_str()
}

#[tokio::test]
async fn the_earliest_failing_step_names_the_code() {
    let mesh = Mesh::new().await;
    let mut said = vec![wrong(&mesh, 1).await, wrong(&mesh, 2).await];
    let no_machine = |setup: &mut Setup| setup.vrf.policy.platform.allow = PlatformAllow::Only(Vec::new());
    let mesh = mesh.restarted(no_machine).await;
    said.push(wrong(&mesh, 2).await);
    let out_of_date = Profile { tcb: PlatformTcb::OutOfDate, ..Profile::default() };
    mesh.pretend(out_of_date.clone());
    said.push(wrong(&mesh, 2).await);
    mesh.pretend(Profile { debug: true, ..out_of_date });
    for steps in 2..=7 {
        said.push(wrong(&mesh, steps).await);
    }
    expect![[r#"
        REPLICA_NOT_EXPECTED
        RELEASE_NOT_ALLOWED
        PLATFORM_NOT_ALLOWED
        TCB_NOT_ACCEPTED
        EVIDENCE_DEBUG
        BINDING_MISMATCH
        REVOCATION_UNKNOWN
        NONCE_CHANNEL_MISMATCH
        EVIDENCE_KIND_FORBIDDEN
        EVIDENCE_MALFORMED"#]]
    .assert_eq(&said.join("\n"));
}
