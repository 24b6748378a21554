//! Keys as they stand in etcd: with the namespace before them.

use super::messages::{Base64, Row};
use crate::{KeyValue, LeaseId, StoreError};

/// A key in etcd.
pub(super) fn within(namespace: &[u8], key: &[u8]) -> Base64 {
    Base64([namespace, key].concat())
}

/// The first key of a prefix, and the first one after it. A zero byte stands for the end of all keys.
pub(super) fn range_of(namespace: &[u8], prefix: &[u8]) -> (Base64, Base64) {
    let first = [namespace, prefix].concat();
    let mut end = first.clone();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return (Base64(first), Base64(end));
        }
    }
    // No key is empty.
    let first = if first.is_empty() { vec![0] } else { first };
    (Base64(first), Base64(vec![0]))
}

/// The key without the namespace.
pub(super) fn stripped(namespace: &[u8], key: Vec<u8>) -> Result<Vec<u8>, StoreError> {
    match key.strip_prefix(namespace) {
        Some(rest) => Ok(rest.to_vec()),
        None => Err(StoreError::Damaged(String::from_utf8_lossy(&key).into_owned())),
    }
}

/// A row as the store gives it.
pub(super) fn key_value(namespace: &[u8], row: Row) -> Result<KeyValue, StoreError> {
    Ok(KeyValue {
        key: stripped(namespace, row.key.0)?,
        value: row.value.0,
        create_revision: row.create_revision.revision(),
        mod_revision: row.mod_revision.revision(),
        lease: (row.lease.0 != 0).then_some(LeaseId(row.lease.0)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_next_key_that_it_does_not_begin() {
        let range = |namespace: &[u8], prefix: &[u8]| {
            let (first, end) = range_of(namespace, prefix);
            (first.0, end.0)
        };
        assert_eq!(range(b"/n/", b"a"), (b"/n/a".to_vec(), b"/n/b".to_vec()));
        assert_eq!(range(b"/n/", b"a\xff\xff"), (b"/n/a\xff\xff".to_vec(), b"/n/b".to_vec()));
        assert_eq!(range(b"/n/", b""), (b"/n/".to_vec(), b"/n0".to_vec()));
        assert_eq!(range(b"", b"\xff"), (b"\xff".to_vec(), vec![0]));
        assert_eq!(range(b"", b""), (vec![0], vec![0]));
    }
}
