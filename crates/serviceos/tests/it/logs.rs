//! What replicas write: in the log of `up`, and in `serviceos logs`.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::process::{Child, ChildStdout, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::{Mesh, Request, Running, eventually, has_program, kill};

/// Says what it is asked to: `/say/TEXT` writes a line, `/json` one of JSON, `/end` the beginning of one before it ends, and
/// `/flood/MEGABYTES` so many, 100 a second.
const SERVER: &str = r#"
import http.server, json, os, sys, threading, time, urllib.parse

def flood(megabytes):
    piece = (b'x' * 99 + b'\n') * 10000
    for number in range(megabytes):
        began = time.monotonic()
        os.write(1, piece)
        time.sleep(max(0, began + 0.01 - time.monotonic()))
    time.sleep(1)
    os.write(1, b'the flood is over\n')

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        word, _, rest = self.path[1:].partition('/')
        if word == 'say':
            os.write(2, urllib.parse.unquote(rest).replace('ESC', '\x1b').encode() + b'\n')
        elif word == 'json':
            print(json.dumps({'time': '2001-02-03T04:05:06Z', 'level': 'warning', 'msg': 'slow', 'user': {'id': 7},
                              'replica': 'vrf/0'}), flush=True)
        elif word == 'flood':
            threading.Thread(target=flood, args=[int(rest)]).start()
        elif word == 'end':
            os.write(1, b'its last word')
            os._exit(3)
        self.send_response(200)
        self.send_header('content-length', '0')
        self.end_headers()

    def log_message(self, *words):
        pass

http.server.ThreadingHTTPServer(('127.0.0.1', int(os.environ['SERVICEOS_PORT'])), Handler).serve_forever()
"#;

/// How `/proc/PID/task/TID/syscall` begins while a thread is in write(2).
const WRITE: &str = if cfg!(target_arch = "x86_64") { "1 " } else { "64 " };

/// A mesh with the server as `app`, beside vrf, with another head of its file.
fn up(head: &str) -> Option<Running> {
    if !has_program("python3") {
        return None;
    }
    let mesh =
        Mesh::new().head(head).yaml("    app: {command: [python3, server.py], healthCheck: {path: /}}\n");
    std::fs::write(mesh.folder().join("server.py"), SERVER).unwrap();
    Some(mesh.service("vrf", 1).up())
}

/// `serviceos logs -f`, line by line.
struct Following {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Following {
    fn begin(mesh: &Running, arguments: &[&str]) -> Self {
        let mut command = mesh.command();
        command.args(["logs", "-f"]).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// The next line that holds this; none once it has ended.
    fn until(&mut self, text: &str) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            if line.contains(text) {
                return Some(line.trim_end().to_owned());
            }
        }
    }

