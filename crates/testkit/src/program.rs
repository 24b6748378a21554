//! Programs of the machine that some tests run.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The interpreter that Debian's packages of Python are for, whatever else is in `PATH`.
pub const PYTHON: &str = "/usr/bin/python3";
/// What Debian's package `python3-grpcio` brings.
pub const GRPC: &str = "/usr/lib/python3/dist-packages/grpc/__init__.py";
/// What Debian's package `python3-jwt` brings.
pub const JWT: &str = "/usr/lib/python3/dist-packages/jwt/__init__.py";
/// What Debian's package `python3-websockets` brings.
pub const WEBSOCKETS: &str = "/usr/lib/python3/dist-packages/websockets/__init__.py";

/// Whether a program, or a file of an absolute path, is there. A test that needs it returns when it is not, and says so; in CI, where everything is
/// installed, its absence is a failure.
///
/// # Panics
/// In CI, when it is missing.
pub fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
    assert!(
        found || std::env::var_os("CI").is_none(),
        "{name} is missing; `cargo xtask test --install` installs it"
    );
    if !found {
        eprintln!("skipped: {name} is missing; `cargo xtask test --install` installs it");
    }
    found
}

/// A script that runs; it is ended when this is dropped, and a server ends with its standard input anyway.
pub struct Script {
    child: Child,
    output: BufReader<ChildStdout>,
    port: Option<u16>,
}

impl Script {
    /// Starts a Python script. One without arguments is a server: its first line is the port that it listens on.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(path: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(PYTHON);
        command.arg(path).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("starting Python");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let mut script = Self { child, output, port: None };
        if arguments.is_empty() {
            script.port = Some(script.line().parse().expect("a port"));
        }
        script
    }

    /// Where it listens.
    ///
    /// # Panics
    /// When it is no server.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port.expect("a server")))
    }

    /// The next line that it says.
    ///
    /// # Panics
    /// When it has ended.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.output.read_line(&mut line).expect("reading what a script says");
        assert!(read > 0, "the script has ended");
        line.trim_end().to_owned()
    }

    /// Where it is told things.
    ///
    /// # Panics
    /// Never, as it is open for as long as this lives.
    pub fn input(&mut self) -> &mut ChildStdin {
        self.child.stdin.as_mut().expect("its input")
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ended_already = self.child.kill().is_err();
        let _reaped_already = self.child.wait().is_err();
    }
}
