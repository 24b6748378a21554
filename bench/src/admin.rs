//! The admin API of a ServiceOS that is measured: orders, and what has happened since.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use jiff::Timestamp;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::bench::Bench;
use crate::subject::{Running, Subject};

/// For one event that is waited for.
const LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(2);

/// Where it is, and what it wants to be shown.
pub(crate) struct Admin {
    address: SocketAddr,
    token: String,
}

/// Something that has happened.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) time: Timestamp,
    kind: String,
    to: Option<String>,
}

#[derive(Deserialize)]
struct Events {
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Status {
    admin: SocketAddr,
    services: Vec<Service>,
}

#[derive(Deserialize)]
struct Service {
    name: String,
    replicas: Vec<Replica>,
}

#[derive(Deserialize)]
struct Replica {
    pid: Option<u32>,
    selectable: bool,
}

impl Admin {
    /// That of a ServiceOS that is up.
    ///
    /// # Errors
    ///
    /// It does not say where it is.
    pub(crate) async fn of(bench: &Bench, running: &Running) -> anyhow::Result<Self> {
        let folder = running.folder.path();
        let mut status = tokio::process::Command::new(bench.programs.find(Subject::Serviceos)?);
        let output =
            status.args(["status", "--json"]).current_dir(folder).kill_on_drop(true).output().await?;
        let status: Status = serde_json::from_slice(&output.stdout).context("no status")?;
        let token = std::fs::read_to_string(folder.join(Path::new("data/run/admin.token")))?;
        Ok(Self { address: status.admin, token: token.trim().to_owned() })
    }

    /// Gives an order to the replicas of a service.
    ///
    /// # Errors
    ///
    /// It is refused.
    pub(crate) async fn order(&self, path: &str) -> anyhow::Result<()> {
        self.ask("POST", path).await.map(|_| ())
    }

    /// The latest event of a service; what comes after it is new.
    ///
    /// # Errors
    ///
    /// There is none.
    pub(crate) async fn latest(&self, service: &str) -> anyhow::Result<Event> {
        self.events(service, "").await?.pop().context("nothing has happened yet")
    }

    /// That this one has taken the place of another.
    ///
    /// # Errors
    ///
    /// It has not.
    pub(crate) async fn takeover(&self) -> anyhow::Result<Event> {
        let answer = self.ask("GET", "/v1/events").await?;
        let events = serde_json::from_str::<Events>(&answer)?.events;
        events.into_iter().find(|event| event.kind == "takeover").context("it has taken nobody's place")
    }

    /// The first event after another by which a replica of the service came to this state.
    ///
    /// # Errors
    ///
    /// It does not within 20 s.
    pub(crate) async fn until(&self, service: &str, after: &Event, state: &str) -> anyhow::Result<Event> {
        let began = Instant::now();
        loop {
            let mut events = self.events(service, &after.id).await?.into_iter();
            let is_it = |event: &Event| event.kind == "state" && event.to.as_deref() == Some(state);
            if let Some(event) = events.find(is_it) {
                return Ok(event);
            }
            if began.elapsed() > LIMIT {
                bail!("no replica of {service} is {state} within 20 s");
            }
            sleep(POLL).await;
        }
    }

    /// How many replicas of a service may be called.
    ///
    /// # Errors
    ///
    /// There is no such service.
    pub(crate) async fn selectable(&self, service: &str) -> anyhow::Result<usize> {
        let replicas = self.replicas(service).await?;
        Ok(replicas.iter().filter(|replica| replica.selectable).count())
    }

    /// The process of the only replica of a service, which has to be one that may be called.
    ///
    /// # Errors
    ///
    /// It is none.
    pub(crate) async fn pid(&self, service: &str) -> anyhow::Result<u32> {
        let [Replica { pid: Some(pid), selectable: true }] = self.replicas(service).await?[..] else {
            bail!("{service} has no replica that may be called");
        };
        Ok(pid)
    }

    async fn replicas(&self, service: &str) -> anyhow::Result<Vec<Replica>> {
        let status: Status = serde_json::from_str(&self.ask("GET", "/v1/status").await?)?;
        let of_service = status.services.into_iter().find(|known| known.name == service);
        Ok(of_service.context("no such service")?.replicas)
    }

    async fn events(&self, service: &str, after: &str) -> anyhow::Result<Vec<Event>> {
        let answer = self.ask("GET", &format!("/v1/events?service={service}&after={after}")).await?;
        Ok(serde_json::from_str::<Events>(&answer)?.events)
    }

    async fn ask(&self, method: &str, path: &str) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(self.address).await?;
        let (address, token) = (self.address, &self.token);
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").context("half an answer")?;
        let status = head.split(' ').nth(1).unwrap_or_default();
        if !status.starts_with('2') {
            bail!("{method} {path} is answered {status}: {body}");
        }
        Ok(body.to_owned())
    }
}
