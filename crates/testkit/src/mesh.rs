//! A mesh in a temporary folder.

use std::fs::File;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::{Request, eventually, processes_of};

/// A temporary folder. Every process that works in it is killed before it is removed, however the test ends.
struct Folder(TempDir);

/// A mesh to be started.
pub struct Mesh {
    folder: Folder,
    services: String,
    /// What stands before the services in the file.
    head: String,
    pub(crate) arguments: Vec<String>,
    /// How often one `up` has taken the place of another.
    pub(crate) takeovers: u32,
    environment: Vec<(String, String)>,
    /// What `up` is, where it is not the binary beside the tests.
    binary: Option<PathBuf>,
}

/// A mesh that runs.
pub struct Running {
    pub(crate) mesh: Mesh,
    pub(crate) child: Child,
    /// Where clients connect.
    pub gateway: SocketAddr,
    /// Where the admin API is.
    pub admin: SocketAddr,
    /// The development key.
    pub key: String,
}

/// How a command ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Its exit code; -1 when a signal killed it.
    pub code: i32,
    /// What it wrote to standard output.
    pub out: String,
    /// What it wrote to standard error.
    pub err: String,
}

impl Default for Mesh {
    fn default() -> Self {
        Self::new()
    }
}

impl Mesh {
    /// An empty folder and no services.
    ///
    /// # Panics
    /// When there is no room for a folder.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("mesh-").tempdir().expect("a temporary folder");
        Self {
            folder: Folder(folder),
            services: String::new(),
            head: String::new(),
            environment: Vec::new(),
            takeovers: 0,
            binary: None,
            arguments: ["gateway", "admin", "mesh"].map(|port| format!("--{port}=127.0.0.1:0")).into(),
        }
    }

    /// Adds a service with so many replicas.
    #[must_use]
    pub fn service(self, name: &str, replicas: u32) -> Self {
        self.yaml(&format!("    {name}: {{replicas: {replicas}}}\n"))
    }

    /// Adds lines under `services:`, indented by four spaces.
    #[must_use]
    pub fn yaml(mut self, lines: &str) -> Self {
        self.services += lines;
        self
    }

    /// Adds a service whose only replica is a server that the test itself runs; `routes` are the lines of its routes,
    /// indented by six spaces. That it takes connections is enough for it to be healthy.
    #[must_use]
    pub fn endpoint(self, name: &str, address: SocketAddr, routes: &str) -> Self {
        let routes = routes.trim_matches('\n');
        self.yaml(&format!(
            "    {name}:\n      endpoints: [\"http://{address}\"]\n      attestation: none\n      healthCheck: {{protocol: tcp}}\n      routes:\n{routes}\n"
        ))
    }

    /// Adds a service of servers that run elsewhere, all of them without TLS.
    #[must_use]
    pub fn endpoints(self, name: &str, addresses: &[SocketAddr]) -> Self {
        self.endpoints_with(name, addresses, "healthCheck: {interval: 1s, timeout: 1s}")
    }

    /// The same with more keys of the service, as in a mapping in braces.
    #[must_use]
    pub fn endpoints_with(self, name: &str, addresses: &[SocketAddr], keys: &str) -> Self {
        let urls: Vec<String> = addresses.iter().map(|address| format!("\"http://{address}\"")).collect();
        let urls = urls.join(", ");
        self.yaml(&format!("    {name}: {{endpoints: [{urls}], attestation: none, {keys}}}\n"))
    }

    /// Sets the keys under `gateway:`, as in a mapping in braces.
    #[must_use]
    pub fn gateway(mut self, keys: &str) -> Self {
        self.head += &format!("gateway: {{{keys}}}\n");
        self
    }

    /// Adds lines that stand before `services:` in the file.
    #[must_use]
    pub fn head(mut self, lines: &str) -> Self {
        self.head += lines;
        self
    }

    /// Sets a variable in the environment of `up`.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Has `up` be another binary than the one beside the tests.
    #[must_use]
    pub fn binary(mut self, path: &Path) -> Self {
        self.binary = Some(path.to_owned());
        self
    }

    /// Replaces the arguments of `up`.
    #[must_use]
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        self
    }

    /// Has it listen at ports that the system gives to nobody who does not ask for them, so that they are its own also while no `up`
    /// is there.
    #[must_use]
    pub fn with_ports_of_its_own(mut self) -> Self {
        let ports = [("gateway", quiet_port()), ("admin", 0), ("mesh", quiet_port())];
        self.arguments = ports.map(|(name, port)| format!("--{name}=127.0.0.1:{port}")).into();
        self
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        self.folder.0.path()
    }

    /// Writes the configuration file, whatever it holds.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, text: &str) {
        std::fs::write(self.folder().join("serviceos.yaml"), text).expect("writing the configuration");
    }

    /// Starts `up`, without waiting for anything but the process.
    ///
    /// # Panics
    /// When the binary cannot be started.
    pub fn start(&self) -> Child {
        let file = |name: &str| File::create(self.folder().join(name)).expect("a file for the output");
        self.start_with(file("up.out"), file("up.err"))
    }

    /// The same, with other places for its output.
    ///
    /// # Panics
    /// When the binary cannot be started.
    pub fn start_with(&self, out: impl Into<Stdio>, err: impl Into<Stdio>) -> Child {
        if !self.services.is_empty() {
            self.write(&format!("{}services:\n{}", self.head, self.services));
        }
        let mut command = command(self.folder());
        if let Some(binary) = &self.binary {
            command = Command::new(binary);
            command.current_dir(self.folder()).env_remove("SERVICEOS_DATA_DIR").env_remove("RUST_LOG");
        }
        command.arg("up").args(&self.arguments).process_group(0);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        command.spawn().expect("starting serviceos; `cargo build -p serviceos` makes it")
    }

    /// Starts `up` and waits until it has ended by itself.
    ///
    /// # Panics
    /// When the binary cannot be started.
    pub fn up_and_fail(&self) -> Finished {
        let mut child = self.start();
        let status = eventually("serviceos to end", || child.try_wait().expect("asking for the process"));
        self.finished(status)
    }

    /// What an ended `up` left.
    pub fn finished(&self, status: ExitStatus) -> Finished {
        let read = |name: &str| std::fs::read_to_string(self.folder().join(name)).unwrap_or_default();
        Finished { code: status.code().unwrap_or(-1), out: read("up.out"), err: read("up.err") }
    }

    /// The binary, to be run in the folder.
    pub fn command(&self) -> Command {
        command(self.folder())
    }

    /// Makes another binary in the folder, which does the same and is measured as something else.
    ///
    /// # Panics
    /// When there is no room for it.
    pub fn rebuilt(&self) -> PathBuf {
        let path = self.folder().join("serviceos-rebuilt");
        std::fs::copy(binary(), &path).expect("a copy of the binary");
        let mut file = File::options().append(true).open(&path).expect("the copy");
        file.write_all(b"\n").expect("one byte more");
        path
    }

    /// Runs another command in the folder.
    pub fn run(&self, arguments: &[&str]) -> Finished {
        run(self.folder(), arguments)
    }

    /// Starts `up` and waits until every wanted replica may serve.
    ///
    /// # Panics
    /// When that does not come about.
    pub fn up(self) -> Running {
        let mut running = self.up_when("every replica to be selectable", all_selectable);
        running.key = eventually("the development key", || {
            let out = std::fs::read_to_string(running.folder().join("up.out")).unwrap_or_default();
            let word = out.split_whitespace().find(|word| word.starts_with("sk_test_")).map(str::to_owned);
            out.contains("Ctrl-C drains").then_some(word).flatten()
        });
        running
    }

    /// Starts `up` and waits until its status is as wanted. There is no key, since it is shown only when all replicas may
    /// serve.
    ///
    /// # Panics
    /// When that does not come about; `what` says what was waited for.
    pub fn up_when(self, what: &str, wanted: impl Fn(&Value) -> bool) -> Running {
        let mut child = self.start();
        let status = eventually(what, || {
            if let Some(status) = child.try_wait().expect("asking for the process") {
                panic!("serviceos ended: {:?}", self.finished(status));
            }
            status(self.folder()).filter(&wanted)
        });
        let address =
            |name: &str| status[name].as_str().and_then(|address| address.parse().ok()).expect("an address");
        let (gateway, admin) = (address("gateway"), address("admin"));
        Running { gateway, admin, mesh: self, child, key: String::new() }
    }
}

