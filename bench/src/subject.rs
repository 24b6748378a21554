//! The programs that are measured: how each is configured, started and asked whether it is there.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::ValueEnum;
use serde::Deserialize;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::bench::Bench;
use crate::certificate::Sessions;
use crate::child::{Child, Cores};
use crate::client::{Connection, get};
use crate::load::{grpc, handshakes};
use crate::mutual::UPSTREAM_NAME;
use crate::process::{Scope, descendants, pin_to_load_core};
use crate::template::{fill, notes};

/// From the start until the first answer.
const START: Duration = Duration::from_secs(15);
/// For one answer within that.
const ANSWER: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(10);
/// A configuration that has this has a limit for keys, so one is made.
const LIMITED_TIER: &str = "tiers: {production:";
/// The configuration of ServiceOS, in the folder of its turn.
pub(crate) const CONFIG: &str = "serviceos.yaml";
/// What a replica of vrf answers at the least cost; the upstreams answer it too.
pub(crate) const KEYS_PATH: &str = "/v1/random/keys";
/// The key of all but ServiceOS, which makes its own; as long as those.
const KEY: &str = "sk_test_bench0bench1bench2bench3bench4bench5bench6bench7b";

/// A program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Subject {
    /// httparse and tokio, nothing else
    Floor,
    Nginx,
    Haproxy,
    Envoy,
    Serviceos,
}

/// What ServiceOS is in front of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// The upstreams of all others
    Endpoints,
    /// Three vrf replicas of its own
    Vrf,
}

/// What the client speaks to the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Front {
    Http1,
    /// HTTP/1.1 or HTTP/2, by ALPN.
    Tls,
    /// HTTP/2 without TLS, by prior knowledge.
    H2c,
    /// The same, with gRPC upstreams.
    Grpc,
    /// HTTP/1.1, and mutual TLS to the upstreams.
    Mutual,
}

impl Subject {
    pub(crate) const ALL: [Self; 5] = [Self::Floor, Self::Nginx, Self::Haproxy, Self::Envoy, Self::Serviceos];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
            Self::Envoy => "Envoy",
            Self::Serviceos => "ServiceOS",
        }
    }

    fn template(self, front: Front, backend: Backend) -> &'static str {
        match (self, front, backend) {
            (Self::Floor, ..) => "# note: the floor has no feature at all.",
            (Self::Nginx, ..) => include_str!("../peers/nginx.conf"),
            (Self::Haproxy, ..) => include_str!("../peers/haproxy.cfg"),
            (Self::Envoy, ..) => include_str!("../peers/envoy.yaml"),
            (Self::Serviceos, Front::Tls, _) => include_str!("../peers/serviceos-tls.yaml"),
            (Self::Serviceos, Front::Grpc, _) => include_str!("../peers/serviceos-grpc.yaml"),
            (Self::Serviceos, Front::Mutual, _) => include_str!("../peers/serviceos-mtls.yaml"),
            (Self::Serviceos, _, Backend::Endpoints) => include_str!("../peers/serviceos.yaml"),
            (Self::Serviceos, _, Backend::Vrf) => include_str!("../peers/serviceos-vrf.yaml"),
        }
    }

    /// What its configuration admits to lack.
    pub(crate) fn notes(self, front: Front, backend: Backend) -> Vec<String> {
        notes(self.template(front, backend))
    }
}

/// A program that runs and answers.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) scope: Scope,
    pub(crate) address: SocketAddr,
    pub(crate) key: String,
    /// What gives the small answer.
    pub(crate) path: &'static str,
    /// Dropped after the child, which writes in it.
    pub(crate) folder: TempDir,
}

impl Running {
    pub(crate) fn url(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://{}{path}", self.address)
    }

    /// # Errors
    ///
    /// It ended. What it said first is why.
    pub(crate) fn fail_if_ended(&mut self) -> anyhow::Result<()> {
        let Some(status) = self.child.ended() else { return Ok(()) };
        let read = |name: &str| std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        let said = read("stderr") + &read("stdout");
        // HAProxy talks before it comes to the point.
        let matters = |line: &&str| {
            !["", "[NOTICE]", "[WARNING]"].contains(&line.split_whitespace().next().unwrap_or_default())
        };
        bail!("it ended ({status}): {}", said.lines().find(matters).unwrap_or("it says nothing"));
    }
}

