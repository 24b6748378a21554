//! Under a service manager: what it is told, and sockets that it holds.

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use testkit::{
    Connection, Mesh, PYTHON, Request, Running, Script, eventually, has_program, kill, wait_until_gone,
};

/// Where the mesh tells what it does, as a service manager listens: at once, since the kernel keeps few messages.
struct Manager(Receiver<String>);

impl Manager {
    fn of(mesh: Mesh) -> (Self, Mesh) {
        let path = mesh.folder().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        // Nobody writes for so long only when the test is over.
        socket.set_read_timeout(Some(testkit::LIMIT * 2)).unwrap();
        let (heard, messages) = channel();
        std::thread::spawn(move || {
            let mut message = [0; 4096];
            while let Ok(length) = socket.recv(&mut message) {
                if heard.send(String::from_utf8(message[..length].to_vec()).unwrap()).is_err() {
                    return;
                }
            }
        });
        (Self(messages), mesh.env("NOTIFY_SOCKET", path.to_str().unwrap()))
    }

    fn next(&self) -> String {
        self.0.recv_timeout(testkit::LIMIT).expect("a message to the service manager")
    }

    /// The next message that is no sign of life, and no status.
    fn next_state(&self) -> String {
        let is_state = |message: &String| message != "WATCHDOG=1" && !message.starts_with("STATUS=");
        std::iter::repeat_with(|| self.next()).find(is_state).unwrap()
    }

    /// Everything up to a message, with it.
    fn until(&self, awaited: &str) -> Vec<String> {
        let mut told = vec![self.next()];
        while told.last().is_some_and(|last| last != awaited) {
            assert!(told.len() < 10_000, "{awaited} does not come");
            told.push(self.next());
        }
        told
    }

    /// Everything up to a message that is looked for, with it.
    fn until_one(&self, is_it: impl Fn(&str) -> bool) -> Vec<String> {
        let mut told = vec![self.next()];
        while told.last().is_some_and(|last| !is_it(last)) {
            assert!(told.len() < 10_000, "it does not come");
            told.push(self.next());
        }
        told
    }

    /// One look at the file: RELOADING with its time, then READY.
    fn reload(&self) {
        let began = self.next_state();
        let time = began.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect(&began);
        assert!(time.parse::<u64>().unwrap() > 0);
        assert_eq!(self.next_state(), "READY=1");
    }
}

fn write(mesh: &Running, text: &str) {
    std::fs::write(mesh.folder().join("new.yaml"), text).unwrap();
    std::fs::rename(mesh.folder().join("new.yaml"), mesh.folder().join("serviceos.yaml")).unwrap();
}

fn environment(pid: u32) -> String {
    String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/environ")).unwrap()).into_owned()
}

#[test]
fn a_service_manager_is_told_when_everything_serves_what_is_reloaded_and_when_it_stops() {
    let (manager, mesh) = Manager::of(Mesh::new().service("vrf", 2).env("WATCHDOG_USEC", "400000"));
    let mut mesh = mesh.up();
    let told = manager.until("READY=1");
    assert!(told.contains(&"STATUS=starting: 0 of 2 replicas Ready".to_owned()), "{told:?}");
    assert_eq!(told.iter().filter(|told| told.contains("READY=1")).count(), 1, "{told:?}");
    manager.until("STATUS=2 replicas Ready");
    assert!(manager.until("WATCHDOG=1").len() < 10 && manager.until("WATCHDOG=1").len() < 10);
    for pid in mesh.pids("vrf") {
        let variables = environment(pid);
        assert!(!variables.contains("NOTIFY_SOCKET") && !variables.contains("WATCHDOG"), "{variables}");
    }

    write(&mesh, "services:\n  vrf: {replicas: 2, routes: []}\n");
    manager.reload();
    assert_eq!(mesh.get("/v1/random/keys").status, 404, "READY is said when it is in force");
    mesh.signal(Signal::HUP);
    manager.reload();
    let seen = mesh.log().len();
    write(&mesh, "services:\n  vrf: {replicas: 2, rotues: []}\n");
    mesh.signal(Signal::HUP);
    manager.until("STATUS=2 replicas Ready; the configuration file is refused, and the log says why");
    mesh.until_logged(seen, "unknown key `rotues`");
    write(&mesh, "services:\n  vrf: {replicas: 2}\n");
    mesh.signal(Signal::HUP);
    manager.until("STATUS=2 replicas Ready");
    eventually("the file to be in force", || (mesh.get("/v1/random/keys").status == 200).then_some(()));

    mesh.signal(Signal::TERM);
    let told = manager.until("STOPPING=1");
    assert!(told.iter().all(|told| !told.contains("MAINPID")), "{told:?}");
    assert_eq!(manager.next_state(), "EXTEND_TIMEOUT_USEC=20000000");
    assert_eq!(mesh.wait().code, 0);
}

