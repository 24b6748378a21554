//! DCAP quotes of SGX, and simulated ones, which have the same form under another root.
//!
//! `dcap-qvl` verifies every signature and chain, and computes the TCB status. It refuses with texts, which may change; so
//! whatever has a code of its own is looked for first, in the same bytes.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use dcap_qvl::policy::PckCertFlag;
use dcap_qvl::quote::{Quote as DcapQuote, Report};
use dcap_qvl::verify::QuoteVerifier;
use dcap_qvl::{QuoteClaims, QuoteCollateralV3, QuotePolicy, TcbInfo, TcbStatus};
use jiff::Timestamp;
use mesh_protocol::{DcapCollateral, Evidence, EvidenceKind, to_hex};
use x509_cert::Certificate;

use crate::certificates::{self, OF_COLLATERAL, Window};
use crate::roots::vendor_key;
use crate::{Anchor, Appraised, Code, Fault};

/// The attribute of an enclave that a debugger may look into (Intel SDM volume 3D, ATTRIBUTES.DEBUG).
const DEBUG: u8 = 0x02;

/// What a quote says, after all of its signatures were verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Quote {
    pub(crate) report_data: [u8; 64],
    pub(crate) enclave: [u8; 32],
    pub(crate) signer: [u8; 32],
    pub(crate) product: u16,
    pub(crate) version: u16,
    pub(crate) debug: bool,
    pub(crate) tcb: TcbStatus,
    /// The date of the TCB level of the platform, or of its QE where that is older; Unix seconds.
    pub(crate) tcb_date: u64,
    pub(crate) advisories: Vec<String>,
    pub(crate) platform: Vec<String>,
    pub(crate) smt: bool,
    pub(crate) dynamic_platform: bool,
    pub(crate) cached_keys: bool,
    evaluation: u32,
    expires: u64,
}

/// Verifies chain, revocation and collateral, and every signature.
pub(crate) fn verify(evidence: &Evidence, anchor: Anchor<'_>) -> Result<Quote, Fault> {
    let Anchor { root, now } = anchor;
    let quote = DcapQuote::parse(&evidence.quote)
        .map_err(|error| malformed(format!("the quote cannot be read: {error:#}")))?;
    if !quote.header.is_sgx() {
        return Err(malformed(format!("a quote of {} is of SGX's form", evidence.kind)));
    }
    let collateral: DcapCollateral = serde_json::from_slice(&evidence.collateral)
        .map_err(|error| malformed(format!("the collateral cannot be read: {error}")))?;
    let collateral = QuoteCollateralV3::from(Taken(collateral));
    let foreseen = foresee(&quote, &collateral, root, now)?;
    // What a debugger may look into is refused in a step of its own, behind the binding.
    let verifier = QuoteVerifier::new(root.to_vec()).allow_debug(true);
    let claims =
        verifier.verify_with_policy(&evidence.quote, collateral, now, &QuotePolicy::claims_only(now));
    match (claims, foreseen) {
        (Ok(claims), None) => {
            is_the_vendors(evidence.kind, &claims)?;
            Quote::of(claims)
        }
        (_, Some(fault)) => Err(fault),
        (Err(error), None) => Err(Fault::new(Code::SignatureInvalid, format!("{error:#}"))),
    }
}

/// Whatever root was given, evidence of hardware leads to its vendor's.
fn is_the_vendors(kind: EvidenceKind, claims: &QuoteClaims) -> Result<(), Fault> {
    match vendor_key(kind) {
        Some(key) if to_hex(&claims.platform.root_key_id) != key => {
            let detail = format!("the key of the root that it leads to is not that of the vendor of {kind}");
            Err(Fault::new(Code::ChainUntrusted, detail))
        }
        Some(_) | None => Ok(()),
    }
}

/// Of the two documents of the vendor, the older one counts.
fn evaluation_of(claims: &QuoteClaims) -> u32 {
    claims.tcb.eval_data_number.min(claims.qe.tcb_eval_data_number)
}

