//! What holds for every connection, whoever else would read it.

use proptest::prelude::*;

use crate::generator::connection;
use crate::reader::{Reader, assert_means_the_same_sent_on, read};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn pieces_make_no_difference(bytes in connection(), size in 1..9_usize) {
        let whole = read(&bytes);
        let mut reader = Reader::default();
        for piece in bytes.chunks(size) {
            reader.feed(piece);
        }
        prop_assert_eq!(&reader.finish(), &whole);
    }

    #[test]
    fn what_is_accepted_means_the_same_sent_on(bytes in connection()) {
        assert_means_the_same_sent_on(&read(&bytes).0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_cut_at_any_byte_makes_no_difference(bytes in connection()) {
        let whole = read(&bytes);
        for cut in 0..bytes.len() {
            let mut reader = Reader::default();
            reader.feed(&bytes[..cut]);
            reader.feed(&bytes[cut..]);
            prop_assert_eq!(&reader.finish(), &whole, "cut at {}", cut);
        }
    }
}
