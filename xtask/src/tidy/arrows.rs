//! Which crate may depend on which: the table of the architecture, held against `cargo metadata`.
//!
//! Development dependencies are free, except on `dev-quoter`: evidence that anybody can make must not be in reach.

use serde::Deserialize;

use super::Finding;
use crate::cargo::{cargo, output};

/// What every crate may use besides what the table names.
const FOR_EVERYONE: [&str; 3] = ["types", "configuration", "observability"];
/// They judge or run what is built, and link none of it.
const LINKS_NOTHING: [&str; 2] = ["xtask", "bench"];
/// Only the binary may have it, and only behind a feature.
const DEV_QUOTER: &str = "dev-quoter";
/// May have everything but what `NEVER_SHIPPED` names.
const BINARY: &str = "serviceos";
const NEVER_SHIPPED: [&str; 3] = ["testkit", "xtask", "bench"];

/// A crate, and the crates that it may use.
const ARROWS: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("configuration", &[]),
    ("observability", &[]),
    ("store", &[]),
    ("mesh-protocol", &[]),
    ("outbound", &[]),
    ("http1", &[]),
    ("strict-json", &[]),
    ("validation", &["strict-json"]),
    ("secrets", &["store"]),
    ("appraisal", &["mesh-protocol"]),
    ("trust", &["appraisal", "mesh-protocol", "secrets", "store"]),
    ("dev-quoter", &["mesh-protocol"]),
    ("service-registry", &["store"]),
    ("access", &["store", "secrets", "outbound", "strict-json"]),
    ("service-router", &["http1", "service-registry", "trust"]),
    ("shared-limits", &["access"]),
    ("edge-gateway", &["http1", "service-router", "access", "shared-limits", "trust", "validation"]),
    ("service-lifecycle", &["service-registry", "trust"]),
    (
        "mesh",
        &["mesh-protocol", "appraisal", "service-registry", "service-lifecycle", "trust", "secrets", "store"],
    ),
    (
        "control",
        &[
            "store",
            "mesh-protocol",
            "outbound",
            "http1",
            "secrets",
            "appraisal",
            "trust",
            "service-registry",
            "access",
            "service-router",
            "shared-limits",
            "edge-gateway",
            "service-lifecycle",
            "mesh",
        ],
    ),
    ("sdk", &["mesh-protocol", "appraisal"]),
    ("launcher", &["mesh-protocol", "sdk"]),
    ("vrf", &["sdk"]),
    ("datafeed", &["sdk", "outbound"]),
    ("oracle", &["sdk", "outbound"]),
    (BINARY, &[]),
    ("testkit", &[BINARY]),
    ("xtask", &[]),
    ("bench", &[]),
];

/// A crate of the workspace.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    kind: Option<Kind>,
    optional: bool,
    /// Present for crates of the workspace only.
    path: Option<String>,
}

/// Absent where the dependency is an ordinary one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Dev,
    Build,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

