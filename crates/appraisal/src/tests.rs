use std::path::{Path, PathBuf};
use std::time::Duration;

use expect_test::expect;
use mesh_protocol::{Evidence, EvidenceKind, from_hex};
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Case {
    quote: String,
    collateral: String,
    verify_at_unix: u64,
    expect: String,
    status_or_error: String,
    advisories: Vec<String>,
    fields: Fields,
}

#[derive(Deserialize)]
struct Fields {
    mr_enclave: String,
    report_data: String,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/evidence/sgx")
}

fn cases() -> Vec<Case> {
    let text = std::fs::read_to_string(folder().join("cases.json")).expect("the real evidence of SGX");
    serde_json::from_str(&text).unwrap()
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap()
}

fn evidence(quote: &str, collateral: &str) -> Evidence {
    Evidence { kind: EvidenceKind::Sgx, quote: read(quote), collateral: read(collateral) }
}

/// Accepts the enclave with any TCB status.
fn policy(enclave: &str) -> Policy {
    let accept =
        vec![TcbStatus::UpToDate, TcbStatus::SWHardeningNeeded, TcbStatus::ConfigurationAndSWHardeningNeeded];
    let enclave = from_hex(enclave).unwrap().try_into().unwrap();
    let sgx = Some(SgxMeasurement::Enclave(enclave));
    Policy {
        releases: vec![Release { version: "1.0.0".into(), simulated: None, sgx }],
        tcb: TcbPolicy { accept, ..TcbPolicy::default() },
        platform: PlatformPolicy::default(),
        identity_ttl: Duration::from_secs(3600),
    }
}

fn report_data(fields: &Fields) -> [u8; 64] {
    from_hex(&fields.report_data).unwrap().try_into().unwrap()
}

fn appraise_case(case: &Case) -> Result<Appraised, Fault> {
    let evidence = evidence(&case.quote, &case.collateral);
    let policy = policy(&case.fields.mr_enclave);
    let report_data = report_data(&case.fields);
    appraise(&evidence, &report_data, &policy, &Roots::Vendors, case.verify_at_unix, &mut Checks::default())
}

