//! The encoding of every byte string that is hashed, signed or sealed: a tag, then length-prefixed fields, so that no
//! two different lists of fields have the same bytes.

/// Collects the bytes of one tagged message.
#[derive(Debug, Clone)]
pub struct Message(Vec<u8>);

impl Message {
    /// Begins with an ASCII tag that already carries its trailing NUL, such as `b"serviceos/vrf/v1\0"`.
    pub fn tagged(tag: &[u8]) -> Self {
        debug_assert!(tag.last() == Some(&0), "a tag ends in NUL");
        Self(tag.to_vec())
    }

    /// Reserves room for so many more bytes, so that a message that carries a secret is never moved while it grows
    /// (a moved buffer leaves a copy of the secret behind).
    #[must_use]
    pub fn with_room(mut self, bytes: usize) -> Self {
        self.0.reserve_exact(bytes);
        self
    }

    /// Begins without a tag, where the format has a magic number of its own.
    pub fn untagged(magic: &[u8]) -> Self {
        Self(magic.to_vec())
    }

    /// Appends `lp(field)`: its length as u32, big-endian, then the field.
    #[must_use]
    pub fn lp(mut self, field: impl AsRef<[u8]>) -> Self {
        let field = field.as_ref();
        let length = u32::try_from(field.len()).expect("a field of a signed message is far below 4 GiB");
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(field);
        self
    }

    /// Appends bytes of a fixed length as they are.
    #[must_use]
    pub fn raw(mut self, field: impl AsRef<[u8]>) -> Self {
        self.0.extend_from_slice(field.as_ref());
        self
    }

    /// The bytes.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Reads what [`Message`] wrote. Every method returns `None` past the end, never a shorter field.
#[derive(Debug, Clone)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads from the start of these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next `length` bytes.
    pub fn raw(&mut self, length: usize) -> Option<&'a [u8]> {
        let (field, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(field)
    }

    /// The next fixed-length field.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.raw(N)?.try_into().ok()
    }

    /// The next length-prefixed field.
    pub fn lp(&mut self) -> Option<&'a [u8]> {
        let length = u32::from_be_bytes(self.array()?);
        self.raw(usize::try_from(length).ok()?)
    }

    /// Whether everything was read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_read_back_and_a_cut_message_reads_as_none() {
        let bytes = Message::tagged(b"t\0").lp("ab").raw([7]).lp([]).finish();
        assert_eq!(bytes, b"t\0\0\0\0\x02ab\x07\0\0\0\0");
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.raw(2), Some(&b"t\0"[..]));
        assert_eq!(reader.lp(), Some(&b"ab"[..]));
        assert_eq!(reader.array::<1>(), Some([7]));
        assert_eq!(reader.lp(), Some(&b""[..]));
        assert!(reader.is_empty());
        assert_eq!(Reader::new(&bytes[2..7]).lp(), None);
    }
}
