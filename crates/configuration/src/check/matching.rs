//! What a route asks of a request besides its path: host, methods, headers.

use super::{Checker, is_domain_name};
use crate::raw::Entries;
use crate::scalar::{Text, header_help, header_name, quoted};
use crate::settings::HostPattern;

/// The longest method, in bytes.
const MAX_METHOD_BYTES: usize = 64;
/// The most headers of one route.
const MAX_HEADERS: usize = 8;
/// The longest value of a header, in bytes.
const MAX_VALUE_BYTES: usize = 256;

impl Checker {
    pub(super) fn host(&mut self, key: &str, host: &Text) -> Option<HostPattern> {
        let pattern = host_pattern(&host.value);
        if pattern.is_none() {
            let message = format!(
                "{key}.match.host: expected a host such as api.example.org, or *.example.org for all beneath, found {}",
                quoted(&host.value)
            );
            let lower = host.value.to_ascii_lowercase();
            let help = match host.value.rsplit_once(':') {
                Some((name, _)) if host_pattern(name).is_some() => Some("leave the port out".to_owned()),
                _ => host_pattern(&lower).map(|_| format!("write {}", quoted(&lower))),
            };
            self.wrong(host.origin, message, help);
        }
        pattern
    }

    pub(super) fn method(&mut self, key: &str, method: Text) -> String {
        let token = method.value.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
        if !token || !(1..=MAX_METHOD_BYTES).contains(&method.value.len()) {
            let upper = method.value.to_ascii_uppercase();
            let ascii = !upper.is_empty() && upper.bytes().all(|byte| byte.is_ascii_uppercase());
            let message = format!(
                "{key}.match.methods: expected an upper-case method such as POST, found {}",
                quoted(&method.value)
            );
            self.wrong(method.origin, message, ascii.then(|| format!("write {}", quoted(&upper))));
        }
        method.value
    }

    /// In the order of their names, so that equal conditions are equal lists.
    pub(super) fn headers(&mut self, key: &str, written: Entries<Text>) -> Vec<(String, String)> {
        let key = format!("{key}.match.headers");
        if let Some((name, _)) = written.0.get(MAX_HEADERS) {
            self.wrong(name.origin, format!("{key}: a route asks for at most {MAX_HEADERS} headers"), None);
        }
        let mut headers: Vec<(String, String)> = Vec::new();
        for (name, value) in written.0.into_iter().take(MAX_HEADERS) {
            self.header_value(&key, &value);
            let Some(lower) = self.header_name(&key, &name) else { continue };
            if headers.iter().any(|(other, _)| *other == lower) {
                let message = format!("{key}: the header {} is written twice", quoted(&lower));
                self.wrong(
                    name.origin,
                    message,
                    Some("keep one of the two; the case of a name means nothing".to_owned()),
                );
            } else if lower == "host" {
                self.wrong(
                    name.origin,
                    format!("{key}: the host is matched by a key of its own"),
                    Some("write `match: {host: …}`".to_owned()),
                );
            } else {
                headers.push((lower, value.value));
            }
        }
        headers.sort();
        headers
    }

    pub(super) fn header_name(&mut self, key: &str, name: &Text) -> Option<String> {
        let lower = header_name(&name.value);
        if lower.is_none() {
            let message =
                format!("{key}: expected the name of a header such as x-beta, found {}", quoted(&name.value));
            self.wrong(name.origin, message, header_help(&name.value));
        }
        lower
    }

    /// What can stand in a header line as it is (RFC 9110, section 5.5), without what lies outside of ASCII.
    fn header_value(&mut self, key: &str, value: &Text) {
        let text = &value.value;
        let visible = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        if !visible || text.trim() != text || !(1..=MAX_VALUE_BYTES).contains(&text.len()) {
            let message = format!(
                "{key}: expected 1 to {MAX_VALUE_BYTES} visible ASCII characters, found {}",
                quoted(text)
            );
            self.wrong(value.origin, message, None);
        }
    }
}

fn host_pattern(text: &str) -> Option<HostPattern> {
    match text.strip_prefix("*.") {
        Some(name) => is_domain_name(name).then(|| HostPattern::Beneath(name.to_owned())),
        None => is_domain_name(text).then(|| HostPattern::Exact(text.to_owned())),
    }
}
