//! A text in which services have other numbers of replicas. Everything else stays as it is written, comments too, wherever the
//! text can be edited at all.

use types::ServiceName;

use crate::load::{meaning, raw, without_mark};
use crate::meaning::Meaning;
use crate::raw::RawService;
use crate::report::{Origin, Place};
use crate::scalar::{Field, Whole};

/// The text of a configuration in which this service has so many replicas. What cannot be edited, such as a service that is an
/// alias of another one, is written anew as JSON, which is YAML, without its comments.
///
/// `None` when there is no such service, or when the text is none that can be read.
pub fn with_replicas(text: &str, service: &ServiceName, replicas: u32) -> Option<String> {
    let text = without_mark(text);
    let mut shaped = raw(text).ok()?.raw;
    let entries = &mut shaped.services.0;
    let (key, entry) = entries.iter_mut().find(|(key, _)| key.value == service.as_str())?;
    let written = entry.as_ref().map(|service| service.replicas.origin);
    let number = Field::default_of(Whole(i128::from(replicas)));
    entry.get_or_insert_with(RawService::default).replicas = number;
    let edited = match (written, key.origin) {
        (Some(Origin::File(place)), _) => exchanged(text, place, &replicas.to_string()),
        (_, Origin::File(place)) => inserted(text, place, replicas),
        (_, Origin::Default | Origin::Flag(_)) => None,
    };
    let wanted = Meaning::of(&shaped);
    let is_it = |edited: &String| meaning(edited, "").is_ok_and(|meaning| meaning == wanted);
    Some(edited.filter(is_it).unwrap_or_else(|| wanted.to_json()))
}

/// The keys of a service that say what its replicas run, and what is expected of them while they do.
const RUNS: [&str; 9] = [
    "version",
    "builtin",
    "command",
    "env",
    "workingDirectory",
    "resources",
    "configReload",
    "healthCheck",
    "startTimeout",
];

/// The text of a configuration in which a service runs what an earlier one says, and everything else is as it is. It is the
/// earlier text where that means the same, else it is written anew as JSON.
///
/// `None` when one of the texts cannot be read, or has no such service.
pub fn with_spec_of(text: &str, service: &ServiceName, earlier: &str) -> Option<String> {
    let (now, before) = (meaning(text, "").ok()?, meaning(earlier, "").ok()?);
    let wanted = now.with(&before, service.as_str(), &RUNS)?;
    Some(if wanted == before { earlier.to_owned() } else { wanted.to_json() })
}

/// Where a place begins, in bytes.
fn offset(text: &str, place: Place) -> Option<usize> {
    let mut begins = 0;
    for line in text.split_inclusive('\n').take(place.line.checked_sub(1)?) {
        begins += line.len();
    }
    let line = text[begins..].lines().next()?;
    let within = line.char_indices().nth(place.column.checked_sub(1)?).map_or(line.len(), |(at, _)| at);
    Some(begins + within)
}

/// Where a value without quotes ends.
fn end_of_word(text: &str) -> usize {
    text.find(|letter: char| letter.is_whitespace() || matches!(letter, ',' | '}' | ']'))
        .unwrap_or(text.len())
}

fn exchanged(text: &str, place: Place, value: &str) -> Option<String> {
    let begin = offset(text, place)?;
    let end = begin + end_of_word(&text[begin..]);
    Some(format!("{}{value}{}", &text[..begin], &text[end..]))
}

