//! Where a message ends: Content-Length, Transfer-Encoding, and both.

use super::corpus::{Corpus, Ending, Expected, Meaning, join, shown};

/// A body that would be a request of its own, for whoever does not take it for a body.
const SMUGGLED: &str = "GET /r/{id}-smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
const POST: &str = "POST /r/{id} HTTP/1.1\r\nhost: a\r\n";

pub(super) fn cases(corpus: &mut Corpus) {
    lengths(corpus);
    length_names(corpus);
    repeated_lengths(corpus);
    codings(corpus);
    coding_names(corpus);
    ignored_bodies(corpus);
    http10(corpus);
}

/// Values of Content-Length before a body of five bytes.
fn lengths(corpus: &mut Corpus) {
    corpus.class("content-length values");
    let with = |value: &[u8]| join(&[POST.as_bytes(), b"content-length:", value, b"\r\n\r\nhello"]);
    for value in [&b" 5"[..], b"5", b"\t5", b" \t 5 \t", b" 05", b" 000000000000000000000000000005"] {
        corpus.passes(&shown(value), with(value), Meaning::post("hello"));
    }
    let bad: [&[u8]; 42] = [
        b"",
        b" ",
        b" +5",
        b" -5",
        b" - 5",
        b" 0x5",
        b" 0X5",
        b" x5",
        b" 5x",
        b" 5h",
        b" 5L",
        b" #5",
        b" 5;",
        b" 5,",
        b" ,5",
        b" 5,5",
        b" 5, 5",
        b" 5, 6",
        b" 5 5",
        b" 5.0",
        b" .5",
        b" 5e0",
        b" 5E1",
        b" \"5\"",
        b" '5'",
        b" _5",
        b" 5_",
        b" 0_5",
        b" five",
        b" NaN",
        b" infinity",
        b" (5)",
        b" 5%",
        b" %35",
        b" 5\xa0",
        b" \xa05",
        "\u{ff15}".as_bytes(),
        "\u{665}".as_bytes(),
        b" 18446744073709551616",
        b" 18446744073709551621",
        b" 99999999999999999999999999",
        b" 0b101",
    ];
    for value in bad {
        corpus.refused(&shown(value), with(value));
    }
    // Larger than a body may be, and what wraps to 5 in 8, 16 or 32 bits.
    for value in [" 18446744073709551615", " 4294967301", " 9223372036854775807", " 1099511627781"] {
        corpus.refused(value, with(value.as_bytes()));
    }
}

/// Names that somebody could take for Content-Length.
fn length_names(corpus: &mut Corpus) {
    corpus.class("content-length names");
    let line = |line: &[u8]| join(&[POST.as_bytes(), line, b"\r\n\r\n"]);
    for bad in ill_named(b"Content-Length") {
        corpus.refused(&shown(&bad), line(&join(&[&bad, b" 5"])));
    }
    for good in ["CONTENT-LENGTH:5", "cOnTeNt-LeNgTh: 5"] {
        corpus.passes(good, join(&[&line(good.as_bytes()), b"hello"]), Meaning::post("hello"));
    }
    // A name that is read as another one by CGI and its heirs: dropped, so there is no body, and what follows is a request.
    for name in ["content_length", "Content_Length", "CONTENT_LENGTH"] {
        corpus.passes(name, line(format!("{name}: 5").as_bytes()), Meaning::post(""));
    }
    for name in ["content-lengt", "content-lengthh", "xcontent-length", "contentlength", "content--length"] {
        let meaning = Meaning::post("").field(name, "5");
        corpus.passes(name, line(format!("{name}: 5").as_bytes()), meaning);
    }
}

/// A name with something beside it that no name has.
fn ill_named(name: &[u8]) -> Vec<Vec<u8>> {
    let mut bad = Vec::new();
    for beside in [
        &b" "[..],
        b"\t",
        b"\0",
        b"\x0b",
        b"\x0c",
        b"\r",
        b"\x1f",
        b"\x7f",
        b"\x80",
        b"\xa0",
        b"\xff",
        b"\"",
        b"(",
        b",",
        b"/",
        b";",
        b"=",
        b"@",
        b"[",
        b"]",
        b"{",
        b"\\",
        b"<",
        b"\xe2\x80\x8b",
        b"\xef\xbb\xbf",
    ] {
        bad.push(join(&[name, beside, b":"]));
        bad.push(join(&[beside, name, b":"]));
    }
    let hyphen = name.iter().position(|byte| *byte == b'-').unwrap_or(1);
    bad.push(join(&[&name[..hyphen], b" ", &name[hyphen + 1..], b":"]));
    bad.push(join(&[&name[..hyphen], b"\xe2\x80\x90", &name[hyphen + 1..], b":"]));
    bad.push(join(&[name, b"\r\n:"]));
    bad.push(join(&[name, b"\n:"]));
    bad.push(join(&[b"\n", name, b":"]));
    bad.push(name.to_vec());
    bad
}

