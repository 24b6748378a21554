//! What the command is started with: where it listens, and its arguments and environment with everything that `$SERVICEOS_…`
//! stands for.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;
use tokio::net::{TcpStream, UnixStream};
use types::Mode;

use super::folder::Folder;
use super::port::Port;
use super::upstream::{Connected, Connector, Stream};
use crate::{CommandOrder, Limits, UnknownVariable, expand_arguments, expand_environment};

const LISTEN: &str = "SERVICEOS_LISTEN";
const PORT: &str = "SERVICEOS_PORT";
const SECRETS: &str = "SERVICEOS_SECRETS_DIR";
const CONFIG: &str = "SERVICEOS_CONFIG";
const MESH: &str = "SERVICEOS_MESH";

/// A command, ready to be started.
pub(super) struct Plan {
    pub(super) listen: Listen,
    /// Without the program's own name.
    pub(super) arguments: Vec<String>,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) limits: Limits,
}

/// Where the command listens.
#[derive(Debug, Clone)]
pub(super) enum Listen {
    /// On a port of 127.0.0.1, which everybody on this machine reaches.
    Port(Arc<Port>),
    /// On a Unix socket in a folder that this user alone may enter.
    Socket(PathBuf),
}

/// Why a command cannot be started as it is written.
#[derive(Debug, Error)]
pub(super) enum PlanError {
    #[error(transparent)]
    Unknown(#[from] UnknownVariable),
    #[error("{0} is what serviceos gives a command, so its environment cannot set it: remove it there")]
    Given(String),
    #[error("no port for the command: {0}")]
    Port(#[from] io::Error),
}

impl Plan {
    pub(super) fn new(order: &CommandOrder, mode: Mode, folder: &Folder) -> Result<Self, PlanError> {
        let listen = match mode {
            Mode::Development => Listen::Port(Arc::new(Port::choose(&mut fastrand::Rng::new())?)),
            Mode::Production => Listen::Socket(folder.listening_socket()),
        };
        let given = given(&listen, folder);
        if let Some(name) = order.environment.keys().find(|name| given.contains_key(*name)) {
            return Err(PlanError::Given(name.clone()));
        }
        let arguments = expand_arguments(order.arguments.get(1..).unwrap_or_default(), &given)?;
        let mut environment = expand_environment(&order.environment, &given)?;
        environment.extend(given);
        Ok(Self { listen, arguments, environment, limits: order.limits.clone() })
    }
}

fn given(listen: &Listen, folder: &Folder) -> BTreeMap<String, String> {
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    let mut given = BTreeMap::from([
        (LISTEN.to_owned(), listen.to_text()),
        (SECRETS.to_owned(), text(folder.secrets())),
        (CONFIG.to_owned(), text(folder.config())),
        (MESH.to_owned(), text(folder.mesh_socket())),
    ]);
    if let Listen::Port(port) = listen {
        given.insert(PORT.to_owned(), port.number.to_string());
    }
    given
}

impl Listen {
    fn to_text(&self) -> String {
        match self {
            Self::Port(port) => format!("127.0.0.1:{}", port.number),
            Self::Socket(path) => format!("unix:{}", path.display()),
        }
    }

    /// A connection to the command.
    pub(super) async fn connect(&self) -> io::Result<Stream> {
        match self {
            Self::Port(port) => {
                let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port.number)).await?;
                let _delayed = stream.set_nodelay(true);
                Ok(Box::new(stream))
            }
            Self::Socket(path) => Ok(Box::new(UnixStream::connect(path).await?)),
        }
    }

