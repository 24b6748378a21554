//! The files of the project: what git tracks, and what it would track if one added it.

use std::path::Path;
use std::process::Command;

use anyhow::Context;

use crate::cargo::output;

/// A file and its text.
#[derive(Debug)]
pub(crate) struct SourceFile {
    /// Relative to the root, with `/` between the folders.
    pub(crate) path: String,
    /// What is not UTF-8 is replaced.
    pub(crate) text: String,
}

impl SourceFile {
    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether the file holds nothing but tests.
    pub(crate) fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/") || self.path.starts_with("tests/")
    }
}

/// Every file that is tracked, or neither tracked nor ignored.
///
/// # Errors
///
/// Git cannot be run, or a file cannot be read.
pub(crate) fn read(root: &Path) -> anyhow::Result<Vec<SourceFile>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"]).current_dir(root);
    let listing = String::from_utf8(output(git)?).context("a file's name is not UTF-8")?;
    let mut paths: Vec<&str> = listing.split_terminator('\0').collect();
    paths.sort_unstable();
    paths.dedup();

    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        // Deleted but not yet committed, or a link to a folder.
        if !root.join(path).is_file() {
            continue;
        }
        let bytes = std::fs::read(root.join(path)).with_context(|| format!("failed to read {path}"))?;
        files.push(SourceFile { path: path.to_owned(), text: String::from_utf8_lossy(&bytes).into_owned() });
    }
    Ok(files)
}

#[cfg(test)]
impl SourceFile {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }
}
