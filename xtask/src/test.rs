//! `cargo xtask test`: everything that can be tested on this machine, and a list of what could not.
//!
//! Progress goes to standard error, where cargo and its test runners write theirs, so that the order holds.

mod install;
mod programs;

use std::process::{Command, ExitCode, ExitStatus, Stdio};

use anyhow::Context;

use crate::cargo::{cargo, root, shown};
use programs::PROGRAMS;

/// What to do about programs that tests want and the machine lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Install {
    /// Install their Debian packages.
    Missing,
    /// Only name them.
    Nothing,
}

impl Install {
    /// CI installs without being asked.
    pub(crate) fn from_environment() -> Self {
        if std::env::var("CI").is_ok_and(|value| value == "true" || value == "1") {
            Self::Missing
        } else {
            Self::Nothing
        }
    }
}

/// Runs the tests and exits with their runner's code.
///
/// # Errors
///
/// Cargo cannot be started.
pub(crate) fn run(install: Install) -> anyhow::Result<ExitCode> {
    let mut missing = programs::missing(PROGRAMS);
    if install == Install::Missing && !missing.is_empty() {
        match install::install(&missing) {
            Ok(()) => eprintln!("xtask: installed what was missing"),
            Err(error) => eprintln!("xtask: cannot install what is missing: {error:#}"),
        }
        missing = programs::missing(PROGRAMS);
    }
    let skipped = skipped(&missing);
    say_skipped(&skipped);

    let code = run_tests()?;
    say_skipped(&skipped);
    Ok(code)
}

fn run_tests() -> anyhow::Result<ExitCode> {
    // The integration tests start the real binary, which cargo builds by itself only for tests of its own package.
    let build = stream(cargo(&["build", "--workspace", "--bins"]))?;
    if !build.success() {
        return Ok(code_of(build));
    }
    let examples = test_documentation()?;
    let tests = stream(runner())?;
    Ok(code_of(if tests.success() { examples } else { tests }))
}

/// Runs the examples in the documentation. They come first, and are silent where there are none, so that the
/// summary of the tests stands last.
fn test_documentation() -> anyhow::Result<ExitStatus> {
    let mut command = cargo(&["test", "--doc", "--workspace", "--no-fail-fast"]);
    let shown = shown(&command);
    eprintln!("xtask: {shown}");
    let output =
        command.stderr(Stdio::inherit()).output().with_context(|| format!("failed to start `{shown}`"))?;
    let report = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || has_tests(&report) {
        eprint!("{report}");
    }
    Ok(output.status)
}

fn has_tests(report: &str) -> bool {
    report.lines().any(|line| line.starts_with("running ") && line != "running 0 tests")
}

/// Nextest where it is installed, for its single summary at the end; else cargo's own runner.
fn runner() -> Command {
    let nextest = cargo(&["nextest", "--version"]).output().is_ok_and(|output| output.status.success());
    if nextest {
        cargo(&["nextest", "run", "--workspace", "--no-fail-fast"])
    } else {
        // Targets are named, because cargo would run the examples of the documentation again, and last.
        cargo(&["test", "--workspace", "--no-fail-fast", "--lib", "--bins", "--tests"])
    }
}

/// Lines that say what this machine cannot test.
fn skipped(missing: &[&programs::Program]) -> Vec<String> {
    let programs = missing.iter().map(|program| {
        format!(
            "{}: {} is not installed (Debian package {})",
            program.wanted_for, program.name, program.package
        )
    });
    let vectors = (!root().join("../shared/vectors").is_dir())
        .then(|| "comparison with published test vectors: the folder ../shared/vectors is absent".to_owned());
    programs.chain(vectors).chain(namespaces_refused()).collect()
}

/// What the kernel, or the container around, says against network namespaces: nothing that could be installed.
fn namespaces_refused() -> Option<String> {
    let output = Command::new("unshare").args(["--net", "true"]).output();
    let reason = match output {
        Ok(output) if output.status.success() => return None,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => format!("unshare: {error}"),
    };
    Some(format!("two nodes in network namespaces: they are not allowed here: {reason}"))
}

fn say_skipped(skipped: &[String]) {
    for line in skipped {
        eprintln!("xtask: skipped: {line}");
    }
}

fn stream(mut command: Command) -> anyhow::Result<ExitStatus> {
    let shown = shown(&command);
    eprintln!("xtask: {shown}");
    command.status().with_context(|| format!("failed to start `{shown}`"))
}

/// The runner's own code; one that a signal killed has none.
pub(crate) fn code_of(status: ExitStatus) -> ExitCode {
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}
