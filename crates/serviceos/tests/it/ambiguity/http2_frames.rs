//! HTTP/2 below its requests: frames that mean nothing, header blocks that cannot be read, and floods.

use super::corpus::{Corpus, Ending, Expected, Meaning, join};
use super::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PRIORITY, PUSH_PROMISE,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, block, frame,
};
use super::http2::{AUTHORITY, METHOD, PATH, POST, SCHEME, get};

pub(super) fn cases(corpus: &mut Corpus) {
    of_the_connection(corpus);
    of_a_stream(corpus);
    blocks(corpus);
    floods(corpus);
    busy(corpus);
}

/// Frames that end the connection, and a request with them.
fn of_the_connection(corpus: &mut Corpus) {
    corpus.class("h2 frames");
    let half = frame(HEADERS, END_STREAM, 1, &block(&[METHOD, SCHEME, AUTHORITY]));
    let rest = frame(CONTINUATION, END_HEADERS, 1, &block(&[PATH]));
    for (name, input) in [
        ("data before a request", frame(DATA, END_STREAM, 1, b"{id}")),
        ("data of no stream", frame(DATA, END_STREAM, 0, b"{id}")),
        (
            "a request of no stream",
            frame(HEADERS, END_HEADERS | END_STREAM, 0, &block(&[METHOD, SCHEME, AUTHORITY, PATH])),
        ),
        (
            "a request of the gateway's stream",
            frame(HEADERS, END_HEADERS | END_STREAM, 2, &block(&[METHOD, SCHEME, AUTHORITY, PATH])),
        ),
        (
            "a continuation of nothing",
            frame(CONTINUATION, END_HEADERS, 1, &block(&[METHOD, SCHEME, AUTHORITY, PATH])),
        ),
        ("a ping within a header block", join(&[&half, &frame(PING, 0, 0, &[0; 8]), &rest])),
        ("data within a header block", join(&[&half, &frame(DATA, 0, 1, b"x"), &rest])),
        (
            "another stream within a header block",
            join(&[&half, &frame(CONTINUATION, END_HEADERS, 3, &block(&[PATH]))]),
        ),
        (
            "a push",
            frame(
                PUSH_PROMISE,
                END_HEADERS,
                1,
                &join(&[&[0, 0, 0, 2], &block(&[METHOD, SCHEME, AUTHORITY, PATH])]),
            ),
        ),
        (
            "more padding than data",
            frame(
                HEADERS,
                END_HEADERS | END_STREAM | PADDED,
                1,
                &join(&[&[255], &block(&[METHOD, SCHEME, AUTHORITY, PATH])]),
            ),
        ),
        ("a frame that is too large", frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0; 20_000])),
        ("a short ping", frame(PING, 0, 0, &[0; 7])),
        ("a ping of a stream", frame(PING, 0, 1, &[0; 8])),
        ("settings of a stream", frame(SETTINGS, 0, 1, &[])),
        ("settings of a wrong size", frame(SETTINGS, 0, 0, &[0; 5])),
        ("an acknowledgement with settings", frame(SETTINGS, ACK, 0, &[0, 4, 0, 0, 0, 1])),
        ("a push setting of 2", frame(SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 2])),
        ("a window that is too large", frame(SETTINGS, 0, 0, &[0, 4, 255, 255, 255, 255])),
        ("a frame size that is too small", frame(SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 1])),
        ("a window update of zero", frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        ("a window update that is too large", frame(WINDOW_UPDATE, 0, 0, &[127, 255, 255, 255])),
        ("a window update of a wrong size", frame(WINDOW_UPDATE, 0, 0, &[0; 3])),
        ("a window update before a request", frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])),
        ("a reset before a request", frame(RST_STREAM, 0, 1, &[0; 4])),
        ("a reset of the connection", frame(RST_STREAM, 0, 0, &[0; 4])),
        ("a goodbye of a stream", frame(GOAWAY, 0, 1, &[0; 8])),
        ("a short goodbye", frame(GOAWAY, 0, 0, &[0; 4])),
        ("HTTP/1.1", b"GET /r/{id} HTTP/1.1\r\nhost: a\r\n\r\n".to_vec()),
    ] {
        corpus.refused(name, input);
    }
}

