//! What must not stand in Rust code: silenced lints, skipped tests, unfinished ends.

use super::Finding;
use super::files::SourceFile;
use super::rust_text;

/// Attributes, inner and outer, and what to do instead.
const ATTRIBUTES: [(&str, &str); 2] = [
    ("allow", "write #[expect(lint, reason = \"…\")] where it is needed"),
    ("ignore", "make the test deterministic, or delete it"),
];

/// Macros, and what to do instead.
const MACROS: [(&str, &str); 3] = [
    ("todo", "finish it, or return an error that says what is not supported"),
    ("unimplemented", "finish it, or return an error that says what is not supported"),
    ("dbg", "remove it"),
];

/// The words in one Rust file, comments and strings left out.
pub(crate) fn check(file: &SourceFile) -> Vec<Finding> {
    let code = rust_text::code(&file.text);
    let mut findings = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let attributes = ATTRIBUTES.iter().filter(|(name, _)| has_attribute(line, name));
        let macros = MACROS.iter().filter(|(name, _)| calls_macro(line, name));
        for (name, advice) in attributes.chain(macros) {
            findings.push(format!("{}:{}: `{name}`: {advice}", file.path, number + 1));
        }
    }
    findings
}

/// `ignore` has no bracket behind it, or has a reason.
fn has_attribute(line: &str, name: &str) -> bool {
    ["#[", "#!["].iter().any(|opening| {
        line.match_indices(&format!("{opening}{name}"))
            .any(|(at, found)| !begins_with_letter(&line[at + found.len()..]))
    })
}

fn calls_macro(line: &str, name: &str) -> bool {
    line.match_indices(&format!("{name}!(")).any(|(at, _)| !line[..at].ends_with(is_letter))
}

fn begins_with_letter(text: &str) -> bool {
    text.starts_with(is_letter)
}

fn is_letter(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn words_are_found_in_code_and_not_in_comments_strings_or_longer_names() {
        // `@` keeps the words from being found in this file by other means.
        let text = r##"
            // A comment may say @todo!() and #[@allow(dead_code)].
            #[@allow(dead_code)]
            fn f() { let text = "@dbg!(1)"; my_todo!(); @todo!("later") }
            #[@ignore = "slow"]
            #![@allow(unused)]
            #[@ignored]
            #[@ignore]
        "##;
        expect![[r#"
            a.rs:3: `allow`: write #[expect(lint, reason = "…")] where it is needed
            a.rs:4: `todo`: finish it, or return an error that says what is not supported
            a.rs:5: `ignore`: make the test deterministic, or delete it
            a.rs:6: `allow`: write #[expect(lint, reason = "…")] where it is needed
            a.rs:8: `ignore`: make the test deterministic, or delete it"#]]
        .assert_eq(&check(&SourceFile::new("a.rs", &text.replace('@', ""))).join("\n"));
    }
}
