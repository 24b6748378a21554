//! What a body has to be (RFC 9530).

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{self, SHA256, SHA512};

use super::fields::{self, Bare, Value};

/// The digests of a body.
#[derive(Debug)]
pub struct ContentDigest(Vec<(&'static digest::Algorithm, Vec<u8>)>);

impl ContentDigest {
    /// Reads `Content-Digest`. Digests of algorithms other than `sha-256` and `sha-512` say nothing; one of these there must be.
    ///
    /// # Errors
    /// Why it says nothing of the body.
    pub(super) fn read(field: &str) -> Result<Self, &'static str> {
        let mut digests = Vec::new();
        for member in fields::dictionary(field)? {
            let algorithm = match member.label {
                "sha-256" => &SHA256,
                "sha-512" => &SHA512,
                _ => continue,
            };
            let Value::Item(Bare::Bytes(digest)) = member.value else {
                return Err("its content-digest is no sequence of bytes");
            };
            digests.push((algorithm, digest));
        }
        if digests.is_empty() {
            return Err("its content-digest has neither sha-256 nor sha-512");
        }
        Ok(Self(digests))
    }

    /// Whether the body is the one that was meant. All digests must match.
    pub fn matches(&self, body: &[u8]) -> bool {
        let is_so = |(algorithm, wanted): &(&'static digest::Algorithm, Vec<u8>)| {
            verify_slices_are_equal(digest::digest(algorithm, body).as_ref(), wanted).is_ok()
        };
        self.0.iter().all(is_so)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9530, appendix B: `{"hello": "world"}` and a line feed.
    const BODY: &[u8] = b"{\"hello\": \"world\"}\n";
    const SHA_256: &str = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";
    const SHA_512: &str =
        "sha-512=:YMAam51Jz/jOATT6/zvHrLVgOYTGFy1d6GJiOHTohq4yP+pgk4vf2aCsyRZOtw8MjkM7iw7yZ/WkppmM44T3qg==:";

    #[test]
    fn every_digest_that_is_known_must_match_and_one_must_be_there() {
        let wrong = SHA_256.replace("RK/0", "AK/0");
        for (field, body, expected) in [
            (SHA_256.to_owned(), BODY, Ok(true)),
            (SHA_512.to_owned(), BODY, Ok(true)),
            (format!("{SHA_512}, {SHA_256}, md5=:AAAA:"), BODY, Ok(true)),
            (SHA_256.to_owned(), &BODY[1..], Ok(false)),
            (SHA_256.to_owned(), b"", Ok(false)),
            (format!("{wrong}, {SHA_512}"), BODY, Ok(false)),
            ("sha-256=:AAAA:".to_owned(), BODY, Ok(false)),
            ("md5=:AAAA:".to_owned(), BODY, Err("its content-digest has neither sha-256 nor sha-512")),
            ("sha-256=1".to_owned(), BODY, Err("its content-digest is no sequence of bytes")),
            (format!("{SHA_256}, {SHA_256}"), BODY, Err("a field of its signature has a label twice")),
        ] {
            let read = ContentDigest::read(&field).map(|digest| digest.matches(body));
            assert_eq!(read, expected, "{field}");
        }
    }
}
