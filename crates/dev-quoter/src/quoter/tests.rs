//! What is made here against the verifier that judges it.

use dcap_qvl::verify::QuoteVerifier;
use dcap_qvl::{PckCertFlag, QuoteClaims, QuoteCollateralV3, QuotePolicy, TcbStatus};
use mesh_protocol::MAX_EVIDENCE_BYTES;

use super::*;
use crate::{FMSPC, PlatformTcb, TCB_DATE};

const NOW: u64 = 1_800_000_000;
const DAY: u64 = 24 * 3600;
const W: [u8; 32] = [7; 32];
const REPORT_DATA: [u8; 64] = [9; 64];

fn verify(root: &[u8], evidence: &Evidence, now: u64) -> Result<QuoteClaims, String> {
    let collateral: QuoteCollateralV3 = serde_json::from_slice(&evidence.collateral).unwrap();
    QuoteVerifier::new(root.to_vec())
        .verify_with_policy(&evidence.quote, collateral, now, &QuotePolicy::claims_only(now))
        .map_err(|error| format!("{error:#}"))
}

fn judged(profile: Profile) -> Result<QuoteClaims, String> {
    let mut quoter = Quoter::generate(NOW).unwrap();
    quoter.pretend(profile);
    let evidence = quoter.evidence(REPORT_DATA, W, NOW).unwrap();
    verify(quoter.root(), &evidence, NOW)
}

fn refused(profile: Profile, because: &str) {
    let reason = judged(profile).unwrap_err();
    assert!(reason.contains(because), "{reason}");
}

#[test]
fn a_quote_verifies_under_the_development_root_and_says_what_was_asked_for() {
    let mut quoter = Quoter::generate(NOW).unwrap();
    let evidence = quoter.evidence(REPORT_DATA, W, NOW).unwrap();
    assert_eq!(evidence.kind, EvidenceKind::Simulated);
    assert!(evidence.encode().len() < MAX_EVIDENCE_BYTES / 2, "{}", evidence.encode().len());
    let claims = verify(quoter.root(), &evidence, NOW).unwrap();
    let report = claims.report.as_sgx().unwrap();
    assert_eq!((report.mr_enclave, report.report_data), (W, REPORT_DATA));
    assert_eq!((report.isv_prod_id, report.isv_svn), (1, 1));
    assert_eq!(claims.tcb.status, TcbStatus::UpToDate);
    assert!(claims.tcb.advisory_ids.is_empty());
    let pck = &claims.platform.pck;
    assert_eq!((pck.fmspc, pck.ppid.as_slice()), (FMSPC, &quoter.ppid()[..]));
    for flag in [pck.dynamic_platform, pck.cached_keys, pck.smt_enabled] {
        assert_eq!(flag, PckCertFlag::False);
    }
    // An hour has passed when it is made, so that a clock that is set back a little does no harm.
    assert_eq!(claims.earliest_expiration_date, NOW + 30 * DAY - 3600);
}

#[test]
fn the_strictest_policy_accepts_a_platform_that_is_up_to_date() {
    let mut quoter = Quoter::generate(NOW).unwrap();
    let evidence = quoter.evidence(REPORT_DATA, W, NOW).unwrap();
    let collateral: QuoteCollateralV3 = serde_json::from_slice(&evidence.collateral).unwrap();
    let verifier = QuoteVerifier::new(quoter.root().to_vec());
    let judged = verifier.verify_with_policy(&evidence.quote, collateral, NOW, &QuotePolicy::strict(NOW));
    assert!(judged.is_ok(), "{judged:?}");
}

#[test]
fn a_quote_verifies_neither_under_intels_root_nor_under_that_of_another_quoter() {
    let (mut quoter, other) = (Quoter::generate(NOW).unwrap(), Quoter::generate(NOW).unwrap());
    let evidence = quoter.evidence(REPORT_DATA, W, NOW).unwrap();
    let collateral: QuoteCollateralV3 = serde_json::from_slice(&evidence.collateral).unwrap();
    let policy = QuotePolicy::claims_only(NOW);
    let intel = QuoteVerifier::new_prod().verify_with_policy(&evidence.quote, collateral, NOW, &policy);
    assert!(intel.is_err());
    assert!(verify(other.root(), &evidence, NOW).is_err());
}

