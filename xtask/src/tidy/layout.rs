//! How files are named, how long they are, and how they begin. Long functions are clippy's business.

use super::Finding;
use super::files::SourceFile;

const LINES: usize = 500;
/// Tables of cases may be longer than code.
const LINES_OF_TESTS: usize = 800;

/// Departures of one Rust file.
pub(crate) fn check(file: &SourceFile) -> Vec<Finding> {
    [length(file), name(file), duty(file)]
        .into_iter()
        .flatten()
        .map(|reason| format!("{}: {reason}", file.path))
        .collect()
}

fn length(file: &SourceFile) -> Option<String> {
    let limit = if file.is_test() { LINES_OF_TESTS } else { LINES };
    let lines = file.text.lines().count();
    (lines > limit)
        .then(|| format!("{lines} lines, and {limit} are allowed; split it where its duties differ"))
}

fn name(file: &SourceFile) -> Option<String> {
    let folder = file.path.strip_suffix("/mod.rs")?;
    Some(format!("name it {folder}.rs, beside the folder"))
}

fn duty(file: &SourceFile) -> Option<String> {
    let is_module = file.path.starts_with("src/") || file.path.contains("/src/");
    if !is_module || file.is_test() || file.path.ends_with("/main.rs") {
        return None;
    }
    let first = file.text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    (!first.starts_with("//!"))
        .then(|| "begin with `//!`: the module's duty, and what it must not do".to_owned())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn findings(path: &str, text: &str) -> String {
        check(&SourceFile::new(path, text)).join("\n")
    }

    #[test]
    fn a_module_says_its_duty_first() {
        assert_eq!(findings("crates/a/src/b.rs", "\n//! Does b.\n"), "");
        expect!["crates/a/src/b.rs: begin with `//!`: the module's duty, and what it must not do"]
            .assert_eq(&findings("crates/a/src/b.rs", "use std::fmt;\n"));
        for exempt in [
            "crates/a/src/main.rs",
            "crates/a/src/b/tests.rs",
            "crates/a/tests/c.rs",
            "crates/a/examples/d.rs",
        ] {
            assert_eq!(findings(exempt, "use std::fmt;\n"), "");
        }
    }

    #[test]
    fn a_folder_has_its_module_beside_it() {
        expect!["crates/a/src/b/mod.rs: name it crates/a/src/b.rs, beside the folder"]
            .assert_eq(&findings("crates/a/src/b/mod.rs", "//! Does b.\n"));
    }

    #[test]
    fn tests_may_be_longer_than_code() {
        let text = format!("//! Long.\n{}", "\n".repeat(500));
        expect!["crates/a/src/b.rs: 501 lines, and 500 are allowed; split it where its duties differ"]
            .assert_eq(&findings("crates/a/src/b.rs", &text));
        assert_eq!(findings("crates/a/src/b/tests.rs", &text), "");
        assert_eq!(findings("crates/a/src/b.rs", text.trim_end()), "");
    }
}
