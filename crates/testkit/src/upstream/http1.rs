//! The server's HTTP/1.1, one thread for each connection.

use std::io::{Read, Result, Write};

use serde_json::Value;

use super::{Book, Seen, filler};
use crate::connection::{Connection, Framing, Head, framing};

/// What a server says that has limits of its own.
const LIMITED: &str = "ratelimit-policy: \"own\";q=1;w=1\r\nratelimit: \"own\";r=0;t=1\r\nx-ratelimit-limit: 1\r\nx-ratelimit-remaining: 0\r\nx-ratelimit-reset: 1\r\n";

/// What becomes of the connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    Open,
    Close,
}

/// One request that is being answered.
struct Call<'a, S> {
    connection: &'a mut Connection<S>,
    book: &'a Book,
    head: Head,
    framing: Framing,
    number: usize,
}

pub(super) fn serve<S: Read + Write>(stream: S, book: &Book, number: u64) -> Result<()> {
    let mut connection = Connection::over(stream);
    loop {
        let head = connection.head()?;
        let mut words = head.line.split(' ').map(str::to_owned);
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if target == "/health" {
            let status = book.health_status();
            connection
                .write(format!("HTTP/1.1 {status} -\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"))?;
            return Ok(());
        }
        let closes = head.header("connection") == Some("close");
        let framing = framing(&head.headers, Framing::Length(0))?;
        let headers = head.headers.clone();
        let seen = Seen { connection: number, method, target: target.clone(), headers, ..Seen::default() };
        let number = book.begin(seen);
        let mut call = Call { connection: &mut connection, book, head, framing, number };
        if call.answer(&target)? == After::Close || closes {
            return Ok(());
        }
    }
}