/// Starts `subject` and waits until it answers.
///
/// # Errors
///
/// It is not installed, does not start, or gives no good answer within 15 s.
pub(crate) async fn start(bench: &Bench, subject: Subject, front: Front) -> anyhow::Result<Running> {
    if subject == Subject::Serviceos {
        let template = subject.template(front, bench.backend);
        let running = start_serviceos(bench, template, Cores::Proxy).await?;
        let own = bench.backend == Backend::Vrf || front == Front::Mutual;
        let path = if own { KEYS_PATH } else { running.path };
        return checked(until_answering(bench, Running { path, ..running }, front).await?, front).await;
    }
    if subject == Subject::Floor {
        return start_floor(bench, bench.upstreams.ports.map(local)).await;
    }
    let program = bench.programs.find(subject)?;
    let folder = bench.new_folder()?;
    let ports = free_ports::<4>()?.map(local);
    let [http, https, h2c, _] = ports;
    let (name, arguments) = match subject {
        Subject::Nginx => ("nginx.conf", words(&["-p", ".", "-c", "nginx.conf"])),
        Subject::Haproxy => ("haproxy.cfg", words(&["-db", "-f", "haproxy.cfg"])),
        Subject::Envoy | Subject::Floor | Subject::Serviceos => (
            "envoy.yaml",
            words(&[
                "-c",
                "envoy.yaml",
                "--concurrency",
                "1",
                "--disable-hot-restart",
                "--log-level",
                "warning",
            ]),
        ),
    };
    let mut values = values(bench, folder.path(), ports)?;
    values.extend(behind(front).map(|(name, value)| (name, value.to_owned())));
    let config = fill(subject.template(front, bench.backend), &values)?;
    std::fs::write(folder.path().join(name), config)?;
    std::fs::write(folder.path().join("keys.map"), format!("{KEY} bench\n"))?;
    let child = Child::start(program, &arguments, Cores::Proxy, folder.path())?;
    let address = match (subject, front) {
        (_, Front::Http1 | Front::Mutual) => http,
        (_, Front::Tls) => https,
        (Subject::Nginx, Front::H2c | Front::Grpc) => h2c,
        (_, Front::H2c | Front::Grpc) => http,
    };
    let path = if front == Front::Mutual { KEYS_PATH } else { "/v1/bench" };
    let running = Running { child, scope: Scope::Tree, address, key: KEY.to_owned(), path, folder };
    checked(until_answering(bench, running, front).await?, front).await
}

/// Starts the floor in front of these upstreams, and waits until it answers.
///
/// # Errors
///
/// It does not start, or gives no good answer within 15 s.
pub(crate) async fn start_floor(
    bench: &Bench,
    upstreams: impl IntoIterator<Item = SocketAddr>,
) -> anyhow::Result<Running> {
    let folder = bench.new_folder()?;
    let [address] = free_ports::<1>()?.map(local);
    let arguments: Vec<String> =
        std::iter::once(address).chain(upstreams).map(|address| address.to_string()).collect();
    let child = Child::start(bench.programs.find(Subject::Floor)?, &arguments, Cores::Proxy, folder.path())?;
    let (key, path) = (KEY.to_owned(), "/v1/bench");
    until_answering(bench, Running { child, scope: Scope::Tree, address, key, path, folder }, Front::Http1)
        .await
}

async fn checked(running: Running, front: Front) -> anyhow::Result<Running> {
    if matches!(front, Front::Http1 | Front::Mutual) {
        timeout(ANSWER, refuses_strangers(&running)).await.context("no answer to a wrong key")??;
    }
    Ok(running)
}

