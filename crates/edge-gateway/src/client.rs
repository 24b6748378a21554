//! Who is at the other end of a connection, and for whom a request of it was made.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use access::{Caller, RememberedKey};
use http1::{Known, RequestHead};
use ipnet::IpNet;
use tokio::time::Instant;

use crate::authenticate::{ClientCertificate, RememberedToken};
use crate::drain_signal::DrainSignal;
use crate::forward::connection_lines;

/// What the requests of one connection share.
pub(crate) struct Client {
    /// Who connects, as far as the network or a proxy in front says.
    pub(crate) address: IpAddr,
    /// The same as text.
    pub(crate) address_text: Rc<str>,
    /// Whether it speaks TLS.
    pub(crate) scheme: Scheme,
    /// The API key that it presented last.
    pub(crate) remembered_key: RefCell<Option<RememberedKey>>,
    /// The token that it presented last, once that was verified.
    pub(crate) remembered_token: RefCell<Option<Box<RememberedToken>>>,
    /// What it has shown in its handshake.
    pub(crate) certificate: Option<Box<ClientCertificate>>,
    /// Whether its next answer is its last.
    pub(crate) draining: DrainSignal,
    /// When its last request ended.
    pub(crate) last_ended: Cell<Instant>,
    /// What replicas are told of every request of this connection, as lines of HTTP/1.1.
    pub(crate) lines: Box<[u8]>,
    /// The same of the caller who asked last.
    pub(crate) caller_lines: RefCell<Option<CallerLines>>,
}

/// What replicas are told of a caller.
pub(crate) struct CallerLines {
    pub(crate) caller: Arc<Caller>,
    pub(crate) lines: Box<[u8]>,
}

/// How a client reaches the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

impl Client {
    pub(crate) fn new(
        address: IpAddr,
        scheme: Scheme,
        certificate: Option<Box<ClientCertificate>>,
        draining: DrainSignal,
    ) -> Rc<Self> {
        let address = address.to_canonical();
        let address_text: Rc<str> = address.to_string().into();
        Rc::new(Self {
            address,
            lines: connection_lines(&address_text, scheme),
            address_text,
            scheme,
            remembered_key: RefCell::default(),
            remembered_token: RefCell::default(),
            certificate,
            draining,
            last_ended: Cell::new(Instant::now()),
            caller_lines: RefCell::default(),
        })
    }

    /// Whether its word about other clients counts.
    pub(crate) fn is_trusted(&self, proxies: &[IpNet]) -> bool {
        is_in(self.address, proxies)
    }
}

pub(crate) fn is_in(address: IpAddr, networks: &[IpNet]) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// Whom a trusted proxy forwards for: the right-most address of `X-Forwarded-For` that is no trusted proxy itself. Whatever
/// stands left of it, anybody can have written.
pub(crate) fn forwarded_for(head: &RequestHead, proxies: &[IpNet]) -> Option<IpAddr> {
    let values: Vec<&[u8]> = head.values(Known::XForwardedFor).collect();
    let entries = values.iter().rev().flat_map(|value| value.rsplit(|byte| *byte == b','));
    let mut found = None;
    for entry in entries {
        let address = std::str::from_utf8(entry.trim_ascii()).ok()?.parse::<IpAddr>().ok()?.to_canonical();
        found = Some(address);
        if !is_in(address, proxies) {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_most_address_that_is_no_proxy_is_the_client() {
        let proxies: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        for (fields, expected) in [
            ("x-forwarded-for: 1.2.3.4\r\n", Some("1.2.3.4")),
            ("x-forwarded-for: 9.9.9.9, 1.2.3.4, 10.1.1.1\r\n", Some("1.2.3.4")),
            ("x-forwarded-for: 9.9.9.9\r\nx-forwarded-for: 1.2.3.4\r\n", Some("1.2.3.4")),
            ("x-forwarded-for: 10.0.0.7, 10.0.0.8\r\n", Some("10.0.0.7")),
            ("x-forwarded-for: ::ffff:1.2.3.4\r\n", Some("1.2.3.4")),
            ("x-forwarded-for: 1.2.3.4, unknown\r\n", None),
            ("", None),
        ] {
            let text = format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
            let limits = http1::Limits { head_bytes: 1024, fields: 10, target_bytes: 10 };
            let mut head = RequestHead::default();
            http1::parse_request(text.as_bytes(), &limits, &mut head).unwrap();
            assert_eq!(
                forwarded_for(&head, &proxies),
                expected.map(|text| text.parse().unwrap()),
                "{fields}"
            );
        }
    }
}
