//! The services that ship with ServiceOS: their names and the routes that they have unless the file says otherwise.

use std::time::Duration;

use types::ServiceName;

use crate::settings::{Builtin, RouteAccess, RouteSettings};

/// The oracle waits for a source of somebody else, so its callers wait longer than the others.
const ORACLE_TIMEOUT: Duration = Duration::from_secs(12);

impl Builtin {
    /// Every one of them.
    pub const ALL: [Self; 3] = [Self::Vrf, Self::Datafeed, Self::Oracle];

    /// Its name in the file: `vrf`, `datafeed` or `oracle`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vrf => "vrf",
            Self::Datafeed => "datafeed",
            Self::Oracle => "oracle",
        }
    }

    /// The one of that name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|builtin| builtin.name() == name)
    }

    fn routes(self) -> Vec<RouteSettings> {
        match self {
            Self::Vrf => vec![route("/v1/random", "randomness"), route("/v1/random/{*rest}", "randomness")],
            Self::Datafeed => vec![route("/v1/feeds", "datafeed"), route("/v1/price/{*rest}", "datafeed")],
            Self::Oracle => {
                vec![RouteSettings { timeout: Some(ORACLE_TIMEOUT), ..route("/v1/oracle/{*rest}", "oracle") }]
            }
        }
    }
}

/// The routes of a service that writes none: those of the built-in one of its name, or everything under `/<name>`.
pub(crate) fn default_routes(name: &ServiceName) -> Vec<RouteSettings> {
    if let Some(builtin) = Builtin::of_name(name.as_str()) {
        return builtin.routes();
    }
    [format!("/{name}"), format!("/{name}/{{*rest}}")]
        .map(|path| RouteSettings { strip_prefix: true, ..route(&path, name.as_str()) })
        .into()
}

fn route(path: &str, scope: &str) -> RouteSettings {
    RouteSettings {
        host: None,
        path: path.to_owned(),
        methods: Vec::new(),
        headers: Vec::new(),
        scopes: vec![scope.to_owned()],
        body_bytes: None,
        request: None,
        rate_limit: None,
        timeout: None,
        access: RouteAccess::Callers,
        strip_prefix: false,
    }
}
