//! The examples in the documents are tests: every YAML file is valid, every command works as it is printed.

use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::{Authority, Mesh, has_program};

/// The fenced blocks of a language, with the file and line that they begin at.
fn blocks(language: &str, files: &[&str]) -> Vec<(String, String)> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    files.iter().flat_map(|file| blocks_of(language, &root.join(file), file)).collect()
}

fn blocks_of(language: &str, path: &Path, name: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut found = Vec::new();
    let mut open: Option<(String, String)> = None;
    for (number, line) in text.lines().enumerate() {
        match &mut open {
            Some(_) if line == "```" => found.extend(open.take()),
            Some((_, block)) => *block += &format!("{line}\n"),
            None if *line == format!("```{language}") => {
                open = Some((format!("{name}:{}", number + 1), String::new()));
            }
            None => {}
        }
    }
    found
}

#[test]
fn every_yaml_example_is_a_valid_file() {
    let examples = blocks(
        "yaml",
        &[
            "README.md",
            "docs/configuration.md",
            "docs/commands.md",
            "docs/operations.md",
            "docs/capabilities.md",
            "docs/signed-requests.md",
        ],
    );
    assert!(examples.len() >= 3, "{examples:?}");
    for (place, example) in examples {
        let mesh = Mesh::new();
        mesh.write(&example);
        write_certificates(&mesh, &example);
        let finished = mesh.run(&["config", "validate"]);
        assert_eq!(finished.code, 0, "{place}: {}", finished.err);
    }
    let own = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../serviceos.yaml")).unwrap();
    let mesh = Mesh::new();
    mesh.write(&own);
    assert_eq!(mesh.run(&["config", "validate"]).out, "serviceos.yaml is valid: 3 services, 7 replicas\n");
}

/// The files that an example names, which are read too.
fn write_certificates(mesh: &Mesh, example: &str) {
    let authority = Authority::new("an example");
    let words = || example.split(|byte: char| byte.is_whitespace() || "{},[]".contains(byte));
    for path in words().filter_map(|word| word.strip_suffix(".pem")) {
        let (folder, name) = path.rsplit_once('/').unwrap();
        let folder = mesh.folder().join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        authority.certificate(&["localhost"]).write(&folder, name);
    }
}

#[test]
fn every_command_works_as_it_is_printed() {
    if !has_program("curl") {
        return;
    }
    let mesh = Mesh::new().service("vrf", 1).service("datafeed", 1).service("oracle", 1).up();
    testkit::eventually("a first price", || (mesh.get("/v1/price/BTC-USD").status == 200).then_some(()));
    let mut tried = 0;
    for (place, command) in blocks("sh", &["README.md", "docs/operations.md"]) {
        let command = command.trim();
        // Building is the business of whoever runs this test; starting and stopping have tests of their own.
        let elsewhere = command.starts_with("cargo ")
            || command.starts_with("serviceos up")
            || command == "serviceos down";
        if elsewhere {
            continue;
        }
        tried += 1;
        if let Some(arguments) = command.strip_prefix("serviceos ") {
            let finished = mesh.run(&arguments.split_whitespace().collect::<Vec<_>>());
            assert_eq!(finished.code, 0, "{place}: {}", finished.err);
        } else {
            let here = command
                .replace("127.0.0.1:8080", &mesh.gateway.to_string())
                .replace("127.0.0.1:7070", &mesh.admin.to_string());
            let run = Command::new("sh")
                .args(["-ec", &here])
                .env("KEY", &mesh.key)
                .current_dir(mesh.folder())
                .output();
            let output = run.unwrap();
            let answer = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && !answer.is_empty(), "{place}: {here}: {output:?}");
            let refused = answer.contains("urn:serviceos:error:");
            let meant_to_be = answer.contains("ORACLE_NOT_ALLOWED") && command.contains("/v1/oracle/");
            assert!(!refused || meant_to_be, "{place}: {here}: {answer}");
        }
    }
    assert!(tried >= 8, "only {tried} commands were found");
}

#[test]
fn every_test_that_the_security_model_names_exists() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = std::fs::read_to_string(root.join("docs/security-model.md")).unwrap();
    let named: Vec<_> = text
        .split('`')
        .filter_map(|command| command.strip_prefix("cargo test -p ")?.split_once(' '))
        .collect();
    assert!(named.len() >= 12, "{named:?}");
    for (package, filter) in named {
        let Some(filter) = filter.strip_prefix("--test it ") else {
            let source =
                if package == "xtask" { root.join("xtask") } else { root.join("crates").join(package) };
            assert!(has_test(&source.join("src"), filter), "{package} has no test {filter}");
            continue;
        };
        let listed =
            Command::new(std::env::current_exe().unwrap()).args(["--list", filter]).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        assert!(listed.contains(": test"), "{package} has no test {filter}");
    }
}

/// Whether a test below this folder has a name that begins so.
fn has_test(folder: &Path, begin: &str) -> bool {
    let wanted = format!("fn {begin}");
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            has_test(&path, begin)
        } else {
            std::fs::read_to_string(path).unwrap().contains(&wanted)
        }
    })
}
