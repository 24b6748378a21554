//! `$SERVICEOS_NAME` in arguments and in values of the environment. Every other `$` is left to the program.

use std::collections::BTreeMap;

use thiserror::Error;

/// Only names that begin like this are expanded.
const PREFIX: &str = "SERVICEOS_";

/// A name that begins with `SERVICEOS_` and stands for nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("${name} stands for nothing here: use one of {}", known.join(", "))]
pub struct UnknownVariable {
    /// The name as it is written.
    pub name: String,
    /// The names that there are.
    pub known: Vec<String>,
}

/// The text with each `$SERVICEOS_NAME` and `${SERVICEOS_NAME}` replaced by its value. A value is not expanded again.
pub fn expand(text: &str, variables: &BTreeMap<String, String>) -> Result<String, UnknownVariable> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('$') {
        expanded.push_str(&rest[..start]);
        rest = &rest[start..];
        if let Some((name, length)) = reference(rest) {
            let value = variables.get(name).ok_or_else(|| UnknownVariable {
                name: name.to_owned(),
                known: variables.keys().cloned().collect(),
            })?;
            expanded.push_str(value);
            rest = &rest[length..];
        } else {
            expanded.push('$');
            rest = &rest[1..];
        }
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// Each argument expanded.
pub fn expand_arguments(
    arguments: &[String],
    variables: &BTreeMap<String, String>,
) -> Result<Vec<String>, UnknownVariable> {
    arguments.iter().map(|argument| expand(argument, variables)).collect()
}

/// The environment with each value expanded.
pub fn expand_environment(
    environment: &BTreeMap<String, String>,
    variables: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, UnknownVariable> {
    environment.iter().map(|(name, value)| Ok((name.clone(), expand(value, variables)?))).collect()
}

/// The name that the text, which begins with `$`, begins with a reference to, and the length of that reference.
fn reference(text: &str) -> Option<(&str, usize)> {
    let after = &text[1..];
    let (name, length) = match after.strip_prefix('{') {
        Some(braced) => {
            let name = name(braced);
            braced[name.len()..].strip_prefix('}')?;
            (name, name.len() + 3)
        }
        None => (name(after), name(after).len() + 1),
    };
    name.starts_with(PREFIX).then_some((name, length))
}

fn name(text: &str) -> &str {
    let end = text.find(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    &text[..end.unwrap_or(text.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> BTreeMap<String, String> {
        let variables =
            [("SERVICEOS_PORT", "8080"), ("SERVICEOS_LISTEN", "127.0.0.1:8080"), ("HOME", "/root")];
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    #[test]
    fn names_of_the_house_are_expanded_wherever_they_stand() {
        for (text, expanded) in [
            ("$SERVICEOS_PORT", "8080"),
            ("${SERVICEOS_PORT}", "8080"),
            ("--listen=$SERVICEOS_LISTEN/x", "--listen=127.0.0.1:8080/x"),
            ("${SERVICEOS_PORT}0$SERVICEOS_PORT", "808008080"),
            ("$$SERVICEOS_PORT", "$8080"),
            ("ä$SERVICEOS_PORTä", "ä8080ä"),
            ("", ""),
        ] {
            assert_eq!(expand(text, &variables()).as_deref(), Ok(expanded), "{text}");
        }
    }

    #[test]
    fn every_other_dollar_stays_as_it_is() {
        for text in [
            "$HOME",
            "${HOME}",
            "$",
            "100$",
            "$$",
            "$1",
            "$(SERVICEOS_PORT)",
            "${SERVICEOS_PORT",
            "${SERVICEOS_PORT:-80}",
            "$ SERVICEOS_PORT",
            "$XSERVICEOS_PORT",
            "$serviceos_port",
            "SERVICEOS_PORT",
        ] {
            assert_eq!(expand(text, &variables()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn a_value_is_not_expanded_again() {
        let variables =
            BTreeMap::from([("SERVICEOS_A".to_owned(), "$SERVICEOS_A ${SERVICEOS_B}".to_owned())]);
        assert_eq!(expand("$SERVICEOS_A", &variables).as_deref(), Ok("$SERVICEOS_A ${SERVICEOS_B}"));
    }

    #[test]
    fn an_unknown_name_is_an_error_that_lists_the_known_ones() {
        for (text, name) in [
            ("$SERVICEOS_PROT", "SERVICEOS_PROT"),
            ("${SERVICEOS_PORT2}", "SERVICEOS_PORT2"),
            ("x$SERVICEOS_", "SERVICEOS_"),
        ] {
            assert_eq!(expand(text, &variables()).unwrap_err().name, name);
        }
        let mut variables = variables();
        variables.remove("HOME");
        expect_test::expect![
            "$SERVICEOS_PROT stands for nothing here: use one of SERVICEOS_LISTEN, SERVICEOS_PORT"
        ]
        .assert_eq(&expand("$SERVICEOS_PROT", &variables).unwrap_err().to_string());
    }

    #[test]
    fn arguments_and_values_are_expanded_and_names_are_not() {
        let arguments = ["--port".to_owned(), "$SERVICEOS_PORT".to_owned()];
        assert_eq!(expand_arguments(&arguments, &variables()).unwrap(), ["--port", "8080"]);
        let environment = BTreeMap::from([("$SERVICEOS_PORT".to_owned(), "$SERVICEOS_PORT".to_owned())]);
        let expanded = expand_environment(&environment, &variables()).unwrap();
        assert_eq!(expanded, BTreeMap::from([("$SERVICEOS_PORT".to_owned(), "8080".to_owned())]));
        assert!(expand_arguments(&["$SERVICEOS_X".to_owned()], &variables()).is_err());
    }
}
