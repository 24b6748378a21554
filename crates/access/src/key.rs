//! The text of an API key: `sk_test_` or `sk_live_`, 43 characters for 256 random bits, 6 for a checksum. Base 62, so that a
//! double click selects the whole key; the checksum tells a typo from an unknown key without a look-up.

use std::fmt;

use types::Mode;
use zeroize::Zeroizing;

use crate::{FREE, UNLIMITED};

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const BODY: usize = 43;
const CHECKSUM: usize = 6;

/// Where a key is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// In development mode: `sk_test_`.
    Test,
    /// In production mode: `sk_live_`.
    Live,
}

impl From<Mode> for KeyKind {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Development => Self::Test,
            Mode::Production => Self::Live,
        }
    }
}

impl KeyKind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Test => "sk_test_",
            Self::Live => "sk_live_",
        }
    }

    /// The tier of a key for which none was asked.
    pub(crate) fn default_tier(self) -> &'static str {
        match self {
            Self::Test => UNLIMITED,
            Self::Live => FREE,
        }
    }
}

/// A key in the clear. It is shown once, never stored and never logged.
#[derive(Clone)]
pub struct ApiKey(Zeroizing<String>);

impl ApiKey {
    /// The key of these 256 bits.
    pub fn from_bits(kind: KeyKind, bits: &[u8; 32]) -> Self {
        // Room for the whole key at once: a string that grows leaves copies behind.
        let mut text = Zeroizing::new(String::with_capacity(kind.prefix().len() + BODY + CHECKSUM));
        text.push_str(kind.prefix());
        let mut number = Zeroizing::new(*bits);
        for _ in 0..BODY {
            text.push(char::from(DIGITS[usize::from(divide_by_62(&mut number))]));
        }
        let mut checksum = crc32fast::hash(text.as_bytes());
        for _ in 0..CHECKSUM {
            text.push(char::from(DIGITS[(checksum % 62) as usize]));
            checksum /= 62;
        }
        Self(text)
    }

    /// Where a text that has the form and the checksum of a key would be good. Says nothing of whether the key exists.
    pub fn kind_of(text: &str) -> Option<KeyKind> {
        let kind = [KeyKind::Test, KeyKind::Live].into_iter().find(|kind| text.starts_with(kind.prefix()))?;
        let body = &text[kind.prefix().len()..];
        if body.len() != BODY + CHECKSUM || !body.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return None;
        }
        let (signed, checksum) = text.split_at(text.len() - CHECKSUM);
        let mut expected = crc32fast::hash(signed.as_bytes());
        let is_right = checksum.bytes().all(|byte| {
            let digit = DIGITS[(expected % 62) as usize];
            expected /= 62;
            byte == digit
        });
        is_right.then_some(kind)
    }

    /// The key itself, for the one place that shows it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ApiKey(…)")
    }
}

/// Divides a big-endian number in place and returns the remainder.
fn divide_by_62(number: &mut [u8; 32]) -> u8 {
    let mut remainder = 0_u16;
    for byte in number.iter_mut() {
        let value = (remainder << 8) | u16::from(*byte);
        *byte = u8::try_from(value / 62).expect("a remainder below 62 times 256 divided by 62 fits a byte");
        remainder = value % 62;
    }
    u8::try_from(remainder).expect("a remainder is below 62")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_has_a_stable_form_and_hides_itself() {
        let key = ApiKey::from_bits(KeyKind::Test, &[7; 32]);
        expect!["sk_test_1FPc9b5c5QdpH4zZv03tchG8AluSK9wTiP9epkkjJf1J8Jyu0"].assert_eq(key.expose());
        assert_eq!(format!("{key:?}"), "ApiKey(…)");
    }

    #[test]
    fn the_mode_says_which_keys_are_good_and_how_much_one_may_ask_for_without_a_tier() {
        for (mode, prefix, tier) in
            [(Mode::Development, "sk_test_", "unlimited"), (Mode::Production, "sk_live_", "free")]
        {
            let kind = KeyKind::from(mode);
            let key = ApiKey::from_bits(kind, &[7; 32]);
            assert!(key.expose().starts_with(prefix), "{key:?}");
            assert_eq!((ApiKey::kind_of(key.expose()), kind.default_tier()), (Some(kind), tier));
        }
    }

    #[test]
    fn texts_of_another_form_are_no_keys() {
        let key = ApiKey::from_bits(KeyKind::Test, &[7; 32]);
        let (long, live) = (format!("{}0", key.expose()), key.expose().replace("test", "live"));
        for bad in
            ["", "sk_test_", "sk_test", &key.expose()[1..], &key.expose()[..56], &long, &live, "sk_test_é"]
        {
            assert_eq!(ApiKey::kind_of(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_key_is_well_formed_and_no_key_with_one_character_changed(bits: [u8; 32], place in 8..57usize, digit in 0..62usize) {
            let key = ApiKey::from_bits(KeyKind::Live, &bits);
            prop_assert_eq!(ApiKey::kind_of(key.expose()), Some(KeyKind::Live));
            let mut typo = key.expose().as_bytes().to_vec();
            let unchanged = typo[place] == DIGITS[digit];
            typo[place] = DIGITS[digit];
            prop_assert_eq!(ApiKey::kind_of(std::str::from_utf8(&typo).unwrap()).is_some(), unchanged);
        }
    }
}
