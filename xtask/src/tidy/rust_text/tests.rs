use expect_test::expect;

use super::*;

#[test]
fn comments_and_literals_are_blanked_and_lines_stay() {
    let text = r###"fn f<'a>(x: &'a str) { // say "todo"
    let a = "quote \" inside"; let b = '"'; let c = '\''; let d = 'x';
    /* outer /* inner */ still */ let e = r#"raw " text"#; let f = br"bytes";
    let über = "ü"; let raw = r#type; g()
}"###;
    let blanked: String = code(text).lines().map(|line| format!("{}\n", line.trim_end())).collect();
    let squeezed = blanked.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    expect![[r#"
        fn f<'a>(x: &'a str) {
        let a = ; let b = ; let c = ; let d = ;
        let e = ; let f = ;
        let über = ; let raw = r#type; g()
        }"#]]
    .assert_eq(&squeezed.collect::<Vec<_>>().join("\n"));
    assert_eq!(code(text).lines().count(), text.lines().count());
}

#[test]
fn strings_have_their_line_and_those_of_tests_are_left_out() {
    let text = r##"
const A: &str = "A";
// "comment"
const B: &str = r#"B"B"#;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod more {
    const C: &str = "{C";
    fn f() {}
}
const D: &[u8] = b"D
E";
"##;
    assert_eq!(strings_outside_tests(text), [(2, "A"), (4, "B\"B"), (12, "D\nE")]);
}

#[test]
fn unfinished_text_ends_with_the_file() {
    for text in ["\"open", "/* open", "r#\"open", "'\\", "'", "#[cfg(test)] mod x {"] {
        assert_eq!(code(text).chars().count(), text.chars().count());
        strings_outside_tests(text);
    }
}
