//! The collateral of a DCAP quote as JSON: what Intel's services give, with bytes in hexadecimal.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// What a vendor, or a development root, says of a platform: certificate chains in PEM, signed documents as the exact texts
/// that were signed, revocation lists in DER.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DcapCollateral {
    /// The chain of whoever signed the revocation list of platform certificates.
    pub pck_crl_issuer_chain: String,
    /// The root's revocation list.
    pub root_ca_crl: Hex,
    /// The revocation list of platform certificates.
    pub pck_crl: Hex,
    /// The chain of whoever signed the TCB information.
    pub tcb_info_issuer_chain: String,
    /// The TCB information.
    pub tcb_info: String,
    /// Its signature, r ‖ s.
    pub tcb_info_signature: Hex,
    /// The chain of whoever signed the identity of the quoting enclave.
    pub qe_identity_issuer_chain: String,
    /// The identity of the quoting enclave.
    pub qe_identity: String,
    /// Its signature, r ‖ s.
    pub qe_identity_signature: Hex,
    /// The chain of the platform certificate, where the quote does not hold it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pck_certificate_chain: Option<String>,
}

/// Bytes that are lower-case hexadecimal in JSON; both cases are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hex(pub Vec<u8>);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&to_hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        from_hex(&text).map(Self).ok_or_else(|| de::Error::custom("expected hexadecimal digits in pairs"))
    }
}

/// Lower-case hexadecimal.
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(digit), 16).expect("half a byte is a digit"));
        }
        text
    })
}

/// The bytes of hexadecimal digits in either case; `None` where something else stands.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, odd) = digits.as_chunks::<2>();
    if !odd.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some((digit(*high)? << 4) | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_reads_back_and_anything_else_is_refused() {
        assert_eq!(to_hex(&[0, 0x9f, 0xff]), "009fff");
        assert_eq!(from_hex("009FfF"), Some(vec![0, 0x9f, 0xff]));
        assert_eq!(from_hex(""), Some(Vec::new()));
        for other in ["0", "0g", "+1", " 1", "é"] {
            assert_eq!(from_hex(other), None, "{other}");
        }
    }
}
