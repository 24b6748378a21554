//! Which versions of a service a caller inside the mesh takes.

/// The longest text of one, in bytes.
const MAX_BYTES: usize = 64;

/// Which versions a caller takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionRequirement {
    /// The one of this label, or that is known by this.
    Named(String),
    /// Those of a label of numbers that is at least the first and below the second.
    Within([u64; 3], [u64; 3]),
}

impl VersionRequirement {
    /// A label, what a version is known by, or `^1.2`: everything from 1.2.0 on that changes no number up to the first that is not 0, as
    /// in Cargo. `None` for what is none of these.
    pub fn parse(text: &str) -> Option<Self> {
        let is_one =
            (1..=MAX_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_one {
            return None;
        }
        let Some(least) = text.strip_prefix('^') else { return Some(Self::Named(text.to_owned())) };
        let (least, given) = numbers(least)?;
        let changes = least.iter().position(|number| *number > 0).unwrap_or(given - 1);
        let mut below = [0; 3];
        below[..=changes].copy_from_slice(&least[..=changes]);
        below[changes] = below[changes].checked_add(1)?;
        Some(Self::Within(least, below))
    }

    /// Whether a version fits, by its label and by what it is known by. A label that is not made of numbers alone fits no range, so
    /// that nobody gets a version that is not finished without naming it.
    pub fn fits(&self, label: &str, id: &str) -> bool {
        match self {
            Self::Named(name) => name == label || name == id,
            Self::Within(least, below) => {
                numbers(label).is_some_and(|(numbers, _)| (least..below).contains(&&numbers))
            }
        }
    }
}

/// Up to three numbers with dots between, and how many there are.
fn numbers(text: &str) -> Option<([u64; 3], usize)> {
    let (mut numbers, mut given) = ([0; 3], 0);
    for part in text.split('.') {
        let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        *numbers.get_mut(given)? = part.parse().ok().filter(|_| is_number)?;
        given += 1;
    }
    Some((numbers, given))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(requirement: &str, fitting: &[&str], others: &[&str]) {
        let parsed = VersionRequirement::parse(requirement).unwrap();
        let fits = |label: &str| parsed.fits(label, &format!("{label}-3fa9c1d2"));
        for label in fitting {
            assert!(fits(label), "{label} fits {requirement}");
        }
        for label in others {
            assert!(!fits(label), "{label} does not fit {requirement}");
        }
    }

    #[test]
    fn a_range_ends_where_the_first_number_that_counts_changes() {
        check(
            "^1.2",
            &["1.2.0", "1.2", "1.10.7", "1.2.3"],
            &["1.1.9", "2.0.0", "0.9", "1.2.3-beta", "next", ""],
        );
        check("^1", &["1", "1.0.0", "1.99"], &["0.9.9", "2"]);
        check("^1.2.3", &["1.2.3", "1.9.0"], &["1.2.2", "2.0.0"]);
        check("^0.2", &["0.2.0", "0.2.9"], &["0.1.9", "0.3.0", "1.2.0"]);
        check("^0.2.3", &["0.2.3"], &["0.2.2", "0.3.0"]);
        check("^0.0.3", &["0.0.3"], &["0.0.2", "0.0.4", "0.1.0"]);
        check("^0.0", &["0.0.0", "0.0.9"], &["0.1.0"]);
        check("^0", &["0.0.1", "0.9.0"], &["1.0.0"]);
    }

    #[test]
    fn a_version_is_named_by_its_label_or_by_what_it_is_known_by() {
        check("1.2.0", &["1.2.0"], &["1.2", "1.2.1"]);
        check("1.2.0-3fa9c1d2", &["1.2.0"], &["1.2.1"]);
        check("next", &["next"], &["1.2.0"]);
    }

    #[test]
    fn what_is_neither_is_refused() {
        for bad in ["", "^", "^a", "^1.", "^1.2.3.4", "^-1", "^1.x", "^18446744073709551615", "a b", "^^1"] {
            assert_eq!(VersionRequirement::parse(bad), None, "{bad}");
        }
        assert_eq!(VersionRequirement::parse(&"1".repeat(65)), None);
    }
}