fn repeated_lengths(corpus: &mut Corpus) {
    corpus.class("repeated content-length");
    for lengths in [
        &["5", "5"][..],
        &["5", "6"],
        &["6", "5"],
        &["5", "0"],
        &["0", "5"],
        &["5", ""],
        &["", "5"],
        &["5", "05"],
        &["5", "+5"],
        &["5", "x"],
        &["0", "0"],
        &["5", "5", "5"],
        &["5, 5", "5"],
    ] {
        let lines: String = lengths.iter().map(|length| format!("content-length: {length}\r\n")).collect();
        corpus.refused(&format!("{lengths:?}"), format!("{POST}{lines}\r\nhello"));
        let apart = lines.replacen("\r\n", "\r\nx-between: 1\r\n", 1);
        corpus.refused(&format!("{lengths:?} apart"), format!("{POST}{apart}\r\nhello"));
    }
}

/// Values of Transfer-Encoding that are not the one word that is understood.
const CODINGS: [&[u8]; 49] = [
    b"",
    b" ",
    b" chunke",
    b" chunkedd",
    b" xchunked",
    b" \"chunked\"",
    b" 'chunked'",
    b" chunked;",
    b" chunked;q=1",
    b" chunked;q=0",
    b" chunked,",
    b" ,chunked",
    b" , chunked",
    b" chunked , ",
    b" ,chunked,",
    b" chunked, chunked",
    b" chunked,chunked",
    b" gzip",
    b" gzip, chunked",
    b" chunked, gzip",
    b" deflate",
    b" compress",
    b" br, chunked",
    b" identity",
    b" identity, chunked",
    b" chunked, identity",
    b" chunked identity",
    b" chunked chunked",
    b" chunk ed",
    b" chunk-ed",
    b" cow",
    b" cow, chunked",
    b" 0",
    b" 5",
    b" chunked#",
    b" chunked/",
    b" chunked.",
    b" x:chunked",
    b" trailers",
    b" *",
    b" chunked=1",
    b" \xefchunked",
    b" chunked\xa0",
    b" \xa0chunked",
    b" chun\xe2\x84\xaaed",
    b" chunked\xe2\x80\x8b",
    b" (chunked)",
    b" chunked\\",
    b" null",
];

fn codings(corpus: &mut Corpus) {
    corpus.class("transfer-encoding values");
    let chunked = |lines: &[&[u8]]| {
        let head = [&[POST.as_bytes()], lines, &[b"\r\n5\r\nhello\r\n0\r\n\r\n"]].concat();
        head.concat()
    };
    for good in
        [&b" chunked"[..], b"chunked", b"\tchunked", b" chunked \t", b" Chunked", b" CHUNKED", b" chunKed"]
    {
        let line = join(&[b"transfer-encoding:", good, b"\r\n"]);
        corpus.passes(&shown(good), chunked(&[&line]), Meaning::post("hello"));
        corpus
            .refused(&format!("{} after a length", shown(good)), chunked(&[b"content-length: 5\r\n", &line]));
        corpus.refused(
            &format!("{} before a length", shown(good)),
            chunked(&[&line, b"content-length: 5\r\n"]),
        );
        corpus.refused(&format!("{} twice", shown(good)), chunked(&[&line, &line]));
    }
    for bad in CODINGS.into_iter().chain([
        &b" \x0bchunked"[..],
        b" chunked\x0b",
        b" \0chunked",
        b" chunked\0",
        b" \x0cchunked",
        b"\r\n chunked",
        b"\r\n\tchunked",
        b"\n chunked",
        b" chunked\r",
        b" chunked\r\rx: y",
        b" chunk\r\n ed",
    ]) {
        let line = join(&[b"transfer-encoding:", bad, b"\r\n"]);
        corpus.refused(&shown(bad), chunked(&[&line]));
        corpus
            .refused(&format!("{} after a length", shown(bad)), chunked(&[b"content-length: 5\r\n", &line]));
        corpus.refused(
            &format!("{} before chunked", shown(bad)),
            chunked(&[&line, b"transfer-encoding: chunked\r\n"]),
        );
        corpus.refused(
            &format!("{} after chunked", shown(bad)),
            chunked(&[b"transfer-encoding: chunked\r\n", &line]),
        );
    }
}

