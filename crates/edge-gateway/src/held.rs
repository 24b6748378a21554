//! A request body that is read whole before any of it is sent on, and then sent on as it came.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, ready};

use service_router::Timer;
use tokio::time::Instant;

use crate::FlowError;
use crate::request_flow::ClientBody;

/// What all bodies of a worker that are held together may have, in bytes.
const MAX_HELD_BYTES: usize = 64 << 20;

/// The bodies that a worker holds: how many bytes they have.
#[derive(Clone, Default)]
pub(crate) struct HeldBytes(Rc<Cell<usize>>);

/// A body, or what is left of it to send.
pub(crate) struct Held {
    bytes: Vec<u8>,
    sent: usize,
    all: HeldBytes,
}

impl Held {
    /// Reads a body, which must have been given its limit. Its trailers are left where they are.
    ///
    /// # Errors
    /// A body that does not come whole, or not in time, and one for which there is no room.
    pub(crate) async fn read(
        body: &mut impl ClientBody,
        timer: &mut Timer,
        deadline: Instant,
        all: &HeldBytes,
    ) -> Result<Self, FlowError> {
        let mut held = Self { bytes: Vec::new(), sent: 0, all: all.clone() };
        let reading = poll_fn(|context| {
            while ready!(body.poll_data(context))? {
                let more = body.data().len();
                held.push(body.data())?;
                body.consume(more);
            }
            Poll::Ready(Ok(()))
        });
        timer.limit(deadline, reading).await.unwrap_or(Err(FlowError::RequestTimeout))?;
        Ok(held)
    }

    fn push(&mut self, data: &[u8]) -> Result<(), FlowError> {
        let total = self.all.0.get() + data.len();
        if total > MAX_HELD_BYTES {
            return Err(FlowError::Overloaded("the gateway"));
        }
        self.all.0.set(total);
        self.bytes.extend_from_slice(data);
        Ok(())
    }

    /// The whole body.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What was not sent yet.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// So much of it was sent; whether anything is left.
    pub(crate) fn consume(&mut self, bytes: usize) -> bool {
        self.sent += bytes;
        self.sent < self.bytes.len()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.0.set(self.all.0.get() - self.bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use std::task::Context;

    use http1::{Framing, Trailers};
    use service_router::{BodyError, RequestBody};

    use super::*;

    /// A body that has all its pieces at hand, or waits for more.
    struct Pieces {
        pieces: Vec<Vec<u8>>,
        then: Poll<Result<bool, BodyError>>,
    }

    impl RequestBody for Pieces {
        fn framing(&self) -> Framing {
            Framing::Chunked
        }

        fn poll_data(&mut self, _context: &mut Context<'_>) -> Poll<Result<bool, BodyError>> {
            if self.pieces.is_empty() { self.then.clone() } else { Poll::Ready(Ok(true)) }
        }

        fn data(&self) -> &[u8] {
            &self.pieces[0]
        }

        fn consume(&mut self, bytes: usize) {
            assert_eq!(bytes, self.pieces.remove(0).len());
        }

        fn poll_gone(&mut self, _context: &mut Context<'_>) -> Poll<()> {
            Poll::Pending
        }

        fn take_trailers(&mut self) -> Option<Box<Trailers>> {
            None
        }
    }

    impl ClientBody for Pieces {
        fn set_limit(&mut self, _bytes: u64) {}

        fn hold(&mut self, _held: Held) {}
    }

    async fn read(
        all: &HeldBytes,
        pieces: &[&[u8]],
        then: Poll<Result<bool, BodyError>>,
    ) -> Result<Held, FlowError> {
        let mut body = Pieces { pieces: pieces.iter().map(|piece| piece.to_vec()).collect(), then };
        let now = Instant::now();
        Held::read(&mut body, &mut Timer::new(now), now + std::time::Duration::from_secs(1), all).await
    }

    const END: Poll<Result<bool, BodyError>> = Poll::Ready(Ok(false));

    #[tokio::test(start_paused = true)]
    async fn a_body_is_read_whole_and_given_out_as_it_came() {
        let all = HeldBytes::default();
        let mut held = read(&all, &[b"hello ", b"world"], END).await.unwrap();
        assert_eq!((held.bytes(), all.0.get()), (&b"hello world"[..], 11));
        assert!(held.consume(4));
        assert_eq!(held.rest(), b"o world");
        assert!(!held.consume(7));
        drop(held);
        assert_eq!(all.0.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_refused_and_gives_its_room_back() {
        let all = HeldBytes::default();
        let error = async |pieces: &[&[u8]], then| read(&all, pieces, then).await.map(|_| ()).unwrap_err();
        let too_large = Poll::Ready(Err(BodyError::TooLarge(7)));
        assert!(matches!(error(&[b"hello"], too_large).await, FlowError::BodyTooLarge(7)));
        assert!(matches!(error(&[b"hello"], Poll::Pending).await, FlowError::RequestTimeout));
        let large = vec![0; MAX_HELD_BYTES];
        assert!(matches!(error(&[&large, b"x"], END).await, FlowError::Overloaded(_)));
        assert_eq!(all.0.get(), 0);
        let first = read(&all, &[&large], END).await.unwrap();
        assert!(matches!(error(&[b"x"], END).await, FlowError::Overloaded(_)), "all of them together");
        drop(first);
        assert!(read(&all, &[b"x"], END).await.is_ok());
    }
}