    /// What makes further ones.
    pub(super) fn connector(&self) -> Connector {
        let listen = self.clone();
        Box::new(move || {
            let listen = listen.clone();
            Box::pin(async move {
                let stream = listen.connect().await.map_err(|error| error.to_string())?;
                Ok(Connected { stream, until: Box::pin(std::future::pending()) })
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sdk::Protocol;

    use super::*;
    use crate::Directory;

    fn order(arguments: &[&str], environment: &[(&str, &str)]) -> CommandOrder {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        CommandOrder {
            service: "infer".parse().unwrap(),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            environment: environment.iter().map(owned).collect(),
            directory: Directory { path: "/".into(), hashed: ".".into() },
            protocol: Protocol::Http1,
            run: "/".into(),
            grace: Duration::from_secs(10),
            limits: Limits::default(),
        }
    }

    fn folder() -> (tempfile::TempDir, Folder) {
        let run = tempfile::tempdir().unwrap();
        let folder = Folder::create(run.path(), &"infer/0".parse().unwrap()).unwrap();
        (run, folder)
    }

    #[test]
    fn a_command_is_told_where_everything_is() {
        let (_run, folder) = folder();
        let order = order(
            &["./infer", "--port=$SERVICEOS_PORT", "$HOME"],
            &[("LISTEN", "http://$SERVICEOS_LISTEN"), ("KEY", "${SERVICEOS_SECRETS_DIR}/key")],
        );
        let plan = Plan::new(&order, Mode::Development, &folder).unwrap();
        let port = plan.environment[PORT].clone();
        assert_eq!(plan.arguments, [format!("--port={port}"), "$HOME".into()]);
        assert_eq!(plan.environment["LISTEN"], format!("http://127.0.0.1:{port}"));
        assert_eq!(plan.environment[LISTEN], format!("127.0.0.1:{port}"));
        assert_eq!(plan.environment["KEY"], folder.secrets().join("key").to_str().unwrap());
        assert_eq!(plan.environment[CONFIG], folder.config().to_str().unwrap());
        assert_eq!(plan.environment[MESH], folder.mesh_socket().to_str().unwrap());
        assert_eq!(plan.environment.len(), 7);
    }

    #[test]
    fn in_production_it_listens_where_nobody_else_reaches_it() {
        let (_run, folder) = folder();
        let plan = Plan::new(&order(&["./infer"], &[]), Mode::Production, &folder).unwrap();
        let socket = format!("unix:{}", folder.listening_socket().display());
        assert_eq!((&plan.environment[LISTEN], plan.environment.get(PORT)), (&socket, None));
        let refused = Plan::new(&order(&["./infer", "$SERVICEOS_PORT"], &[]), Mode::Production, &folder);
        expect_test::expect![
            "$SERVICEOS_PORT stands for nothing here: use one of SERVICEOS_CONFIG, SERVICEOS_LISTEN, SERVICEOS_MESH, SERVICEOS_SECRETS_DIR"
        ]
        .assert_eq(&refused.err().unwrap().to_string());
    }

    #[tokio::test]
    async fn a_command_is_reached_where_it_was_told_to_listen() {
        let (_run, folder) = folder();
        let socket = Plan::new(&order(&["./infer"], &[]), Mode::Production, &folder).unwrap().listen;
        assert!(socket.connect().await.is_err());
        let _listens = std::os::unix::net::UnixListener::bind(folder.listening_socket()).unwrap();
        assert!(socket.connect().await.is_ok());
        let port = Plan::new(&order(&["./infer"], &[]), Mode::Development, &folder).unwrap().listen;
        assert!(port.connect().await.is_err());
        let _listens = std::net::TcpListener::bind(port.to_text()).unwrap();
        assert!(port.connect().await.is_ok());
    }

    #[test]
    fn what_serviceos_gives_cannot_be_set_and_another_name_of_the_house_stands_for_nothing() {
        let (_run, folder) = folder();
        let refusal = |environment: &[(&str, &str)]| {
            let refused = Plan::new(&order(&["./infer"], environment), Mode::Development, &folder);
            refused.err().unwrap().to_string()
        };
        expect_test::expect![
            "SERVICEOS_LISTEN is what serviceos gives a command, so its environment cannot set it: remove it there"
        ]
        .assert_eq(&refusal(&[("SERVICEOS_LISTEN", "0.0.0.0:80")]));
        assert!(refusal(&[("A", "$SERVICEOS_PROT")]).starts_with("$SERVICEOS_PROT stands for nothing here"));
    }
}
