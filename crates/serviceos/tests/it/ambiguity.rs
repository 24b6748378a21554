//! Nothing that could be understood in two ways is accepted: a corpus of inputs, sent to the real binary, and every byte that
//! reached the replica behind it read again by a second, stricter reader.

mod chunks;
mod client;
mod corpus;
mod frames;
mod framing;
mod heads;
mod hops;
mod http2;
mod http2_frames;
mod recorder;
mod strict;
mod targets;
mod verdict;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use testkit::Mesh;

use crate::refusal_counts::until_counted;

use corpus::{Case, Corpus};
use recorder::Recorder;

/// Connections at the same time.
const CLIENTS: usize = 8;

fn http1() -> Corpus {
    let mut corpus = Corpus::default();
    framing::cases(&mut corpus);
    chunks::cases(&mut corpus);
    heads::cases(&mut corpus);
    targets::cases(&mut corpus);
    hops::cases(&mut corpus);
    corpus
}

fn http2() -> Corpus {
    let mut corpus = Corpus::default();
    http2::cases(&mut corpus);
    http2_frames::cases(&mut corpus);
    corpus
}

/// The word of a case: as long as the place that is kept for it.
fn id(number: usize) -> String {
    format!("q{number:03x}")
}

/// What the client of one case saw.
pub(in crate::ambiguity) type Seen = Result<client::Answers, String>;

/// Sends every case over a connection of its own, a few at a time.
fn send_all(
    gateway: SocketAddr,
    cases: &[Case],
    first: usize,
    send: fn(SocketAddr, &Case, &str) -> Seen,
) -> Vec<Seen> {
    let next = AtomicUsize::new(0);
    let seen = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(place) else { return };
                    let answers = send(gateway, case, &id(first + place));
                    seen.lock().unwrap().push((place, answers));
                }
            });
        }
    });
    let mut seen = seen.into_inner().unwrap();
    seen.sort_by_key(|(place, _)| *place);
    seen.into_iter().map(|(_, answers)| answers).collect()
}

fn mesh(replica: SocketAddr) -> testkit::Running {
    Mesh::new()
        .endpoint(
            "replica",
            replica,
            "
      - {match: {path: \"/r/{*rest}\"}, public: true}
      - {match: {path: \"/strip/{*rest}\"}, public: true, stripPrefix: true}
      - {match: {path: \"/private/{*rest}\"}, scopes: [private]}
",
        )
        .up()
}

#[test]
fn no_ambiguous_input_is_accepted() {
    let recorder = Recorder::start();
    let mesh = mesh(recorder.address);
    let (http1, http2) = (http1().cases, http2().cases);
    let mut seen = send_all(mesh.gateway, &http1, 0, client::http1);
    seen.extend(send_all(mesh.gateway, &http2, http1.len(), client::http2));
    for reason in ["flood", "protocol"] {
        until_counted(&mesh, "serviceos_http2_refused_total", reason, 1);
    }
    drop(mesh);
    let streams = recorder.finish();
    let received = verdict::Received::of(&streams);
    let mut table = verdict::Table::default();
    for (number, (case, seen)) in http1.iter().chain(&http2).zip(&seen).enumerate() {
        let http2 = number >= http1.len();
        table.add(case, received.judge(case, &id(number), seen, http2));
    }
    println!("{table}");
    let distinct =
        |cases: &[Case]| cases.iter().map(|case| case.input.clone()).collect::<BTreeSet<_>>().len();
    assert_eq!(table.failures(), "", "wrong cases");
    assert_eq!(received.unexplained(), Vec::<String>::new(), "bytes at the replica that are no request");
    assert!(
        distinct(&http1) >= 500 && distinct(&http2) >= 60,
        "{} and {}",
        distinct(&http1),
        distinct(&http2)
    );
}
