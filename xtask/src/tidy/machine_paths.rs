//! The project speaks of itself alone: no path of the machine on which it was written.

use super::Finding;
use super::files::SourceFile;

/// Folders at a machine's root. Without their slashes, so that this file passes its own check.
const FOLDERS: [&str; 3] = ["work", "root", "farm"];
/// The build machine may know itself.
const EXEMPT: &str = ".ci/";

/// The lines of one file that name such a folder.
pub(crate) fn check(file: &SourceFile) -> Vec<Finding> {
    if file.path.starts_with(EXEMPT) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        for folder in FOLDERS.iter().filter(|folder| names(line, folder)) {
            findings.push(format!(
                "{}:{}: names the machine's folder {folder:?}; use a path relative to the project, or one that any machine has",
                file.path,
                number + 1
            ));
        }
    }
    findings
}

/// Whether an absolute path in `line` begins with `folder`; `a/folder/b` and `./folder/b` do not.
fn names(line: &str, folder: &str) -> bool {
    line.match_indices(&format!("/{folder}/")).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|letter| letter.is_alphanumeric() || "_-.}".contains(letter))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_paths_of_a_machine_are_found() {
        let at = |before: &str, folder: &str| format!("{before}/{folder}/main/a.rs");
        assert!(names(&at("see ", "work"), "work"));
        assert!(names(&at("\"", "root"), "root"));
        assert!(names(&at("file://", "root"), "root"));
        assert!(!names(&at("https://example.com", "work"), "work"));
        assert!(!names(&at("..", "root"), "root"));
        assert!(!names("homework/", "work"));
    }

    #[test]
    fn the_finding_names_the_line() {
        let text = format!("first\nsee /{}/main\n", "farm");
        let found = check(&SourceFile::new("docs/a.md", &text));
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("docs/a.md:2: "), "{found:?}");
        assert!(check(&SourceFile::new(".ci/run", &text)).is_empty());
    }
}
