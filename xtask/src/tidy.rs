//! `cargo xtask tidy`: the house rules that neither rustc nor clippy knows. It reads, and changes nothing.
//!
//! Every check is a pure function from texts to findings; all findings are reported at once.

mod arrows;
mod banned;
mod error_codes;
mod files;
mod layout;
mod lint_set;
mod machine_paths;
mod rust_text;
mod words;

use std::process::ExitCode;

use files::SourceFile;

/// One breach of a rule: where, and what to do.
pub(crate) type Finding = String;

/// Runs every check and prints what they find.
///
/// # Errors
///
/// Git or cargo cannot be run, or a file cannot be read.
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let root = crate::cargo::root();
    let files = files::read(&root)?;
    let packages = arrows::packages()?;

    let mut findings = arrows::check(&packages);
    findings.extend(banned::check()?);
    findings.extend(lint_set::check(&files));
    findings.extend(error_codes::check(&files));
    for file in &files {
        findings.extend(machine_paths::check(file));
    }
    for file in files.iter().filter(|file| file.is_rust()) {
        findings.extend(layout::check(file));
        findings.extend(words::check(file));
    }
    Ok(report(&files, &findings))
}

fn report(files: &[SourceFile], findings: &[Finding]) -> ExitCode {
    for finding in findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        println!("tidy: nothing found in {} files", files.len());
        return ExitCode::SUCCESS;
    }
    println!("tidy: {} found", findings.len());
    ExitCode::FAILURE
}
