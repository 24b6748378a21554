//! Secrets from the command line: what is set, rotated and removed, what is refused, and to whom a value is given.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::{Finished, Mesh, Running, eventually, has_program};

fn json_of(finished: &Finished) -> Value {
    assert_eq!(finished.code, 0, "{}", finished.err);
    serde_json::from_str(&finished.out).unwrap()
}

/// The value of a secret, from the store of a mesh that has ended.
fn value(mesh: &Running, name: &str) -> Vec<u8> {
    let data = mesh.folder().join(".serviceos");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let store = store::Store::open(&data.join("store.redb")).unwrap();
        let domain =
            secrets::Domain { trust_domain: "serviceos.dev.invalid".into(), mode: types::Mode::Development };
        let vault = secrets::Vault::open(store, &data.join("master.key"), domain).await.unwrap();
        vault.reveal(name).unwrap().unwrap().last().unwrap().value.to_vec()
    })
}

#[test]
fn a_secret_is_set_listed_rotated_and_removed() {
    let mut mesh = Mesh::new().service("vrf", 1).up();
    let set = mesh.run_with(&["secrets", "set", "db-password"], b"hunter2\n");
    assert_eq!((set.code, set.err.as_str()), (0, ""));
    assert!(
        set.out
            .starts_with("db-password has version 1 now; replicas that are given it have it within seconds"),
        "{}",
        set.out
    );
    let file = mesh.folder().join("value");
    std::fs::write(&file, b"\0\xff\n\n").unwrap();
    assert_eq!(mesh.run(&["secrets", "set", "db-password", "--file", "value"]).code, 0);
    let listed = json_of(&mesh.run(&["secrets", "list", "--json"]));
    let shown: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|secret| (&secret["name"], &secret["origin"], &secret["generate"], &secret["services"]))
        .collect();
    let (generated, ed25519) = (json!("generated"), json!("ed25519"));
    assert_eq!(
        shown,
        [
            (&json!("db-password"), &json!("set"), &Value::Null, &json!([])),
            (&json!("vrf-key"), &generated, &ed25519, &json!(["vrf"])),
            (&json!("vrf-signing"), &generated, &ed25519, &json!(["vrf"])),
        ]
    );
    let versions = json_of(&mesh.run(&["secrets", "versions", "db-password", "--json"]));
    assert_eq!(versions["versions"][1]["version"], 2);
    assert!(versions["versions"][1]["madeAt"].is_string(), "{versions}");
    let rotated = mesh.run(&["secrets", "rotate", "vrf-signing"]);
    assert!(
        rotated.out.starts_with("vrf-signing has epoch 2 now; replicas that are given it"),
        "{}",
        rotated.out
    );
    assert_eq!(
        json_of(&mesh.run(&["secrets", "versions", "vrf-signing", "--json"]))["versions"][1]["epoch"],
        2
    );
    let table = mesh.run(&["secrets", "list"]).out;
    assert!(table.contains("NAME") && table.contains("db-password"), "{table}");
    assert_eq!(mesh.run_with(&["secrets", "set", "gone"], b"soon").code, 0);
    assert_eq!(mesh.run(&["secrets", "rm", "gone"]).out, "gone is removed, with all of its versions\n");
    mesh.signal(Signal::TERM);
    assert_eq!(mesh.wait().code, 0);
    assert_eq!(value(&mesh, "db-password"), b"\0\xff\n\n", "every byte of a file counts");
    let trail = std::fs::read_to_string(mesh.folder().join(".serviceos/audit.jsonl")).unwrap();
    for kind in ["secret-set", "secret-rotate", "secret-remove"] {
        assert!(trail.contains(&format!("\"kind\":\"{kind}\"")), "{kind} in {trail}");
    }
    assert!(trail.contains("\"actor\":\"admin socket\"") && !trail.contains("hunter2"), "{trail}");
}

