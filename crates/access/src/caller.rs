//! A caller that was recognised.

use std::sync::Arc;

use bytes::Bytes;

use crate::{Gcra, UNLIMITED};

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
    tier: String,
    limiter: Option<Arc<Gcra>>,
}

impl Caller {
    /// A caller with these scopes and without a limit.
    pub fn new(subject: impl Into<String>, tenant: impl Into<String>, scopes: Vec<String>) -> Self {
        Self {
            subject: subject.into().into(),
            tenant: tenant.into().into(),
            scope_list: scopes.join(" ").into(),
            scopes,
            tier: UNLIMITED.to_owned(),
            limiter: None,
        }
    }

    /// The same caller in this tier, whose rate the bucket holds it to; `None` is no limit.
    pub fn in_tier(self, tier: impl Into<String>, limiter: Option<Arc<Gcra>>) -> Self {
        Self { tier: tier.into(), limiter, ..self }
    }

    /// The id of its key. Never the key.
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
        &self.tier
    }

    /// The bucket that its requests are taken from, shared with every other connection that presents the key; `None` is no
    /// limit.
    pub fn limiter(&self) -> Option<&Arc<Gcra>> {
        self.limiter.as_ref()
    }

    /// The first of `wanted` that this caller lacks.
    pub fn missing_scope<'a>(&self, wanted: &'a [String]) -> Option<&'a str> {
        let has = |scope: &String| self.scopes.iter().any(|own| own == scope || own == ALL_SCOPES);
        wanted.iter().find(|scope| !has(scope)).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_needs_every_scope_and_the_star_is_all_of_them() {
        let caller = Caller::new("key_1", "default", vec!["randomness".into()]);
        let wanted = ["randomness".to_owned(), "oracle".to_owned()];
        assert_eq!(caller.missing_scope(&wanted[..1]), None);
        assert_eq!(caller.missing_scope(&wanted), Some("oracle"));
        assert_eq!(Caller::new("key_2", "default", vec!["*".into()]).missing_scope(&wanted), None);
    }
}
