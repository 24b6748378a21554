//! The extension of a PCK certificate that describes its platform, as DER (Intel SGX PCK Certificate and Certificate
//! Revocation List Profile Specification, section 1.3.5).

/// 1.2.840.113741.1.13.1
pub(crate) const OID: &[u64] = &[1, 2, 840, 113_741, 1, 13, 1];
/// The same as DER contents; every arc below it fits into one byte.
const OID_BYTES: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x01, 0x0d, 0x01];

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const ENUMERATED: u8 = 0x0a;
const SEQUENCE: u8 = 0x30;

/// A platform of the scalable kind, the one that a Platform CA certifies.
const SGX_TYPE_SCALABLE: u8 = 1;

/// What the extension says of a platform.
pub(crate) struct PlatformDescription {
    pub(crate) ppid: [u8; 16],
    /// The security version of each of the processor's 16 components, each below 128.
    pub(crate) cpu_svn: [u8; 16],
    /// Below 128.
    pub(crate) pce_svn: u8,
    pub(crate) pce_id: [u8; 2],
    pub(crate) fmspc: [u8; 6],
    pub(crate) instance: [u8; 16],
}

impl PlatformDescription {
    /// The contents of the extension. Dynamic platform, cached keys and simultaneous multithreading are denied, not left out.
    pub(crate) fn der(&self) -> Vec<u8> {
        let mut tcb: Vec<_> =
            (1..).zip(self.cpu_svn).map(|(number, svn)| member(&[2, number], tlv(INTEGER, &[svn]))).collect();
        tcb.push(member(&[2, 17], tlv(INTEGER, &[self.pce_svn])));
        tcb.push(member(&[2, 18], tlv(OCTET_STRING, &self.cpu_svn)));
        let configuration = [1, 2, 3].map(|number| member(&[7, number], tlv(BOOLEAN, &[0])));
        let members = [
            member(&[1], tlv(OCTET_STRING, &self.ppid)),
            member(&[2], tlv(SEQUENCE, &tcb.concat())),
            member(&[3], tlv(OCTET_STRING, &self.pce_id)),
            member(&[4], tlv(OCTET_STRING, &self.fmspc)),
            member(&[5], tlv(ENUMERATED, &[SGX_TYPE_SCALABLE])),
            member(&[6], tlv(OCTET_STRING, &self.instance)),
            member(&[7], tlv(SEQUENCE, &configuration.concat())),
        ];
        tlv(SEQUENCE, &members.concat())
    }
}

/// SEQUENCE { the extension's identifier and these arcs, value }.
fn member(arcs: &[u8], value: Vec<u8>) -> Vec<u8> {
    let identifier = tlv(OBJECT_IDENTIFIER, &[&OID_BYTES, arcs].concat());
    tlv(SEQUENCE, &[identifier, value].concat())
}

fn tlv(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = u16::try_from(contents.len()).expect("the extension has some hundred bytes");
    let [high, low] = length.to_be_bytes();
    let header = match length {
        0..0x80 => vec![tag, low],
        0x80..0x100 => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    [header.as_slice(), contents].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_in_their_shortest_form() {
        for (length, header) in
            [(127, &[4, 127][..]), (128, &[4, 0x81, 128]), (255, &[4, 0x81, 255]), (256, &[4, 0x82, 1, 0])]
        {
            let written = tlv(OCTET_STRING, &vec![7; length]);
            assert_eq!(&written[..header.len()], header);
            assert_eq!(written.len(), header.len() + length);
        }
    }
}
