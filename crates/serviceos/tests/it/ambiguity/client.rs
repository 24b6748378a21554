//! Sends an input as it stands, and keeps what is answered.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::corpus::{Case, Ending, Expected, join, with_id};
use super::frames::{ACK, END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS, Said, block, frame, read};

/// Nothing that a case waits for takes longer; reaching it is a failure.
const LIMIT: Duration = Duration::from_secs(20);
/// The stream of the request behind an HTTP/2 input.
const TAIL_STREAM: u32 = 20_001;

/// What came back over one connection, in order, until it ended.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// The statuses of the final answers to the input.
    pub(super) statuses: Vec<u16>,
    /// The code of the first answer, where it is a problem document.
    pub(super) code: Option<String>,
    /// The status of the answer to the request behind the input; in HTTP/1.1 it is among the others.
    pub(super) tail: Option<u16>,
    /// Whether the gateway reset the stream, or ended the connection.
    pub(super) reset: bool,
}

/// Sends an HTTP/1.1 input with what follows it.
pub(super) fn http1(gateway: SocketAddr, case: &Case, id: &str) -> Result<Answers, String> {
    let tail = match case.ending {
        Ending::Tail | Ending::UnansweredTail => {
            "GET /r/{id}-tail HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
        }
        Ending::Closed => "",
    };
    let input = with_id(&join(&[&case.input, tail.as_bytes()]), id);
    let mut answered = Vec::new();
    let ended = exchange(gateway, &input, case.ending == Ending::Closed, &mut |piece| {
        answered.extend_from_slice(piece);
        false
    })?;
    if !ended {
        return Err(format!("the connection stayed open after {:?}", answered.escape_ascii().to_string()));
    }
    let methods = match &case.expected {
        Expected::Neutralised(meanings) => meanings.iter().map(|meaning| meaning.method.as_str()).collect(),
        _ => Vec::new(),
    };
    http1_answers(&answered, &methods)
}

/// Writes the input and hands on whatever comes, until that is enough (false) or the connection has ended (true).
fn exchange(
    gateway: SocketAddr,
    input: &[u8],
    closes: bool,
    enough: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<bool, String> {
    let text = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(gateway).map_err(text)?;
    stream.set_nodelay(true).map_err(text)?;
    stream.set_read_timeout(Some(LIMIT)).map_err(text)?;
    let mut writing = stream.try_clone().map_err(text)?;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A gateway that has seen enough may stop reading.
            let written = writing.write_all(input).is_ok();
            if written && closes {
                let _ended_already = writing.shutdown(Shutdown::Write).is_err();
            }
        });
        let mut piece = vec![0; 16 << 10];
        let ended = loop {
            match stream.read(&mut piece) {
                Ok(0) => break Ok(true),
                Ok(length) if enough(&piece[..length]) => break Ok(false),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    break Ok(false);
                }
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break Ok(true),
                Err(error) => break Err(error.to_string()),
            }
        };
        let _ended_already = stream.shutdown(Shutdown::Both).is_err();
        ended
    })
}

/// Takes answers apart; every byte has to belong to one.
fn http1_answers(mut bytes: &[u8], methods: &[&str]) -> Result<Answers, String> {
    let mut answers = Answers { reset: true, ..Answers::default() };
    while !bytes.is_empty() {
        let broken = || format!("no answer: {}", bytes.escape_ascii());
        let head = bytes.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(broken)?;
        let text = std::str::from_utf8(&bytes[..head]).map_err(|_| broken())?.to_ascii_lowercase();
        let status: u16 = text.get(9..12).and_then(|status| status.parse().ok()).ok_or_else(broken)?;
        bytes = &bytes[head + 4..];
        if status < 200 {
            continue;
        }
        let value = |name: &str| text.split("\r\n").find_map(|line| line.strip_prefix(name)).map(str::trim);
        let length: usize = value("content-length:").map_or(Ok(0), str::parse).map_err(|_| broken())?;
        let is_head = methods.get(answers.statuses.len()) == Some(&"HEAD");
        let body = bytes.get(..if is_head { 0 } else { length }).ok_or_else(broken)?;
        if answers.statuses.is_empty() && value("content-type:") == Some("application/problem+json") {
            let problem: serde_json::Value =
                serde_json::from_slice(body).map_err(|error| error.to_string())?;
            answers.code =
                problem["code"].as_str().filter(|_| problem["status"] == status).map(str::to_owned);
        }
        bytes = &bytes[body.len()..];
        answers.statuses.push(status);
    }
    Ok(answers)
}

/// Sends an HTTP/2 input, and a request on another stream behind it.
pub(super) fn http2(gateway: SocketAddr, case: &Case, id: &str) -> Result<Answers, String> {
    let tail = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/r/{id}-tail")];
    let input = join(&[
        PREFACE,
        &frame(SETTINGS, 0, 0, &[]),
        &frame(SETTINGS, ACK, 0, &[]),
        &case.input,
        &frame(HEADERS, END_HEADERS | END_STREAM, TAIL_STREAM, &block(&tail)),
    ]);
    let (mut waiting, mut answers) = (Vec::new(), Answers::default());
    // A stream that the client has reset is not answered.
    let (mut own_is_over, mut tail_is_over) = (case.ending == Ending::Closed, false);
    let ended = exchange(gateway, &with_id(&input, id), false, &mut |piece| {
        waiting.extend_from_slice(piece);
        while let Some(said) = read(&mut waiting) {
            for said in said.into_iter().flatten() {
                match said {
                    Said::Answer(TAIL_STREAM, status) => answers.tail = Some(status),
                    Said::Answer(1, status) => answers.statuses.push(status),
                    Said::Reset(1) => (answers.reset, own_is_over) = (true, true),
                    Said::End(1) => own_is_over = true,
                    Said::End(TAIL_STREAM) | Said::Reset(TAIL_STREAM) => tail_is_over = true,
                    _ => {}
                }
            }
        }
        // Streams of a flood beside the first one end as they like.
        own_is_over && tail_is_over
    })?;
    answers.reset |= ended;
    if ended || own_is_over && tail_is_over {
        Ok(answers)
    } else {
        Err(format!("neither an end nor an answer: {answers:?}"))
    }
}
