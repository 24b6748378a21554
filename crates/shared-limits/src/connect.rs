//! A connection to Redis, from nothing to one that has counted.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, RedisConnectionInfo, RedisError, Value};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use crate::link::MAX_WAITING;
use crate::names::Names;
use crate::script::{self, Bound, COUNT, Mode};

/// Where Redis is, and as whom it is asked.
pub struct Server {
    host: String,
    port: u16,
    database: u32,
    login: Option<Login>,
    tls: Option<Arc<ClientConfig>>,
}

/// Who logs in.
pub struct Login {
    /// The name of the user; the default one without.
    pub user: Option<String>,
    /// Its password.
    pub password: Zeroizing<String>,
}

/// TLS to Redis.
pub struct Tls {
    /// Who may sign its certificate.
    pub roots: RootCertStore,
    /// The certificate with its chain, and its key, that are shown where it asks for them.
    pub client: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

impl Server {
    /// An address of IPv6 stands without brackets.
    ///
    /// # Errors
    /// The certificate and the key that are shown to it do not belong together.
    pub fn new(
        host: String,
        port: u16,
        database: u32,
        login: Option<Login>,
        tls: Option<Tls>,
    ) -> Result<Self, rustls::Error> {
        Ok(Self { host, port, database, login, tls: tls.map(Tls::client).transpose()? })
    }
}

impl Tls {
    fn client(self) -> Result<Arc<ClientConfig>, rustls::Error> {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.roots);
        let config = match self.client {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
            None => builder.with_no_client_auth(),
        };
        Ok(Arc::new(config))
    }
}

impl fmt::Display for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() { "rediss" } else { "redis" };
        match self.host.contains(':') {
            true => write!(formatter, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(formatter, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

/// A connection that has counted, and the hash that Redis knows the script by.
pub(crate) struct Ready {
    pub(crate) connection: MultiplexedConnection,
    pub(crate) script: String,
}

/// What moves the bytes of a connection; it ends when the connection does.
pub(crate) type Driver = Pin<Box<dyn Future<Output = ()>>>;

/// Connects, logs in, loads the script and counts with it, so that whoever asks next is likely to be answered.
///
/// # Errors
/// What was in the way, for the log.
pub(crate) async fn connect(server: &Server, names: &Names) -> Result<(Ready, Driver), String> {
    let stream = TcpStream::connect((server.host.as_str(), server.port)).await;
    let stream = stream.map_err(|error| error.to_string())?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    match &server.tls {
        None => begin(stream, server, names).await,
        Some(tls) => {
            let name = ServerName::try_from(server.host.clone()).map_err(|error| error.to_string())?;
            let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await;
            begin(stream.map_err(|error| format!("TLS: {error}"))?, server, names).await
        }
    }
}

async fn begin<S>(stream: S, server: &Server, names: &Names) -> Result<(Ready, Driver), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut who = RedisConnectionInfo::default().set_db(server.database.into()).set_skip_set_lib_name();
    if let Some(login) = &server.login {
        who = who.set_password(login.password.as_str());
        if let Some(user) = &login.user {
            who = who.set_username(user);
        }
    }
    // How long an answer may take is kept by whoever asks.
    let config =
        AsyncConnectionConfig::new().set_response_timeout(None).set_pipeline_buffer_size(MAX_WAITING);
    let made = MultiplexedConnection::new_with_config(&who, stream, config).await;
    let (connection, driver) = made.map_err(|error| error.to_string())?;
    let mut driver: Driver = Box::pin(driver);
    let ready = tokio::select! {
        () = &mut driver => return Err("it ended the connection".to_owned()),
        proven = prove(connection, names) => proven.map_err(|error| error.to_string())?,
    };
    Ok((ready, driver))
}

/// Does what requests do: one that may not write, or has no room, cannot count.
async fn prove(connection: MultiplexedConnection, names: &Names) -> Result<Ready, RedisError> {
    let script = load(&connection).await?;
    let bounds = [Bound::daily(names.probe(), u32::MAX)];
    let counted = ask(&connection, &script::command(&script, Mode::Take, &bounds)).await?;
    match script::answer(&counted, bounds.len()) {
        Some(Ok(_)) => Ok(Ready { connection, script }),
        _ => Err((redis::ErrorKind::UnexpectedReturnType, "it does not count").into()),
    }
}

/// Has Redis know the script.
pub(crate) async fn load(connection: &MultiplexedConnection) -> Result<String, RedisError> {
    let mut command = redis::cmd("SCRIPT");
    command.arg("LOAD").arg(COUNT);
    match ask(connection, &command).await? {
        Value::BulkString(sha) => Ok(String::from_utf8_lossy(&sha).into_owned()),
        Value::SimpleString(sha) => Ok(sha),
        _ => Err((redis::ErrorKind::UnexpectedReturnType, "it does not know scripts").into()),
    }
}

/// The answer to a command; what Redis answers as an error is one.
pub(crate) async fn ask(connection: &MultiplexedConnection, command: &Cmd) -> Result<Value, RedisError> {
    connection.clone().send_packed_command(command).await?.extract_error()
}
