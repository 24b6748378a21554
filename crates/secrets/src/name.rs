//! Names of secrets.

use crate::SecretsError;

/// The longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 63;

/// What the names of the mesh's own secrets begin with. No name that anybody can give has a slash.
pub(crate) const INTERNAL: &str = "mesh/";

/// The secret under the keyed hashes of API keys: the one of the mesh's own without the prefix, since stores hold it by this
/// name.
const PEPPER: &str = "access-pepper";

/// Whether the name is one of the mesh's own secrets, which nobody sets, rotates, removes, lists or is released.
pub fn is_reserved(name: &str) -> bool {
    name == PEPPER || name.starts_with(INTERNAL)
}

/// Whether a secret may have this name: a lower-case letter, then lower-case letters, digits and hyphens, at most 63 bytes.
///
/// # Errors
/// [`SecretsError::InvalidName`].
pub fn check_name(name: &str) -> Result<(), SecretsError> {
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    let rest = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if first && rest && name.len() <= MAX_NAME_BYTES && !name.ends_with('-') {
        Ok(())
    } else {
        Err(SecretsError::InvalidName)
    }
}

/// Whether an operator may change the secret of this name.
pub(crate) fn check_changeable(name: &str) -> Result<(), SecretsError> {
    if is_reserved(name) { Err(SecretsError::Reserved(name.to_owned())) } else { check_name(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_lower_case_label_of_at_most_63_characters() {
        for good in ["a", "vrf-key", "access-pepper", "mesh-key", "k2", &"a".repeat(63)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "A", "1st", "a_b", "a.b", "a/b", "mesh/root", "-a", "a-", "é", "a b", &"a".repeat(64)]
        {
            assert!(matches!(check_name(bad), Err(SecretsError::InvalidName)), "{bad}");
        }
    }

    #[test]
    fn an_error_about_a_name_does_not_show_what_may_be_a_value() {
        assert!(!check_name("hunter2!").unwrap_err().to_string().contains("hunter2"));
    }
}
