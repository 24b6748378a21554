//! No value of a secret is to be found anywhere but in the memory of whoever needs it, and none that was changed is used.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use memchr::memmem;
use rustix::process::Signal;
use secrets::{Domain, Vault};
use serde_json::json;
use store::{Store, Transaction};
use testkit::{Mesh, Request, Running, kill, processes_of, wait_until_gone};
use types::Mode;

/// What an operator gives: text, and bytes that are none.
const TEXT: &[u8] = b"canary-5d0c8b2e-correct-horse-battery-staple";
const BINARY: [u8; 48] = [0xf1; 48];

/// A value in every form in which it could have got out.
struct Canary {
    name: String,
    forms: Vec<Vec<u8>>,
}

impl Canary {
    fn new(name: &str, value: &[u8]) -> Self {
        let hex = mesh_protocol::to_hex(value);
        let decimals =
            |comma: &str| value.iter().map(u8::to_string).collect::<Vec<_>>().join(comma).into_bytes();
        let mut forms = vec![value.to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes()];
        forms.extend([decimals(","), decimals(", ")]);
        // Base64 of a text that holds it somewhere depends on where that is; the first and last letters are the neighbours' too.
        for before in 0..3 {
            let padded = [vec![0; before], value.to_vec()].concat();
            for text in [BASE64_STANDARD_NO_PAD.encode(&padded), BASE64_URL_SAFE_NO_PAD.encode(&padded)] {
                forms.push(text.as_bytes()[4..text.len() - 4].to_vec());
            }
        }
        Self { name: name.to_owned(), forms }
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        self.forms.iter().any(|form| memmem::find(bytes, form).is_some())
    }
}

/// Somewhere that a value may have got to, and what is there.
type Place = (String, Vec<u8>);

fn assert_nothing_found(canaries: &[Canary], places: &[Place]) {
    for (place, bytes) in places {
        for canary in canaries {
            assert!(!canary.is_in(bytes), "the value of {} is in {place}", canary.name);
        }
    }
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<Place> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() {
            found.extend(files(&path));
        } else if kind.is_file() {
            found.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    found
}

/// What every process of a mesh shows of itself to whoever may look: its arguments and its environment. Of one that holds keys
/// the kernel shows the environment to nobody but root.
fn processes(mesh: &Running) -> Vec<Place> {
    let mut found = Vec::new();
    let pids = processes_of(mesh.folder());
    assert!(pids.len() >= 4, "up, the quoter and the replicas: {pids:?}");
    for pid in pids {
        for what in ["cmdline", "environ"] {
            let path = format!("/proc/{pid}/{what}");
            found.extend(fs::read(&path).ok().map(|bytes| (path, bytes)));
        }
    }
    found
}

/// Everything that the admin API answers, on its port.
fn admin_api(mesh: &Running) -> Vec<Place> {
    let token = fs::read_to_string(mesh.folder().join(".serviceos/run/admin.token")).unwrap();
    let ask = |method: &str, path: &str| {
        let mut request = Request::new(method, path).key(&token);
        if method == "POST" {
            request = request.json(&json!({"nonce": mesh_protocol::Bytes(vec![1; 32])}));
        }
        let answer = request.send(mesh.admin);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        (path.to_owned(), answer.body)
    };
    let mut found: Vec<Place> = [
        "/health",
        "/health/detailed",
        "/metrics",
        "/v1/status",
        "/v1/keys",
        "/v1/attestation",
        "/v1/attestation/vrf/0/records",
        "/v1/replicas/vrf/0/why",
        "/v1/secrets",
        "/v1/secrets/text",
        "/v1/secrets/binary",
        "/v1/secrets/vrf-key",
        "/v1/audit",
    ]
    .map(|path| ask("GET", path))
    .into();
    found.push(ask("POST", "/v1/secrets/key"));
    found
}

/// Gives a value over standard input, and looks at the command while it has it.
fn set(mesh: &Running, name: &str, value: &[u8]) -> Vec<Place> {
    let mut command = mesh.command();
    command
        .args(["secrets", "set", name])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(value).unwrap();
    let shown = ["cmdline", "environ"].map(|what| {
        let path = format!("/proc/{}/{what}", child.id());
        let bytes = fs::read(&path).unwrap();
        (path, bytes)
    });
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = [("its output".to_owned(), output.stdout), ("its errors".to_owned(), output.stderr)];
    shown.into_iter().chain(said).collect()
}

/// Files of a folder that look like the memory of a process.
fn cores(folder: &Path) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().flatten();
    let is_core = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("core") || name.ends_with(".core") || name.ends_with(".dmp")
    };
    entries.map(|entry| entry.path()).filter(is_core).collect()
}

/// A replica that is told to leave its memory behind leaves nothing.
fn assert_no_core_of(mesh: &Running, pid: u32) {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let limit = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(limit.split_whitespace().skip(4).collect::<Vec<_>>(), ["0", "0", "bytes"], "{limit}");
    let directory = fs::read_link(format!("/proc/{pid}/cwd")).unwrap();
    let (data, temporary) = (mesh.folder().join(".serviceos"), std::env::temp_dir());
    let folders = [directory.as_path(), mesh.folder(), &data, &temporary];
    let before = folders.map(cores);
    kill(pid, Signal::ABORT);
    wait_until_gone(pid);
    assert_eq!(folders.map(cores), before);
}

