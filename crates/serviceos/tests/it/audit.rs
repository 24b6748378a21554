//! The audit trail is verified from outside, while serviceos runs and when it has ended.

use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::{Mesh, Running};

fn trail(mesh: &Running) -> String {
    std::fs::read_to_string(mesh.folder().join(".serviceos/audit.jsonl")).unwrap()
}

/// Exit code and document of `audit verify --json` on a data directory.
fn verified(mesh: &Running, data_dir: &str) -> (i32, Value) {
    let finished = mesh.run(&["audit", "verify", "--data-dir", data_dir, "--json"]);
    (finished.code, serde_json::from_str(&finished.out).unwrap_or_else(|_| panic!("{}", finished.err)))
}

/// A data directory with the same mesh, and a trail that somebody has changed.
fn changed(mesh: &Running, name: &str, trail: impl AsRef<[u8]>) -> String {
    let (data, other) = (mesh.folder().join(".serviceos"), mesh.folder().join(name));
    std::fs::create_dir(&other).unwrap();
    for shared in ["run", "store.redb", "master.key"] {
        std::os::unix::fs::symlink(data.join(shared), other.join(shared)).unwrap();
    }
    std::fs::write(other.join("audit.jsonl"), trail).unwrap();
    name.to_owned()
}

#[test]
fn a_trail_verifies_while_serviceos_runs_and_when_it_has_ended() {
    let mut mesh = Mesh::new().service("vrf", 2).up();
    assert_eq!(mesh.run(&["secrets", "rotate", "vrf-signing"]).code, 0);
    let (code, running) = verified(&mesh, ".serviceos");
    assert_eq!((code, &running["verified"], &running["running"]), (0, &json!(true), &json!(true)));
    assert_eq!((&running["fault"], &running["trail"]["unfinishedBytes"]), (&Value::Null, &json!(0)));
    let records = &running["trail"]["records"];
    let text = mesh.run(&["audit", "verify"]);
    assert!(
        text.code == 0 && text.out.contains(&format!("verifies\nrecords      {records}\n")),
        "{}",
        text.out
    );
    mesh.signal(Signal::TERM);
    mesh.wait();
    let (code, ended) = verified(&mesh, ".serviceos");
    assert_eq!((code, &ended["running"]), (0, &json!(false)));
    assert_eq!(
        (&ended["trail"]["unsigned"], &ended["trail"]["lastSigned"]),
        (&json!(0), &ended["trail"]["records"])
    );
    let text = mesh.run(&["audit", "verify"]).out;
    assert!(text.contains("a missing end goes unnoticed"), "{text}");
    // Nothing of the data directory was changed by that.
    let again = mesh.up_again();
    assert_eq!(verified(&again, ".serviceos").0, 0);
}

#[test]
fn a_changed_trail_does_not_verify_and_the_line_is_named() {
    let mut mesh = Mesh::new().service("vrf", 2).up();
    assert_eq!(mesh.run(&["secrets", "rotate", "vrf-signing"]).code, 0);
    mesh.signal(Signal::TERM);
    mesh.wait();
    let whole = trail(&mesh);
    let lines: Vec<&str> = whole.lines().collect();
    let head = lines.iter().position(|line| line.contains("\"signature\"")).expect("a signed head");
    assert!(lines.len() >= 4 && head >= 3, "{whole}");
    let without = |gone: usize| -> String {
        lines
            .iter()
            .enumerate()
            .filter(|(place, _)| *place != gone)
            .map(|(_, line)| format!("{line}\n"))
            .collect()
    };
    let swapped = format!("{}\n{}\n{}\n", lines[1], lines[0], lines[2..].join("\n"));
    for (name, trail, line, what) in [
        ("outcome", whole.replacen("\"outcome\":\"done\"", "\"outcome\":\"gone\"", 1), 1, "neither a record"),
        ("actor", whole.replace("admin socket", "admin token!"), 0, "hash"),
        ("removed", without(1), 2, "record 3 where record 2 belongs"),
        ("first", without(0), 1, "record 2 where record 1 belongs"),
        ("swapped", swapped, 1, "record 2 where record 1 belongs"),
    ] {
        let (code, verdict) = verified(&mesh, &changed(&mesh, name, trail));
        assert_eq!(
            (code, &verdict["verified"], &verdict["trail"]),
            (4, &json!(false), &Value::Null),
            "{name}"
        );
        let fault = &verdict["fault"];
        assert!(line == 0 || fault["line"] == line, "{name}: {fault}");
        assert!(fault["what"].as_str().unwrap().contains(what), "{name}: {fault}");
    }
    let text = mesh.run(&["audit", "verify", "--data-dir", "removed"]);
    assert_eq!((text.code, text.err.as_str()), (4, ""));
    assert!(
        text.out.contains("does not verify: line 2: it is record 3 where record 2 belongs"),
        "{}",
        text.out
    );
    // That of another mesh.
    let other = Mesh::new().service("vrf", 1).up();
    let (code, verdict) = verified(&mesh, &changed(&mesh, "other", trail(&other)));
    assert_eq!((code, &verdict["fault"]["line"]), (4, &json!(1)));
}