#[test]
fn real_quotes_take_the_same_path_under_intels_root() {
    let mut table = String::new();
    for case in cases() {
        let appraised = appraise_case(&case);
        assert_eq!(appraised.is_ok(), case.expect == "ok", "{} {:?}", case.quote, appraised);
        let told = match &appraised {
            Ok(appraised) => {
                assert_eq!(appraised.tcb.to_string(), case.status_or_error);
                assert_eq!(appraised.advisories, case.advisories);
                appraised.tcb.to_string()
            }
            Err(fault) => fault.code.to_string(),
        };
        table += &format!("{} at {}: {told}\n", case.quote, case.verify_at_unix);
    }
    expect![[r#"
        v3_prod_00a067110000.quote at 1751328000: ConfigurationAndSWHardeningNeeded
        v3_debug_00a067110000.quote at 1751328000: EVIDENCE_DEBUG
        v3_prod_00606a000000.quote at 1755648000: SWHardeningNeeded
        v3_debug_00606a000000.quote at 1755648000: EVIDENCE_DEBUG
        v3_prod_00606a000000.quote at 1751328000: COLLATERAL_MISMATCH
        v3_prod_00a067110000.quote at 1754006400: COLLATERAL_EXPIRED
        v3_prod_00a067110000.quote at 1750329000: COLLATERAL_NOT_YET_VALID
    "#]]
    .assert_eq(&table);
}

/// The first real case, with something changed about it.
fn changed(change: impl FnOnce(&mut Evidence, &mut Policy, &mut [u8; 64])) -> String {
    let case = &cases()[0];
    let mut evidence = evidence(&case.quote, &case.collateral);
    let (mut policy, mut bound_to) = (policy(&case.fields.mr_enclave), report_data(&case.fields));
    change(&mut evidence, &mut policy, &mut bound_to);
    let mut checks = Checks::default();
    let appraised =
        appraise(&evidence, &bound_to, &policy, &Roots::Vendors, case.verify_at_unix, &mut checks);
    let last = checks.steps().last().unwrap();
    let code = last.code.map_or("accepted".to_owned(), |code| code.to_string());
    assert_eq!(appraised.err().map(|fault| fault.code), last.code);
    format!("{:?}: {code}", last.step)
}

#[test]
fn the_earliest_failing_step_names_the_code() {
    assert_eq!(changed(|_, _, _| {}), "Release: accepted");
    assert_eq!(
        changed(|evidence, _, _| evidence.kind = EvidenceKind::Simulated),
        "Kind: EVIDENCE_KIND_FORBIDDEN"
    );
    assert_eq!(changed(|evidence, _, _| evidence.kind = EvidenceKind::Tdx), "Kind: EVIDENCE_KIND_FORBIDDEN");
    assert_eq!(changed(|evidence, _, _| evidence.quote.truncate(500)), "Chain: EVIDENCE_MALFORMED");
    assert_eq!(changed(|evidence, _, _| evidence.collateral.truncate(500)), "Chain: EVIDENCE_MALFORMED");
    // A byte of the report, and one of its signature.
    assert_eq!(changed(|evidence, _, _| evidence.quote[48 + 64] ^= 1), "Chain: SIGNATURE_INVALID");
    assert_eq!(changed(|evidence, _, _| evidence.quote[48 + 384 + 4] ^= 1), "Chain: SIGNATURE_INVALID");
    assert_eq!(changed(|_, _, bound_to| bound_to[63] ^= 1), "Binding: BINDING_MISMATCH");
    let strict = |policy: &mut Policy| policy.tcb = TcbPolicy::default();
    assert_eq!(changed(|_, policy, _| strict(policy)), "Tcb: TCB_NOT_ACCEPTED");
    let rejects = |policy: &mut Policy| policy.tcb.reject_advisories = vec!["intel-sa-00289".into()];
    assert_eq!(changed(|_, policy, _| rejects(policy)), "Tcb: ADVISORY_REJECTED");
    let only = |id: &str| PlatformAllow::Only(vec![id.to_owned()]);
    let (ours, other) = (only("d04ec06d4e6d92dc90d0ad3cf5ee2ddf"), only("00"));
    assert_eq!(changed(|_, policy, _| policy.platform.allow = ours), "Release: accepted");
    assert_eq!(changed(|_, policy, _| policy.platform.allow = other), "Platform: PLATFORM_NOT_ALLOWED");
    assert_eq!(changed(|_, policy, _| policy.releases.clear()), "Release: RELEASE_NOT_ALLOWED");
    // Two things are wrong at once.
    let both = |bound_to: &mut [u8; 64], policy: &mut Policy| {
        bound_to[0] ^= 1;
        policy.releases.clear();
    };
    assert_eq!(changed(|_, policy, bound_to| both(bound_to, policy)), "Binding: BINDING_MISMATCH");
}

/// The first real case, with a key of its collateral replaced by what a function makes of it.
fn with_collateral(key: &str, change: impl Fn(&str) -> String) -> String {
    changed(|evidence, _, _| {
        let mut json: serde_json::Value = serde_json::from_slice(&evidence.collateral).unwrap();
        let text = change(json[key].as_str().unwrap());
        json[key] = text.into();
        evidence.collateral = serde_json::to_vec(&json).unwrap();
    })
}

#[test]
fn collateral_without_revocation_lists_or_with_a_changed_document_is_refused() {
    assert_eq!(with_collateral("pck_crl", |_| String::new()), "Chain: REVOCATION_UNKNOWN");
    assert_eq!(with_collateral("root_ca_crl", |_| String::new()), "Chain: REVOCATION_UNKNOWN");
    let more = |text: &str| text.replace("\"tcbEvaluationDataNumber\":17", "\"tcbEvaluationDataNumber\":18");
    assert_eq!(with_collateral("tcb_info", more), "Chain: SIGNATURE_INVALID");
    assert_eq!(with_collateral("qe_identity", more), "Chain: SIGNATURE_INVALID");
}

#[test]
fn what_the_vendor_says_is_no_older_than_what_was_seen_of_it() {
    let case = &cases()[0];
    let evidence = evidence(&case.quote, &case.collateral);
    let (policy, report_data) = (policy(&case.fields.mr_enclave), report_data(&case.fields));
    let root = Roots::Vendors.of(EvidenceKind::Sgx).unwrap().to_vec();
    let (anchor, checks) = (Anchor { root: &root, now: case.verify_at_unix }, &mut Checks::default());
    let proved = verify(&evidence, &report_data, &policy, anchor, checks, |_| Ok(())).unwrap();
    assert_eq!(proved.evaluation, 17);
    assert_eq!((proved.is_no_older(0), proved.is_no_older(17)), (Ok(()), Ok(())));
    let outdated = proved.is_no_older(18).unwrap_err();
    expect!["COLLATERAL_OUTDATED: the collateral is of the vendor's evaluation 17, and 18 was seen already"]
        .assert_eq(&outdated.to_string());
    assert!(!outdated.is_retryable() && outdated.worth_another_try().is_retryable());
}

#[test]
fn a_release_by_signer_wants_the_product_and_the_least_version() {
    let signer = "815f42f11cf64430c30bab7816ba596a1da0130c3b028b673133a66cf9a3e0e6";
    let signer: [u8; 32] = from_hex(signer).unwrap().try_into().unwrap();
    let by_signer = |product, least_version| {
        changed(|_, policy, _| {
            policy.releases[0].sgx = Some(SgxMeasurement::Signer { signer, product, least_version });
        })
    };
    assert_eq!(by_signer(0, 0), "Release: accepted");
    assert_eq!(by_signer(1, 0), "Release: RELEASE_NOT_ALLOWED");
    assert_eq!(by_signer(0, 1), "Release: RELEASE_NOT_ALLOWED");
}

#[test]
fn a_refused_release_names_what_was_expected_and_what_was_found() {
    let case = &cases()[0];
    let evidence = evidence(&case.quote, &case.collateral);
    let policy = policy(&"11".repeat(32));
    let report_data = report_data(&case.fields);
    let refused = appraise(
        &evidence,
        &report_data,
        &policy,
        &Roots::Vendors,
        case.verify_at_unix,
        &mut Checks::default(),
    );
    expect![[r#"RELEASE_NOT_ALLOWED: expected 1111111111111111111111111111111111111111111111111111111111111111 (1.0.0), found 33d8736db756ed4997e04ba358d27833188f1932ff7b1d156904d3f560452fbb"#]]
        .assert_eq(&refused.unwrap_err().to_string());
}

#[test]
fn real_evidence_does_not_pass_under_another_root() {
    let case = &cases()[0];
    let mut evidence = evidence(&case.quote, &case.collateral);
    evidence.kind = EvidenceKind::Simulated;
    let other = std::fs::read(folder().join("../nitro/aws_nitro_root_g1.pem")).unwrap();
    let other = certificates::chain(&other, "a root").unwrap();
    let roots = Roots::Development(certificates::der(&other[0]).unwrap());
    let (policy, report_data) = (policy(&case.fields.mr_enclave), report_data(&case.fields));
    let refused =
        appraise(&evidence, &report_data, &policy, &roots, case.verify_at_unix, &mut Checks::default());
    assert_eq!(refused.unwrap_err().code, Code::ChainUntrusted);
}

#[test]
fn a_machine_without_an_id_is_taken_only_where_any_is() {
    let case = &cases()[0];
    let root = Roots::Vendors;
    let root = root.of(EvidenceKind::Sgx).unwrap();
    let evidence = evidence(&case.quote, &case.collateral);
    let mut quote = dcap::verify(&evidence, Anchor { root, now: case.verify_at_unix }).unwrap();
    quote.platform.clear();
    let mut policy = PlatformPolicy::default();
    assert_eq!(policy.accepts(&quote), Ok(()));
    policy.allow = PlatformAllow::Only(vec![String::new()]);
    assert_eq!(policy.accepts(&quote).unwrap_err().code, Code::PlatformUnidentified);
}