#[test]
fn what_cannot_be_done_is_refused_with_a_code_before_a_value_is_read() {
    let mesh = Mesh::new().service("vrf", 1).up();
    assert_eq!(mesh.run_with(&["secrets", "set", "given"], b"value").code, 0);
    let refused = |arguments: &[&str], input: &[u8]| {
        let finished = mesh.run_with(arguments, input);
        assert_eq!((finished.code, finished.out.as_str()), (1, ""), "{arguments:?}");
        finished.err
    };
    for (arguments, code) in [
        (&["secrets", "set", "Hunter2"][..], "SECRET_NAME"),
        (&["secrets", "set", "access-pepper"], "SECRET_RESERVED"),
        (&["secrets", "set", "vrf-key"], "SECRET_GENERATED"),
        (&["secrets", "versions", "unknown"], "SECRET_UNKNOWN"),
        (&["secrets", "rotate", "unknown"], "SECRET_UNKNOWN"),
        (&["secrets", "rotate", "given"], "SECRET_NOT_GENERATED"),
        (&["secrets", "rm", "vrf-key"], "SECRET_IN_USE"),
        (&["secrets", "rm", "unknown"], "SECRET_UNKNOWN"),
    ] {
        let err = refused(arguments, b"v");
        assert!(err.contains(&format!("({code})")), "{arguments:?}: {err}");
    }
    assert!(refused(&["secrets", "rm", "vrf-key"], b"").contains("given to vrf"));
    let set = &["secrets", "set", "given"][..];
    assert!(refused(set, b"").contains("the value is empty"));
    assert!(refused(set, &vec![b'x'; (64 << 10) + 1]).contains("at most 64 KiB"));
    assert!(
        refused(&["secrets", "set", "given", "--file", "nowhere"], b"").contains("failed to open nowhere")
    );
    let largest = vec![b'x'; 64 << 10];
    assert_eq!(mesh.run_with(set, &largest).code, 0, "the largest that there may be");
    let by_argument = mesh.run(&["secrets", "set", "given", "hunter2"]);
    assert_eq!(by_argument.code, 2, "a value is never an argument");
    let versions = json_of(&mesh.run(&["secrets", "versions", "given", "--json"]));
    assert_eq!(versions["versions"].as_array().unwrap().len(), 2);
}

#[test]
fn no_value_is_sent_to_an_authority_that_is_not_the_one_of_the_data_directory() {
    let mesh = Mesh::new().service("vrf", 1).up();
    let known = mesh.folder().join(".serviceos/run/authority.json");
    let honest: Value = serde_json::from_slice(&std::fs::read(&known).unwrap()).unwrap();
    let mut another_root = Mesh::new().service("vrf", 1).up();
    let other = std::fs::read(another_root.folder().join(".serviceos/run/authority.json")).unwrap();
    let other: Value = serde_json::from_slice(&other).unwrap();
    for (key, value, expected) in [
        ("rootSpki", &other["rootSpki"], "another mesh"),
        ("trustDomain", &json!("other.dev.invalid"), "another mesh"),
        ("mode", &json!("production"), "another mesh"),
        ("evidenceRoot", &other["evidenceRoot"], "CHAIN_UNTRUSTED"),
        ("workload", &json!(mesh_protocol::Bytes(vec![1; 32])), "RELEASE_NOT_ALLOWED"),
    ] {
        let mut changed = honest.clone();
        changed[key] = value.clone();
        std::fs::write(&known, changed.to_string()).unwrap();
        let refused = mesh.run_with(&["secrets", "set", "token"], b"value");
        assert_eq!(refused.code, 1, "{key}: {}", refused.out);
        let said = "the authority is not trusted, and no value was sent to it";
        assert!(refused.err.contains(said) && refused.err.contains(expected), "{key}: {}", refused.err);
    }
    assert!(!mesh.run(&["secrets", "list"]).out.contains("token"));
    std::fs::write(&known, honest.to_string()).unwrap();
    assert_eq!(mesh.run_with(&["secrets", "set", "token"], b"value").code, 0);
    another_root.signal(Signal::TERM);
    another_root.wait();
}