/// Starts ServiceOS with a configuration of its own, and waits until it says its key. It may not answer yet.
///
/// # Errors
///
/// It does not come up within 15 s.
pub(crate) async fn start_serviceos(bench: &Bench, template: &str, cores: Cores) -> anyhow::Result<Running> {
    let mut running = launch_serviceos(bench, template, cores)?;
    let began = Instant::now();
    running.key = loop {
        let said = std::fs::read_to_string(running.folder.path().join("stdout"))?;
        // Whole lines, since a part of a key would be read as one.
        let lines = said.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let mut words = lines.flat_map(str::split_whitespace);
        if let Some(key) = words.find(|word| word.starts_with("sk_test_")) {
            break key.to_owned();
        }
        running.fail_if_ended()?;
        if began.elapsed() > START {
            bail!("ServiceOS does not come up");
        }
        sleep(POLL).await;
    };
    if template.contains(LIMITED_TIER) {
        running.key = limited_key(bench, &running).await?;
    }
    if cores == Cores::Proxy {
        // Replicas are upstreams.
        for replica in descendants(running.child.pid()) {
            pin_to_load_core(replica)?;
        }
    }
    Ok(running)
}

/// A key that is limited, as those of the peers are; the development key never is.
async fn limited_key(bench: &Bench, running: &Running) -> anyhow::Result<String> {
    #[derive(Deserialize)]
    struct Created {
        key: String,
    }
    let mut create = tokio::process::Command::new(bench.programs.find(Subject::Serviceos)?);
    create.args(["keys", "create", "--name", "bench", "--scopes", "bench", "--tier", "production", "--json"]);
    let output = create.current_dir(running.folder.path()).kill_on_drop(true).output().await?;
    if !output.status.success() {
        bail!("no key could be made: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let created: Created = serde_json::from_slice(&output.stdout)?;
    Ok(created.key)
}

/// What ServiceOS is started with in its folder.
const UP: [&str; 5] = ["up", "--config", CONFIG, "--mesh", "127.0.0.1:0"];

/// Starts ServiceOS and waits for nothing; its key is not known yet.
///
/// # Errors
///
/// It is not built, or cannot be started.
pub(crate) fn launch_serviceos(bench: &Bench, template: &str, cores: Cores) -> anyhow::Result<Running> {
    let program = bench.programs.find(Subject::Serviceos)?;
    let folder = bench.new_folder()?;
    let ports = free_ports::<4>()?.map(local);
    let config = folder.path().join(CONFIG);
    std::fs::write(&config, fill(template, &values(bench, folder.path(), ports)?)?)?;
    let child = Child::start(program, &words(&UP), cores, folder.path())?;
    Ok(Running {
        child,
        scope: Scope::Root,
        address: ports[0],
        key: String::new(),
        path: "/v1/bench",
        folder,
    })
}

/// Starts another ServiceOS that takes the place of one that runs, and waits for nothing; gives the one before.
///
/// # Errors
///
/// It cannot be started.
pub(crate) fn take_over(bench: &Bench, running: &mut Running, cores: Cores) -> anyhow::Result<Child> {
    let arguments: Vec<_> = words(&UP).into_iter().chain(words(&["--takeover"])).collect();
    let program = bench.programs.find(Subject::Serviceos)?;
    let child = Child::start(program, &arguments, cores, running.folder.path())?;
    Ok(std::mem::replace(&mut running.child, child))
}

/// Waits for the first good answer.
///
/// # Errors
///
/// There is none within 15 s, or the program ends.
pub(crate) async fn until_answering(
    bench: &Bench,
    mut running: Running,
    front: Front,
) -> anyhow::Result<Running> {
    let began = Instant::now();
    loop {
        let problem = match timeout(ANSWER, try_once(bench, &running, front)).await {
            Ok(Ok(())) => return Ok(running),
            Ok(Err(error)) => error,
            Err(_) => anyhow::anyhow!("no answer within 2 s"),
        };
        running.fail_if_ended()?;
        if began.elapsed() > START {
            return Err(problem.context("it started, and gives no good answer"));
        }
        sleep(POLL).await;
    }
}

async fn try_once(bench: &Bench, running: &Running, front: Front) -> anyhow::Result<()> {
    let request = get(running.path, &running.key);
    let status = match front {
        Front::Http1 | Front::Mutual => {
            Connection::new(TcpStream::connect(running.address).await?).exchange(&request).await?
        }
        Front::Tls => {
            let client = bench.certificate.client(Sessions::Forgotten)?;
            handshakes::connect(running.address, &client).await?.exchange(&request).await?
        }
        Front::H2c => grpc::get(running.address, running.path, &running.key).await?,
        Front::Grpc => return grpc::call(running.address, &running.key).await,
    };
    if status != 200 {
        bail!("it answers {status}");
    }
    Ok(())
}

/// A proxy that lets everybody in would be measured without its key check.
async fn refuses_strangers(running: &Running) -> anyhow::Result<()> {
    let request = get(running.path, "sk_test_of_nobody");
    let status = Connection::new(TcpStream::connect(running.address).await?).exchange(&request).await?;
    if status != 401 {
        bail!("a wrong key is answered {status}");
    }
    Ok(())
}

/// Where the peers send what is no gRPC call, by their own names of it.
fn behind(front: Front) -> [(&'static str, &'static str); 2] {
    match front {
        Front::Mutual => [("backend", "mutual"), ("backend_scheme", "https")],
        _ => [("backend", "plain"), ("backend_scheme", "http")],
    }
}

/// A configuration for a ServiceOS that already runs: the same folder and address.
///
/// # Errors
///
/// The template has an unknown name.
pub(crate) fn fill_for(bench: &Bench, running: &Running, template: &str) -> anyhow::Result<String> {
    let address = running.address;
    fill(template, &values(bench, running.folder.path(), [address; 4])?)
}

fn values(
    bench: &Bench,
    folder: &Path,
    ports: [SocketAddr; 4],
) -> anyhow::Result<Vec<(&'static str, String)>> {
    let [http, https, h2c, admin] = ports;
    let [a, b, c] = bench.upstreams.ports.map(local);
    let [mutual_a, mutual_b, mutual_c] = bench.upstreams.mutual_ports.map(local);
    let shown = |path: &PathBuf| path.to_string_lossy().into_owned();
    let envoy_endpoints = |ports: [u16; 3]| {
        ports.map(|port| {
            format!(
                "{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}}}"
            )
        })
    };
    let user = if rustix::process::getuid().is_root() { "user root;" } else { "" };
    Ok(vec![
        // nginx gives up root's rights otherwise, and could not write into the folder.
        ("user", user.to_owned()),
        ("folder", folder.to_str().context("a path that is not UTF-8")?.to_owned()),
        ("floor", bench.programs.find(Subject::Floor).map(|path| path.to_string_lossy().into_owned())?),
        ("key", KEY.to_owned()),
        ("key_map", shown(&folder.join("keys.map"))),
        ("http", http.to_string()),
        ("http_port", http.port().to_string()),
        ("https", https.to_string()),
        ("https_port", https.port().to_string()),
        ("h2c", h2c.to_string()),
        ("admin_port", admin.port().to_string()),
        ("upstream_a", a.to_string()),
        ("upstream_b", b.to_string()),
        ("upstream_c", c.to_string()),
        ("mutual_a", mutual_a.to_string()),
        ("mutual_b", mutual_b.to_string()),
        ("mutual_c", mutual_c.to_string()),
        ("mutual_name", UPSTREAM_NAME.to_owned()),
        ("mutual_authority", shown(&bench.mutual.authority)),
        ("mutual_certificate", shown(&bench.mutual.certificate)),
        ("mutual_key", shown(&bench.mutual.key)),
        ("mutual_certificate_and_key", shown(&bench.mutual.both)),
        ("envoy_endpoints", envoy_endpoints(bench.upstreams.ports).join(", ")),
        ("envoy_mutual_endpoints", envoy_endpoints(bench.upstreams.mutual_ports).join(", ")),
        ("certificate", shown(&bench.certificate.certificate)),
        ("certificate_key", shown(&bench.certificate.key)),
        ("certificate_and_key", shown(&bench.certificate.both)),
    ])
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Ports that were free a moment ago, all different.
fn free_ports<const COUNT: usize>() -> anyhow::Result<[u16; COUNT]> {
    let mut listeners = Vec::with_capacity(COUNT);
    for _ in 0..COUNT {
        listeners.push(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?);
    }
    let ports: Result<Vec<u16>, _> =
        listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect();
    ports
        .and_then(|ports| ports.try_into().map_err(|_| std::io::Error::other("too few ports")))
        .context("failed to find free ports")
}
