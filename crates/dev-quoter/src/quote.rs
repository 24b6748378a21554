//! A quote of version 3: header, report, and what authenticates it (Intel SGX ECDSA QuoteLibReference, appendix A.4).

use mesh_protocol::sha256;

use crate::DevQuoterError;
use crate::key::Key;
use crate::platform::{CPU_SVN, PCE_SVN, Platform, pem_chain};

/// Product and security version of every enclave here.
pub(crate) const ISV_PROD_ID: u16 = 1;
pub(crate) const ISV_SVN: u16 = 1;
/// Flags INIT and MODE64BIT, XFRM x87 and SSE.
const ATTRIBUTES: [u8; 16] = [0x05, 0, 0, 0, 0, 0, 0, 0, 0x03, 0, 0, 0, 0, 0, 0, 0];
pub(crate) const QE_ATTRIBUTES: [u8; 16] = ATTRIBUTES;
const DEBUG: u8 = 0x02;

/// Who would have signed the enclaves; a measurement of nothing else than this text.
const SIGNER: &str = "the ServiceOS development signer";
pub(crate) const QE_SIGNER: &str = "the signer of the ServiceOS development quoting enclave";
const QE: &str = "the ServiceOS development quoting enclave";

const VERSION: u16 = 3;
const ECDSA_P256: u16 = 2;
/// Intel's own; verifiers know no other.
const QE_VENDOR: [u8; 16] =
    [0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07];
const QE_AUTHENTICATION: [u8; 32] = *b"ServiceOS development quote 2025";
const PCK_CHAIN: u16 = 5;
const REPORT_BYTES: usize = 384;

/// The attestation key of this run, and the quoting enclave's report of it, signed by the platform.
pub(crate) struct QuotingEnclave {
    key: Key,
    report: Vec<u8>,
    report_signature: [u8; 64],
    pck_chain: String,
    identifier: [u8; 16],
}

impl QuotingEnclave {
    pub(crate) fn new(platform: &Platform) -> Result<Self, DevQuoterError> {
        let key = Key::generate()?;
        let mut bound = [0; 64];
        bound[..32].copy_from_slice(&sha256(&[&key.coordinates()[..], &QE_AUTHENTICATION].concat()));
        let report = report(QE_ATTRIBUTES, measurement(QE), measurement(QE_SIGNER), bound);
        Ok(Self {
            report_signature: platform.pck.key.sign_raw(&report)?,
            report,
            key,
            pck_chain: pem_chain(&[&platform.pck, &platform.platform_ca, &platform.root]),
            identifier: platform.ppid(),
        })
    }

    /// A quote of the enclave with this measurement over these 64 bytes.
    pub(crate) fn quote(
        &self,
        workload: [u8; 32],
        report_data: [u8; 64],
        debug: bool,
    ) -> Result<Vec<u8>, DevQuoterError> {
        let mut attributes = ATTRIBUTES;
        if debug {
            attributes[0] |= DEBUG;
        }
        let mut quote = self.header();
        quote.extend(report(attributes, workload, measurement(SIGNER), report_data));
        let signature = self.key.sign_raw(&quote)?;
        let authentication = self.authentication(&signature);
        quote.extend(length(authentication.len()));
        quote.extend(authentication);
        Ok(quote)
    }

    fn header(&self) -> Vec<u8> {
        let mut header = Vec::new();
        header.extend(VERSION.to_le_bytes());
        header.extend(ECDSA_P256.to_le_bytes());
        // Which kind of environment it is: SGX.
        header.extend([0; 4]);
        header.extend(ISV_SVN.to_le_bytes());
        header.extend(u16::from(PCE_SVN).to_le_bytes());
        header.extend(QE_VENDOR);
        header.extend(self.identifier);
        header.extend([0; 4]);
        header
    }

    fn authentication(&self, signature: &[u8; 64]) -> Vec<u8> {
        let mut data = Vec::new();
        data.extend(signature);
        data.extend(self.key.coordinates());
        data.extend(&self.report);
        data.extend(self.report_signature);
        data.extend(32_u16.to_le_bytes());
        data.extend(QE_AUTHENTICATION);
        data.extend(PCK_CHAIN.to_le_bytes());
        data.extend(length(self.pck_chain.len()));
        data.extend(self.pck_chain.as_bytes());
        data
    }
}

/// SHA-256 of a text, where real enclaves have one of their pages or of their signer's key.
pub(crate) fn measurement(of: &str) -> [u8; 32] {
    sha256(of.as_bytes())
}

fn report(attributes: [u8; 16], mr_enclave: [u8; 32], mr_signer: [u8; 32], report_data: [u8; 64]) -> Vec<u8> {
    let mut report = Vec::with_capacity(REPORT_BYTES);
    report.extend([CPU_SVN; 16]);
    // MISCSELECT, and reserved.
    report.extend([0; 4 + 28]);
    report.extend(attributes);
    report.extend(mr_enclave);
    report.extend([0; 32]);
    report.extend(mr_signer);
    report.extend([0; 96]);
    report.extend(ISV_PROD_ID.to_le_bytes());
    report.extend(ISV_SVN.to_le_bytes());
    report.extend([0; 60]);
    report.extend(report_data);
    debug_assert_eq!(report.len(), REPORT_BYTES);
    report
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).expect("a quote has a few KB").to_le_bytes()
}