    fn code(&mut self) -> Option<i32> {
        eventually("the logs to end", || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ended_already = self.child.kill().is_err();
        let _reaped = self.child.wait().is_ok();
    }
}

#[test]
fn what_a_replica_writes_is_in_the_log_and_can_be_followed() {
    let Some(mut mesh) = up("") else { return };
    let mut all = Following::begin(&mesh, &[]);
    let mut of_one = Following::begin(&mesh, &["app/0", "--json"]);
    assert_eq!(mesh.get("/app/say/hello%20ESC2J").status, 200);
    let line = all.until("hello").unwrap();
    assert!(line.ends_with(r"  INFO app/0 1.0.0: hello \u{1b}2J"), "{line}");
    let line: Value = serde_json::from_str(&of_one.until("hello").unwrap()).unwrap();
    assert_eq!(
        (&line["service"], &line["replica"], &line["level"]),
        (&"app".into(), &"app/0".into(), &"INFO".into())
    );
    assert_eq!(mesh.get("/app/json").status, 200);
    let line = all.until("slow").unwrap();
    assert_eq!(
        line,
        r#"2001-02-03T04:05:06.000Z  WARN app/0 1.0.0: slow user={"id":7} line.replica="vrf/0""#
    );
    mesh.until_logged(0, "INFO app/0 1.0.0: hello");

    let kept = mesh.run(&["logs", "app", "--json", "--since", "1h"]);
    let kept: Vec<Value> = kept.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let slow = kept.iter().find(|line| line["message"] == "slow").unwrap();
    assert_eq!(slow["fields"], json!({"user": {"id": 7}, "line.replica": "vrf/0"}));
    assert!(kept.iter().all(|line| line["service"] == "app"), "{kept:?}");
    assert!(mesh.run(&["logs", "vrf"]).out.lines().all(|line| line.contains(" vrf/0 1.0.0: ")));

    kill(of_one.child.id(), Signal::INT);
    assert_eq!(of_one.code(), Some(0));
    let unknown = mesh.run(&["logs", "app/7"]);
    assert_eq!(unknown.code, 1);
    assert!(unknown.err.contains("there is no replica app/7"), "{}", unknown.err);
    mesh.signal(Signal::TERM);
    while all.until("").is_some() {}
    assert_eq!((all.code(), mesh.wait().code), (Some(0), 0));
    let nobody = mesh.run(&["logs", "-f"]);
    assert_eq!(nobody.code, 3);
    assert!(nobody.err.contains("no serviceos runs on the data directory"), "{}", nobody.err);
}

#[test]
fn lines_of_json_are_merged_into_a_log_of_json() {
    let Some(mesh) = up("telemetry: {logs: json}\n") else { return };
    assert_eq!(mesh.get("/app/json").status, 200);
    let log = mesh.until_logged(0, "slow");
    let line = log.lines().find(|line| line.contains("slow")).unwrap();
    let expected = json!({
        "timestamp": "2001-02-03T04:05:06Z", "level": "WARN", "message": "slow", "service": "app",
        "replica": "app/0", "version": "1.0.0", "user": {"id": 7}, "line.replica": "vrf/0", "target": "replica",
    });
    assert_eq!(serde_json::from_str::<Value>(line).unwrap(), expected);
    for line in log.lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "{line}");
    }
}

#[test]
fn a_replica_goes_on_in_its_file_and_its_last_words_are_its_own() {
    let Some(mesh) = up("") else { return };
    let pids = mesh.pids("app");
    assert_eq!(mesh.get("/app/say/of%20the%20first%20run").status, 200);
    // It ends before it answers.
    mesh.get("/app/end");
    let reason = eventually("the reason of the restart", || {
        mesh.replicas("app")[0]["reason"]
            .as_str()
            .filter(|reason| reason.contains("last words"))
            .map(str::to_owned)
    });
    assert!(reason.contains("its last word"), "{reason}");
    eventually("another run", || Some(mesh.pids("app")).filter(|now| !now.is_empty() && *now != pids));
    mesh.until_selectable();
    assert_eq!(mesh.get("/app/say/of%20the%20second").status, 200);
    mesh.until_logged(0, "of the second");
    let kept = mesh.run(&["logs", "app/0"]).out;
    // What its launcher says comes behind the line that it has not ended.
    for words in ["1.0.0: of the first run\n", "1.0.0: its last word", "1.0.0: of the second\n"] {
        assert!(kept.contains(words), "{words:?} in {kept}");
    }
}

