//! Whatever hyper takes as well, it takes for the same.

use std::cell::RefCell;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::generator::connection;
use crate::hyper_reader::{Meaning, by_name, read_by_hyper};
use crate::reader::{read, write};

/// Runs a property on generated connections; how many requests both took.
fn compare(
    cases: u32,
    property: impl Fn(&tokio::runtime::Runtime, &[u8]) -> Result<usize, TestCaseError>,
) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let both = RefCell::new(0);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&connection(), |bytes| {
        *both.borrow_mut() += property(&runtime, &bytes)?;
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    both.into_inner()
}

#[test]
fn whatever_hyper_takes_as_well_means_the_same() {
    let both = compare(3_000, |runtime, bytes| {
        let (ours, _) = read(bytes);
        let theirs = runtime.block_on(read_by_hyper(bytes));
        for (ours, theirs) in ours.iter().map(Meaning::from).zip(&theirs) {
            prop_assert_eq!(&ours, theirs);
        }
        Ok(ours.len().min(theirs.len()))
    });
    assert!(both > 1_000, "a comparison of only {both} requests says nothing");
}

#[test]
fn hyper_takes_what_is_sent_on_for_what_was_read() {
    let both = compare(3_000, |runtime, bytes| {
        let (ours, _) = read(bytes);
        let mut sent_on = Vec::new();
        ours.iter().for_each(|message| write(message, &mut sent_on));
        let theirs = runtime.block_on(read_by_hyper(&sent_on));
        for (ours, theirs) in ours.iter().zip(&theirs) {
            let expected =
                (ours.method.to_string(), &ours.origin, &ours.body, by_name(ours.trailers.clone()));
            prop_assert_eq!(
                expected,
                (theirs.method.clone(), &theirs.origin, &theirs.body, theirs.trailers.clone())
            );
        }
        Ok(ours.len().min(theirs.len()))
    });
    assert!(both > 1_000, "a comparison of only {both} requests says nothing");
}
