//! Names of services, nodes and replicas.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The name of a service: a lower-case letter, then lower-case letters, digits and hyphens, at most 40 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName(Arc<str>);

impl ServiceName {
    /// The longest name, in bytes. A name is part of host names and file names, so it stays short.
    pub const MAX_BYTES: usize = 40;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// Not a service name.
    #[error(
        "a service name is a lower-case letter, then lower-case letters, digits and hyphens, at most 40 bytes"
    )]
    Service,
    /// Not a replica id.
    #[error(
        "a replica is written SERVICE/N, such as vrf/0, or SERVICE/N@NODE where several nodes share a store"
    )]
    Replica,
    /// Not a node name.
    #[error(
        "a node name has letters, digits and hyphens, 1 to 52 of them, and neither begins nor ends with a hyphen"
    )]
    Node,
}

impl FromStr for ServiceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
        let rest =
            text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if first && rest && text.len() <= Self::MAX_BYTES && !text.ends_with('-') {
            Ok(Self(text.into()))
        } else {
            Err(NameError::Service)
        }
    }
}

impl TryFrom<String> for ServiceName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<ServiceName> for String {
    fn from(name: ServiceName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The name of a machine among those that share a store: letters, digits and hyphens, 1 to 52 of them, as in a label of a host
/// name (RFC 1123, section 2.1).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(Arc<str>);

impl NodeName {
    /// The longest name, in bytes: with an ordinal behind it, it is an instance of an identity, which has 63 at most.
    pub const MAX_BYTES: usize = 52;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let fits = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let edges = text.starts_with('-') || text.ends_with('-');
        if fits && !edges && (1..=Self::MAX_BYTES).contains(&text.len()) {
            Ok(Self(text.into()))
        } else {
            Err(NameError::Node)
        }
    }
}

impl TryFrom<String> for NodeName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// One replica of a service, written `vrf/0`, and where several nodes share a store `vrf/0@node`. It stays the same across
/// restarts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReplicaId {
    /// The service that it is a replica of.
    pub service: ServiceName,
    /// Its number on its node, from 0.
    pub ordinal: u32,
    /// The node that it runs on, where there are several.
    pub node: Option<NodeName>,
}

impl ReplicaId {
    /// The replica of that number, where there is one node.
    pub fn new(service: ServiceName, ordinal: u32) -> Self {
        Self { service, ordinal, node: None }
    }

    /// The replica of that number on a node.
    #[must_use]
    pub fn on(self, node: Option<NodeName>) -> Self {
        Self { node, ..self }
    }

    /// The replica of an instance, as [`Self::instance`] writes it.
    ///
    /// # Errors
    /// It is none.
    pub fn of_instance(service: ServiceName, instance: &str) -> Result<Self, NameError> {
        let (node, ordinal) = match instance.rsplit_once('.') {
            Some((node, ordinal)) => (Some(node.parse()?), ordinal),
            None => (None, instance),
        };
        Ok(Self { service, ordinal: number(ordinal)?, node })
    }

    /// What names it in its identity: `0`, or `node.0`.
    pub fn instance(&self) -> String {
        match &self.node {
            Some(node) => format!("{node}.{}", self.ordinal),
            None => self.ordinal.to_string(),
        }
    }

    /// What stands behind the service in its id: `0`, or `0@node`.
    pub fn place(&self) -> String {
        match &self.node {
            Some(node) => format!("{}@{node}", self.ordinal),
            None => self.ordinal.to_string(),
        }
    }

    /// The id as part of a file name of its node's: `vrf-0`.
    pub fn file_stem(&self) -> String {
        format!("{}-{}", self.service, self.ordinal)
    }
}

/// A number in the one way in which it is written.
fn number(text: &str) -> Result<u32, NameError> {
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if !canonical {
        return Err(NameError::Replica);
    }
    text.parse().map_err(|_| NameError::Replica)
}

impl FromStr for ReplicaId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (service, place) = text.split_once('/').ok_or(NameError::Replica)?;
        let (ordinal, node) = match place.split_once('@') {
            Some((ordinal, node)) => (ordinal, Some(node.parse()?)),
            None => (place, None),
        };
        Ok(Self { service: service.parse()?, ordinal: number(ordinal)?, node })
    }
}

impl TryFrom<String> for ReplicaId {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<ReplicaId> for String {
    fn from(id: ReplicaId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.service, self.ordinal)?;
        self.node.as_ref().map_or(Ok(()), |node| write!(formatter, "@{node}"))
    }
}

impl fmt::Debug for ReplicaId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_name_is_a_lower_case_label() {
        for good in ["vrf", "a", "data-feed", "v2"] {
            assert_eq!(good.parse::<ServiceName>().unwrap().as_str(), good);
        }
        for bad in ["", "VRF", "1st", "a_b", "a.b", "a/b", "-a", "a-", "é", &"a".repeat(41)] {
            assert_eq!(bad.parse::<ServiceName>(), Err(NameError::Service), "{bad}");
        }
    }

    #[test]
    fn a_replica_id_reads_back_as_it_is_written() {
        let id: ReplicaId = "vrf/2".parse().unwrap();
        assert_eq!((id.service.as_str(), id.ordinal, id.to_string().as_str()), ("vrf", 2, "vrf/2"));
        for bad in
            ["vrf", "vrf/", "vrf/x", "vrf/-1", "vrf/01", "vrf/+1", "vrf/4294967296", "VRF/0", "vrf/0/1"]
        {
            assert!(bad.parse::<ReplicaId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_replica_of_a_node_is_named_with_it() {
        let id: ReplicaId = "vrf/2@n1".parse().unwrap();
        assert_eq!((id.to_string().as_str(), id.instance().as_str()), ("vrf/2@n1", "n1.2"));
        assert_eq!((id.place().as_str(), id.file_stem().as_str()), ("2@n1", "vrf-2"));
        assert_eq!(ReplicaId::of_instance(id.service.clone(), "n1.2").as_ref(), Ok(&id));
        let alone: ReplicaId = "vrf/2".parse().unwrap();
        assert_eq!(ReplicaId::of_instance(id.service.clone(), &alone.instance()).as_ref(), Ok(&alone));
        for bad in ["n1.02", "n1.", ".2", "n1", "", "-.2", "a.b.2"] {
            assert!(ReplicaId::of_instance(id.service.clone(), bad).is_err(), "{bad}");
        }
        for bad in ["vrf/2@", "vrf/@n1", "vrf/2@a.b", "vrf/2@a/b", "vrf/2@-a", "vrf/2@n1@n2"] {
            assert!(bad.parse::<ReplicaId>().is_err(), "{bad}");
        }
        assert_eq!("a".repeat(53).parse::<NodeName>(), Err(NameError::Node));
    }
}
