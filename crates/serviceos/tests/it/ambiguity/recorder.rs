//! A replica in the test's own process: it keeps every byte that reaches it, and answers what it can read.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::strict;

/// What came over one connection.
#[derive(Debug, Default, Clone)]
pub(super) struct Stream {
    pub(super) bytes: Vec<u8>,
    pub(super) ended: bool,
}

type Streams = Arc<Mutex<Vec<Stream>>>;

/// A server that listens until the test ends.
pub(super) struct Recorder {
    pub(super) address: SocketAddr,
    streams: Streams,
}

impl Recorder {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let streams = Streams::default();
        let shared = Arc::clone(&streams);
        std::thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let place = {
                    let mut all = shared.lock().unwrap();
                    all.push(Stream::default());
                    all.len() - 1
                };
                let streams = Arc::clone(&shared);
                std::thread::spawn(move || {
                    serve(connection, &streams, place);
                    streams.lock().unwrap()[place].ended = true;
                });
            }
        });
        Self { address, streams }
    }

    /// Everything, once the gateway is gone and with it every connection.
    pub(super) fn finish(self) -> Vec<Stream> {
        testkit::eventually("every connection to the replica to end", || {
            let streams = self.streams.lock().unwrap();
            streams.iter().all(|stream| stream.ended).then(|| streams.clone())
        })
    }
}

/// Answers each request as soon as it is whole; reads on without a word where one cannot be understood.
fn serve(mut connection: TcpStream, streams: &Mutex<Vec<Stream>>, place: usize) {
    let (mut waiting, mut piece, mut broken) = (Vec::new(), [0; 16 << 10], false);
    loop {
        let read = match connection.read(&mut piece) {
            Ok(0) | Err(_) => return,
            Ok(read) => &piece[..read],
        };
        streams.lock().unwrap()[place].bytes.extend_from_slice(read);
        waiting.extend_from_slice(read);
        while !broken {
            let request = match strict::request(&waiting) {
                Ok(Some(request)) => request,
                Ok(None) => break,
                Err(_) => {
                    broken = true;
                    break;
                }
            };
            waiting.drain(..request.length);
            let body = if request.meaning.method == "HEAD" { "" } else { "ok" };
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{body}");
            if connection.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}
