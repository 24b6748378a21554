//! A caller that was recognised.

/// The scope that stands for all of them. Only the development key has it.
pub const ALL_SCOPES: &str = "*";

/// Who calls, and what it may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The id of its key. Never the key.
    pub subject: String,
    /// Whom it acts for.
    pub tenant: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// The scopes as the replica is told: separated by spaces.
    pub scope_list: String,
}

impl Caller {
    /// A caller with these scopes.
    pub fn new(subject: impl Into<String>, tenant: impl Into<String>, scopes: Vec<String>) -> Self {
        let scope_list = scopes.join(" ");
        Self { subject: subject.into(), tenant: tenant.into(), scopes, scope_list }
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
