//! The floor: the least that a proxy on tokio can do, which is to find where heads end and to pass bytes on.
//!
//! `bench-floor LISTEN UPSTREAM…` has one thread, parses heads with `httparse`, keeps connections to its upstreams and takes
//! them in turn. It checks nothing, changes no header, logs nothing and retries nothing, so that nothing useful can be
//! faster by much. It passes only messages whose length is announced.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

/// Largest head, and the step in which bodies pass.
const BUFFER_BYTES: usize = 16 * 1024;
const HEADERS: usize = 64;

fn main() -> anyhow::Result<()> {
    let mut addresses = std::env::args().skip(1).map(|text| text.parse::<SocketAddr>());
    let listen = addresses.next().context("usage: bench-floor LISTEN UPSTREAM…")??;
    let upstreams = addresses.collect::<Result<Vec<_>, _>>()?;
    if upstreams.is_empty() {
        bail!("usage: bench-floor LISTEN UPSTREAM…");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    LocalSet::new().block_on(&runtime, serve(listen, Rc::new(Pool::new(upstreams))))
}

async fn serve(listen: SocketAddr, pool: Rc<Pool>) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (client, _) = listener.accept().await?;
        client.set_nodelay(true)?;
        let pool = Rc::clone(&pool);
        tokio::task::spawn_local(async move {
            if let Err(error) = pass_requests(client, &pool).await {
                eprintln!("bench-floor: {error:#}");
            }
        });
    }
}

/// Idle connections to each upstream.
struct Pool {
    upstreams: Vec<(SocketAddr, RefCell<Vec<TcpStream>>)>,
    turn: Cell<usize>,
}

impl Pool {
    fn new(addresses: Vec<SocketAddr>) -> Self {
        let upstreams = addresses.into_iter().map(|address| (address, RefCell::default())).collect();
        Self { upstreams, turn: Cell::new(0) }
    }

    /// A connection to the upstream whose turn it is, and the number of that upstream.
    async fn take(&self) -> std::io::Result<(usize, TcpStream)> {
        let number = self.turn.get();
        self.turn.set((number + 1) % self.upstreams.len());
        let (address, idle) = &self.upstreams[number];
        let kept = idle.borrow_mut().pop();
        if let Some(stream) = kept {
            return Ok((number, stream));
        }
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok((number, stream))
    }

    fn give_back(&self, number: usize, stream: TcpStream) {
        self.upstreams[number].1.borrow_mut().push(stream);
    }
}

async fn pass_requests(mut client: TcpStream, pool: &Pool) -> anyhow::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let Some((filled, length)) = read_message(&mut client, &mut buffer, request_length).await? else {
            return Ok(());
        };
        let (number, mut upstream) = pool.take().await?;
        pass(&mut client, &mut upstream, &mut buffer, filled, length).await?;
        let answer = read_message(&mut upstream, &mut buffer, response_length).await?;
        let (filled, length) = answer.context("the upstream closed the connection")?;
        pass(&mut upstream, &mut client, &mut buffer, filled, length).await?;
        pool.give_back(number, upstream);
    }
}

/// Reads until a whole head is there: how many bytes were read, and how long the message is with its body. None where the
/// connection ended in between.
async fn read_message(
    from: &mut TcpStream,
    buffer: &mut [u8],
    length: fn(&[u8]) -> anyhow::Result<Option<usize>>,
) -> anyhow::Result<Option<(usize, usize)>> {
    let mut filled = 0;
    loop {
        let read = from.read(&mut buffer[filled..]).await?;
        if read == 0 {
            return Ok(None);
        }
        filled += read;
        if let Some(length) = length(&buffer[..filled])? {
            return Ok(Some((filled, length)));
        }
    }
}

/// Writes what was read of a message, and then the rest of it.
async fn pass(
    from: &mut TcpStream,
    to: &mut TcpStream,
    buffer: &mut [u8],
    filled: usize,
    length: usize,
) -> anyhow::Result<()> {
    if filled > length {
        bail!("pipelined messages are not passed");
    }
    to.write_all(&buffer[..filled]).await?;
    let mut left = length - filled;
    while left > 0 {
        let most = left.min(buffer.len());
        let read = from.read(&mut buffer[..most]).await?;
        if read == 0 {
            bail!("the body ended early");
        }
        to.write_all(&buffer[..read]).await?;
        left -= read;
    }
    Ok(())
}

fn request_length(bytes: &[u8]) -> anyhow::Result<Option<usize>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head) = request.parse(bytes)? else { return Ok(None) };
    Ok(Some(head + body_length(request.headers)?))
}

fn response_length(bytes: &[u8]) -> anyhow::Result<Option<usize>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(bytes)? else { return Ok(None) };
    Ok(Some(head + body_length(response.headers)?))
}

fn body_length(headers: &[httparse::Header<'_>]) -> anyhow::Result<usize> {
    let length = headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let Some(length) = length else { return Ok(0) };
    Ok(std::str::from_utf8(length.value)?.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_as_long_as_its_head_and_its_announced_body() {
        let request = b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(request_length(request).unwrap(), Some(request.len() + 5));
        assert_eq!(request_length(&request[..20]).unwrap(), None);
        let response = b"HTTP/1.1 204 No Content\r\n\r\n";
        assert_eq!(response_length(response).unwrap(), Some(response.len()));
        assert!(response_length(b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n").is_err());
    }
}