impl<S: Read + Write> Call<'_, S> {
    fn answer(&mut self, target: &str) -> Result<After> {
        if self.book.is_failing() {
            self.read_body()?;
            return self.send(500, "", b"it fails as it was told to");
        }
        let path = target.split('?').next().unwrap_or_default();
        let (first, rest) = path[1..].split_once('/').unwrap_or((&path[1..], ""));
        let number = || rest.parse::<usize>().unwrap_or_default();
        match first {
            "echo" => {
                self.read_body()?;
                self.send_json()
            }
            "mirror" => {
                if rest == "late" {
                    let _the_word = self.book.command();
                }
                self.mirror()
            }
            "fixed" => self.read_body().and_then(|()| self.send(200, "", &filler(number()))),
            "limited" => self.read_body().and_then(|()| self.send(200, LIMITED, b"")),
            "chunked" => self.chunked(&filler(number())),
            "status" => self.read_body().and_then(|()| self.status(rest)),
            "unchanged" => {
                self.raw("HTTP/1.1 304 -\r\netag: \"1\"\r\ncontent-length: 1234\r\n\r\n", After::Open)
            }
            "empty" => self.raw("HTTP/1.1 204 -\r\ncontent-length: 0\r\n\r\n", After::Open),
            "together" => self.together(target, number()),
            "late" => {
                self.read_body()?;
                let _the_word = self.book.command();
                self.send_json()
            }
            "command" => self.command(),
            "sink" => self.sink(rest),
            "trailers" => self.trailers(),
            "wait" => self.wait(rest),
            "refuse" => self.refuse(),
            "break" => self.break_off(rest),
            "bare" => {
                self.raw("HTTP/1.1 200 -\r\ncontent-type: text/plain\r\n\r\nuntil the end", After::Close)
            }
            "upgrade" | "bad-accept" => self.upgrade(first),
            _ => self.read_body().and_then(|()| self.send(404, "", b"no such path")),
        }
    }

    fn raw(&mut self, text: &str, after: After) -> Result<After> {
        self.connection.write(text)?;
        Ok(after)
    }

    fn send(&mut self, status: u16, fields: &str, body: &[u8]) -> Result<After> {
        let head = format!("HTTP/1.1 {status} -\r\n{fields}content-length: {}\r\n\r\n", body.len());
        self.connection.write(head)?;
        if !self.head.line.starts_with("HEAD ") {
            self.connection.write(body)?;
        }
        Ok(After::Open)
    }

    fn send_json(&mut self) -> Result<After> {
        let body: Value = super::lock(&self.book.seen)[self.number].json();
        self.send(200, "content-type: application/json\r\n", body.to_string().as_bytes())
    }

    fn status(&mut self, status: &str) -> Result<After> {
        let length = if matches!(status, "204" | "304") { "" } else { "content-length: 0\r\n" };
        self.raw(&format!("HTTP/1.1 {status} -\r\n{length}\r\n"), After::Open)
    }

    /// Reads the request's body, and notes what came of it and that it is whole.
    fn read_body(&mut self) -> Result<()> {
        self.pieces(|_, _| Ok(()))
    }

    fn pieces(&mut self, mut each: impl FnMut(&mut Connection<S>, &[u8]) -> Result<()>) -> Result<()> {
        let (book, number) = (self.book, self.number);
        let mut piece = |connection: &mut Connection<S>, bytes: &[u8]| {
            book.note(number, |seen| seen.take(bytes));
            each(connection, bytes)
        };
        match self.framing {
            Framing::Length(length) => {
                let (mut left, mut room) = (usize::try_from(length).expect("a size"), vec![0; 64 << 10]);
                while left > 0 {
                    let most = left.min(room.len());
                    let read = self.connection.some(&mut room[..most])?;
                    if read == 0 {
                        return Err(std::io::ErrorKind::UnexpectedEof.into());
                    }
                    piece(self.connection, &room[..read])?;
                    left -= read;
                }
            }
            Framing::Chunked => {
                while let Some(chunk) = self.connection.chunk()? {
                    piece(self.connection, &chunk)?;
                }
                let trailers = self.connection.fields()?;
                book.note(number, |seen| seen.trailers = trailers);
            }
            Framing::UntilClose => {}
        }
        book.note(number, |seen| seen.whole = true);
        Ok(())
    }

    fn mirror(&mut self) -> Result<After> {
        match self.framing {
            Framing::Length(length) => {
                self.connection.write(format!("HTTP/1.1 200 -\r\ncontent-length: {length}\r\n\r\n"))?;
                self.pieces(|connection, piece| connection.write(piece))?;
            }
            _ => {
                self.connection.write("HTTP/1.1 200 -\r\ntransfer-encoding: chunked\r\n\r\n")?;
                self.pieces(|connection, piece| connection.write(chunk(piece)))?;
                self.connection.write("0\r\n\r\n")?;
            }
        }
        Ok(After::Open)
    }

    fn chunked(&mut self, body: &[u8]) -> Result<After> {
        self.read_body()?;
        self.connection.write("HTTP/1.1 200 -\r\ntransfer-encoding: chunked\r\n\r\n")?;
        // Chunks of odd sizes, so that none ends where a buffer does.
        for piece in body.chunks(9973) {
            self.connection.write(chunk(piece))?;
        }
        self.raw("0\r\n\r\n", After::Open)
    }

    fn together(&mut self, target: &str, wanted: usize) -> Result<After> {
        let book = self.book;
        let together = |seen: &[Seen]| seen.iter().filter(|seen| seen.target == target).count() >= wanted;
        book.wait("requests at the same time", |seen| together(seen).then_some(()));
        self.send(200, "", b"")
    }

    fn command(&mut self) -> Result<After> {
        let head = "HTTP/1.1 200 -\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        self.connection.write(head)?;
        while let Some(word) = self.book.command() {
            self.connection.write(chunk(word.as_bytes()))?;
        }
        self.raw("0\r\n\r\n", After::Open)
    }

    /// Counts alone, as a checksum of a gigabyte would be what is measured.
    fn sink(&mut self, how: &str) -> Result<After> {
        let Framing::Length(length) = self.framing else { return Ok(After::Close) };
        let (mut left, mut room) = (length, vec![0; 256 << 10]);
        let _the_word = self.book.command();
        if how == "early" {
            self.connection.write("HTTP/1.1 200 -\r\ntransfer-encoding: chunked\r\n\r\n")?;
        }
        while left > 0 {
            let read = self.connection.some(&mut room)? as u64;
            if read == 0 {
                return Ok(After::Close);
            }
            left -= read;
        }
        self.book.note(self.number, |seen| (seen.body_bytes, seen.whole) = (length, true));
        if how == "early" {
            let said = chunk(format!("{length} bytes").as_bytes());
            return self.connection.write([&said[..], b"0\r\n\r\n"].concat()).map(|()| After::Open);
        }
        self.send_json()
    }

    fn trailers(&mut self) -> Result<After> {
        self.read_body()?;
        self.raw(
            "HTTP/1.1 200 -\r\ntransfer-encoding: chunked\r\ntrailer: x-sum, content-length\r\n\r\n4\r\nbody\r\n0\r\n\
             x-sum: 7\r\nx-undeclared: 1\r\ngrpc-status: 0\r\ncontent-length: 4\r\nx-serviceos-tenant: t\r\n\r\n",
            After::Open,
        )
    }

    /// Reads on, so that nothing but the end of the connection is noticed.
    fn wait(&mut self, how: &str) -> Result<After> {
        if how == "begun" {
            let head =
                "HTTP/1.1 200 -\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            self.connection.write([head.as_bytes(), &chunk(b"first")].concat())?;
        }
        let ended = matches!(self.connection.some(&mut [0; 1024]), Ok(0) | Err(_));
        self.book.note(self.number, |seen| seen.gone = ended);
        Ok(After::Close)
    }

    /// Answers with the body unread, and reads what still comes, so that no reset overtakes the answer.
    fn refuse(&mut self) -> Result<After> {
        self.connection.write("HTTP/1.1 413 -\r\ncontent-length: 8\r\nconnection: close\r\n\r\ntoo much")?;
        let mut room = vec![0; 64 << 10];
        while self.connection.some(&mut room)? > 0 {}
        Ok(After::Close)
    }

    fn break_off(&mut self, how: &str) -> Result<After> {
        if how == "before" {
            return self.read_body().map(|()| After::Close);
        }
        let framing = if how == "fixed" { "content-length: 100" } else { "transfer-encoding: chunked" };
        let piece = if how == "fixed" { "0123456789" } else { "a\r\n0123456789\r\n" };
        self.raw(&format!("HTTP/1.1 200 -\r\n{framing}\r\n\r\n{piece}"), After::Close)
    }

    /// Echoes what comes after the change, until it ends.
    fn upgrade(&mut self, how: &str) -> Result<After> {
        let protocol = self.head.header("upgrade").unwrap_or("none").to_owned();
        let accept = if how == "bad-accept" { "sec-websocket-accept: bm90aGluZyBwcm92ZWQ=\r\n" } else { "" };
        self.connection
            .write(format!("HTTP/1.1 101 -\r\nconnection: upgrade\r\nupgrade: {protocol}\r\n{accept}\r\n"))?;
        let mut room = [0; 4096];
        loop {
            match self.connection.some(&mut room)? {
                0 => return Ok(After::Close),
                read => self.connection.write(&room[..read])?,
            }
        }
    }
}

fn chunk(piece: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()
}