/// Frames that end a request before it is whole, and such that change nothing.
fn of_a_stream(corpus: &mut Corpus) {
    let open = frame(HEADERS, END_HEADERS, 1, &block(&POST));
    for (name, more) in [
        ("a window update of zero in a body", frame(WINDOW_UPDATE, 0, 1, &[0; 4])),
        ("a window that overflows in a body", frame(WINDOW_UPDATE, 0, 1, &[127, 255, 255, 255])),
        ("more padding than data in a body", frame(DATA, END_STREAM | PADDED, 1, &[9, 1, 2])),
        ("a second head in a body", frame(HEADERS, END_HEADERS, 1, &block(&POST))),
        ("a short reset", frame(RST_STREAM, 0, 1, &[0; 3])),
    ] {
        corpus.cut_off(name, join(&[&open, &frame(DATA, 0, 1, b"hel"), &more]));
    }
    let reset = join(&[&open, &frame(DATA, 0, 1, b"hel"), &frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])]);
    corpus.add("a reset", reset, Ending::Closed, Expected::CutOff);
    let get = get(&[]);
    let padded = frame(DATA, END_STREAM | PADDED, 1, &join(&[&[3], b"hello", &[0; 3]]));
    corpus.passes("padding", join(&[&open, &padded]), Meaning::post("hello"));
    corpus.passes("a frame that nobody knows", join(&[&frame(0x77, 255, 0, b"xyz"), &get]), Meaning::get());
    corpus.passes("a priority", join(&[&frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 9]), &get]), Meaning::get());
    corpus.passes(
        "a setting that nobody knows",
        join(&[&frame(SETTINGS, 0, 0, &[0, 99, 0, 0, 0, 1]), &get]),
        Meaning::get(),
    );
}

/// Header blocks that cannot be read (RFC 7541).
fn blocks(corpus: &mut Corpus) {
    corpus.class("h2 header blocks");
    let start = block(&[METHOD, SCHEME, AUTHORITY, PATH]);
    for (name, end) in [
        ("index zero", &[0x80][..]),
        ("an index that is not there", &[0xff, 0x7f]),
        ("an index that overflows", &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
        ("a name that is not there", &[0x7f, 0x7f, 1, b'a']),
        ("a string that is cut off", &[0, 5, b'a']),
        ("a length that overflows", &[0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
        ("Huffman's end of string", &[0, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff]),
        ("Huffman's padding of zeros", &[0, 1, b'x', 0x81, 0x00]),
        ("a table that is too large", &[0x3f, 0xff, 0xff, 0x7f]),
        ("a table size in the middle", &[0x20]),
    ] {
        corpus.refused(name, frame(HEADERS, END_HEADERS | END_STREAM, 1, &join(&[&start, end])));
    }
}

fn floods(corpus: &mut Corpus) {
    corpus.class("h2 floods");
    let first = frame(HEADERS, END_STREAM, 1, &block(&[METHOD, SCHEME, AUTHORITY, PATH]));
    let piece = block(&[(b"x-a", vec![b'a'; 4000])]);
    let continued = frame(CONTINUATION, 0, 1, &piece).repeat(500);
    corpus.refused("continuations", join(&[&first, &continued]));
    corpus.refused("empty continuations", join(&[&first, &frame(CONTINUATION, 0, 1, b"").repeat(100_000)]));
    let mut resets = Vec::new();
    for number in 0..5_000 {
        let stream = number * 2 + 1;
        resets.extend(frame(
            HEADERS,
            END_HEADERS | END_STREAM,
            stream,
            &block(&[METHOD, SCHEME, AUTHORITY, PATH]),
        ));
        resets.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
    }
    corpus.add("rapid resets", resets, Ending::Tail, Expected::Flood(1_000));
    let mut broken = Vec::new();
    for number in 0..5_000 {
        broken.extend(frame(
            HEADERS,
            END_HEADERS | END_STREAM,
            number * 2 + 1,
            &block(&[METHOD, SCHEME, AUTHORITY, (b"X", b"{id}")]),
        ));
    }
    corpus.add("streams that have to be reset", broken, Ending::Tail, Expected::Flood(0));
    let mut windows = Vec::new();
    for number in 0..5_000 {
        let stream = number * 2 + 1;
        windows.extend(frame(HEADERS, END_HEADERS, stream, &block(&POST)));
        windows.extend(frame(WINDOW_UPDATE, 0, stream, &[0; 4]));
    }
    corpus.add("zero window updates", windows, Ending::Tail, Expected::Flood(1_000));
}

/// Nothing is wrong with these but their number: each is answered, or costs nothing.
fn busy(corpus: &mut Corpus) {
    let get = get(&[]);
    let empty = frame(DATA, 0, 1, b"").repeat(5_000);
    corpus.passes("pings", join(&[&frame(PING, 0, 0, &[0; 8]).repeat(5_000), &get]), Meaning::get());
    corpus.passes(
        "settings",
        join(&[&frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]).repeat(5_000), &get]),
        Meaning::get(),
    );
    corpus.passes(
        "priorities",
        join(&[&frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 9]).repeat(5_000), &get]),
        Meaning::get(),
    );
    let open = frame(HEADERS, END_HEADERS, 1, &block(&POST));
    corpus.cut_off("empty data", join(&[&open, &empty, &frame(DATA, END_STREAM, 1, b"hello")]));
}
