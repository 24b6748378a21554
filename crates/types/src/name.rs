//! Names of services and replicas.

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
    #[error("a replica is written SERVICE/N, such as vrf/0")]
    Replica,
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

/// One replica of a service, written `vrf/0`. The ordinal stays the same across restarts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReplicaId {
    /// The service that it is a replica of.
    pub service: ServiceName,
    /// Its number, from 0.
    pub ordinal: u32,
}

impl ReplicaId {
    /// The replica of that number.
    pub fn new(service: ServiceName, ordinal: u32) -> Self {
        Self { service, ordinal }
    }

    /// The id as part of a file name: `vrf-0`.
    pub fn file_stem(&self) -> String {
        format!("{}-{}", self.service, self.ordinal)
    }
}

impl FromStr for ReplicaId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (service, ordinal) = text.split_once('/').ok_or(NameError::Replica)?;
        let canonical = ordinal.bytes().all(|byte| byte.is_ascii_digit())
            && (ordinal == "0" || !ordinal.starts_with('0'));
        if !canonical {
            return Err(NameError::Replica);
        }
        Ok(Self { service: service.parse()?, ordinal: ordinal.parse().map_err(|_| NameError::Replica)? })
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
        write!(formatter, "{}/{}", self.service, self.ordinal)
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
}
