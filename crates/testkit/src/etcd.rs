//! Real etcd: one member or several, in a temporary folder, on sockets of its own, each behind a port that the system chooses.

mod links;
mod proxy;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;

use self::links::{Link, Links};
use self::proxy::Proxy;
use crate::{Authority, LIMIT, eventually, has_program};

/// Members of one cluster. They are killed when this is dropped, however the test ends.
pub struct Etcd {
    members: Vec<Member>,
    links: Links,
    folder: TempDir,
    tls: bool,
}

struct Member {
    name: String,
    arguments: Vec<String>,
    running: Option<Child>,
    proxy: Proxy,
}

impl Etcd {
    /// So many members, or `None` where there is no etcd, which is said and in CI is a failure.
    ///
    /// # Panics
    /// When they do not start.
    pub fn start(members: usize) -> Option<Self> {
        Self::start_with(members, |_folder| Vec::new())
    }

    /// One member that other machines reach at this address of the one that it runs on.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_at(address: Ipv4Addr) -> Option<Self> {
        Self::start_at_with(address, 1, |_folder| Vec::new())
    }

    /// One member that speaks TLS, and takes nobody without a certificate of the authority. Its own is written to the folder.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_secured(authority: &Authority) -> Option<Self> {
        Self::start_with(1, |folder| {
            authority.certificate(&["127.0.0.1", "localhost"]).write(folder, "member");
            authority.write(folder, "ca.pem");
            let words =
                "--cert-file=member.pem --key-file=member.key --trusted-ca-file=ca.pem --client-cert-auth";
            words.split(' ').map(str::to_owned).collect()
        })
    }

    /// The same with more arguments for each member.
    ///
    /// # Panics
    /// When they do not start.
    pub fn start_with(members: usize, more: impl FnOnce(&Path) -> Vec<String>) -> Option<Self> {
        Self::start_at_with(Ipv4Addr::LOCALHOST, members, more)
    }

    fn start_at_with(
        address: Ipv4Addr,
        members: usize,
        more: impl FnOnce(&Path) -> Vec<String>,
    ) -> Option<Self> {
        if !has_program("etcd") {
            return None;
        }
        let folder = tempfile::Builder::new().prefix("etcd-").tempdir().expect("a temporary folder");
        let more = more(folder.path());
        let tls = more.iter().any(|argument| argument.starts_with("--cert-file"));
        let scheme = if tls { "unixs" } else { "unix" };
        let peers: Vec<_> = (0..members).map(|index| format!("m{index}=unix://peer:{index}")).collect();
        let member = |index: usize| {
            let mut arguments = vec![
                format!("--name=m{index}"),
                format!("--data-dir=data{index}"),
                format!("--listen-client-urls={scheme}://client:{index}"),
                format!("--advertise-client-urls={scheme}://client:{index}"),
                format!("--listen-peer-urls=unix://member:{index}"),
                format!("--initial-advertise-peer-urls=unix://peer:{index}"),
                format!("--initial-cluster={}", peers.join(",")),
            ];
            arguments.extend(more.iter().cloned());
            let proxy = Proxy::new(address, folder.path().join(format!("client:{index}")));
            Member { name: format!("m{index}"), arguments, running: None, proxy }
        };
        let links = Links::new(folder.path(), members);
        let mut etcd = Self { members: (0..members).map(member).collect(), links, folder, tls };
        (0..members).for_each(|index| etcd.launch(index));
        (0..members).for_each(|index| etcd.wait_until_ready(index));
        Some(etcd)
    }

    /// Where clients reach the members.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|member| member.proxy.address()).collect()
    }

    /// All of them, as the configuration names them.
    pub fn url(&self) -> String {
        let addresses: Vec<_> = self.addresses().iter().map(SocketAddr::to_string).collect();
        format!("{}://{}", if self.tls { "etcds" } else { "etcd" }, addresses.join(","))
    }

    /// The folder with everything of theirs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Kills a member; its port refuses connections from then on.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self, index: usize) {
        let member = &mut self.members[index];
        let mut child = member.running.take().expect("a member that runs");
        signal(&child, Signal::KILL);
        child.wait().expect("reaping a member");
        member.proxy.cut();
        self.links.runs(index, None);
    }

    /// Starts a member again with what it has on its disk, without waiting for it.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn launch(&mut self, index: usize) {
        for socket in ["client", "member"] {
            // A member that was killed leaves them behind, and one that begins does not take them over.
            let _left_by_nobody = std::fs::remove_file(self.folder().join(format!("{socket}:{index}")));
        }
        let log = File::create(self.log(index)).expect("a file for the log");
        let member = &mut self.members[index];
        let mut command = Command::new("etcd");
        command.args(&member.arguments).current_dir(&self.folder).process_group(0);
        let output = log.try_clone().expect("a file for the log");
        command.stdin(Stdio::null()).stdout(output).stderr(log);
        let child = command.spawn().expect("starting etcd");
        self.links.runs(index, Some(child.id()));
        member.running = Some(child);
        member.proxy.open();
    }

    /// Waits until a member serves.
    ///
    /// # Panics
    /// After [`LIMIT`], and when it ends.
    pub fn wait_until_ready(&mut self, index: usize) {
        let log = self.log(index);
        let member = &mut self.members[index];
        eventually(&format!("etcd {} to serve", member.name), || {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            let child = member.running.as_mut().expect("a member that runs");
            if let Some(status) = child.try_wait().expect("asking for a member") {
                panic!("etcd {} has ended ({status}): {said}", member.name);
            }
            said.contains("ready to serve client requests").then_some(())
        });
    }

    /// Starts a member again and waits until it serves.
    ///
    /// # Panics
    /// When it does not.
    pub fn restart(&mut self, index: usize) {
        self.launch(index);
        self.wait_until_ready(index);
    }

    /// Starts a member that was killed with an empty disk, as that of another cluster, and waits until it serves.
    ///
    /// # Panics
    /// When it does not.
    pub fn begin_anew(&mut self, index: usize) {
        std::fs::remove_dir_all(self.folder().join(format!("data{index}"))).expect("the disk of a member");
        self.members[index].arguments.push("--initial-cluster-token=anew".to_owned());
        self.restart(index);
    }

    /// Stops a member where it stands, with SIGSTOP.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pause(&self, index: usize) {
        signal(self.members[index].running.as_ref().expect("a member that runs"), Signal::STOP);
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// When it does not run.
    pub fn resume(&self, index: usize) {
        signal(self.members[index].running.as_ref().expect("a member that runs"), Signal::CONT);
    }

    /// Lets nothing through between a member and the others, in either direction; clients reach it as before.
    pub fn isolate(&self, index: usize) {
        for other in (0..self.members.len()).filter(|other| *other != index) {
            self.links.set(index, other, Link::Silent);
        }
    }

    /// Ends the connections between two members, and refuses new ones.
    pub fn part(&self, one: usize, other: usize) {
        self.links.set(one, other, Link::Cut);
    }

    /// Lets all members reach each other again.
    pub fn reunite(&self) {
        self.links.mend();
    }

    /// Ends all connections of clients to a member and refuses new ones; it itself runs on.
    pub fn cut(&mut self, index: usize) {
        self.members[index].proxy.cut();
    }

    /// Keeps clients' connections to a member but lets nothing through.
    pub fn stall(&mut self, index: usize) {
        self.members[index].proxy.stall();
    }

    /// Lets requests through to a member, and no answer out.
    pub fn hold_answers(&mut self, index: usize) {
        self.members[index].proxy.hold_answers();
    }

    /// How often something went to a member.
    pub fn passed(&self, index: usize) -> u64 {
        self.members[index].proxy.passed()
    }

    /// Lets everything through again.
    pub fn heal(&mut self, index: usize) {
        self.members[index].proxy.open();
    }

    /// The leader of those that run, once they have one.
    ///
    /// # Panics
    /// After [`LIMIT`].
    pub fn leader(&self) -> usize {
        let running = |index: &usize| self.members[*index].running.is_some();
        eventually("a leader of etcd", || {
            (0..self.members.len()).filter(running).find(|&index| {
                let status = self.try_ask(index, "/v3/maintenance/status", &json!({})).unwrap_or_default();
                status["leader"].is_string() && status["leader"] == status["header"]["member_id"]
            })
        })
    }

    /// Asks a member for something, past its proxy, in the clear.
    ///
    /// # Panics
    /// When it does not answer, or refuses.
    pub fn ask(&self, index: usize, path: &str, request: &Value) -> Value {
        let answer = self.try_ask(index, path, request).expect("an answer of etcd");
        assert!(answer.get("error").is_none(), "{path}: {answer}");
        answer
    }

    fn try_ask(&self, index: usize, path: &str, request: &Value) -> Option<Value> {
        let mut stream = UnixStream::connect(self.folder().join(format!("client:{index}"))).ok()?;
        stream.set_read_timeout(Some(LIMIT)).ok()?;
        let body = request.to_string();
        // HTTP/1.0, so that the answer comes in one piece and ends with the connection.
        write!(stream, "POST {path} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }

    /// Forgets what was before a revision.
    ///
    /// # Panics
    /// When etcd refuses.
    pub fn compact(&self, revision: u64) {
        self.ask(0, "/v3/kv/compaction", &json!({"revision": revision.to_string(), "physical": true}));
    }

    /// Adds `root` and a user who may read and write under a prefix, and takes nobody else from now on.
    ///
    /// # Panics
    /// When etcd refuses.
    pub fn enable_users(&self, user: &str, password: &str, prefix: (&[u8], &[u8])) {
        let (key, end) = (STANDARD.encode(prefix.0), STANDARD.encode(prefix.1));
        let permission = json!({"permType": "READWRITE", "key": key, "range_end": end});
        let steps = [
            ("user/add", json!({"name": "root", "password": "root"})),
            ("role/add", json!({"name": "root"})),
            ("user/grant", json!({"user": "root", "role": "root"})),
            ("user/add", json!({"name": user, "password": password})),
            ("role/add", json!({"name": user})),
            ("role/grant", json!({"name": user, "perm": permission})),
            ("user/grant", json!({"user": user, "role": user})),
            ("enable", json!({})),
        ];
        for (path, request) in steps {
            self.ask(0, &format!("/v3/auth/{path}"), &request);
        }
    }

    fn log(&self, index: usize) -> PathBuf {
        self.folder().join(format!("log{index}"))
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in &mut self.members {
            if let Some(mut child) = member.running.take() {
                signal(&child, Signal::KILL);
                let _reaped_already = child.wait();
            }
        }
    }
}

/// To its whole process group, which it leads.
fn signal(child: &Child, signal: Signal) {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("the number of a process");
    let _gone_already = kill_process_group(group, signal);
}
