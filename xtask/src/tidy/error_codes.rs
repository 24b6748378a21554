//! Every error code has a page in `docs/errors/`, and every page a code.
//!
//! The codes are read from the sources' strings by their shape, since this program links no crate of the house.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use super::files::SourceFile;
use super::rust_text;

/// Where codes are given.
const SOURCES: [&str; 6] = [
    "crates/edge-gateway/src/",
    "crates/control/src/",
    "crates/appraisal/src/code.rs",
    "crates/mesh/src/",
    "crates/sdk/src/",
    "services/",
];
const PAGES: &str = "docs/errors/";
/// The folder's table of contents.
const INDEX: &str = "docs/errors/README.md";
/// Codes of a single word. Their shape would also fit a method or a currency, so that they are named here.
const SINGLE_WORDS: [&str; 3] = ["DRAINING", "OVERLOADED", "REVOKED"];
/// Strings in the shape of a code that are none: names of environment variables.
const NO_CODES: [&str; 4] = ["CARGO_MANIFEST_DIR", "CARGO_PKG_VERSION", "RUST_LOG", "SERVICEOS_DATA_DIR"];

/// Codes without a page, and pages without a code.
pub(crate) fn check(files: &[SourceFile]) -> Vec<Finding> {
    let codes = codes(files);
    let pages: BTreeSet<&str> = files.iter().filter_map(page).collect();
    let without_page = codes.iter().filter(|(code, _)| !pages.contains(*code)).map(|(code, place)| {
        format!(
            "{place}: {code} has no page; write {PAGES}{code}.md: what it means, why it happens, what to do"
        )
    });
    let without_code = pages.iter().filter(|page| !codes.contains_key(*page)).map(|page| {
        format!("{PAGES}{page}.md: no source gives this code; delete the page, or give the code")
    });
    without_page.chain(without_code).collect()
}

/// Each code with the place where it is given first.
fn codes(files: &[SourceFile]) -> BTreeMap<&str, String> {
    let gives_codes = |file: &&SourceFile| {
        let is_source =
            SOURCES.iter().any(|folder| file.path.starts_with(folder)) && file.path.contains("/src/");
        file.is_rust() && is_source && !file.is_test()
    };
    let mut codes = BTreeMap::new();
    for file in files.iter().filter(gives_codes) {
        for (line, text) in rust_text::strings_outside_tests(&file.text) {
            if let Some(code) = code_in(text) {
                codes.entry(code).or_insert_with(|| format!("{}:{line}", file.path));
            }
        }
    }
    codes
}

fn page(file: &SourceFile) -> Option<&str> {
    file.path.strip_prefix(PAGES).filter(|_| file.path != INDEX)?.strip_suffix(".md")
}

/// The code that a string is, or begins with: an error that only the operator sees reads `CODE: what happened`.
fn code_in(text: &str) -> Option<&str> {
    let word = text.split_once(": ").map_or(text, |(code, _)| code);
    is_code(word).then_some(word)
}

/// Words of capitals and digits joined by `_`, the first letter a capital.
fn is_code(text: &str) -> bool {
    if SINGLE_WORDS.contains(&text) {
        return true;
    }
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
    };
    text.starts_with(|first: char| first.is_ascii_uppercase())
        && text.contains('_')
        && text.split('_').all(is_word)
        && !NO_CODES.contains(&text)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_code_is_known_by_its_shape() {
        for code in ["ROUTE_NOT_FOUND", "VRF_BAD_RANGE2", "OVERLOADED"] {
            assert!(is_code(code), "{code}");
        }
        for other in
            ["GET", "Route_Not", "_A_B", "A__B", "A_", "1_A", "ECVRF-EDWARDS25519_SHA512", "RUST_LOG", ""]
        {
            assert!(!is_code(other), "{other}");
        }
    }

    #[test]
    fn codes_and_pages_are_held_against_each_other() {
        let files = [
            SourceFile::new(
                "crates/control/src/a.rs",
                "const A: &str = \"\";\nconst B: &str = \"KEY_UNKNOWN\";",
            ),
            SourceFile::new("services/vrf/src/api.rs", "f(\"VRF_BAD_RANGE\"); // \"VRF_IN_COMMENT\""),
            SourceFile::new("services/vrf/src/keys.rs", "#[error(\"KEY_BROKEN: epoch {epoch}\")]"),
            SourceFile::new("services/vrf/src/api/tests.rs", "f(\"ONLY_IN_TESTS\");"),
            SourceFile::new("services/vrf/examples/b.rs", "f(\"ONLY_IN_EXAMPLES\");"),
            SourceFile::new("crates/store/src/c.rs", "f(\"NOT_A_CLIENTS_BUSINESS\");"),
            SourceFile::new("docs/errors/README.md", ""),
            SourceFile::new("docs/errors/VRF_BAD_RANGE.md", ""),
            SourceFile::new("docs/errors/GONE_SINCE.md", ""),
        ];
        expect![[r#"
            services/vrf/src/keys.rs:1: KEY_BROKEN has no page; write docs/errors/KEY_BROKEN.md: what it means, why it happens, what to do
            crates/control/src/a.rs:2: KEY_UNKNOWN has no page; write docs/errors/KEY_UNKNOWN.md: what it means, why it happens, what to do
            docs/errors/GONE_SINCE.md: no source gives this code; delete the page, or give the code"#]]
        .assert_eq(&check(&files).join("\n"));
    }
}
