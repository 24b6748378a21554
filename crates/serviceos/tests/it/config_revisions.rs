//! Every configuration that was in force is a revision: of the file, or of somebody who asked for it.

use std::io::Write;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::{Answer, Finished, Mesh, Request, Running, Upstream, eventually};

/// A service of that server, open to anybody at that path, with more keys.
fn file(upstream: &Upstream, path: &str, more: &str) -> String {
    let route = format!("{{match: {{path: '/{path}/{{*rest}}'}}, stripPrefix: true, public: true}}");
    format!(
        "services:\n  site:\n    endpoints: ['http://{}']\n    attestation: none\n    healthCheck: {{interval: 1s, timeout: 1s}}\n    routes: [{route}]\n{more}",
        upstream.address
    )
}

/// A mesh that serves that file.
fn up(text: &str) -> Running {
    let mesh = Mesh::new();
    mesh.write(text);
    mesh.up()
}

/// Puts another file in place, and waits until `up` says this about it.
fn change(mesh: &Running, text: &str, said: &str) -> String {
    let seen = mesh.log().len();
    std::fs::write(mesh.folder().join("new.yaml"), text).unwrap();
    std::fs::rename(mesh.folder().join("new.yaml"), mesh.folder().join("serviceos.yaml")).unwrap();
    mesh.until_logged(seen, said)[seen..].to_owned()
}

/// Asks for a text that stands in a file of its own.
fn apply(mesh: &Running, text: &str, more: &[&str]) -> Finished {
    std::fs::write(mesh.folder().join("asked.yaml"), text).unwrap();
    mesh.run(&[&["config", "apply", "asked.yaml"], more].concat())
}

fn done(finished: Finished) -> String {
    assert_eq!(finished.code, 0, "{}{}", finished.out, finished.err);
    finished.out
}

fn json_of(mesh: &Running, arguments: &[&str]) -> Value {
    serde_json::from_str(&done(mesh.run(&[arguments, &["--json"]].concat()))).unwrap()
}

/// The revisions, the newest first, each with its number, its origin and the first of its changes; that in force has a star.
fn history(mesh: &Running) -> String {
    let revisions = json_of(mesh, &["config", "history"]);
    let line = |revision: &Value| {
        let star = if revision["inForce"] == true { "*" } else { "" };
        let change = revision["changes"][0].as_str().unwrap_or("-").to_owned();
        format!("{}{star} {} {change}\n", revision["revision"], revision["origin"].as_str().unwrap())
    };
    revisions.as_array().unwrap().iter().map(line).collect()
}

/// Whether a path is served.
fn is_served(mesh: &Running, path: &str) -> bool {
    Request::new("GET", &format!("/{path}/fixed/1")).send(mesh.gateway).status == 200
}

fn paths(mesh: &Running) -> Vec<&'static str> {
    ["a", "b", "c", "d"].into_iter().filter(|path| is_served(mesh, path)).collect()
}

fn token(mesh: &Running) -> String {
    std::fs::read_to_string(mesh.folder().join(".serviceos/run/admin.token")).unwrap().trim().to_owned()
}

fn post(mesh: &Running, path: &str, text: &str, if_match: &str) -> Answer {
    let request = Request::new("POST", path).key(&token(mesh)).header("if-match", if_match);
    request.text("application/yaml", text).send(mesh.admin)
}

const ROUTE_B: &str = "services.site.routes[0].match.path: \"/a/{*rest}\" -> \"/b/{*rest}\"";
const SAME: &str = "means the same as before";
const APPLIED: &str = "the configuration was applied";