#[test]
fn a_service_manager_is_told_which_process_is_the_main_one_after_a_takeover_and_not_that_one_stops() {
    let (manager, mesh) = Manager::of(Mesh::new().service("vrf", 1).env("WATCHDOG_USEC", "400000"));
    let mut mesh = mesh.up();
    manager.until("READY=1");
    let former = mesh.take_over();
    let before = former.pid();
    let told = manager.until(&format!("MAINPID={}", mesh.pid()));
    assert!(!told.contains(&"STOPPING=1".to_owned()), "{told:?}");
    assert_eq!(former.wait(&mesh).code, 0);
    // As `systemctl kill -s USR2` does it: whoever runs starts the next one by itself.
    mesh.signal(Signal::USR2);
    let told = manager.until_one(|told| told.starts_with("MAINPID="));
    let next: u32 = told.last().unwrap()["MAINPID=".len()..].parse().unwrap();
    assert!(next != before && next != mesh.pid());
    assert!(!told.contains(&"STOPPING=1".to_owned()), "{told:?}");
    assert_eq!(mesh.wait().code, 0);
    assert_eq!(mesh.status()["pid"], next);
    assert_eq!(mesh.get("/v1/random/keys").status, 200);
    assert!(manager.until("WATCHDOG=1").len() < 10, "the next one shows signs of life");
    kill(next, Signal::TERM);
    manager.until("STOPPING=1");
    wait_until_gone(next);
}

#[test]
fn readiness_is_said_when_the_screen_gives_up_waiting_for_a_replica() {
    let nobody = "127.0.0.1:1".parse().unwrap();
    let mesh = Mesh::new().service("vrf", 1).endpoint("site", nobody, "        - {match: {path: /site}}");
    let (manager, mesh) = Manager::of(mesh);
    let mut mesh = mesh
        .up_when("the replica to serve", |status| status["services"][0]["replicas"][0]["selectable"] == true);
    let told = manager.until("READY=1");
    assert!(told.contains(&"STATUS=starting: 1 of 2 replicas Ready".to_owned()), "{told:?}");
    eventually("the screen to say the same", || {
        let out = std::fs::read_to_string(mesh.folder().join("up.out")).unwrap();
        out.contains("ServiceOS serves with 1 of 2 replicas").then_some(())
    });
    mesh.signal(Signal::TERM);
    manager.until("STOPPING=1");
    assert_eq!(mesh.wait().code, 0);
}

/// A mesh whose sockets are held while `up` comes and goes.
struct Held {
    mesh: Mesh,
    holder: Script,
    gateway: SocketAddr,
    others: Vec<SocketAddr>,
}

impl Held {
    fn new(mesh: Mesh, names: &str, configuration: &str) -> Self {
        mesh.write(configuration);
        let binary = mesh.command().get_program().to_str().unwrap().to_owned();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/python/socket_holder.py");
        let ports = ["--gateway", "--admin", "--mesh"].map(|name| format!("{name}=127.0.0.1:0"));
        let mut arguments = vec![mesh.folder().to_str().unwrap(), names, &binary, "up"];
        arguments.extend(ports.iter().map(String::as_str));
        let mut holder = Script::start(script, &arguments);
        let ports: Vec<u16> = holder.line().split(' ').map(|port| port.parse().unwrap()).collect();
        let mut addresses = ports.into_iter().map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        Self { gateway: addresses.next().unwrap(), others: addresses.collect(), mesh, holder }
    }

    fn order(&mut self, order: &str) -> i64 {
        self.holder.input().write_all(format!("{order}\n").as_bytes()).unwrap();
        self.holder.line().parse().unwrap()
    }

    /// Starts `up`; its process.
    fn start(&mut self) -> u32 {
        self.order("start").try_into().unwrap()
    }

    /// Ends it; its exit code, or the signal as a negative number.
    fn end(&mut self, pid: u32, signal: Signal) -> i64 {
        kill(pid, signal);
        self.order("wait")
    }

    fn status(&self) -> Value {
        eventually("a status", || {
            let finished = self.mesh.run(&["status", "--json"]);
            (finished.code == 0).then(|| serde_json::from_str(&finished.out).unwrap())
        })
    }

