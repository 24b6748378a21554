//! Which version of a service something is: its label, and what it is made of.

use std::fmt;
use std::sync::Arc;

/// How many bytes of the digest of a spec are shown.
const SHOWN_BYTES: usize = 4;

/// A version. The label alone says nothing: a program that was built again has the same one. Clones share it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Version(Arc<Inner>);

#[derive(PartialEq, Eq, Hash)]
struct Inner {
    /// The label, with what is shown of the spec after it.
    id: String,
    label_bytes: usize,
    spec: Option<SpecDigest>,
}

/// The SHA-256 of what a version is made of: everything that needs other processes when it is another.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpecDigest(pub [u8; 32]);

impl Version {
    /// A version that is started here, of this label and made of this.
    pub fn new(label: &str, spec: SpecDigest) -> Self {
        let shown: String = spec.0.iter().take(SHOWN_BYTES).map(|byte| format!("{byte:02x}")).collect();
        Self(Arc::new(Inner { id: format!("{label}-{shown}"), label_bytes: label.len(), spec: Some(spec) }))
    }

    /// The label, such as `1.0.0`.
    pub fn label(&self) -> &str {
        &self.0.id[..self.0.label_bytes]
    }

    /// What it is known by, such as `1.0.0-3fa9c1d2`: the label alone where nobody knows what it is made of.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// What it is made of; `None` for what runs elsewhere.
    pub fn spec(&self) -> Option<SpecDigest> {
        self.0.spec
    }
}

/// A label alone.
impl From<&str> for Version {
    fn from(label: &str) -> Self {
        Self(Arc::new(Inner { id: label.to_owned(), label_bytes: label.len(), spec: None }))
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.id())
    }
}

impl SpecDigest {
    /// From 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digit = |digit: &u8| char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let digits: Vec<u8> = text.as_bytes().iter().map(digit).collect::<Option<_>>()?;
        let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
        bytes.try_into().ok().filter(|_| digits.len() == 64).map(Self)
    }
}

/// All of it, in hexadecimal digits.
impl fmt::Display for SpecDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for SpecDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_its_label_and_the_beginning_of_what_it_is_made_of() {
        let spec = SpecDigest::from_hex(&format!("3fa9c1d2{}", "00".repeat(28))).unwrap();
        let (one, label) = (Version::new("1.0.0", spec), Version::from("1.0.0"));
        assert_eq!((one.label(), one.id(), one.spec()), ("1.0.0", "1.0.0-3fa9c1d2", Some(spec)));
        assert_eq!((label.label(), label.id(), label.spec()), ("1.0.0", "1.0.0", None));
        assert_ne!(one, label);
        assert_eq!(one, Version::new("1.0.0", spec));
        assert_ne!(one, Version::new("1.0.1", spec));
        // What is shown is not all that counts.
        let other = SpecDigest::from_hex(&format!("3fa9c1d2{}", "01".repeat(28))).unwrap();
        assert_ne!(one, Version::new("1.0.0", other));
    }

    #[test]
    fn a_digest_is_64_hexadecimal_digits() {
        let text = "0123456789abcdef".repeat(4);
        assert_eq!(SpecDigest::from_hex(&text).unwrap().to_string(), text);
        for bad in
            ["", "00", &text[1..], &format!("{text}00"), &text.replace('0', "g"), &text.replace("01", "+1")]
        {
            assert_eq!(SpecDigest::from_hex(bad), None, "{bad}");
        }
    }
}