#[test]
fn the_file_what_is_asked_for_and_what_is_taken_back_are_revisions_of_their_own() {
    let one = Upstream::new();
    let mesh = up(&file(&one, "a", ""));
    assert_eq!(history(&mesh), "1* file -\n");
    let said = change(&mesh, &file(&one, "b", ""), "revision 2 replaces revision 1");
    assert!(said.contains(ROUTE_B), "{said}");
    let out = done(apply(&mesh, &file(&one, "c", ""), &[]));
    let route_c = ROUTE_B.replace("/b/", "/c/").replace("/a/", "/b/");
    assert_eq!(out, format!("{route_c}\nrevision 3 is in force\n"));
    assert_eq!(paths(&mesh), ["c"], "it is served once the command has ended");
    assert_eq!(
        done(apply(&mesh, &file(&one, "c", "# the same\n"), &[])).lines().count(),
        1,
        "nothing changes"
    );
    let out = done(mesh.run(&["config", "rollback", "1"]));
    assert!(out.ends_with("revision 4 is in force\n"), "{out}");
    assert_eq!(paths(&mesh), ["a"]);
    let route_a = ROUTE_B.replace("/a/", "/c/").replace("/b/", "/a/");
    assert_eq!(history(&mesh), format!("4* cli {route_a}\n3 cli {route_c}\n2 file {ROUTE_B}\n1 file -\n"));

    let shown = json_of(&mesh, &["config", "show"]);
    assert_eq!(
        (&shown["revision"], &shown["origin"], &shown["author"]),
        (&json!(4), &json!("cli"), &json!("admin socket"))
    );
    assert_eq!(done(mesh.run(&["config", "show", "2"])), file(&one, "b", ""));
    let first = json_of(&mesh, &["config", "show", "1"]);
    assert_eq!((&first["digest"], &first["author"]), (&shown["digest"], &json!("configuration file")));
    assert_eq!(done(mesh.run(&["config", "diff", "1", "2"])), format!("{ROUTE_B}\n"));
    assert_eq!(
        done(mesh.run(&["config", "diff"])),
        format!("{ROUTE_B}\n"),
        "of what is in force to the file"
    );
    assert_eq!(mesh.run(&["config", "diff", "--exit-code"]).code, 4);
    assert_eq!(
        mesh.run(&["config", "diff", "--exit-code", "1"]).code,
        0,
        "revision 1 means what is in force"
    );
    let table = done(mesh.run(&["config", "history"]));
    assert!(table.contains("yes") && table.lines().count() == 5, "{table}");

    let metrics = Request::new("GET", "/metrics").send(mesh.admin).text();
    assert!(metrics.contains("\nserviceos_config_revision 4\n"), "{metrics}");
    let trail = std::fs::read_to_string(mesh.folder().join(".serviceos/audit.jsonl")).unwrap();
    let changes = trail.lines().filter(|line| line.contains("\"kind\":\"config-change\""));
    assert_eq!(changes.count(), 4);
    assert_eq!(mesh.run(&["audit", "verify"]).code, 0);
    assert_eq!(mesh.run(&["config", "rollback", "9"]).code, 1);
}

#[test]
fn a_revision_of_the_command_line_stays_until_the_file_means_something_else() {
    let one = Upstream::new();
    let mut mesh = up(&file(&one, "a", ""));
    done(apply(&mesh, &file(&one, "b", ""), &[]));
    change(&mesh, &format!("# a comment\n{}", file(&one, "a", "")), SAME);
    mesh.signal(Signal::TERM);
    mesh.wait();
    let mut mesh = mesh.up_again();
    assert_eq!((paths(&mesh), history(&mesh).lines().count()), (vec!["b"], 2));
    assert!(mesh.log().contains("revision 2, of the command line, stays in force"), "{}", mesh.log());
    assert!(mesh.log().contains("serviceos config diff"), "{}", mesh.log());
    let said = change(&mesh, &file(&one, "c", ""), "replaces revision 2 of the command line");
    assert!(
        said.contains("\"/b/{*rest}\" -> \"/c/{*rest}\"") && said.contains("revision 3, the file"),
        "{said}"
    );
    assert_eq!(paths(&mesh), ["c"]);
    // While nobody looks the file changes too, after somebody has asked for something else.
    done(mesh.run(&["config", "rollback", "1"]));
    mesh.signal(Signal::TERM);
    mesh.wait();
    std::fs::write(mesh.folder().join("serviceos.yaml"), file(&one, "d", "")).unwrap();
    let mesh = mesh.up_again();
    assert_eq!((paths(&mesh), history(&mesh).lines().count()), (vec!["d"], 5));
    assert!(history(&mesh).starts_with("5* file "));
}

