//! A caller that was recognised.

use std::sync::Arc;

use bytes::Bytes;

use crate::{Allowance, UNLIMITED};

/// The scope that stands for all of them. Only the development key has it.
pub const ALL_SCOPES: &str = "*";

/// Who calls, what it may do and how much of it. The texts that every request of the caller repeats are shared bytes, so that
/// passing them on copies nothing.
#[derive(Debug, Clone)]
pub struct Caller {
    subject: Bytes,
    tenant: Bytes,
    scopes: Vec<String>,
    scope_list: Bytes,
    allowance: Option<Arc<Allowance>>,
}

impl Caller {
    /// A caller with these scopes and without a limit.
    ///
    /// Its names stand in headers: what is neither visible ASCII nor a space between such is percent-encoded.
    pub fn new(subject: impl Into<String>, tenant: impl Into<String>, scopes: Vec<String>) -> Self {
        Self {
            subject: header_value(subject.into()),
            tenant: header_value(tenant.into()),
            scope_list: scopes.join(" ").into(),
            scopes,
            allowance: None,
        }
    }

    /// The same caller, who may ask for no more than this.
    pub fn allowed(self, allowance: Arc<Allowance>) -> Self {
        Self { allowance: Some(allowance), ..self }
    }

    /// The id of its key and never the key, the subject of its token, or the name in its certificate.
    pub fn subject(&self) -> &Bytes {
        &self.subject
    }

    /// Whom it acts for.
    pub fn tenant(&self) -> &Bytes {
        &self.tenant
    }

    /// What it may do, as the replica is told: separated by spaces.
    pub fn scope_list(&self) -> &Bytes {
        &self.scope_list
    }

    /// The tier that is in force for it.
    pub fn tier(&self) -> &str {
        self.allowance.as_deref().map_or(UNLIMITED, Allowance::tier)
    }

    /// What it may ask for, shared with every other connection that presents the same credential; `None` is no limit.
    pub fn allowance(&self) -> Option<&Arc<Allowance>> {
        self.allowance.as_ref()
    }

    /// What it may do, scope by scope.
    pub fn scopes(&self) -> &[String] {
        &self.scopes
    }

    /// The first of `wanted` that this caller lacks.
    pub fn missing_scope<'a>(&self, wanted: &'a [String]) -> Option<&'a str> {
        let has = |scope: &String| self.scopes.iter().any(|own| own == scope || own == ALL_SCOPES);
        wanted.iter().find(|scope| !has(scope)).map(String::as_str)
    }
}

fn header_value(text: String) -> Bytes {
    let is_plain = text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && text.trim() == text;
    if is_plain {
        return text.into();
    }
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'!'..=b'~' => encoded.push(char::from(byte)),
            _ => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_break_a_header() {
        let subject = |name: &str| Caller::new(name, "default", Vec::new()).subject().clone();
        assert_eq!(subject("CN=Ann Example,O=a"), "CN=Ann Example,O=a");
        assert_eq!(subject("ann\r\nx-serviceos-tenant: b"), "ann%0D%0Ax-serviceos-tenant:%20b");
        assert_eq!(subject("änn "), "%C3%A4nn%20");
    }

    #[test]
    fn a_caller_needs_every_scope_and_the_star_is_all_of_them() {
        let caller = Caller::new("key_1", "default", vec!["randomness".into()]);
        let wanted = ["randomness".to_owned(), "oracle".to_owned()];
        assert_eq!(caller.missing_scope(&wanted[..1]), None);
        assert_eq!(caller.missing_scope(&wanted), Some("oracle"));
        assert_eq!(Caller::new("key_2", "default", vec!["*".into()]).missing_scope(&wanted), None);
    }
}
