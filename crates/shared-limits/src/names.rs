//! Under which keys things stand in Redis. What clients have chosen, and where they call from, stands in none of them: there
//! are only hashes, of which 128 bits are enough for nobody to find two that meet.
//!
//! They are not secret. Whoever may read the keys and guesses an address can see that it has called.

use std::fmt::Write;
use std::net::IpAddr;

use aws_lc_rs::digest::{SHA256, digest};

/// How many bytes of a hash stand in a key.
const HASH_BYTES: usize = 16;

/// The keys of one mesh. They have one hash tag, so that in a cluster all keys of one script are in one slot.
pub(crate) struct Names {
    prefix: String,
}

impl Names {
    pub(crate) fn new(trust_domain: &str) -> Self {
        Self { prefix: format!("serviceos:{{{trust_domain}}}:") }
    }

    /// The rate of an address, or of its /64 in IPv6, which is what one client has at least.
    pub(crate) fn address(&self, address: IpAddr) -> String {
        match address.to_canonical() {
            IpAddr::V4(address) => self.key("address", &address.octets()),
            IpAddr::V6(address) => self.key("address", &address.octets()[..8]),
        }
    }

    /// The rate of a caller.
    pub(crate) fn rate(&self, holder: &str) -> String {
        self.key("rate", holder.as_bytes())
    }

    /// The day of a caller.
    pub(crate) fn day(&self, holder: &str) -> String {
        self.key("day", holder.as_bytes())
    }

    /// The rate of a route.
    pub(crate) fn route(&self, name: &str) -> String {
        self.key("route", name.as_bytes())
    }

    /// A nonce that was used.
    pub(crate) fn nonce(&self, nonce: &[u8]) -> String {
        self.key("nonce", nonce)
    }

    /// What a connection counts once, to see that it can.
    pub(crate) fn probe(&self) -> String {
        format!("{}probe", self.prefix)
    }

    fn key(&self, kind: &str, what: &[u8]) -> String {
        let mut key = String::with_capacity(self.prefix.len() + kind.len() + 1 + 2 * HASH_BYTES);
        key.push_str(&self.prefix);
        key.push_str(kind);
        key.push(':');
        for byte in &digest(&SHA256, what).as_ref()[..HASH_BYTES] {
            write!(key, "{byte:02x}").expect("a text takes what is written to it");
        }
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_client_has_chosen_stands_in_a_key() {
        let names = Names::new("a.dev.invalid");
        let key = names.rate("user:https://issuer#ann}:{");
        assert_eq!(key, "serviceos:{a.dev.invalid}:rate:5d2895ea532b1ce1e1d8c237877d06a1");
        assert_ne!(key.rsplit(':').next(), names.route("user:https://issuer#ann").rsplit(':').next());
        let keys = [names.rate("a"), names.day("a"), names.route("a"), names.nonce(b"a"), names.probe()];
        assert!(keys.iter().all(|key| keys.iter().filter(|other| *other == key).count() == 1), "{keys:?}");
    }

    #[test]
    fn an_address_of_ipv6_stands_for_its_network_of_64_bits() {
        let names = Names::new("a");
        let address = |address: &str| names.address(address.parse().unwrap());
        assert_eq!(address("2001:db8::1"), address("2001:db8::ffff:1"));
        assert_ne!(address("2001:db8::1"), address("2001:db8:0:1::1"));
        assert_eq!(address("::ffff:192.0.2.1"), address("192.0.2.1"));
        assert_ne!(address("192.0.2.1"), address("192.0.2.2"));
    }
}