impl Running {
    /// The folder.
    pub fn folder(&self) -> &Path {
        self.mesh.folder()
    }

    /// What `up` has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder().join("up.err")).unwrap_or_default()
    }

    /// Waits until `up` has logged something that contains `text`, after the first `seen` bytes; returns the whole log.
    ///
    /// # Panics
    /// When that does not come about.
    pub fn until_logged(&self, seen: usize, text: &str) -> String {
        eventually(&format!("{text:?} in the log"), || {
            Some(self.log()).filter(|log| log.get(seen..).is_some_and(|new| new.contains(text)))
        })
    }

    /// The process of `up`.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `serviceos status --json`.
    ///
    /// # Panics
    /// When there is no answer.
    pub fn status(&self) -> Value {
        status(self.folder()).expect("a status")
    }

    /// The replicas of a service.
    ///
    /// # Panics
    /// When there is no such service.
    pub fn replicas(&self, service: &str) -> Vec<Value> {
        let status = self.status();
        let services = status["services"].as_array().expect("services");
        let found = services.iter().find(|candidate| candidate["name"] == service).expect("the service");
        found["replicas"].as_array().expect("replicas").clone()
    }

    /// The pids of a service's replicas.
    pub fn pids(&self, service: &str) -> Vec<u32> {
        let pid = |replica: &Value| replica["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        self.replicas(service).iter().filter_map(pid).collect()
    }

    /// Waits until every wanted replica may serve.
    pub fn until_selectable(&self) {
        eventually("every replica to be selectable", || all_selectable(&self.status()).then_some(()));
    }

    /// A GET through the gateway with the development key.
    pub fn get(&self, path: &str) -> crate::Answer {
        Request::new("GET", path).key(&self.key).send(self.gateway)
    }

    /// A POST through the gateway with the development key.
    pub fn post(&self, path: &str, body: &Value) -> crate::Answer {
        Request::new("POST", path).key(&self.key).json(body).send(self.gateway)
    }

    /// Runs another command on the same folder.
    pub fn run(&self, arguments: &[&str]) -> Finished {
        run(self.folder(), arguments)
    }

    /// The same with something on its standard input, which it need not read.
    ///
    /// # Panics
    /// When it cannot be run.
    pub fn run_with(&self, arguments: &[&str], input: &[u8]) -> Finished {
        let mut command = self.command();
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("running serviceos");
        // A command that refuses before it reads has closed it.
        let _not_read = child.stdin.take().expect("its standard input").write_all(input).is_err();
        finished(&child.wait_with_output().expect("running serviceos"))
    }

    /// The binary, to be run in the folder.
    pub fn command(&self) -> Command {
        self.mesh.command()
    }

    /// Sends a signal to `up`.
    ///
    /// # Panics
    /// When it is gone already.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal);
    }

    /// Waits until `up` has ended.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn wait(&mut self) -> Finished {
        let status =
            eventually("serviceos to end", || self.child.try_wait().expect("asking for the process"));
        self.mesh.finished(status)
    }

    /// Starts `up` again in the same folder, once it has ended.
    ///
    /// # Panics
    /// When it does not end, or does not become healthy again.
    pub fn up_again(self) -> Self {
        self.ended().up()
    }

    /// Starts `up` again in the same folder, once it has ended, and waits until its status is as wanted.
    ///
    /// # Panics
    /// When it does not end, or that does not come about; `what` says what was waited for.
    pub fn up_again_when(self, what: &str, wanted: impl Fn(&Value) -> bool) -> Self {
        self.ended().up_when(what, wanted)
    }

    /// Starts `up` again in the same folder with other lines under `services:`, once it has ended, and waits until every wanted
    /// replica may serve.
    ///
    /// # Panics
    /// When it does not end, or does not become healthy again.
    pub fn up_again_with(self, services: &str) -> Self {
        let mut mesh = self.ended();
        mesh.services = services.to_owned();
        mesh.up()
    }

    /// The mesh without `up`, once that has ended.
    ///
    /// # Panics
    /// When it does not end.
    pub fn ended(mut self) -> Mesh {
        self.wait();
        self.mesh
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        for pid in processes_of(self.0.path()) {
            kill(pid, Signal::KILL);
        }
    }
}

