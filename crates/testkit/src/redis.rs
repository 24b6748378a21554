//! Real Redis: one server in a temporary folder, which keeps nothing on its disk.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{Authority, LIMIT, eventually, has_program};

/// A server. It is killed when this is dropped, however the test ends.
pub struct Redis {
    address: SocketAddr,
    secure: Option<SocketAddr>,
    arguments: Vec<String>,
    running: Option<Child>,
    folder: TempDir,
}

impl Redis {
    /// A server, or `None` where there is no Redis, which is said and in CI is a failure.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// The same with more arguments.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_with(arguments: &[&str]) -> Option<Self> {
        let mut redis = Self::prepare()?;
        redis.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
        redis.restart();
        Some(redis)
    }

    /// One that speaks TLS as well, and there takes nobody without a certificate of the authority. Its own is written to the
    /// folder.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_secured(authority: &Authority) -> Option<Self> {
        let mut redis = Self::prepare()?;
        let secure = free(own_address());
        authority.certificate(&[&secure.ip().to_string()]).write(redis.folder(), "server");
        authority.write(redis.folder(), "ca.pem");
        let words =
            "--tls-cert-file server.pem --tls-key-file server.key --tls-ca-cert-file ca.pem --tls-port";
        redis.arguments.extend(words.split(' ').map(str::to_owned));
        redis.arguments.push(secure.port().to_string());
        redis.secure = Some(secure);
        redis.restart();
        Some(redis)
    }

    fn prepare() -> Option<Self> {
        if !has_program("redis-server") {
            return None;
        }
        let folder = tempfile::Builder::new().prefix("redis-").tempdir().expect("a temporary folder");
        let address = free(own_address());
        let words = format!(
            "--bind {} --port {} --save  --appendonly no --daemonize no --protected-mode no",
            address.ip(),
            address.port()
        );
        let arguments = words.split(' ').map(str::to_owned).collect();
        Some(Self { address, secure: None, arguments, running: None, folder })
    }

    /// Where it listens in the clear.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same as the configuration names it.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Where it listens with TLS.
    ///
    /// # Panics
    /// When it does not.
    pub fn secure_address(&self) -> SocketAddr {
        self.secure.expect("a server that speaks TLS")
    }

    /// The folder with everything of its.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Kills it; its port refuses connections from then on, and what it held is lost.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        let mut child = self.running.take().expect("a server that runs");
        signal(&child, Signal::KILL);
        child.wait().expect("reaping the server");
    }

    /// Starts it, at the same address, and waits until it serves.
    ///
    /// # Panics
    /// When it does not.
    pub fn restart(&mut self) {
        let log = self.folder().join("log");
        let output = File::create(&log).expect("a file for the log");
        let mut command = Command::new("redis-server");
        command.args(&self.arguments).current_dir(&self.folder).process_group(0);
        command.stdin(Stdio::null()).stderr(output.try_clone().expect("a file for the log")).stdout(output);
        let mut child = command.spawn().expect("starting redis-server");
        eventually("Redis to serve", || {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            if let Some(status) = child.try_wait().expect("asking for the server") {
                panic!("Redis has ended ({status}): {said}");
            }
            said.contains("Ready to accept connections").then_some(())
        });
        self.running = Some(child);
    }

    /// Stops it where it stands, with SIGSTOP: connections are made and nothing is answered.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pause(&self) {
        signal(self.running.as_ref().expect("a server that runs"), Signal::STOP);
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// When it does not run.
    pub fn resume(&self) {
        signal(self.running.as_ref().expect("a server that runs"), Signal::CONT);
    }

    /// What it answers to a command, each part of a list in a line of its own.
    ///
    /// # Panics
    /// When it does not answer, or refuses.
    pub fn ask(&self, words: &[&str]) -> String {
        self.ask_all(&[words])
    }

    /// The same, with the password of the default user.
    ///
    /// # Panics
    /// When it does not answer, or refuses.
    pub fn ask_as(&self, password: &str, words: &[&str]) -> String {
        self.ask_all(&[&["AUTH", password], words])
    }

    fn ask_all(&self, commands: &[&[&str]]) -> String {
        let stream = TcpStream::connect(self.address).expect("connecting to Redis");
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        let (mut answers, mut lines) = (BufReader::new(&stream), Vec::new());
        for words in commands {
            let mut request = format!("*{}\r\n", words.len());
            for word in *words {
                request += &format!("${}\r\n{word}\r\n", word.len());
            }
            (&stream).write_all(request.as_bytes()).expect("asking Redis");
            lines.clear();
            read(&mut answers, &mut lines);
        }
        lines.join("\n")
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(mut child) = self.running.take() {
            signal(&child, Signal::KILL);
            let _reaped_already = child.wait();
        }
    }
}

fn read(stream: &mut impl BufRead, lines: &mut Vec<String>) {
    let mut line = String::new();
    stream.read_line(&mut line).expect("an answer of Redis");
    let line = line.trim_end().to_owned();
    let (kind, rest) = line.split_at_checked(1).expect("an answer of Redis");
    let length = || rest.parse::<i64>().expect("a length");
    match kind {
        "+" | ":" => lines.push(rest.to_owned()),
        "$" => match usize::try_from(length()) {
            Err(_) => lines.push("(nil)".to_owned()),
            Ok(length) => {
                let mut bytes = vec![0; length + 2];
                stream.read_exact(&mut bytes).expect("the rest of an answer");
                lines.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
            }
        },
        "*" => (0..length()).for_each(|_| read(stream, lines)),
        _ => panic!("Redis refuses: {line}"),
    }
}

/// An address of the loopback that nobody else connects from, so that a port that was free stays so while nobody has it.
fn own_address() -> Ipv4Addr {
    let [_, first, second, third] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, first | 64, second, third.max(2))
}

fn free(address: Ipv4Addr) -> SocketAddr {
    let listener = TcpListener::bind((address, 0)).expect("a free port");
    listener.local_addr().expect("its address")
}

fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("the number of a process");
    let _gone_already = kill_process(pid, signal);
}
