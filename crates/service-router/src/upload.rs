//! A request's body on its way to a replica, over all tries of a call: what was sent can be sent again, up to a limit.

use std::task::{Context, Poll};

use http1::{Framing, Trailers};
use tokio::time::Instant;

use crate::request_body::{BodyError, RequestBody};

/// What is kept of a body for another try: 64 KiB. More cannot be sent twice.
const REPLAY_BYTES: usize = 64 << 10;

/// The body of a call and how far it is.
#[derive(Debug)]
pub(crate) struct Upload {
    framing: Framing,
    /// Everything that was taken from the client so far; `None` once that is too much, or needed no more.
    kept: Option<Vec<u8>>,
    /// How much of what is kept this try has sent.
    replayed: usize,
    source: Source,
    trailers: Option<Box<Trailers>>,
    /// Whether the client is who is waited for.
    starved: bool,
    moved: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// The client sends more.
    Open,
    Ended,
}

impl Upload {
    pub(crate) fn new(body: &impl RequestBody) -> Self {
        let framing = body.framing();
        let source = if framing == Framing::Length(0) { Source::Ended } else { Source::Open };
        Self {
            framing,
            kept: Some(Vec::new()),
            replayed: 0,
            source,
            trailers: None,
            starved: false,
            moved: None,
        }
    }

    pub(crate) fn framing(&self) -> Framing {
        self.framing
    }

    /// Whether there is no body at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.framing == Framing::Length(0)
    }

    /// Whether the body can be sent from its beginning once more.
    pub(crate) fn can_restart(&self) -> bool {
        self.kept.is_some()
    }

    /// Begins another try.
    pub(crate) fn restart(&mut self) {
        (self.replayed, self.starved) = (0, false);
    }

    /// The call will not be sent again, so nothing has to be kept. What is kept and was not sent yet stays.
    pub(crate) fn keep_no_more(&mut self) {
        if self.kept.as_ref().is_some_and(|kept| self.replayed == kept.len()) {
            self.kept = None;
        }
    }

    /// Whether all of it was given to this try.
    pub(crate) fn has_ended(&self) -> bool {
        self.source == Source::Ended && self.kept.as_ref().is_none_or(|kept| self.replayed == kept.len())
    }

    /// Whether the client is who is waited for.
    pub(crate) fn waits_for_client(&self) -> bool {
        self.starved
    }

    /// When the body last moved; `None` before it did.
    pub(crate) fn moved(&self) -> Option<Instant> {
        self.moved
    }

    pub(crate) fn trailers(&self) -> Option<&Trailers> {
        self.trailers.as_deref()
    }

    /// Looks for data to send: true when [`Self::data`] has some, false at the end.
    pub(crate) fn poll_data(
        &mut self,
        context: &mut Context<'_>,
        body: &mut impl RequestBody,
    ) -> Poll<Result<bool, BodyError>> {
        if self.kept.as_ref().is_some_and(|kept| self.replayed < kept.len()) {
            return Poll::Ready(Ok(true));
        }
        if self.source == Source::Ended {
            return Poll::Ready(Ok(false));
        }
        let polled = body.poll_data(context);
        self.starved = polled.is_pending();
        if polled == Poll::Ready(Ok(false)) {
            self.moved = Some(Instant::now());
            self.source = Source::Ended;
            self.trailers = body.take_trailers();
        }
        polled
    }

    /// The data to send.
    pub(crate) fn data<'a>(&'a self, body: &'a impl RequestBody) -> &'a [u8] {
        match &self.kept {
            Some(kept) if self.replayed < kept.len() => &kept[self.replayed..],
            _ => body.data(),
        }
    }

    /// So much of the data was sent.
    pub(crate) fn consume(&mut self, body: &mut impl RequestBody, bytes: usize) {
        if let Some(kept) = &mut self.kept {
            if self.replayed < kept.len() {
                self.replayed += bytes;
                return;
            }
            if kept.len() + bytes <= REPLAY_BYTES {
                kept.extend_from_slice(&body.data()[..bytes]);
                self.replayed = kept.len();
            } else {
                self.kept = None;
            }
        }
        // Only now: what lies ready and is not taken does not move.
        self.moved = Some(Instant::now());
        body.consume(bytes);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::task::Waker;

    use super::*;

    /// A body that has all its pieces at hand.
    pub(crate) struct Pieces(pub(crate) Vec<Vec<u8>>);

    impl RequestBody for Pieces {
        fn framing(&self) -> Framing {
            if self.0.is_empty() { Framing::Length(0) } else { Framing::Chunked }
        }

        fn poll_data(&mut self, _context: &mut Context<'_>) -> Poll<Result<bool, BodyError>> {
            self.0.retain(|piece| !piece.is_empty());
            Poll::Ready(Ok(!self.0.is_empty()))
        }

        fn data(&self) -> &[u8] {
            &self.0[0]
        }

        fn consume(&mut self, bytes: usize) {
            self.0[0].drain(..bytes);
        }

        fn poll_gone(&mut self, _context: &mut Context<'_>) -> Poll<()> {
            Poll::Pending
        }

        fn take_trailers(&mut self) -> Option<Box<Trailers>> {
            None
        }
    }

    fn send(upload: &mut Upload, body: &mut Pieces, limit: usize) -> Vec<u8> {
        let mut context = Context::from_waker(Waker::noop());
        let mut sent = Vec::new();
        while sent.len() < limit && upload.poll_data(&mut context, body) == Poll::Ready(Ok(true)) {
            let take = upload.data(body).len().min(limit - sent.len());
            sent.extend_from_slice(&upload.data(body)[..take]);
            upload.consume(body, take);
        }
        sent
    }

    #[tokio::test]
    async fn what_was_sent_is_sent_again_from_the_beginning() {
        let mut body = Pieces(vec![b"hello ".to_vec(), b"world".to_vec()]);
        let mut upload = Upload::new(&body);
        assert_eq!(send(&mut upload, &mut body, 8), b"hello wo");
        assert!(upload.can_restart() && !upload.has_ended());
        upload.restart();
        assert_eq!(send(&mut upload, &mut body, 99), b"hello world");
        assert!(upload.has_ended());
        upload.restart();
        assert_eq!(send(&mut upload, &mut body, 99), b"hello world");
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_passed_on_and_not_kept() {
        let mut body = Pieces(vec![vec![1; REPLAY_BYTES], vec![2]]);
        let mut upload = Upload::new(&body);
        assert_eq!(send(&mut upload, &mut body, REPLAY_BYTES).len(), REPLAY_BYTES);
        assert!(upload.can_restart());
        assert_eq!(send(&mut upload, &mut body, 2), [2]);
        assert!(!upload.can_restart() && upload.has_ended());
    }
}