/// The values of secrets, from the store of a mesh that has ended.
fn values(mesh: &Running, names: &[&str]) -> Vec<(String, Vec<u8>)> {
    let data = mesh.folder().join(".serviceos");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(&data.join("store.redb")).unwrap();
        let domain = Domain { trust_domain: "serviceos.dev.invalid".into(), mode: Mode::Development };
        let vault = Vault::open(store, &data.join("master.key"), domain).await.unwrap();
        let epochs = |name: &&str| {
            let epochs = vault.reveal(name).unwrap().unwrap();
            epochs.into_iter().map(|epoch| ((*name).to_owned(), epoch.value.to_vec())).collect::<Vec<_>>()
        };
        names.iter().flat_map(epochs).collect()
    })
}

#[test]
fn a_value_is_found_in_every_form_that_is_looked_for() {
    let canary = Canary::new("text", TEXT);
    let hex = mesh_protocol::to_hex(TEXT);
    for form in [
        TEXT.to_vec(),
        format!("key={hex}").into_bytes(),
        hex.to_uppercase().into_bytes(),
        format!("{TEXT:?}").into_bytes(),
        json!(TEXT).to_string().into_bytes(),
        BASE64_STANDARD_NO_PAD.encode([b"x", TEXT, b"yz"].concat()).into_bytes(),
        BASE64_URL_SAFE_NO_PAD.encode([b"xy", TEXT].concat()).into_bytes(),
    ] {
        assert!(canary.is_in(&form), "{}", String::from_utf8_lossy(&form));
        assert!(!Canary::new("binary", &BINARY).is_in(&form));
    }
}

#[test]
fn no_value_of_a_secret_gets_anywhere() {
    // Everything that anybody ever logs.
    let mesh = Mesh::new().env("RUST_LOG", "trace");
    mesh.write("services: {vrf: {replicas: 2}}\n");
    let mut mesh = mesh.up();
    let mut places = set(&mesh, "text", TEXT);
    places.extend(set(&mesh, "binary", &BINARY));
    mesh.signal(Signal::TERM);
    assert_eq!(mesh.wait().code, 0);
    // A new start begins a new log.
    places.extend(files(mesh.folder()));
    // From here on the replicas have them.
    let granted = "services: {vrf: {replicas: 2, secrets: [text, binary]}}\n";
    fs::write(mesh.folder().join("serviceos.yaml"), granted).unwrap();
    let mut mesh = mesh.up_again();
    let shown = mesh.run(&["secrets", "versions", "text", "--json"]).out;
    assert!(shown.contains(r#""services":["vrf"]"#), "{shown}");
    assert_eq!(mesh.run(&["secrets", "rotate", "vrf-signing"]).code, 0);
    for _some in 0..20 {
        assert_eq!(mesh.post("/v1/random", &json!({"min": 1, "max": 6})).status, 200);
    }
    assert_no_core_of(&mesh, mesh.pids("vrf")[1]);
    mesh.until_selectable();
    let refused = mesh.run(&["secrets", "rm", "vrf-key"]);
    places.push(("a refusal".to_owned(), refused.err.into_bytes()));
    places.extend(processes(&mesh));
    places.extend(admin_api(&mesh));
    for arguments in [&["secrets", "list"][..], &["audit", "tail", "-n", "100"], &["attestation", "show"]] {
        places.push((arguments.join(" "), mesh.run(arguments).out.into_bytes()));
    }
    mesh.signal(Signal::TERM);
    assert_eq!(mesh.wait().code, 0);
    let data = files(mesh.folder());
    assert!(data.iter().any(|(path, bytes)| path.ends_with("store.redb") && !bytes.is_empty()));
    places.extend(data);
    let values = values(&mesh, &["text", "binary", "vrf-key", "vrf-signing"]);
    assert_eq!(values.len(), 5, "of the rotated one both epochs");
    assert!(values[0].1 == TEXT && values[1].1 == BINARY);
    let canaries: Vec<_> = values.iter().map(|(name, value)| Canary::new(name, value)).collect();
    assert_nothing_found(&canaries, &places);
}

#[test]
fn a_start_refuses_a_sealed_record_that_was_changed() {
    let mut mesh = Mesh::new().service("vrf", 1).up();
    set(&mesh, "text", TEXT);
    mesh.signal(Signal::TERM);
    assert_eq!(mesh.wait().code, 0);
    let data = mesh.folder().join(".serviceos");
    let again = Mesh::new().service("vrf", 1).arguments(&[
        "--gateway=127.0.0.1:0",
        "--admin=127.0.0.1:0",
        "--mesh=127.0.0.1:0",
        "--data-dir",
        data.to_str().unwrap(),
    ]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let rows = |prefix: &str| {
        let store = Store::open(&data.join("store.redb")).unwrap();
        runtime.block_on(store.range(prefix)).unwrap().rows
    };
    let write = |key: &[u8], value: Vec<u8>| {
        let store = Store::open(&data.join("store.redb")).unwrap();
        runtime.block_on(store.commit(Transaction::new().put(key, value))).unwrap();
    };
    let records = rows("secrets/records/");
    assert!(records.len() >= 4, "the root, a key of the mesh, two of vrf and one that was set");
    for row in [records.first().unwrap(), records.last().unwrap()] {
        let length = row.value.len();
        for place in [0, 5, 20, length / 2, length - 1] {
            let mut changed = row.value.clone();
            changed[place] ^= 1;
            write(&row.key, changed);
            let refused = again.up_and_fail();
            assert_eq!(refused.code, 1, "byte {place}: {}", refused.out);
            let said = "the sealed secrets do not verify";
            assert!(refused.err.contains(said) && refused.err.contains("restore"), "{}", refused.err);
        }
        write(&row.key, row.value.clone());
    }
    assert_eq!(mesh.up_again().get("/v1/random/keys").status, 200, "as it was before");
}
