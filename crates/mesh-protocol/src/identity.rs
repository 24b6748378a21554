//! Who somebody is in the mesh: a SPIFFE ID, the one URI of a certificate.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use types::ServiceName;

/// The longest instance or id, in bytes.
const MAX_ID_BYTES: usize = 63;

/// An identity of a trust domain: `spiffe://<trustDomain>/<what>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SpiffeId {
    /// The trust domain.
    pub trust_domain: String,
    /// Who it is there.
    pub subject: Subject,
}

/// Who somebody is in a trust domain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A replica: `service/<service>/<instance>`.
    Service {
        /// The service.
        service: ServiceName,
        /// Which of its replicas.
        instance: String,
    },
    /// A gateway: `gateway/<id>`.
    Gateway(String),
    /// The authority: `authority/<id>`.
    Authority(String),
}

/// A text that is no identity of the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is no identity of a mesh")]
pub struct NotAnIdentity(pub String);

impl SpiffeId {
    /// A replica's.
    pub fn of_replica(trust_domain: &str, service: &ServiceName, instance: &str) -> Self {
        let subject = Subject::Service { service: service.clone(), instance: instance.to_owned() };
        Self { trust_domain: trust_domain.to_owned(), subject }
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "spiffe://{}/", self.trust_domain)?;
        match &self.subject {
            Subject::Service { service, instance } => write!(formatter, "service/{service}/{instance}"),
            Subject::Gateway(id) => write!(formatter, "gateway/{id}"),
            Subject::Authority(id) => write!(formatter, "authority/{id}"),
        }
    }
}

impl FromStr for SpiffeId {
    type Err = NotAnIdentity;

    fn from_str(text: &str) -> Result<Self, NotAnIdentity> {
        parse(text).ok_or_else(|| NotAnIdentity(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<SpiffeId> {
    let (trust_domain, path) = text.strip_prefix("spiffe://")?.split_once('/')?;
    let subject = match path.split('/').collect::<Vec<_>>()[..] {
        ["service", service, instance] if is_id(instance) => {
            Subject::Service { service: service.parse().ok()?, instance: instance.to_owned() }
        }
        ["gateway", id] if is_id(id) => Subject::Gateway(id.to_owned()),
        ["authority", id] if is_id(id) => Subject::Authority(id.to_owned()),
        _ => return None,
    };
    let domain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    let is_domain = !trust_domain.is_empty() && trust_domain.len() <= 255 && trust_domain.bytes().all(domain);
    is_domain.then(|| SpiffeId { trust_domain: trust_domain.to_owned(), subject })
}

/// A node and an ordinal, or a name: what needs no escaping anywhere.
fn is_id(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=MAX_ID_BYTES).contains(&text.len())
        && text.bytes().all(inner)
        && !text.bytes().all(|byte| byte == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_read_back_and_nothing_else_is_one() {
        for text in [
            "spiffe://serviceos.dev.invalid/service/vrf/0",
            "spiffe://serviceos.dev.invalid/service/vrf/n1.0",
            "spiffe://example.org/gateway/n1",
            "spiffe://example.org/authority/n1",
        ] {
            assert_eq!(text.parse::<SpiffeId>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "https://example.org/gateway/n1",
            "spiffe:///gateway/n1",
            "spiffe://Example.org/gateway/n1",
            "spiffe://example.org/gateway",
            "spiffe://example.org/gateway/",
            "spiffe://example.org/gateway/n1/",
            "spiffe://example.org/gateway/..",
            "spiffe://example.org/gateway/a b",
            "spiffe://example.org/service/vrf",
            "spiffe://example.org/service/VRF/0",
            "spiffe://example.org/service/vrf/0?x",
            "spiffe://example.org/user/root",
        ] {
            assert!(text.parse::<SpiffeId>().is_err(), "{text}");
        }
    }
}