#[test]
fn a_value_that_is_typed_is_not_shown_and_ends_before_enter() {
    if !has_program("script") {
        return;
    }
    let mut mesh = Mesh::new().service("vrf", 1).up();
    let binary = mesh.command().get_program().to_str().unwrap().to_owned();
    let shell = format!("{binary} secrets set typed");
    // It gives what it runs a terminal of its own, and types what it reads.
    let mut script = Command::new("script");
    script.args(["-qec", &shell, "/dev/null"]).current_dir(mesh.folder()).env_remove("SERVICEOS_DATA_DIR");
    script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = script.spawn().unwrap();
    let mut keyboard = child.stdin.take().unwrap();
    let mut screen = BufReader::new(child.stdout.take().unwrap());
    let mut shown = String::new();
    screen.read_line(&mut shown).unwrap();
    assert!(shown.contains("value of typed, which is not shown"), "{shown}");
    keyboard.write_all(b"hunter2\n").unwrap();
    screen.read_to_string(&mut shown).unwrap();
    drop(keyboard);
    assert_eq!(child.wait().unwrap().code(), Some(0), "{shown}");
    assert!(shown.contains("typed has version 1 now") && !shown.contains("hunter2"), "{shown}");
    mesh.signal(Signal::TERM);
    assert_eq!(mesh.wait().code, 0);
    assert_eq!(value(&mesh, "typed"), b"hunter2");
}

/// Answers with the names of the files in the folder of the secrets, and with what is in each.
const SERVER: &str = r"
import http.server, json, os

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def do_GET(self):
        folder = os.environ['SERVICEOS_SECRETS_DIR']
        files = {name: open(os.path.join(folder, name)).read() for name in os.listdir(folder)}
        body = json.dumps(files).encode()
        self.send_response(200)
        self.send_header('content-length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass

http.server.ThreadingHTTPServer(('127.0.0.1', int(os.environ['SERVICEOS_PORT'])), Handler).serve_forever()
";

#[test]
fn the_file_of_a_running_command_is_rewritten_when_its_secret_is_set() {
    if !has_program("python3") {
        return;
    }
    let app = "    app: {command: [python3, server.py], healthCheck: {path: /}, secrets: [token], routes: [{match: {path: /files}, public: true}]}\n";
    let mesh = Mesh::new().yaml(app);
    std::fs::write(mesh.folder().join("server.py"), SERVER).unwrap();
    // Nobody is given a secret that is not there yet.
    let mesh = mesh.up_when("the admin API", |_| true);
    assert_eq!(mesh.run_with(&["secrets", "set", "token"], b"one").code, 0);
    mesh.until_selectable();
    let files = || -> Value { serde_json::from_str(&mesh.get("/files").text()).unwrap() };
    assert_eq!(files(), json!({"token": "one"}));
    let pids = mesh.pids("app");
    for value in ["two", "three"] {
        assert_eq!(mesh.run_with(&["secrets", "set", "token"], value.as_bytes()).code, 0);
        eventually("the new value", || (files() == json!({"token": value})).then_some(()));
    }
    assert_eq!(mesh.pids("app"), pids);
}

#[test]
fn what_would_be_too_much_for_a_service_is_refused_and_it_goes_on() {
    let names: Vec<_> = (0..11).map(|number| format!("big-{number}")).collect();
    let vrf = format!("    vrf: {{replicas: 1, secrets: [{}]}}\n", names.join(", "));
    let mesh = Mesh::new().yaml(&vrf).up_when("the admin API", |_| true);
    let largest = vec![b'x'; 64 << 10];
    for name in &names[..10] {
        assert_eq!(mesh.run_with(&["secrets", "set", name], &largest).code, 0, "{name}");
    }
    let refused = mesh.run_with(&["secrets", "set", &names[10]], &largest);
    assert_eq!((refused.code, refused.out.as_str()), (1, ""));
    assert!(
        refused.err.contains("(SECRETS_OF_SERVICE)") && refused.err.contains("the service vrf"),
        "{refused:?}"
    );
    assert_eq!(mesh.run_with(&["secrets", "set", &names[10]], b"small").code, 0);
    mesh.until_selectable();
}