    /// That what `up` has started has neither these sockets, nor what was left open when `up` began, nor the variables.
    fn check_started(&self, up: u32, sockets: &[SocketAddr]) {
        let replicas = self.status()["services"][0]["replicas"].as_array().unwrap().len();
        let mut none: Vec<_> = sockets.iter().copied().map(listening_at).collect();
        none.push(self.mesh.folder().join("left-open").canonicalize().unwrap());
        let started = testkit::processes_of(self.mesh.folder());
        let started: Vec<_> = started.into_iter().filter(|process| *process != up).collect();
        for process in &started {
            let (open, variables) = (opened_by(*process), environment(*process));
            assert!(none.iter().all(|descriptor| !open.contains(descriptor)), "{process}: {open:?}");
            assert!(!variables.contains("LISTEN_"), "{process}: {variables}");
        }
        assert!(started.len() > replicas, "the replicas and the quoter, not {}", started.len());
    }

    fn key(&self) -> String {
        eventually("the development key", || {
            let out = std::fs::read_to_string(self.mesh.folder().join("up.out")).unwrap_or_default();
            out.split_whitespace().find(|word| word.starts_with("sk_test_")).map(str::to_owned)
        })
    }
}

/// What the descriptors of a process are of: a path, or `socket:[1234]`.
fn opened_by(pid: u32) -> Vec<PathBuf> {
    let descriptors = std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd")).unwrap();
    descriptors.flatten().filter_map(|descriptor| std::fs::read_link(descriptor.path()).ok()).collect()
}

/// The socket that listens at a port of the loopback.
fn listening_at(address: SocketAddr) -> PathBuf {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let local = format!("0100007F:{:04X}", address.port());
    let row = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
    let mut listening = row.filter(|row| row[1] == local && row[3] == "0A");
    PathBuf::from(format!("socket:[{}]", listening.next().expect("a listening socket")[9]))
}

const THREE: &str = "gateway: {workers: 2}\nservices:\n  vrf: {replicas: 3}\n";

