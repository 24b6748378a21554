//! Where and with what the figures were made: without that they mean nothing.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde::Serialize;

use crate::bench::{Programs, installed};
use crate::subject::Subject;

/// The machine, the programs, the moment.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    pub(crate) date: String,
    pub(crate) command: String,
    /// Name, and version or that it is not installed.
    pub(crate) programs: Vec<(String, String)>,
}

/// Looks around.
///
/// # Errors
///
/// `/proc` cannot be read.
pub(crate) fn describe(programs: &Programs) -> anyhow::Result<Machine> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let versions = Subject::ALL.into_iter().filter(|subject| *subject != Subject::Floor).map(|subject| {
        let version =
            programs.find(subject).map_or_else(|error| error.to_string(), |path| ask(subject, path));
        (subject.name().to_owned(), version)
    });
    let tools = ["wrk", "h2load"].map(|name| {
        let version =
            installed(name).map(|path| first_line(&path, &[if name == "wrk" { "-v" } else { "--version" }]));
        (name.to_owned(), version.unwrap_or_else(|| "not installed".to_owned()))
    });
    Ok(Machine {
        cpu: model.map_or("unknown", |(_, model)| model).to_owned(),
        cores: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        date: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
        command: std::iter::once("cargo xtask bench".to_owned())
            .chain(std::env::args().skip(1))
            .collect::<Vec<_>>()
            .join(" "),
        programs: versions.chain(tools).collect(),
    })
}

/// That the repository in `folder` holds what its last commit does, files that git does not know yet included.
///
/// # Errors
///
/// It does not, or git cannot be asked: nobody could measure the same again.
pub(crate) fn check_committed(folder: &Path) -> anyhow::Result<()> {
    let mut git = Command::new("git");
    git.args(["status", "--porcelain", "--untracked-files=normal"]).current_dir(folder).stdin(Stdio::null());
    // Set where a hook of git's runs this, for another repository perhaps.
    git.env_remove("GIT_DIR").env_remove("GIT_INDEX_FILE").env_remove("GIT_WORK_TREE");
    let output = git.output().context("failed to start git, which says what is measured")?;
    if !output.status.success() {
        bail!("git cannot say what is measured: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    if !output.stdout.is_empty() {
        bail!(
            "nothing was measured: results are published of a commit, so that others can measure the same, and these files \
             are not committed; commit or stash them, or leave --publish out\n{}",
            String::from_utf8_lossy(&output.stdout).trim_end()
        );
    }
    Ok(())
}

fn ask(subject: Subject, path: &Path) -> String {
    let version = first_line(
        path,
        &[if subject == Subject::Nginx || subject == Subject::Haproxy { "-v" } else { "--version" }],
    );
    if subject == Subject::Serviceos { format!("{version}{}", commit()) } else { version }
}

/// The first line that a program says of itself, on either output; nginx and wrk use the wrong one.
fn first_line(path: &Path, arguments: &[&str]) -> String {
    let Ok(output) = Command::new(path).args(arguments).stdin(Stdio::null()).output() else {
        return "unknown".to_owned();
    };
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    let line = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("unknown");
    // Envoy says where it lies.
    line.rsplit("version: ").next().unwrap_or(line).trim().to_owned()
}

/// The commit that was built, where git knows it.
fn commit() -> String {
    let output = Command::new("git").args(["describe", "--always", "--dirty"]).stderr(Stdio::null()).output();
    let said = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    said.ok().filter(|said| !said.is_empty()).map_or_else(String::new, |said| format!(" (commit {said})"))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn git(folder: &Path, arguments: &[&str]) {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=a", "-c", "user.email=a@a.test", "-c", "commit.gpgsign=false"]);
        // Of a hook of git's, which would lead to the repository that it runs in.
        git.env_remove("GIT_DIR").env_remove("GIT_INDEX_FILE");
        let output = git.args(arguments).current_dir(folder).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    #[test]
    fn only_a_commit_is_published() {
        let folder = tempfile::tempdir().unwrap();
        let refused = || check_committed(folder.path()).unwrap_err().to_string();
        git(folder.path(), &["init", "--quiet"]);
        fs::write(folder.path().join("new.rs"), "1").unwrap();
        expect![[r#"
            nothing was measured: results are published of a commit, so that others can measure the same, and these files are not committed; commit or stash them, or leave --publish out
            ?? new.rs"#]].assert_eq(&refused());
        git(folder.path(), &["add", "new.rs"]);
        git(folder.path(), &["commit", "--quiet", "-m", "a"]);
        check_committed(folder.path()).unwrap();
        fs::write(folder.path().join("new.rs"), "2").unwrap();
        assert!(refused().ends_with("\n M new.rs"), "{}", refused());
    }
}