#[test]
fn a_replica_that_writes_without_end_fills_no_disk_and_disturbs_nobody() {
    const MEGABYTES: u64 = 300;
    let Some(mesh) = up("") else { return };
    let file = mesh.folder().join(".serviceos/run/app-0.log");
    let mut following = Following::begin(&mesh, &["vrf"]);
    assert_eq!(mesh.get(&format!("/app/flood/{MEGABYTES}")).status, 200);
    let (mut most, mut asked) = (0, 0);
    eventually("the flood to be over", || {
        most = most.max(std::fs::metadata(&file).unwrap().blocks() * 512);
        let random = mesh.post("/v1/random", &json!({"min": 1, "max": 6}));
        assert_eq!(random.status, 200, "{}", random.text());
        asked += 1;
        let kept = mesh.run(&["logs", "app", "--json"]).out;
        kept.contains("the flood is over").then_some(())
    });
    println!("the file took at most {} MiB of the disk, while {asked} other calls were served", most >> 20);
    assert!(most <= 32 << 20, "{most}");
    let log = mesh.until_logged(0, "not all that the replica writes is passed on");
    assert!(log.len() < 64 << 20, "{}", log.len());
    let metrics = Request::new("GET", "/metrics").send(mesh.admin).text();
    let dropped = metrics.lines().find_map(|line| {
        line.strip_prefix("serviceos_replica_output_dropped_bytes_total{service=\"app\"} ")?
            .parse::<u64>()
            .ok()
    });
    assert!(dropped.is_some_and(|dropped| dropped > MEGABYTES * 1_000_000 / 2), "{dropped:?}");
    // What it wrote first has put the first such line out.
    eventually("the rest to be said", || {
        mesh.run(&["logs", "app"]).out.contains("droppedBytes=").then_some(())
    });
    assert_eq!(mesh.replicas("app")[0]["restarts"], 0);
    kill(following.child.id(), Signal::INT);
    assert_eq!(following.code(), Some(0));
}

#[test]
fn the_file_of_a_replica_outlives_its_processes_and_goes_with_the_replica() {
    let mut mesh = Mesh::new().with_ports_of_its_own().service("vrf", 3).up();
    let run = mesh.folder().join(".serviceos/run");
    let kept = || {
        let names = std::fs::read_dir(&run).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.filter_map(|name| name.into_string().ok()).collect();
        names.retain(|name| name.starts_with("vrf-") && name.ends_with(".log"));
        names.sort();
        names
    };
    let all = ["vrf-0.log", "vrf-1.log", "vrf-2.log"];
    assert_eq!(kept(), all);
    let pid = mesh.pids("vrf")[2];
    kill(pid, Signal::KILL);
    eventually("another process", || mesh.pids("vrf").get(2).filter(|now| **now != pid).copied());
    assert_eq!(kept(), all, "it is the same replica");
    mesh.until_selectable();
    assert_eq!(mesh.run(&["scale", "vrf=2"]).code, 0);
    eventually("two replicas", || (mesh.replicas("vrf").len() == 2).then_some(()));
    eventually("two files", || (kept() == all[..2]).then_some(()));
    // So it is with one that an earlier `up` has left and that nobody wants any more.
    mesh.signal(Signal::KILL);
    mesh.wait();
    assert_eq!(kept(), all[..2]);
    let mesh = mesh.up_again_with("    vrf: {replicas: 1}\n");
    eventually("one file", || (kept() == all[..1]).then_some(()));
    mesh.signal(Signal::TERM);
    let _its_folder = mesh.ended();
    assert_eq!(kept(), all[..1], "what was said last can be read after the end");
}

#[test]
fn a_reader_that_has_stopped_reading_keeps_nothing_from_ending() {
    let mesh = Mesh::new().service("vrf", 1).up();
    let (reader, writer) = std::io::pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&writer, 4096).unwrap();
    rustix::io::write(&writer, &[b'x'; 4096]).unwrap();
    let mut command = mesh.command();
    let mut following = command.args(["events", "-f"]).stdin(Stdio::null()).stdout(writer).spawn().unwrap();
    drop(command);
    let waits = || {
        std::fs::read_dir(format!("/proc/{}/task", following.id())).unwrap().any(|thread| {
            let wait = std::fs::read_to_string(thread.unwrap().path().join("syscall")).unwrap_or_default();
            wait.starts_with(WRITE)
        })
    };
    eventually("it to wait for its reader", || waits().then_some(()));
    kill(following.id(), Signal::INT);
    let status = eventually("it to end", || following.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    drop(reader);
}
