//! An answer that goes on, event by event (the HTML standard, server-sent events).

use std::marker::PhantomData;
use std::path::PathBuf;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::timeout;

use super::{ClientError, Connection, unexpected};
use crate::admin::HEARTBEAT;

/// How long the other side may be silent.
const SILENCE: Duration = HEARTBEAT.saturating_mul(2);
/// The largest event, in bytes: the snapshot of some hundred thousand instances.
const MAX_EVENT_BYTES: usize = 256 << 20;
/// What ends an event.
const END: &str = "\n\n";

/// What a stream tells.
pub trait StreamEvent: Sized {
    /// The event of this name, from its data.
    ///
    /// # Errors
    /// An event of another kind, or data of another shape.
    fn decode(name: &str, data: &str) -> Result<Self, String>;
}

/// What happens; ends with `up`, or when it is dropped.
pub struct EventStream<E> {
    data_dir: PathBuf,
    body: Incoming,
    /// What was read and is not told yet.
    read: Vec<u8>,
    /// So much of it holds no end of an event.
    searched: usize,
    _connection: Connection,
    _tells: PhantomData<fn() -> E>,
}

impl<E: StreamEvent> EventStream<E> {
    pub(super) fn new(data_dir: PathBuf, body: Incoming, connection: Connection) -> Self {
        Self { data_dir, body, read: Vec::new(), searched: 0, _connection: connection, _tells: PhantomData }
    }

    /// The next event; `None` once `up` has ended.
    ///
    /// # Errors
    /// The answer was cut off, or is none that is understood.
    pub async fn next(&mut self) -> Result<Option<E>, ClientError> {
        loop {
            while let Some(lines) = self.lines()? {
                if let Some(event) = decode(&lines).map_err(ClientError::Unexpected)? {
                    return Ok(Some(event));
                }
            }
            let Ok(frame) = timeout(SILENCE, self.body.frame()).await else {
                return Err(self.cut_off());
            };
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|_| self.cut_off())?;
            if let Ok(data) = frame.into_data() {
                self.read.extend_from_slice(&data);
            }
            if self.read.len() > MAX_EVENT_BYTES {
                return Err(unexpected(format_args!("an event of more than {MAX_EVENT_BYTES} bytes")));
            }
        }
    }

    fn cut_off(&self) -> ClientError {
        ClientError::CutOff { data_dir: self.data_dir.clone() }
    }

    /// The lines of the next whole event.
    fn lines(&mut self) -> Result<Option<String>, ClientError> {
        let end = END.as_bytes();
        let found = self.read[self.searched..].windows(end.len()).position(|window| window == end);
        let Some(found) = found else {
            // The first half of an end may be there already.
            self.searched = self.read.len().saturating_sub(end.len() - 1);
            return Ok(None);
        };
        let rest = self.read.split_off(self.searched + found + end.len());
        self.searched = 0;
        String::from_utf8(std::mem::replace(&mut self.read, rest)).map(Some).map_err(unexpected)
    }
}

/// What the lines of an event say; `None` where they are only a comment.
pub(crate) fn decode<E: StreamEvent>(lines: &str) -> Result<Option<E>, String> {
    let field = |name: &str| {
        let value = |line: &'_ str| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim_start().to_owned());
        lines.lines().find_map(value)
    };
    let Some(data) = field("data") else { return Ok(None) };
    E::decode(&field("event").unwrap_or_default(), &data).map(Some)
}
