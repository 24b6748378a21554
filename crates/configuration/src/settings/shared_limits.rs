//! The limits that several gateways share.

use std::path::PathBuf;

use super::{ClientTlsFiles, Line};

/// The Redis in which several gateways count together. Whether its files can be read and hold what they should is not known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedLimitSettings {
    /// Where it stands.
    pub line: Line,
    /// Its host. An address of IPv6 stands without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The number of the database.
    pub database: u32,
    /// TLS, or none.
    pub tls: Option<ClientTlsFiles>,
    /// Who logs in; the default user where there is only a password.
    pub user: Option<String>,
    /// The file with the password, without the line end; absolute.
    pub password_file: Option<PathBuf>,
    /// What becomes of a request while it cannot count.
    pub on_failure: OnSharedFailure,
}

/// What becomes of a request while the shared limits cannot be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnSharedFailure {
    /// Each gateway counts by itself.
    Open,
    /// A request that has a limit is refused.
    Closed,
}