#[test]
fn comments_order_and_spelling_make_no_revision_while_it_runs_or_at_a_start() {
    let one = Upstream::new();
    let mut mesh = up(&file(&one, "a", "    drain: {timeout: 90s}\n    retry: {attempts: 2}\n"));
    let pid = mesh.pid();
    let other = file(&one, "a", "    retry: # as before\n      attempts: 2\n    drain: {timeout: 1m30s}\n");
    change(&mesh, &other, SAME);
    assert_eq!((history(&mesh).as_str(), mesh.pid()), ("1* file -\n", pid));
    mesh.signal(Signal::TERM);
    mesh.wait();
    let mesh = mesh.up_again();
    assert_eq!(history(&mesh), "1* file -\n");
}

#[test]
fn a_file_that_has_caught_up_with_what_was_asked_for_replaces_it_when_it_changes_back() {
    let one = Upstream::new();
    let mut mesh = up(&file(&one, "a", ""));
    done(apply(&mesh, &file(&one, "b", ""), &[]));
    change(&mesh, &file(&one, "b", ""), SAME);
    mesh.signal(Signal::TERM);
    mesh.wait();
    let mesh = mesh.up_again();
    assert_eq!(history(&mesh).lines().next(), Some(format!("2* cli {ROUTE_B}").as_str()));
    change(&mesh, &file(&one, "a", ""), APPLIED);
    assert_eq!((paths(&mesh), history(&mesh).starts_with("3* file ")), (vec!["a"], true));
}

#[test]
fn a_change_for_another_revision_than_the_one_in_force_is_refused() {
    let one = Upstream::new();
    let mesh = up(&file(&one, "a", ""));
    let shown = Request::new("GET", "/v1/config").key(&token(&mesh)).send(mesh.admin);
    let tag = shown.header("etag").unwrap().to_owned();
    assert_eq!((shown.status, tag.as_str()), (200, "\"1\""));
    let first = post(&mesh, "/v1/config", &file(&one, "b", ""), &tag);
    assert_eq!((first.status, first.header("etag")), (200, Some("\"2\"")));
    let second = post(&mesh, "/v1/config", &file(&one, "c", ""), &tag);
    assert_eq!(second.problem(), (412, "CONFIG_CONFLICT".into()));
    assert_eq!(second.json()["revision"], 2);
    let late = apply(&mesh, &file(&one, "c", ""), &["--if-revision", "1"]);
    assert!(late.code == 1 && late.err.contains("CONFIG_CONFLICT"), "{}", late.err);
    assert_eq!((paths(&mesh), history(&mesh).lines().count()), (vec!["b"], 2));
    done(apply(&mesh, &file(&one, "c", ""), &["--if-revision", "2"]));
    assert_eq!(paths(&mesh), ["c"]);
}

#[test]
fn what_is_not_valid_changes_nothing_and_every_mistake_is_told() {
    let one = Upstream::new();
    let mesh = up(&file(&one, "a", ""));
    let bad = file(
        &one,
        "b",
        "    loadBalancing: {policy: rond-robin}\n    protocol: htpp1\n    drian: {timeout: 5s}\n",
    );
    let refused = post(&mesh, "/v1/config", &bad, "*");
    assert_eq!(refused.problem(), (422, "CONFIG_INVALID".into()));
    let problem = refused.json();
    let errors: Vec<String> = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| {
            format!("{}:{} {}", error["line"], error["column"], error["nearest"].as_str().unwrap_or("-"))
        })
        .collect();
    assert_eq!(errors, ["7:29 round-robin", "8:15 http1", "9:5 drain"], "{problem}");
    let said = change(&mesh, &bad, "the configuration before stays in force");
    for told in [
        "serviceos.yaml:7:29: ",
        "serviceos.yaml:8:15: ",
        "serviceos.yaml:9:5: ",
        "did you mean `round-robin`?",
    ] {
        assert!(said.contains(told), "{said}");
    }
    let refused = apply(&mesh, &bad, &[]);
    assert!(refused.code == 2 && refused.err.contains("asked.yaml:7:29: "), "{}", refused.err);
    let not_text = Request::new("POST", "/v1/config").key(&token(&mesh)).json(&json!({"services": {}}));
    assert_eq!(not_text.send(mesh.admin).problem().0, 400);
    assert_eq!((paths(&mesh), history(&mesh).as_str()), (vec!["a"], "1* file -\n"));
}

