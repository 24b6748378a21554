//! Fills `{{name}}` in the configurations of `bench/peers`, which stay readable as they are.

use anyhow::{Context, bail};

/// The template with every name replaced by its value.
///
/// # Errors
///
/// The template has a name that `values` lacks, or `{{` without an end.
pub(crate) fn fill(template: &str, values: &[(&str, String)]) -> anyhow::Result<String> {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").context("a template has `{{` without `}}`")?;
        let Some((_, value)) = values.iter().find(|(known, _)| *known == name) else {
            bail!("a template has the unknown name `{name}`");
        };
        filled.push_str(before);
        filled.push_str(value);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// What the comments `# note:` of a template admit; the report repeats it.
pub(crate) fn notes(template: &str) -> Vec<String> {
    template.lines().filter_map(|line| line.trim().strip_prefix("# note: ")).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_replaced_and_unknown_ones_are_mistakes() {
        let values = [("port", "80".to_owned())];
        assert_eq!(fill("listen {{port}}; {a: {{port}}}", &values).unwrap(), "listen 80; {a: 80}");
        assert!(fill("{{prot}}", &values).is_err());
        assert!(fill("{{port", &values).is_err());
    }

    #[test]
    fn notes_are_the_lines_that_say_so() {
        assert_eq!(notes("# A comment.\n  # note: it has no log.\nx: 1\n"), ["it has no log."]);
    }
}