/// The crates of this workspace.
///
/// # Errors
///
/// Cargo fails, or a manifest is broken.
pub(crate) fn packages() -> anyhow::Result<Vec<Package>> {
    let json = output(cargo(&["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: Metadata = serde_json::from_slice(&json)?;
    Ok(metadata.packages)
}

/// The arrows that the table does not have.
pub(crate) fn check(packages: &[Package]) -> Vec<Finding> {
    packages.iter().flat_map(check_package).collect()
}

fn check_package(package: &Package) -> Vec<Finding> {
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == package.name) else {
        return vec![format!(
            "{}: not in the table of allowed arrows; give it a row in xtask/src/tidy/arrows.rs and in ARCHITECTURE.md",
            package.name
        )];
    };
    let ours = package.dependencies.iter().filter(|dependency| dependency.path.is_some());
    ours.filter_map(|dependency| refusal(&package.name, allowed, dependency))
        .map(|reason| format!("{}: {reason}", package.name))
        .collect()
}

/// Why `from` may not have the dependency.
fn refusal(from: &str, allowed: &[&str], dependency: &Dependency) -> Option<String> {
    let to = dependency.name.as_str();
    if to == DEV_QUOTER {
        let behind_feature = from == BINARY && dependency.optional && dependency.kind != Some(Kind::Dev);
        return (!behind_feature).then(|| {
            format!("only {BINARY} may depend on {to}, with `optional = true`, for its feature `development`")
        });
    }
    if dependency.kind == Some(Kind::Dev) || is_allowed(from, allowed, to) {
        return None;
    }
    Some(format!(
        "{from} may not depend on {to}; move the code to where the arrow is allowed, \
         or change the table in xtask/src/tidy/arrows.rs and say why"
    ))
}

fn is_allowed(from: &str, allowed: &[&str], to: &str) -> bool {
    if LINKS_NOTHING.contains(&from) || NEVER_SHIPPED.contains(&to) {
        return false;
    }
    from == BINARY || FOR_EVERYONE.contains(&to) || allowed.contains(&to)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    /// Lines such as `secrets -> store` or `sdk -dev-> testkit`; `-optional->` is an optional dependency.
    fn check_graph(lines: &str, expected: Expect) {
        let packages: Vec<Package> = lines.lines().map(|line| package(line.trim())).collect();
        expected.assert_eq(&check(&packages).join("\n"));
    }

    fn package(line: &str) -> Package {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, arrow, to] = words[..] else {
            return Package { name: line.to_owned(), dependencies: Vec::new() };
        };
        let kind = match arrow {
            "-dev->" => Some(Kind::Dev),
            "-build->" => Some(Kind::Build),
            _ => None,
        };
        let path = (arrow != "-registry->").then(|| format!("crates/{to}"));
        let dependency = Dependency { name: to.to_owned(), kind, optional: arrow == "-optional->", path };
        Package { name: name.to_owned(), dependencies: vec![dependency] }
    }

    #[test]
    fn arrows_of_the_table_pass() {
        check_graph(
            "types
             secrets -> store
             access -> types
             oracle -> observability
             observability -> configuration
             control -> edge-gateway
             serviceos -> vrf
             serviceos -dev-> testkit
             store -dev-> access
             store -registry-> trust",
            expect![""],
        );
    }

    #[test]
    fn other_arrows_are_found_build_dependencies_too() {
        check_graph(
            "store -> secrets
             sdk -build-> trust
             serviceos -> testkit
             xtask -> types",
            expect![[r#"
                store: store may not depend on secrets; move the code to where the arrow is allowed, or change the table in xtask/src/tidy/arrows.rs and say why
                sdk: sdk may not depend on trust; move the code to where the arrow is allowed, or change the table in xtask/src/tidy/arrows.rs and say why
                serviceos: serviceos may not depend on testkit; move the code to where the arrow is allowed, or change the table in xtask/src/tidy/arrows.rs and say why
                xtask: xtask may not depend on types; move the code to where the arrow is allowed, or change the table in xtask/src/tidy/arrows.rs and say why"#]],
        );
    }

    #[test]
    fn a_crate_that_the_table_does_not_know_is_found() {
        check_graph(
            "utils",
            expect![
                "utils: not in the table of allowed arrows; give it a row in xtask/src/tidy/arrows.rs and in ARCHITECTURE.md"
            ],
        );
    }

    #[test]
    fn development_evidence_is_in_reach_of_one_feature_of_the_binary() {
        check_graph(
            "serviceos -optional-> dev-quoter
             serviceos -> dev-quoter
             appraisal -dev-> dev-quoter",
            expect![[r#"
                serviceos: only serviceos may depend on dev-quoter, with `optional = true`, for its feature `development`
                appraisal: only serviceos may depend on dev-quoter, with `optional = true`, for its feature `development`"#]],
        );
    }

    #[test]
    fn metadata_of_cargo_is_understood() {
        let json = r#"{"packages": [{"name": "secrets", "id": "path+file:///x", "dependencies": [
            {"name": "store", "kind": null, "optional": false, "path": "/x/store", "features": []},
            {"name": "tempfile", "kind": "dev", "optional": false}
        ]}]}"#;
        let metadata: Metadata = serde_json::from_str(json).unwrap();
        let kinds: Vec<_> = metadata.packages[0]
            .dependencies
            .iter()
            .map(|found| (found.kind, found.path.is_some()))
            .collect();
        assert_eq!(kinds, [(None, true), (Some(Kind::Dev), false)]);
    }
}
