//! The PROXY protocol, versions 1 and 2: what a proxy in front says about whom it connects for, before anything else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of version 1, its end included.
const MAX_LINE: usize = 107;
/// The longest header of version 2 that is taken: addresses, and extensions that are skipped.
const MAX_HEADER: usize = 16 + 2048;

/// What was read: for whom the proxy connects, and the length of its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// `None` where the proxy connects for itself, as for a health check.
    pub(crate) source: Option<SocketAddr>,
    pub(crate) length: usize,
}

/// Reads a header at the start of `input`; `None` while it is not whole.
///
/// # Errors
/// What is not a header. A connection that must have one is of no use without.
pub(crate) fn read(input: &[u8]) -> Result<Option<Header>, &'static str> {
    let is_second = input.len() >= SIGNATURE.len() && input.starts_with(SIGNATURE);
    if is_second || SIGNATURE.starts_with(input) { read_second(input) } else { read_first(input) }
}

fn read_first(input: &[u8]) -> Result<Option<Header>, &'static str> {
    const BEGIN: &[u8] = b"PROXY ";
    if !input.starts_with(&BEGIN[..input.len().min(BEGIN.len())]) {
        return Err("it does not begin with a PROXY header");
    }
    let window = &input[..input.len().min(MAX_LINE)];
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return if window.len() < MAX_LINE { Ok(None) } else { Err("its PROXY line is too long") };
    };
    let line = std::str::from_utf8(&window[..end]).map_err(|_| "its PROXY line is not ASCII")?;
    let words: Vec<&str> = line.split(' ').collect();
    let source = match words[..] {
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", family @ ("TCP4" | "TCP6"), source, _destination, port, _] => {
            let address: IpAddr = source.parse().map_err(|_| "its PROXY line names no address")?;
            let port: u16 = port.parse().map_err(|_| "its PROXY line names no port")?;
            if address.is_ipv4() != (family == "TCP4") {
                return Err("its PROXY line names an address of another family");
            }
            Some(SocketAddr::new(address, port))
        }
        _ => return Err("its PROXY line is malformed"),
    };
    Ok(Some(Header { source, length: end + 2 }))
}

fn read_second(input: &[u8]) -> Result<Option<Header>, &'static str> {
    let Some(fixed) = input.first_chunk::<16>() else { return Ok(None) };
    let (command, family) = (fixed[12], fixed[13]);
    let length = 16 + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if command >> 4 != 2 {
        return Err("its PROXY header has another version than 2");
    }
    if length > MAX_HEADER {
        return Err("its PROXY header is too long");
    }
    let Some(body) = input.get(16..length) else { return Ok(None) };
    let source = match (command & 15, family) {
        // The proxy itself.
        (0, _) => None,
        (1, 0x11) => {
            let bytes: &[u8; 12] = body.first_chunk().ok_or("its PROXY header is too short")?;
            let address = Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]);
            Some(SocketAddr::from((address, u16::from_be_bytes([bytes[8], bytes[9]]))))
        }
        (1, 0x21) => {
            let bytes: &[u8; 36] = body.first_chunk().ok_or("its PROXY header is too short")?;
            let address: [u8; 16] = bytes[..16].try_into().map_err(|_| "its PROXY header is too short")?;
            Some(SocketAddr::from((Ipv6Addr::from(address), u16::from_be_bytes([bytes[32], bytes[33]]))))
        }
        // Something else than TCP over IP.
        (1, _) => None,
        _ => return Err("its PROXY header has an unknown command"),
    };
    Ok(Some(Header { source, length }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn second(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, body].concat()
    }

    #[test]
    fn both_versions_name_the_client() {
        let line = b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\nGET /";
        let expected = Header { source: Some("192.0.2.1:56324".parse().unwrap()), length: 41 };
        assert_eq!(read(line), Ok(Some(expected)));
        let line = b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n";
        assert_eq!(read(line).unwrap().unwrap().source, Some("[2001:db8::1]:1".parse().unwrap()));
        assert_eq!(read(b"PROXY UNKNOWN\r\n").unwrap().unwrap().source, None);
        let body = [192, 0, 2, 1, 10, 0, 0, 1, 0xdc, 0x04, 1, 187, 3, 0, 1, 9];
        let header = second(0x21, 0x11, &body);
        let expected = Header { source: Some("192.0.2.1:56324".parse().unwrap()), length: 32 };
        assert_eq!(read(&[&header[..], b"GET"].concat()), Ok(Some(expected)));
        assert_eq!(read(&second(0x20, 0, &[])).unwrap().unwrap(), Header { source: None, length: 16 });
        assert_eq!(read(&second(0x21, 0x31, &[0; 216])).unwrap().unwrap().source, None);
        for length in 0..header.len() {
            assert_eq!(read(&header[..length]), Ok(None), "{length}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let long = [b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat();
        for bad in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PROXY TCP4 192.0.2.1\r\n",
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP4 a b 1 2\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.1 99999 443\r\n",
            b"PROXY UDP4 192.0.2.1 10.0.0.1 1 2\r\n",
            &second(0x11, 0x11, &[0; 12]),
            &second(0x22, 0x11, &[0; 12]),
            &second(0x21, 0x11, &[0; 11]),
            &second(0x21, 0x21, &[0; 35]),
            &second(0x21, 0x11, &[0; 3000]),
            &long,
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), signed: bool) {
            let _any_answer = if signed { read(&[&SIGNATURE[..], &bytes].concat()) } else { read(&bytes) };
        }
    }
}
