//! Secrets: those that are made inside, and which of them a service gets.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::Checker;
use crate::raw::{Entries, RawGenerate, RawSecret};
use crate::report::Origin;
use crate::scalar::{Scalar, Spanned, Text, quoted};
use crate::settings::{GenerateType, SecretSettings};

/// The most secrets of a mesh that services may have.
const MAX_SECRETS: usize = 1_000;
/// The most secrets of one service.
const MAX_SECRETS_OF_SERVICE: usize = 64;
/// The longest name of a secret, in bytes.
const MAX_NAME_BYTES: usize = 63;
/// The secret under the keyed hashes of API keys, which is the mesh's own.
const RESERVED: &str = "access-pepper";
/// From a day to ten years. A secret has at most 1,000 epochs, since all are kept: every day they last for 2.7 years.
const ROTATE: RangeInclusive<Duration> =
    Duration::from_secs(24 * 3_600)..=Duration::from_secs(10 * 365 * 24 * 3_600);

impl Checker {
    pub(super) fn secrets(&mut self, raw: Entries<Option<RawSecret>>) -> BTreeMap<String, SecretSettings> {
        if let Some((name, _)) = raw.0.get(MAX_SECRETS) {
            self.wrong(name.origin, format!("secrets: there are at most {MAX_SECRETS} secrets"), None);
        }
        let mut secrets = BTreeMap::new();
        for (name, secret) in raw.0 {
            let valid = self.secret_name("secrets", &name);
            let key = format!("secrets.{}", name.value);
            let RawSecret { generate, rotate } = secret.unwrap_or_default();
            let rotate = rotate.map(|rotate| self.duration_within(&format!("{key}.rotate"), rotate, ROTATE));
            let Some(generate) = generate else {
                if valid {
                    self.given_secret(&key, &name);
                }
                continue;
            };
            if let Some(generate) = self.generate_type(&key, generate) {
                secrets.insert(name.value, SecretSettings { generate, rotate });
            }
        }
        secrets
    }

    fn given_secret(&mut self, key: &str, name: &Text) {
        let message = format!(
            "{key}: a secret without `generate` is given with `serviceos secrets set {}` and needs no entry here",
            name.value
        );
        let help = "leave it out, or write `generate: {type: random}` for one that is made inside";
        self.wrong(name.origin, message, Some(help.to_owned()));
    }

    fn generate_type(&mut self, key: &str, generate: Spanned<RawGenerate>) -> Option<GenerateType> {
        let key = format!("{key}.generate.type");
        let Some(word) = generate.value.r#type else {
            let message = format!("{key}: expected {}, found nothing", GenerateType::EXPECTED);
            let help = "write `generate: {type: ed25519}`";
            self.wrong(generate.referenced.into(), message, Some(help.to_owned()));
            return None;
        };
        self.value(&key, word)
    }

    /// The secrets that a service gets. They need no entry in `secrets`: an operator may give them.
    pub(super) fn secrets_of_service(
        &mut self,
        service: &str,
        raw: Option<Spanned<Vec<Text>>>,
    ) -> BTreeSet<String> {
        let key = format!("{service}.secrets");
        let Some(raw) = raw else { return BTreeSet::new() };
        if raw.value.len() > MAX_SECRETS_OF_SERVICE {
            let found = raw.value.len();
            let message = format!("{key}: expected at most {MAX_SECRETS_OF_SERVICE} secrets, found {found}");
            self.wrong(Origin::from(raw.referenced), message, None);
        }
        let mut names = BTreeSet::new();
        for name in raw.value {
            if self.secret_name(&key, &name) {
                self.once(&key, name, &mut names);
            }
        }
        names
    }

    /// Adds a name to those that a list has already, each of which it has once.
    pub(super) fn once(&mut self, key: &str, name: Text, names: &mut BTreeSet<String>) {
        if names.contains(&name.value) {
            let message = format!("{key}: {} is written twice", quoted(&name.value));
            self.wrong(name.origin, message, Some("keep one of the two".to_owned()));
        }
        names.insert(name.value);
    }

    pub(super) fn secret_name(&mut self, key: &str, name: &Text) -> bool {
        let valid = is_secret_name(&name.value);
        if !valid {
            self.wrong(
                name.origin,
                format!("{key}: expected the name of a secret such as vrf-key, found {}", quoted(&name.value)),
                Some(format!("a name is a lower-case letter, then lower-case letters, digits and hyphens, at most {MAX_NAME_BYTES} bytes, the last one no hyphen")),
            );
        } else if name.value == RESERVED {
            let message = format!("{key}: the secret {RESERVED} is the mesh's own, and no service has it");
            self.wrong(name.origin, message, Some("choose another name".to_owned()));
        }
        valid && name.value != RESERVED
    }
}

fn is_secret_name(name: &str) -> bool {
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    let rest = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    first && rest && name.len() <= MAX_NAME_BYTES && !name.ends_with('-')
}
