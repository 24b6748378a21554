//! Every crate has the workspace's lints, and the workspace forbids `unsafe`.

use toml::Table;

use super::Finding;
use super::files::SourceFile;

/// The manifests that depart from the lint set.
pub(crate) fn check(files: &[SourceFile]) -> Vec<Finding> {
    let manifests =
        files.iter().filter(|file| file.path == "Cargo.toml" || file.path.ends_with("/Cargo.toml"));
    manifests.filter_map(|file| refusal(file).map(|reason| format!("{}: {reason}", file.path))).collect()
}

fn refusal(manifest: &SourceFile) -> Option<String> {
    let table: Table = match manifest.text.parse() {
        Ok(table) => table,
        Err(error) => return Some(format!("not TOML: {error}")),
    };
    let at = |path: &[&str]| {
        let (last, folders) = path.split_last()?;
        folders.iter().try_fold(&table, |table, key| table.get(*key)?.as_table())?.get(*last)
    };
    if manifest.path == "Cargo.toml" {
        let level = at(&["workspace", "lints", "rust", "unsafe_code"]);
        let level = level.and_then(|value| value.as_str().or_else(|| value.get("level")?.as_str()));
        return (level != Some("forbid"))
            .then(|| "[workspace.lints.rust] must say `unsafe_code = \"forbid\"`".to_owned());
    }
    let inherits = at(&["lints", "workspace"]).and_then(toml::Value::as_bool) == Some(true);
    (!inherits).then(|| "the crate must say `[lints]` and `workspace = true`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finds(path: &str, text: &str) -> bool {
        !check(&[SourceFile::new(path, text)]).is_empty()
    }

    #[test]
    fn a_crate_inherits_the_lints_in_either_spelling() {
        assert!(!finds("crates/a/Cargo.toml", "[lints]\nworkspace = true\n"));
        assert!(!finds("crates/a/Cargo.toml", "lints.workspace = true\n"));
        assert!(finds("crates/a/Cargo.toml", "[lints]\nworkspace = false\n"));
        assert!(finds("crates/a/Cargo.toml", "[lints.rust]\nunsafe_code = \"allow\"\n"));
        assert!(finds("crates/a/Cargo.toml", "[package]\nname = \"a\"\n"));
        assert!(finds("crates/a/Cargo.toml", "[package\n"));
    }

    #[test]
    fn the_workspace_forbids_unsafe() {
        assert!(!finds("Cargo.toml", "[workspace.lints.rust]\nunsafe_code = \"forbid\"\n"));
        assert!(finds("Cargo.toml", "[workspace.lints.rust]\nunsafe_code = \"deny\"\n"));
        assert!(finds("Cargo.toml", "[workspace]\n"));
    }
}