/// Sends a signal to one process.
///
/// # Panics
/// When the number is none.
pub fn kill(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process number");
    let _gone_already = kill_process(pid, signal).is_err();
}

/// A free port below those that the system chooses from.
fn quiet_port() -> u16 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let first = range.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(32_768);
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let begin = usize::from(fastrand::u16(..));
    (10_000..first).cycle().skip(begin).take(usize::from(first)).find(is_free).expect("a free port")
}

fn all_selectable(status: &Value) -> bool {
    let services = status["services"].as_array().into_iter().flatten();
    services
        .flat_map(|service| service["replicas"].as_array().into_iter().flatten())
        .all(|replica| replica["selectable"] == true)
}

fn status(folder: &Path) -> Option<Value> {
    let finished = run(folder, &["status", "--json"]);
    (finished.code == 0).then(|| serde_json::from_str(&finished.out).expect("status is JSON"))
}

fn run(folder: &Path, arguments: &[&str]) -> Finished {
    finished(&command(folder).args(arguments).output().expect("running serviceos"))
}

fn finished(output: &Output) -> Finished {
    Finished {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(binary());
    command.current_dir(folder).env_remove("SERVICEOS_DATA_DIR").env_remove("RUST_LOG");
    command
}

/// The binary lies beside the folder of the test binaries.
fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    let profile = test.ancestors().nth(2).expect("a test lies in target/PROFILE/deps");
    profile.join("serviceos")
}
