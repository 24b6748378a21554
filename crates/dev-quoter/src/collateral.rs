//! What a vendor's services would say of the platform: TCB information (version 3), the identity of the quoting enclave
//! (version 2) and revocation lists, in the form that Intel's Provisioning Certification Service gives them.

use jiff::Timestamp;
use mesh_protocol::{DcapCollateral, Hex, to_hex};
use serde_json::{Value, json};

use crate::DevQuoterError;
use crate::certificates::{Role, revocation_list};
use crate::platform::{CPU_SVN, PCE_ID, PCE_SVN, Platform, pem_chain};
use crate::profile::{Profile, TCB_DATE, Validity};
use crate::quote::{ISV_PROD_ID, ISV_SVN, QE_ATTRIBUTES, QE_SIGNER, measurement};

/// The collateral of a platform that pretends what `profile` says.
pub(crate) fn collateral(
    platform: &Platform,
    profile: &Profile,
    validity: Validity,
) -> Result<DcapCollateral, DevQuoterError> {
    let signers = pem_chain(&[&platform.tcb_signing, &platform.root]);
    let tcb_info = tcb_info(profile, validity).to_string();
    let qe_identity = qe_identity(profile, validity).to_string();
    let sign = |text: &str| platform.tcb_signing.key.sign_raw(text.as_bytes()).map(|raw| Hex(raw.to_vec()));
    let revoked = profile.revoked.then_some(&platform.pck.key);
    Ok(DcapCollateral {
        pck_crl_issuer_chain: pem_chain(&[&platform.platform_ca, &platform.root]),
        root_ca_crl: Hex(revocation_list((Role::Root, &platform.root.key), validity, None)?),
        pck_crl: Hex(revocation_list((Role::PlatformCa, &platform.platform_ca.key), validity, revoked)?),
        tcb_info_issuer_chain: signers.clone(),
        tcb_info_signature: sign(&tcb_info)?,
        tcb_info,
        qe_identity_issuer_chain: signers,
        qe_identity_signature: sign(&qe_identity)?,
        qe_identity,
        // It is in the quote.
        pck_certificate_chain: None,
    })
}

fn tcb_info(profile: &Profile, validity: Validity) -> Value {
    let level = |svn: u8, pce_svn: u8, status: &str, advisories: &[String]| {
        json!({
            "tcb": {"sgxtcbcomponents": vec![json!({"svn": svn}); 16], "pcesvn": pce_svn},
            "tcbDate": date(TCB_DATE),
            "tcbStatus": status,
            "advisoryIDs": advisories,
        })
    };
    // The platform's own level comes after one that it does not reach, as it does with real hardware.
    let mut levels = vec![level(CPU_SVN + 1, PCE_SVN + 1, "UpToDate", &[])];
    if let Some(status) = profile.tcb.status() {
        levels.push(level(CPU_SVN, PCE_SVN, status, &profile.advisories));
    }
    json!({
        "id": "SGX",
        "version": 3,
        "issueDate": date(validity.issued),
        "nextUpdate": date(validity.next_update),
        "fmspc": to_hex(&profile.tcb_info_fmspc),
        "pceId": to_hex(&PCE_ID),
        "tcbType": 0,
        "tcbEvaluationDataNumber": profile.evaluation,
        "tcbLevels": levels,
    })
}

fn qe_identity(profile: &Profile, validity: Validity) -> Value {
    json!({
        "id": "QE",
        "version": 2,
        "issueDate": date(validity.issued),
        "nextUpdate": date(validity.next_update),
        "tcbEvaluationDataNumber": profile.evaluation,
        "miscselect": "00000000",
        "miscselectMask": "ffffffff",
        "attributes": to_hex(&QE_ATTRIBUTES),
        "attributesMask": "ff".repeat(QE_ATTRIBUTES.len()),
        "mrsigner": to_hex(&measurement(QE_SIGNER)),
        "isvprodid": ISV_PROD_ID,
        "tcbLevels": [{"tcb": {"isvsvn": ISV_SVN}, "tcbDate": date(TCB_DATE), "tcbStatus": "UpToDate"}],
    })
}

/// RFC 3339, in whole seconds.
fn date(unix: u64) -> String {
    let moment = i64::try_from(unix).ok().and_then(|unix| Timestamp::from_second(unix).ok());
    moment.unwrap_or(Timestamp::MAX).to_string()
}