/// Everything with a code of its own. That no TCB level fits, or one that no policy accepts, is given back instead of refused:
/// the verifier ends there too, behind the signatures, and what is wrong before that comes first.
fn foresee(
    quote: &DcapQuote,
    collateral: &QuoteCollateralV3,
    root: &[u8],
    now: u64,
) -> Result<Option<Fault>, Fault> {
    let root = certificates::certificate(root)?;
    let pck = pck_chain(quote, collateral)?;
    let tcb_signer =
        certificates::chain(collateral.tcb_info_issuer_chain.as_bytes(), "the TCB signer's chain")?;
    let qe_signer =
        certificates::chain(collateral.qe_identity_issuer_chain.as_bytes(), "the QE signer's chain")?;
    for (chain, what) in [
        (&pck, "the chain of the platform's certificate"),
        (&tcb_signer, "the chain of the TCB information"),
        (&qe_signer, "the chain of the QE's identity"),
    ] {
        certificates::leads_to(chain, &root, what)?;
        certificates::are_valid(chain, what, now)?;
    }
    let tcb: TcbInfo = serde_json::from_str(&collateral.tcb_info)
        .map_err(|error| malformed(format!("the TCB information cannot be read: {error}")))?;
    window(&tcb.issue_date, &tcb.next_update)?.check("the TCB information", now, OF_COLLATERAL)?;
    let qe: dcap_qvl::QeIdentity = serde_json::from_str(&collateral.qe_identity)
        .map_err(|error| malformed(format!("the QE's identity cannot be read: {error}")))?;
    window(&qe.issue_date, &qe.next_update)?.check("the QE's identity", now, OF_COLLATERAL)?;
    certificates::revocations(&collateral.root_ca_crl, "the root's revocation list", now)?;
    let list = certificates::revocations(&collateral.pck_crl, "the platforms' revocation list", now)?;
    platform(&pck, &tcb).and_then(|unmatched| {
        certificates::not_revoked(&pck[0], &list)?;
        Ok(unmatched)
    })
}

/// The collateral is that of the platform. Gives back that none of its levels fits the platform, or that the one that does says
/// that the platform's keys are lost.
fn platform(pck: &[Certificate], tcb: &TcbInfo) -> Result<Option<Fault>, Fault> {
    let extension = dcap_qvl::intel::parse_pck_extension(&certificates::der(&pck[0])?)
        .map_err(|error| malformed(format!("the platform's certificate cannot be read: {error:#}")))?;
    let found = to_hex(&extension.fmspc);
    if !tcb.fmspc.eq_ignore_ascii_case(&found) {
        let detail = format!("the TCB information is for platforms {}, and this is a {found}", tcb.fmspc);
        return Err(Fault::new(Code::CollateralMismatch, detail));
    }
    // The levels stand from the highest to the lowest, and the verifier takes the first that fits.
    for level in &tcb.tcb_levels {
        let shortfalls = level
            .shortfalls(&extension.cpu_svn, extension.pce_svn, None)
            .map_err(|error| malformed(format!("a TCB level cannot be read: {error:#}")))?;
        if shortfalls.is_empty() {
            let detail = "the platform is Revoked: its keys are lost, and no policy accepts it";
            let is_revoked = level.tcb_status == TcbStatus::Revoked;
            return Ok(is_revoked.then(|| Fault::new(Code::TcbNotAccepted, detail)));
        }
    }
    Ok(Some(Fault::new(Code::TcbUnmatched, "no TCB level of the collateral fits the platform")))
}

/// The chain of the platform's certificate. The verifier takes the collateral's before the quote's.
fn pck_chain(quote: &DcapQuote, collateral: &QuoteCollateralV3) -> Result<Vec<Certificate>, Fault> {
    let what = "the platform's certificate";
    match &collateral.pck_certificate_chain {
        Some(chain) => certificates::chain(chain.as_bytes(), what),
        None => {
            let chain = quote.raw_cert_chain();
            certificates::chain(chain.map_err(|error| malformed(format!("{what}: {error:#}")))?, what)
        }
    }
}