#[test]
fn what_needs_a_new_start_is_told_before_and_refused() {
    let one = Upstream::new();
    let mesh = up(&file(&one, "a", ""));
    let other = format!("gateway: {{workers: 1}}\n{}", file(&one, "b", ""));
    let dry = json_of(&mesh, &{
        std::fs::write(mesh.folder().join("asked.yaml"), &other).unwrap();
        ["config", "apply", "asked.yaml", "--dry-run"]
    });
    assert_eq!(
        (&dry["restartNeeded"], &dry["dryRun"], &dry["revision"]),
        (&json!(["gateway.workers"]), &json!(true), &json!(1))
    );
    assert_eq!(dry["diff"][0], json!({"key": "gateway.workers", "before": "auto", "after": "1"}));
    let refused = apply(&mesh, &other, &[]);
    assert!(refused.code == 1 && refused.err.contains("CONFIG_NEEDS_RESTART"), "{}", refused.err);
    let tls = "{certificates: [{certificate: none.pem, key: none.key}]}";
    let refused =
        post(&mesh, "/v1/config", &format!("gateway: {{tls: {tls}}}\n{}", file(&one, "b", "")), "1");
    assert_eq!(refused.problem(), (409, "CONFIG_NEEDS_RESTART".into()));
    assert_eq!((paths(&mesh), history(&mesh).as_str()), (vec!["a"], "1* file -\n"));
}

#[test]
fn what_is_asked_for_may_come_out_of_a_pipe() {
    let one = Upstream::new();
    let mesh = up(&file(&one, "a", ""));
    let mut command = mesh.command();
    let command = command.args(["config", "apply", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(file(&one, "b", "").as_bytes()).unwrap();
    assert!(child.wait_with_output().unwrap().status.success());
    assert_eq!(paths(&mesh), ["b"]);
    let text = done(mesh.run(&["config", "schema"]));
    let schema: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
}

#[test]
fn one_that_is_killed_at_any_moment_comes_up_with_the_revision_that_was_written_down() {
    let one = Upstream::new();
    let mut mesh = up(&file(&one, "a", ""));
    let mut least = 1;
    for round in 0..4 {
        // Changes one after the other, until the process is gone in the middle of one.
        let (admin, token) = (mesh.admin, token(&mesh));
        let asking = std::thread::spawn({
            let texts = [file(&one, "b", ""), file(&one, "c", "")];
            move || {
                let mut answered = 0;
                for text in texts.iter().cycle() {
                    let request =
                        Request::new("POST", "/v1/config").key(&token).text("application/yaml", text);
                    let Ok(mut client) = testkit::Client::connect(admin) else { break };
                    let Ok(answer) = client.send(&request) else { break };
                    answered = answer.json()["revision"].as_u64().unwrap();
                }
                answered
            }
        });
        let wanted = format!("serviceos_config_revision {}", least + 2 + round);
        eventually("some changes", || {
            Request::new("GET", "/metrics").send(admin).text().contains(&wanted).then_some(())
        });
        mesh.signal(Signal::KILL);
        mesh.wait();
        let answered = asking.join().unwrap();
        mesh = mesh.up_again();
        let shown = json_of(&mesh, &["config", "show"]);
        let revision = shown["revision"].as_u64().unwrap();
        assert!(revision >= answered.max(least + 2), "what was answered is kept: {revision}, {answered}");
        let path = if shown["text"] == file(&one, "b", "") { "b" } else { "c" };
        assert_eq!(paths(&mesh), [path], "what is written down is what is served");
        assert_eq!(json_of(&mesh, &["config", "history"])[0]["revision"], revision);
        assert_eq!(mesh.run(&["audit", "verify"]).code, 0);
        least = revision;
    }
}
