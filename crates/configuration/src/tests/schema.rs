//! The schema takes what the reader takes, and refuses misspelt keys and wrong values.

use std::path::PathBuf;

use expect_test::expect_file;
use jsonschema::Validator;
use serde_json::Value;

use super::{FULL, read};
use crate::load::options;
use crate::schema;

fn validator() -> Validator {
    jsonschema::draft202012::new(&schema()).unwrap()
}

/// What is wrong with a text by the schema, each with the place where it is.
fn wrong(text: &str) -> Vec<String> {
    let file: Value = serde_saphyr::from_str_with_options(text, options()).unwrap();
    validator().iter_errors(&file).map(|error| error.instance_path().to_string()).collect()
}

fn documented() -> Vec<(String, String)> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found =
        vec![("serviceos.yaml".to_owned(), std::fs::read_to_string(root.join("serviceos.yaml")).unwrap())];
    for file in
        ["README.md", "docs/configuration.md", "docs/commands.md", "docs/trust.md", "docs/operations.md"]
    {
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        let blocks = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split_once("\n```"));
        found.extend(blocks.map(|(block, _)| (file.to_owned(), block.to_owned())));
    }
    found
}

#[test]
fn the_schema_is_the_one_that_is_shown() {
    let schema = schema();
    assert!(jsonschema::meta::is_valid(&schema));
    expect_file!["schema.json"].assert_eq(&format!("{schema:#}\n"));
}

#[test]
fn every_valid_file_validates() {
    let seed = "services:\n    vrf:\n        replicas: 3\n        healthCheck:\n            interval: 10s\n            timeout: 5s\n";
    let files = documented();
    assert!(files.len() >= 4, "{files:?}");
    let nothing = "services: {vrf: , oracle: {routes: , healthCheck: , traffic: , version: 1.10}}\ngateway: {limits: , trustedProxies: }\nadmin:\nsecrets:\n";
    let own = [seed, FULL, nothing].map(|text| ("here".to_owned(), text.to_owned()));
    for (place, text) in own.into_iter().chain(files) {
        assert_eq!(wrong(&text), Vec::<String>::new(), "{place}: {text}");
    }
    assert!(read(nothing).is_ok());
}

#[test]
fn misspelt_keys_and_wrong_values_do_not() {
    for (text, place) in [
        ("servces: {}", ""),
        ("services: {vrf: {replcas: 3}}", "/services/vrf"),
        ("services: {vrf: {healthCheck: {intervall: 5s}}}", "/services/vrf/healthCheck"),
        ("services: {vrf: {replicas: three}}", "/services/vrf/replicas"),
        ("services: {vrf: {replicas: \"3\"}}", "/services/vrf/replicas"),
        ("services: {vrf: {replicas: }}", "/services/vrf/replicas"),
        ("services: {vrf: {required: \"yes\"}}", "/services/vrf/required"),
        ("services: {vrf: {startTimeout: 10}}", "/services/vrf/startTimeout"),
        ("services: {vrf: {startTimeout: 10 s}}", "/services/vrf/startTimeout"),
        ("services: {vrf: {startTimeout: \"\"}}", "/services/vrf/startTimeout"),
        ("services: {vrf: {loadBalancing: {policy: fastest}}}", "/services/vrf/loadBalancing/policy"),
        (
            "services: {vrf: {loadBalancing: {panicThreshold: 101%}}}",
            "/services/vrf/loadBalancing/panicThreshold",
        ),
        ("services: {vrf: {retry: {on: [refused]}}}", "/services/vrf/retry/on/0"),
        ("services: {vrf: {routes: [{match: {path: [a]}}]}}", "/services/vrf/routes/0/match/path"),
        ("services: {vrf: {attestation: nobody}}", "/services/vrf/attestation"),
        ("services: {vrf: [1]}", "/services/vrf"),
        ("gateway: {listen: [\"localhost:8080\"]}", "/gateway/listen/0"),
        ("gateway: {limits: {bodyBytes: 64KB}}", "/gateway/limits/bodyBytes"),
        ("gateway: {workers: all}", "/gateway/workers"),
        ("gateway: {rateLimits: {tiers: {a: {rate: 5}}}}", "/gateway/rateLimits/tiers/a/rate"),
        ("gateway: {trustedProxies: [example.org]}", "/gateway/trustedProxies/0"),
    ] {
        let found = wrong(text);
        assert!(
            found.iter().all(|at| place.starts_with(at.as_str()) || at == place) && !found.is_empty(),
            "{text}: {found:?}"
        );
        assert!(read(text).is_err(), "{text}");
    }
}
