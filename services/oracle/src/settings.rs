//! The configuration: what may be fetched.

use outbound::{Allow, AllowList};
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Settings {
    allow: Vec<Allow>,
    allow_loopback: Vec<String>,
}

/// Whether a configuration is valid; the text names the key and what is expected there.
pub fn check_config(config: &Value) -> Result<(), String> {
    allow_list(config).map(drop)
}

pub(crate) fn allow_list(config: &Value) -> Result<AllowList, String> {
    let settings: Settings =
        serde_path_to_error::deserialize(config).map_err(|error| match error.path().to_string() {
            path if path == "." => error.inner().to_string(),
            path => format!("{path}: {}", error.inner()),
        })?;
    AllowList::new(&settings.allow, &settings.allow_loopback).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_configuration_that_is_not_valid_names_the_key() {
        let refused = [
            json!({"alow": []}),
            json!({"allow": [{"url": "https://example.org/", "method": "GET"}]}),
            json!({"allow": [{"methods": ["GET"]}]}),
            json!({"allow": [{"url": "https://example.org/"}, {"url": "http://example.org/"}]}),
            json!({"allow": {"url": "https://example.org/"}}),
            json!({"allowLoopback": ["10.0.0.1:80"]}),
            json!("allow"),
        ];
        let texts: Vec<_> = refused.iter().map(|config| check_config(config).unwrap_err()).collect();
        expect![[r#"
            alow: unknown field `alow`, expected `allow` or `allowLoopback`
            allow[0].method: unknown field `method`, expected `url` or `methods`
            allow[0]: missing field `url`
            allow[1].url is plain http: https is required but for what allowLoopback names
            allow: invalid type: map, expected a sequence
            allowLoopback[0] is not a loopback host and port, such as 127.0.0.1:8443, [::1]:8443 or localhost:8443
            invalid type: string "allow", expected struct Settings"#]].assert_eq(&texts.join("\n"));
    }

    #[test]
    fn an_empty_configuration_is_valid() {
        assert_eq!(check_config(&json!({})), Ok(()));
    }
}