#[test]
fn who_connects_while_up_is_started_anew_waits_and_nobody_is_lost() {
    if !has_program(PYTHON) {
        return;
    }
    let mut held = Held::new(Mesh::new(), "gateway", THREE);
    let (gateway, mut pid) = (held.gateway, held.start());
    let key = held.key();
    let ask = {
        let key = key.clone();
        move || Request::new("GET", "/v1/random/keys").key(&key).send(gateway).status
    };
    assert_eq!(ask(), 200);
    assert_eq!(held.status()["gateway"], gateway.to_string());
    assert!(opened_by(pid).contains(&listening_at(gateway)));

    let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let client = {
        let (ask, over, answered) = (ask.clone(), Arc::clone(&over), Arc::clone(&answered));
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                assert_eq!(ask(), 200);
                answered.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let some_more = |what: &str| {
        let before = answered.load(Ordering::Relaxed);
        eventually(what, || {
            (answered.load(Ordering::Relaxed) > before + 20 || client.is_finished()).then_some(())
        });
    };
    for _ in 0..3 {
        some_more("answers before");
        assert_eq!(held.end(pid, Signal::TERM), 0);
        let mut waiting: Vec<_> = (0..20).map(|_| Connection::open(gateway)).collect();
        for connection in &mut waiting {
            let head = format!(
                "GET /v1/random/keys HTTP/1.1\r\nhost: waiting\r\nx-api-key: {key}\r\nconnection: close\r\n\r\n"
            );
            connection.write(head).unwrap();
        }
        pid = held.start();
        for mut connection in waiting {
            assert_eq!(connection.answer().unwrap().status, 200);
        }
        some_more("answers after");
    }
    over.store(true, Ordering::Relaxed);
    client.join().unwrap();

    // Nor does a killed one lose them who connect then.
    assert_eq!(held.end(pid, Signal::KILL), -9);
    let client = std::thread::spawn(ask);
    pid = held.start();
    assert_eq!(client.join().unwrap(), 200);
    assert_eq!(held.end(pid, Signal::TERM), 0);
}

#[test]
fn sockets_are_taken_by_their_names_and_nothing_that_is_started_has_them_or_the_variables() {
    if !has_program(PYTHON) {
        return;
    }
    let mut held = Held::new(Mesh::new(), "gateway:mesh:admin", THREE);
    let pid = held.start();
    held.key();
    let status = held.status();
    let [mesh, admin] = held.others[..] else { panic!("two more") };
    assert_eq!(
        (&status["gateway"], &status["admin"]),
        (&held.gateway.to_string().into(), &admin.to_string().into())
    );
    assert_eq!(Request::new("GET", "/health").send(admin).status, 200);
    let known = std::fs::read_to_string(held.mesh.folder().join(".serviceos/run/mesh.address")).unwrap();
    assert_eq!(known.trim(), mesh.to_string());
    held.check_started(pid, &[held.gateway, mesh, admin]);
    assert_eq!(held.end(pid, Signal::TERM), 0);
    wait_until_gone(pid);
}

#[test]
fn sockets_that_are_for_another_process_are_not_taken_and_nothing_that_is_started_has_them() {
    if !has_program(PYTHON) {
        return;
    }
    let mut held = Held::new(Mesh::new(), "gateway", THREE);
    let pid = held.order("start 1").try_into().unwrap();
    held.key();
    assert_ne!(held.status()["gateway"], held.gateway.to_string());
    held.check_started(pid, &[held.gateway]);
    assert_eq!(held.end(pid, Signal::TERM), 0);
    wait_until_gone(pid);
}

#[test]
fn a_socket_that_is_for_nothing_is_named_and_nothing_is_started() {
    if !has_program(PYTHON) {
        return;
    }
    let mut held = Held::new(Mesh::new(), "web", THREE);
    held.start();
    assert_eq!(held.order("wait"), 2);
    let said = std::fs::read_to_string(held.mesh.folder().join("up.err")).unwrap();
    let expected = format!(
        "the socket {} (\"web\") was handed over and is for nothing: gateway.listen is",
        held.gateway
    );
    assert!(said.contains(&expected) && said.contains("FileDescriptorName=gateway, admin or mesh"), "{said}");
}

/// The values of a key in a unit file, with lines that go on put together.
fn values(file: &str, key: &str) -> Vec<String> {
    let text = unit(file).replace("\\\n", " ");
    let value = |line: &str| Some(line.strip_prefix(key)?.strip_prefix('=')?.trim().to_owned());
    text.lines().filter_map(value).collect()
}

fn unit(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(name);
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn the_units_fit_the_command_line_and_what_is_built_in() {
    let mesh = Mesh::new();
    let starts = values("serviceos.service", "ExecStart");
    let [start] = &starts[..] else { panic!("{starts:?}") };
    let mut words = start.split_whitespace();
    assert_eq!(words.next(), Some("/usr/bin/serviceos"));
    let arguments: Vec<_> = words.collect();
    assert_eq!(arguments[0], "up");
    let help = mesh.run(&["up", "--help"]).out;
    let options: Vec<_> = arguments.iter().filter(|argument| argument.starts_with("--")).collect();
    assert_eq!(options.len(), 2, "{start}");
    for option in options {
        let name = option.split('=').next().unwrap();
        assert!(help.contains(&format!("{name} <")), "{name} is no option of `up`:\n{help}");
    }
    let one = |key: &str| values("serviceos.service", key).join("|");
    assert_eq!(
        (one("Type"), one("NotifyAccess"), one("KillMode")),
        ("notify".into(), "all".into(), "process".into())
    );
    assert_eq!(
        (one("Delegate"), one("Restart"), one("LimitCORE")),
        ("yes".into(), "on-failure".into(), "0".into())
    );
    // Each was tried: with any of them an `up` that dies takes its replicas along, or nobody comes after it.
    for key in ["ProtectProc", "ProcSubset", "PrivateTmp", "RestartPreventExitStatus"] {
        assert_eq!(one(key), "", "{key}");
    }
    assert_eq!(one("StartLimitIntervalSec"), "0");
    let folder = format!("/var/lib/{}", one("StateDirectory"));
    assert!(start.contains(&format!("--data-dir {folder}")), "{start}");
    // The gateway, the replicas and their grace, by what the configuration has where it says nothing.
    let seconds: u64 = one("TimeoutStopSec").trim_end_matches("min").parse::<u64>().unwrap() * 60;
    assert!(Duration::from_secs(seconds) > Duration::from_secs(30 + 30 + 10 + 20));
    // What stands there for older ones is taken back for newer ones.
    let newer = |key: &str| values("systemd-254.conf", key);
    assert_eq!((newer("ExecReload"), newer("ExecStopPost")), (vec![String::new()], vec![String::new()]));
    assert_eq!(newer("Type"), ["notify-reload"]);
    assert_eq!(values("serviceos.socket", "FileDescriptorName"), ["gateway"]);
    assert_eq!(values("serviceos.socket", "Accept"), [""; 0], "each connection would be a process");
}

#[test]
fn systemd_takes_the_units_as_they_are() {
    if !has_program("systemd-analyze") {
        return;
    }
    let mesh = Mesh::new();
    let binary = mesh.command().get_program().to_str().unwrap().to_owned();
    let mut paths = Vec::new();
    for name in ["serviceos.service", "serviceos.socket"] {
        // It looks for the program.
        let text = unit(name).replace("/usr/bin/serviceos", &binary);
        let path = mesh.folder().join(name);
        std::fs::write(&path, text).unwrap();
        paths.push(path);
    }
    let verified = std::process::Command::new("systemd-analyze").arg("verify").args(&paths).output().unwrap();
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && !said.contains("serviceos."), "{said}");
}