/// Adds the key to the mapping of the service whose name stands at this place.
fn inserted(text: &str, place: Place, replicas: u32) -> Option<String> {
    let key = offset(text, place)?;
    let colon = key + text[key..].find(':')? + 1;
    let (before, after) = text.split_at(colon);
    let rest = after.lines().next().unwrap_or_default();
    let value = rest.trim_start();
    if let Some(entries) = value.strip_prefix('{') {
        let comma = if entries.trim_start().starts_with('}') { "" } else { ", " };
        let brace = rest.len() - value.len() + 1;
        let (brace, entries) = after.split_at(brace);
        return Some(format!("{before}{brace}replicas: {replicas}{comma}{entries}"));
    }
    let is_nothing = value.is_empty() || value.starts_with(['#', ',', '}']);
    if !is_nothing {
        return None;
    }
    let next_lines = after.split_inclusive('\n').scan(0, |begins, line| {
        let at = *begins;
        *begins += line.len();
        Some((at, line))
    });
    let is_said = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let first = next_lines.skip(1).find(|(_, line)| is_said(line));
    let indent = |line: &str| line.chars().take_while(|letter| *letter == ' ').count();
    match first {
        Some((at, line)) if value.is_empty() || value.starts_with('#') => {
            let deeper = indent(line);
            if deeper + 1 > place.column {
                let (lines, rest) = after.split_at(at);
                return Some(format!("{before}{lines}{}replicas: {replicas}\n{rest}", " ".repeat(deeper)));
            }
            Some(format!("{before} {{replicas: {replicas}}}{after}"))
        }
        _ => Some(format!("{before} {{replicas: {replicas}}}{after}")),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(text: &str, service: &str, expected: &Expect) {
        let scaled = with_replicas(text, &service.parse().unwrap(), 5);
        expected.assert_eq(&scaled.unwrap_or_else(|| "none".to_owned()));
    }

    #[test]
    fn a_number_that_is_written_is_exchanged_and_nothing_else() {
        check(
            "# all\nservices:\n  ä: {command: [x]}\n  vrf:\n    replicas: 3 # three\n    version: 1.10\n",
            "vrf",
            &expect![[r#"
                # all
                services:
                  ä: {command: [x]}
                  vrf:
                    replicas: 5 # three
                    version: 1.10
            "#]],
        );
        check(
            "services: {vrf: {replicas: 3}, oracle: }",
            "vrf",
            &expect!["services: {vrf: {replicas: 5}, oracle: }"],
        );
    }

    #[test]
    fn a_number_that_is_left_out_is_added() {
        check(
            "services:\n  vrf:\n    # why\n    version: 1.1.0\n  oracle:\n",
            "vrf",
            &expect![[r#"
            services:
              vrf:
                # why
                replicas: 5
                version: 1.1.0
              oracle:
        "#]],
        );
        check(
            "services:\n  vrf:\n  oracle:\n    config: {}\n",
            "vrf",
            &expect![[r#"
            services:
              vrf: {replicas: 5}
              oracle:
                config: {}
        "#]],
        );
        check(
            "services:\n  oracle: # the last\n",
            "oracle",
            &expect![[r#"
            services:
              oracle: {replicas: 5} # the last
        "#]],
        );
        check(
            "services: {vrf: , oracle: {}}",
            "vrf",
            &expect!["services: {vrf: {replicas: 5} , oracle: {}}"],
        );
        check(
            "services: {vrf: , oracle: {}}",
            "oracle",
            &expect!["services: {vrf: , oracle: {replicas: 5}}"],
        );
        check(
            "services: {vrf: , oracle: {required: false}}",
            "oracle",
            &expect!["services: {vrf: , oracle: {replicas: 5, required: false}}"],
        );
    }

    #[test]
    fn what_cannot_be_edited_is_written_anew_and_means_the_same() {
        let text = "services:\n  vrf: &one\n    version: 1.1.0\n  dice: *one\n";
        let scaled = with_replicas(text, &"dice".parse().unwrap(), 5).unwrap();
        let (before, after) = (meaning(text, "").unwrap(), meaning(&scaled, "").unwrap());
        let differences: Vec<_> = before.differences(&after).iter().map(ToString::to_string).collect();
        expect!["services.dice.replicas: 1 -> 5"].assert_eq(&differences.join("\n"));
    }

    #[test]
    fn a_service_that_is_not_there_is_not_added() {
        check("services: {vrf: }", "oracle", &expect!["none"]);
    }
}