fn window(from: &str, until: &str) -> Result<Window, Fault> {
    Ok(Window { from: moment(from)?, until: moment(until)? })
}

/// RFC 3339 as Unix seconds.
fn moment(text: &str) -> Result<u64, Fault> {
    let timestamp: Option<Timestamp> = text.parse().ok();
    let seconds = timestamp.and_then(|timestamp| u64::try_from(timestamp.as_second()).ok());
    seconds.ok_or_else(|| malformed(format!("{text:?} in the collateral is no moment")))
}

fn malformed(detail: String) -> Fault {
    Fault::new(Code::EvidenceMalformed, detail)
}

/// Collateral as it travels, to be made what the verifier takes.
struct Taken(DcapCollateral);

impl From<Taken> for QuoteCollateralV3 {
    fn from(Taken(taken): Taken) -> Self {
        Self {
            pck_crl_issuer_chain: taken.pck_crl_issuer_chain,
            root_ca_crl: taken.root_ca_crl.0,
            pck_crl: taken.pck_crl.0,
            tcb_info_issuer_chain: taken.tcb_info_issuer_chain,
            tcb_info: taken.tcb_info,
            tcb_info_signature: taken.tcb_info_signature.0,
            qe_identity_issuer_chain: taken.qe_identity_issuer_chain,
            qe_identity: taken.qe_identity,
            qe_identity_signature: taken.qe_identity_signature.0,
            pck_certificate_chain: taken.pck_certificate_chain,
        }
    }
}

impl Quote {
    fn of(claims: QuoteClaims) -> Result<Self, Fault> {
        let evaluation = evaluation_of(&claims);
        let Report::SgxEnclave(report) = claims.report else {
            return Err(malformed("the quote reports no enclave".into()));
        };
        let pck = claims.platform.pck;
        let instance = pck.platform_instance_id.iter().map(|id| to_hex(id));
        let ids = instance.chain([to_hex(&pck.ppid)]).filter(|id| !id.is_empty());
        Ok(Self {
            report_data: report.report_data,
            enclave: report.mr_enclave,
            signer: report.mr_signer,
            product: report.isv_prod_id,
            version: report.isv_svn,
            debug: report.attributes[0] & DEBUG != 0,
            tcb: claims.tcb.status,
            tcb_date: claims.platform.tcb_date_tag.min(moment(&claims.qe.tcb_level.tcb_date)?),
            advisories: claims.tcb.advisory_ids,
            platform: ids.collect(),
            smt: pck.smt_enabled == PckCertFlag::True,
            dynamic_platform: pck.dynamic_platform == PckCertFlag::True,
            cached_keys: pck.cached_keys == PckCertFlag::True,
            evaluation,
            expires: claims.earliest_expiration_date,
        })
    }

    pub(crate) fn bound_to(&self, report_data: &[u8; 64]) -> Result<(), Fault> {
        verify_slices_are_equal(&self.report_data, report_data).map_err(|_| {
            let detail =
                "the evidence was made for another join: another nonce, key, service, mode or trust domain";
            Fault::new(Code::BindingMismatch, detail)
        })
    }

    pub(crate) fn not_debugged(&self) -> Result<(), Fault> {
        if self.debug {
            return Err(Fault::new(Code::EvidenceDebug, "the enclave may be looked into by a debugger"));
        }
        Ok(())
    }

    pub(crate) fn appraised(self, kind: EvidenceKind, release: String) -> Appraised {
        Appraised {
            kind,
            measurement: to_hex(&self.enclave),
            release,
            tcb: self.tcb,
            advisories: self.advisories,
            platform: self.platform,
            evaluation: self.evaluation,
            expires: self.expires,
        }
    }
}
