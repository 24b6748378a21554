use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::{LAST_CHUNK, write_chunk_size};

/// Reads a body that comes in pieces of this size, and says what came of it.
fn read(framing: Framing, input: &[u8], piece: usize) -> String {
    let (mut decoder, mut buffer, mut data) = (BodyDecoder::new(framing), Buffer::new(16), Vec::new());
    let mut pieces = input.chunks(piece);
    loop {
        match decoder.step(&mut buffer) {
            Err(fault) => return format!("{:?} then {fault}", String::from_utf8_lossy(&data)),
            Ok(Step::Data) => {
                let ready = decoder.data(&buffer).to_vec();
                // Not all at once, since a socket may not take all of it.
                let used = ready.len().div_ceil(2);
                data.extend_from_slice(&ready[..used]);
                decoder.consume(&mut buffer, used);
            }
            Ok(Step::End) => {
                let trailers = decoder.take_trailers();
                let trailers = trailers.map_or(0, |trailers| trailers.field_count());
                let rest: Vec<u8> = buffer.data().iter().copied().chain(pieces.flatten().copied()).collect();
                return format!(
                    "{:?} end, {trailers} trailers, rest {:?}",
                    String::from_utf8_lossy(&data),
                    String::from_utf8_lossy(&rest)
                );
            }
            Ok(Step::More) => match pieces.next() {
                Some(piece) => buffer.append(piece),
                None => match decoder.close() {
                    Err(fault) => return format!("{:?} then {fault}", String::from_utf8_lossy(&data)),
                    Ok(()) => assert_eq!(decoder.step(&mut buffer), Ok(Step::End)),
                },
            },
        }
    }
}

fn check(framing: Framing, input: &str, expected: Expect) {
    let whole = read(framing, input.as_bytes(), input.len().max(1));
    expected.assert_eq(&whole);
    for piece in 1..input.len() {
        assert_eq!(read(framing, input.as_bytes(), piece), whole, "in pieces of {piece}");
    }
}

#[test]
fn a_length_is_exact() {
    check(Framing::Length(0), "GET", expect![[r#""" end, 0 trailers, rest "GET""#]]);
    check(Framing::Length(5), "helloGET", expect![[r#""hello" end, 0 trailers, rest "GET""#]]);
    check(
        Framing::Length(5),
        "hell",
        expect![[r#""hell" then the body is malformed: the connection ended before the body did"#]],
    );
}

#[test]
fn chunks_are_joined_and_trailers_kept() {
    check(
        Framing::Chunked,
        "5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\nGET",
        expect![[r#""hello world" end, 0 trailers, rest "GET""#]],
    );
    check(
        Framing::Chunked,
        "1\r\na\r\n000\r\ngrpc-status: 0\r\nx: y\r\n\r\nGET",
        expect![[r#""a" end, 2 trailers, rest "GET""#]],
    );
}

#[test]
fn malformed_chunks_end_the_body() {
    check(
        Framing::Chunked,
        "5\r\nhelloX\r\n",
        expect![[r#""hello" then the body is malformed: a chunk is longer than its size says"#]],
    );
    check(
        Framing::Chunked,
        "5 \r\nhello\r\n",
        expect![[r#""" then the body is malformed: a chunk's size is not a hexadecimal number"#]],
    );
    check(
        Framing::Chunked,
        "5\r\nhello\r\n",
        expect![[r#""hello" then the body is malformed: the connection ended before the body did"#]],
    );
    check(
        Framing::Chunked,
        "0\r\nX\n\r\n",
        expect![[r#""" then the body is malformed: a trailer's line does not end in CR LF"#]],
    );
}

#[test]
fn chunks_may_be_as_small_as_they_like_and_have_long_extensions_only_now_and_then() {
    let tiny = "1\r\nx\r\n".repeat(50_000) + "0\r\n\r\n";
    assert!(read(Framing::Chunked, tiny.as_bytes(), 4096).ends_with("end, 0 trailers, rest \"\""));
    let extended = |chunks: usize| {
        let chunk = format!("1;{}\r\nx\r\n", "e".repeat(200));
        read(Framing::Chunked, (chunk.repeat(chunks) + "0\r\n\r\n").as_bytes(), 4096)
    };
    assert!(extended(80).ends_with("end, 0 trailers, rest \"\""));
    assert!(extended(90).ends_with("its chunks have too little in them for what stands around them"));
}

#[test]
fn without_framing_the_body_is_everything() {
    check(Framing::UntilClose, "hello", expect![[r#""hello" end, 0 trailers, rest """#]]);
    check(Framing::UntilClose, "", expect![[r#""" end, 0 trailers, rest """#]]);
}

proptest! {
    #[test]
    fn what_is_written_in_chunks_reads_back_in_any_pieces(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..8),
        piece in 1..50usize,
    ) {
        let mut wire = Vec::new();
        for chunk in &chunks {
            write_chunk_size(&mut wire, chunk.len());
            wire.extend_from_slice(chunk);
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(LAST_CHUNK);
        let expected = read(Framing::Length(chunks.concat().len() as u64), &chunks.concat(), piece);
        prop_assert_eq!(read(Framing::Chunked, &wire, piece), expected);
    }

    #[test]
    fn no_input_panics_or_hangs(input in proptest::collection::vec(any::<u8>(), 0..200), piece in 1..50usize) {
        read(Framing::Chunked, &input, piece);
    }
}
