//! Where state is kept that outlives a process.

use std::path::PathBuf;

use super::{CertificateFiles, Line};

/// The store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreSettings {
    /// A file in the data directory.
    Embedded,
    /// etcd, which several machines share.
    Etcd(EtcdStore),
}

/// How etcd is reached. Whether the files can be read and hold what they should is not known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdStore {
    /// Where it stands.
    pub line: Line,
    /// Hosts and ports; at least one, no two the same. An address of IPv6 stands without brackets.
    pub end_points: Vec<(String, u16)>,
    /// TLS, or none.
    pub tls: Option<ClientTlsFiles>,
    /// Who logs in.
    pub login: Option<EtcdLogin>,
}

/// TLS to etcd, or to the Redis of shared limits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientTlsFiles {
    /// Who may sign its certificate, in PEM; absolute. Without it, whom this machine trusts.
    pub ca: Option<PathBuf>,
    /// What is shown to it.
    pub own: Option<CertificateFiles>,
}

/// A user of etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdLogin {
    /// Its name.
    pub user: String,
    /// The file with its password, without the line end; absolute.
    pub password_file: PathBuf,
}
