//! Whatever hyper takes as well, it takes for the same: as it came, and as it is sent on.

#![no_main]

#[path = "../../crates/http1/tests/it/hyper_reader.rs"]
mod hyper_reader;
#[path = "../../crates/http1/tests/it/reader.rs"]
mod reader;

use hyper_reader::{Meaning, read_by_hyper};
use libfuzzer_sys::fuzz_target;
use reader::{assert_means_the_same_sent_on, read, write};
use tokio::runtime::{Builder, Runtime};

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().build().expect("a runtime");
}

fn by_hyper(bytes: &[u8]) -> Vec<Meaning> {
    RUNTIME.with(|runtime| runtime.block_on(read_by_hyper(bytes)))
}

fuzz_target!(|bytes: &[u8]| {
    let (ours, _) = read(bytes);
    if ours.is_empty() {
        return;
    }
    assert_means_the_same_sent_on(&ours);
    for (ours, theirs) in ours.iter().map(Meaning::from).zip(by_hyper(bytes)) {
        assert_eq!(ours, theirs);
    }
    let mut sent_on = Vec::new();
    ours.iter().for_each(|message| write(message, &mut sent_on));
    for (ours, theirs) in ours.iter().map(Meaning::from).zip(by_hyper(&sent_on)) {
        assert_eq!((ours.method, ours.origin, ours.body), (theirs.method, theirs.origin, theirs.body));
    }
});