#[test]
fn a_missing_end_is_noticed_while_serviceos_runs() {
    let mesh = Mesh::new().service("vrf", 2).up();
    assert_eq!(mesh.run(&["secrets", "rotate", "vrf-signing"]).code, 0);
    let whole = trail(&mesh);
    let cut = whole.trim_end().rsplit_once('\n').unwrap().0.to_owned() + "\n";
    let (code, verdict) = verified(&mesh, &changed(&mesh, "cut", cut));
    let what = verdict["fault"]["what"].as_str().unwrap_or_default();
    assert!(code == 4 && verdict["fault"]["line"].is_null(), "{verdict}");
    assert!(what.contains("missing"), "{verdict}");
    // Half of a line more is one that is being written.
    let (code, verdict) = verified(&mesh, &changed(&mesh, "torn", whole + "{\"hash\""));
    assert_eq!((code, &verdict["trail"]["unfinishedBytes"]), (0, &json!(7)), "{verdict}");
}

#[test]
fn the_last_records_are_shown() {
    let mesh = Mesh::new().service("vrf", 1).up();
    for _twice in 0..2 {
        assert_eq!(mesh.run(&["secrets", "rotate", "vrf-signing"]).code, 0);
    }
    let tail = mesh.run(&["audit", "tail", "-n", "2", "--json"]);
    let records: Vec<Value> = serde_json::from_str(&tail.out).unwrap();
    let shown: Vec<_> =
        records.iter().map(|record| (&record["kind"], &record["data"], &record["actor"])).collect();
    let (kind, actor) = (json!("secret-rotate"), json!("admin socket"));
    assert_eq!(shown, [(&kind, &json!({"epoch": 2}), &actor), (&kind, &json!({"epoch": 3}), &actor)]);
    let table = mesh.run(&["audit", "tail"]).out;
    assert!(
        table.contains("SEQ") && table.contains("spiffe://serviceos.dev.invalid/service/vrf/0"),
        "{table}"
    );
    assert_eq!(mesh.run(&["audit", "tail", "-n", "0"]).code, 2);
}

#[test]
fn keys_are_made_and_revoked_with_a_line_that_names_who_asked_and_never_the_key() {
    let mesh = Mesh::new().service("vrf", 1).up();
    let made = mesh.run(&["keys", "create", "--name", "shop", "--scopes", "vrf:random", "--json"]);
    let made: Value = serde_json::from_str(&made.out).unwrap_or_else(|_| panic!("{}", made.err));
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    for _twice in 0..2 {
        assert_eq!(mesh.run(&["keys", "revoke", id]).code, 0);
    }
    let tail = mesh.run(&["audit", "tail", "--json"]).out;
    let records: Vec<Value> = serde_json::from_str(&tail).unwrap();
    let of_keys = records.iter().filter(|record| record["kind"].as_str().unwrap().starts_with("key-"));
    let shown: Vec<_> =
        of_keys.map(|record| ["kind", "actor", "subject", "outcome"].map(|key| &record[key])).collect();
    let line = |kind: &str| [json!(kind), json!("admin socket"), json!(id), json!("done")];
    let lines = [line("key-create"), line("key-revoke")];
    assert_eq!(shown, lines.each_ref().map(<[Value; 4]>::each_ref));
    assert!(tail.contains("shop") && !trail(&mesh).contains(key), "{tail}");
    assert_eq!(verified(&mesh, ".serviceos").0, 0);
}

#[test]
fn where_there_is_no_trail_that_is_said() {
    let mesh = Mesh::new();
    mesh.write("services: {vrf: {replicas: 1}}\n");
    for command in ["verify", "tail"] {
        let finished = mesh.run(&["audit", command]);
        assert_eq!(finished.code, 1, "{}", finished.out);
        assert!(finished.err.contains(".serviceos"), "{}", finished.err);
    }
    assert!(!Path::new(mesh.folder()).join(".serviceos").exists(), "and none is begun");
}