/// Names that somebody could take for Transfer-Encoding, beside a length that counts.
fn coding_names(corpus: &mut Corpus) {
    corpus.class("transfer-encoding names");
    let body = format!("0\r\n\r\n{SMUGGLED}");
    let with = |line: &[u8]| {
        let length = format!("\r\ncontent-length: {}\r\n\r\n", body.len());
        join(&[POST.as_bytes(), line, length.as_bytes(), body.as_bytes()])
    };
    for bad in ill_named(b"Transfer-Encoding") {
        corpus.refused(&shown(&bad), with(&join(&[&bad, b" chunked"])));
    }
    for (name, line) in [
        ("in the value before", &b"x: y\nTransfer-Encoding: chunked"[..]),
        ("behind a carriage return", b"x: y\rTransfer-Encoding: chunked"),
        ("folded", b"x: y\r\n Transfer-Encoding: chunked"),
        ("folded by a tab", b"x: y\r\n\tTransfer-Encoding: chunked"),
        ("behind a null", b"x: y\0Transfer-Encoding: chunked"),
    ] {
        corpus.refused(name, with(line));
    }
    for name in ["transfer_encoding", "Transfer_Encoding", "TRANSFER_ENCODING"] {
        corpus.passes(name, with(format!("{name}: chunked").as_bytes()), Meaning::post(&body));
    }
    for name in [
        "x-transfer-encoding",
        "transfer-encodin",
        "transfer--encoding",
        "transferencoding",
        "content-encoding",
    ] {
        let meaning = Meaning::post(&body).field(name, "chunked");
        corpus.passes(name, with(format!("{name}: chunked").as_bytes()), meaning);
    }
}

/// Bodies where many servers expect none, and none where they expect one (CL.0, 0.CL).
fn ignored_bodies(corpus: &mut Corpus) {
    corpus.class("bodies that are easily ignored");
    let length = SMUGGLED.len();
    for method in ["GET", "HEAD", "OPTIONS", "DELETE", "PUT", "PATCH", "PROPFIND", "get"] {
        let meaning = || Meaning { method: method.to_owned(), ..Meaning::post(SMUGGLED) };
        let head = format!("{method} /r/{{id}} HTTP/1.1\r\nhost: a\r\n");
        let sized = format!("{head}content-length: {length}\r\n\r\n{SMUGGLED}");
        corpus.passes(&format!("{method} with a length"), sized, meaning());
        let chunked =
            format!("{head}transfer-encoding: chunked\r\n\r\n{length:x}\r\n{SMUGGLED}\r\n0\r\n\r\n");
        corpus.passes(&format!("{method} in chunks"), chunked, meaning());
        let second = Meaning::new("GET", "/r/{id}-smuggled");
        let without = Meaning { body: Vec::new(), ..meaning() };
        let expected = Expected::Neutralised(vec![without, second]);
        corpus.add(&format!("{method} without"), format!("{head}\r\n{SMUGGLED}"), Ending::Tail, expected);
    }
    let head = format!("{POST}content-length: {}\r\n", length + 1);
    corpus.add(
        "a length that is too long",
        format!("{head}\r\n{SMUGGLED}"),
        Ending::Closed,
        Expected::CutOff,
    );
    let zero = Expected::Neutralised(vec![Meaning::post(""), Meaning::new("GET", "/r/{id}-smuggled")]);
    corpus.add("a length of zero", format!("{POST}content-length: 0\r\n\r\n{SMUGGLED}"), Ending::Tail, zero);
    // What is left of the body is the beginning of the next method.
    let rest = Meaning::new("loGET", "/r/{id}-tail");
    let short = Expected::Neutralised(vec![Meaning::post("hel"), rest]);
    corpus.add(
        "a length that is too short",
        format!("{POST}content-length: 3\r\n\r\nhello"),
        Ending::UnansweredTail,
        short,
    );
}

fn http10(corpus: &mut Corpus) {
    corpus.class("HTTP/1.0");
    let head = "POST /r/{id} HTTP/1.0\r\nhost: a\r\n";
    let chunked = "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    corpus.refused("chunked", format!("{head}{chunked}"));
    corpus.refused("chunked and kept alive", format!("{head}connection: keep-alive\r\n{chunked}"));
    corpus.refused("chunked with a length", format!("{head}content-length: 5\r\n{chunked}"));
    corpus.refused("without a Host", "GET /r/{id} HTTP/1.0\r\n\r\n");
    corpus.passes_last(
        "with a length",
        format!("{head}content-length: 5\r\n\r\nhello"),
        Meaning::post("hello"),
    );
    let kept = format!("{head}connection: keep-alive\r\ncontent-length: 5\r\n\r\nhello");
    corpus.passes("kept alive", kept, Meaning::post("hello"));
    corpus.passes_last("without a body", format!("{head}\r\n"), Meaning::post(""));
    let expects = format!("{head}expect: 100-continue\r\ncontent-length: 5\r\n\r\nhello");
    corpus.passes_last("with an expectation", expects, Meaning::post("hello"));
    let closed = format!("{head}connection: keep-alive, close\r\ncontent-length: 5\r\n\r\nhello");
    corpus.passes_last("kept alive and closed", closed, Meaning::post("hello"));
}