#[test]
fn no_byte_of_the_signed_part_of_a_quote_can_be_changed() {
    let mut quoter = Quoter::generate(NOW).unwrap();
    let evidence = quoter.evidence(REPORT_DATA, W, NOW).unwrap();
    for place in (0..48 + 384 + 4 + 64 + 64 + 384 + 64).step_by(13) {
        let mut changed = evidence.clone();
        changed.quote[place] ^= 1;
        assert!(verify(quoter.root(), &changed, NOW).is_err(), "byte {place}");
    }
}

#[test]
fn the_root_and_the_platform_survive_a_restart_and_each_runs_collateral_fits_the_others_quotes() {
    let folder = tempfile::tempdir().unwrap();
    let mut before = Quoter::open(folder.path(), NOW).unwrap();
    let mut after = Quoter::open(folder.path(), NOW + DAY).unwrap();
    assert_eq!((before.root(), before.ppid()), (after.root(), after.ppid()));
    let mut evidence = before.evidence(REPORT_DATA, W, NOW).unwrap();
    evidence.collateral = after.evidence(REPORT_DATA, W, NOW + DAY).unwrap().collateral;
    verify(after.root(), &evidence, NOW + DAY).unwrap();
}

#[test]
fn collateral_is_kept_until_half_of_it_is_over_and_is_made_anew_when_the_clock_is_set_back() {
    let mut quoter = Quoter::generate(NOW).unwrap();
    let mut collateral = |now| quoter.evidence(REPORT_DATA, W, now).unwrap().collateral;
    let first = collateral(NOW);
    assert!(collateral(NOW + 14 * DAY) == first);
    let second = collateral(NOW + 15 * DAY);
    assert!(second != first);
    assert!(collateral(NOW + 16 * DAY) == second);
    assert!(collateral(NOW) != second);
}

#[test]
fn evidence_is_good_for_ten_years() {
    let mut quoter = Quoter::generate(NOW).unwrap();
    for now in [NOW - DAY + 3600, NOW + 365 * DAY, NOW + 3652 * DAY] {
        let evidence = quoter.evidence(REPORT_DATA, W, now).unwrap();
        verify(quoter.root(), &evidence, now).unwrap();
    }
}

#[test]
fn a_debug_enclave_is_one() {
    refused(Profile { debug: true, ..Profile::default() }, "Debug mode is enabled");
}

#[test]
fn a_platform_stands_to_the_tcb_levels_as_it_pretends() {
    for (tcb, status) in [
        (PlatformTcb::UpToDate, TcbStatus::UpToDate),
        (PlatformTcb::SwHardeningNeeded, TcbStatus::SWHardeningNeeded),
        (PlatformTcb::ConfigurationNeeded, TcbStatus::ConfigurationNeeded),
        (PlatformTcb::OutOfDate, TcbStatus::OutOfDate),
    ] {
        let advisories = vec!["INTEL-SA-00000".to_owned()];
        let claims = judged(Profile { tcb, advisories: advisories.clone(), ..Profile::default() }).unwrap();
        assert_eq!((claims.tcb.status, claims.tcb.advisory_ids), (status, advisories));
        assert_eq!(claims.platform.tcb_date_tag, TCB_DATE);
    }
    refused(Profile { tcb: PlatformTcb::Revoked, ..Profile::default() }, "Revoked");
    let below = Profile { tcb: PlatformTcb::BelowEveryLevel, ..Profile::default() };
    refused(below, "No matching TCB level");
}

#[test]
fn a_revoked_platform_is_on_the_list() {
    refused(Profile { revoked: true, ..Profile::default() }, "CertRevoked");
}

#[test]
fn tcb_information_of_another_platform_does_not_fit() {
    refused(Profile { tcb_info_fmspc: [0; 6], ..Profile::default() }, "Fmspc mismatch");
}

#[test]
fn collateral_is_as_old_or_as_new_as_it_pretends() {
    let dated = |issued, next_update| Profile {
        validity: Some(Validity { issued, next_update }),
        ..Profile::default()
    };
    judged(dated(NOW - DAY, NOW + DAY)).unwrap();
    refused(dated(NOW + 60, NOW + DAY), "in the future");
    // The lists expire with the rest, and are looked at first.
    refused(dated(NOW - DAY, NOW - 60), "CrlExpired");
}
