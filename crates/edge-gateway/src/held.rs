//! A request's body that was read whole before anything is done with the request, for whoever has to judge it. It is sent on exactly
//! as it came.
//!
//! What all bodies that are read so may hold together is bounded, for each worker: many requests with bodies of the allowed size
//! would be more than a machine has.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::Duration;

use http1::{Framing, Trailers};
use service_router::{BodyError, Timer};
use tokio::time::Instant;

use crate::FlowError;
use crate::request_flow::ClientBody;

/// What the bodies that a worker has read whole may hold together.
const MAX_HELD_BYTES: usize = 64 << 20;
/// How fast a body has to come, beside what a request may take anyway.
const LEAST_BYTES_A_SECOND: u64 = 16 << 10;
/// What is taken for a body at first; more only once it has come.
const FIRST_BYTES: usize = 16 << 10;

/// The room of a worker for bodies that are read whole.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeldBytes(Rc<Cell<usize>>);

/// A part of the room, given back when it is dropped.
#[derive(Debug)]
struct Taken {
    room: HeldBytes,
    bytes: usize,
}

impl Taken {
    /// Takes so much more.
    fn more(&mut self, bytes: usize) -> Result<(), FlowError> {
        let used = self.room.0.get().saturating_add(bytes);
        if used > MAX_HELD_BYTES {
            return Err(FlowError::NoRoom);
        }
        self.room.0.set(used);
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.room.0.set(self.room.0.get().saturating_sub(self.bytes));
    }
}

/// A body that was read whole, and how much of it was sent on.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: Vec<u8>,
    sent: usize,
    trailers: Option<Box<Trailers>>,
    has_trailers: bool,
    _taken: Taken,
}

impl Held {
    /// All of it.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its length is known; but trailers can stand behind chunks alone.
    pub(crate) fn framing(&self) -> Framing {
        if self.has_trailers { Framing::Chunked } else { Framing::Length(self.bytes.len() as u64) }
    }

    /// What is still to be sent.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// So much of it was sent.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.sent = (self.sent + bytes).min(self.bytes.len());
    }

    pub(crate) fn take_trailers(&mut self) -> Option<Box<Trailers>> {
        self.trailers.take()
    }
}

/// Reads a body to its end and keeps it, so that from now on the client's body is what is kept. It may take `timeout`, and as
/// long as what came takes at [`LEAST_BYTES_A_SECOND`]: whoever sends byte by byte holds its room no longer than that. What was
/// read so already stays as it is.
///
/// # Errors
/// The body fails, is late, or there is no room for it.
pub(crate) async fn read_held(
    body: &mut impl ClientBody,
    timer: &mut Timer,
    timeout: Duration,
    room: &HeldBytes,
) -> Result<(), FlowError> {
    if body.held().is_some() {
        return Ok(());
    }
    let mut taken = Taken { room: room.clone(), bytes: 0 };
    let mut bytes = Vec::new();
    let first_deadline = Instant::now() + timeout;
    loop {
        let deadline = first_deadline + time_of(bytes.len());
        let read = poll_fn(|context| {
            let has_more = ready!(body.poll_data(context))?;
            if !has_more {
                return Poll::Ready(Ok::<_, FlowError>(false));
            }
            let data = body.data();
            make_room(&mut bytes, data.len(), &mut taken)?;
            bytes.extend_from_slice(data);
            let length = data.len();
            body.consume(length);
            Poll::Ready(Ok(true))
        });
        match timer.limit(deadline, read).await {
            None => return Err(BodyError::ClientIdle.into()),
            Some(Ok(true)) => {}
            Some(Ok(false)) => break,
            Some(Err(error)) => return Err(error),
        }
    }
    let trailers = body.take_trailers();
    let has_trailers = trailers.is_some();
    *body.held() = Some(Box::new(Held { bytes, sent: 0, trailers, has_trailers, _taken: taken }));
    Ok(())
}

fn time_of(bytes: usize) -> Duration {
    Duration::from_millis(1_000 * bytes as u64 / LEAST_BYTES_A_SECOND)
}

/// Makes room for so many bytes more, twice of what there is where it is too little.
fn make_room(bytes: &mut Vec<u8>, more: usize, taken: &mut Taken) -> Result<(), FlowError> {
    let needed = bytes.len() + more;
    if needed <= bytes.capacity() {
        return Ok(());
    }
    let wanted = needed.max(bytes.capacity() * 2).max(FIRST_BYTES.min(needed * 2));
    let before = bytes.capacity();
    taken.more(wanted - before)?;
    bytes.reserve_exact(wanted - bytes.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::task::Context;

    use service_router::RequestBody;

    use super::*;

    /// A body whose pieces come one by one; at the end it is over, or nothing more comes.
    #[derive(Default)]
    struct Pieces {
        pieces: VecDeque<Vec<u8>>,
        stalls: bool,
        held: Option<Box<Held>>,
    }

    impl RequestBody for Pieces {
        fn framing(&self) -> Framing {
            Framing::Chunked
        }

        fn poll_data(&mut self, _context: &mut Context<'_>) -> Poll<Result<bool, BodyError>> {
            if self.pieces.is_empty() && self.stalls {
                Poll::Pending
            } else {
                Poll::Ready(Ok(!self.pieces.is_empty()))
            }
        }

        fn data(&self) -> &[u8] {
            &self.pieces[0]
        }

        fn consume(&mut self, bytes: usize) {
            self.pieces[0].drain(..bytes);
            self.pieces.retain(|piece| !piece.is_empty());
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

        fn held(&mut self) -> &mut Option<Box<Held>> {
            &mut self.held
        }
    }

    async fn read(body: &mut Pieces, room: &HeldBytes) -> Result<(), FlowError> {
        let mut timer = Timer::new(Instant::now());
        read_held(body, &mut timer, Duration::from_secs(5), room).await
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_in_pieces_is_one_and_gives_its_room_back() {
        let room = HeldBytes::default();
        let mut body = Pieces {
            pieces: vec![b"he".to_vec(), b"l".to_vec(), b"lo".to_vec()].into(),
            ..Pieces::default()
        };
        read(&mut body, &room).await.unwrap();
        let held = body.held.as_mut().unwrap();
        assert_eq!((held.bytes(), held.framing()), (&b"hello"[..], Framing::Length(5)));
        assert!(room.0.get() >= 5);
        held.consume(2);
        assert_eq!(held.rest(), b"llo");
        drop(body);
        assert_eq!(room.0.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_else_has_to_judge_it_finds_it_read() {
        let room = HeldBytes::default();
        let mut body = Pieces { pieces: vec![b"once".to_vec()].into(), ..Pieces::default() };
        read(&mut body, &room).await.unwrap();
        body.stalls = true;
        read(&mut body, &room).await.unwrap();
        assert_eq!(body.held.as_ref().unwrap().bytes(), b"once");
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_is_kept_than_there_is_room_for() {
        let room = HeldBytes::default();
        let large = || Pieces { pieces: (0..40).map(|_| vec![7; 1 << 20]).collect(), ..Pieces::default() };
        let mut first = large();
        read(&mut first, &room).await.unwrap();
        assert_eq!(first.held.as_ref().unwrap().bytes().len(), 40 << 20);
        let mut second = large();
        assert!(matches!(read(&mut second, &room).await, Err(FlowError::NoRoom)));
        drop(first);
        assert_eq!(room.0.get(), 0, "the second has given back what it had");
        read(&mut large(), &room).await.unwrap();
    }

    /// A body that never ends, of which a byte comes every four seconds.
    struct Trickle {
        next: std::pin::Pin<Box<tokio::time::Sleep>>,
        held: Option<Box<Held>>,
    }

    impl RequestBody for Trickle {
        fn framing(&self) -> Framing {
            Framing::Chunked
        }

        fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Result<bool, BodyError>> {
            ready!(self.next.as_mut().poll(context));
            Poll::Ready(Ok(true))
        }

        fn data(&self) -> &[u8] {
            b" "
        }

        fn consume(&mut self, _bytes: usize) {
            self.next = Box::pin(tokio::time::sleep(Duration::from_secs(4)));
        }

        fn poll_gone(&mut self, _context: &mut Context<'_>) -> Poll<()> {
            Poll::Pending
        }

        fn take_trailers(&mut self) -> Option<Box<Trailers>> {
            None
        }
    }

    impl ClientBody for Trickle {
        fn set_limit(&mut self, _bytes: u64) {}

        fn held(&mut self) -> &mut Option<Box<Held>> {
            &mut self.held
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_comes_byte_by_byte_holds_its_room_no_longer_than_one_that_stands_still() {
        let (room, began) = (HeldBytes::default(), Instant::now());
        let mut body = Trickle { next: Box::pin(tokio::time::sleep(Duration::ZERO)), held: None };
        let read = read_held(&mut body, &mut Timer::new(began), Duration::from_secs(15), &room).await;
        assert!(matches!(read, Err(FlowError::RequestTimeout)));
        assert_eq!((began.elapsed(), room.0.get()), (Duration::from_secs(15), 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stands_still_is_late() {
        let room = HeldBytes::default();
        let mut body = Pieces { pieces: vec![b"{".to_vec()].into(), stalls: true, ..Pieces::default() };
        let began = Instant::now();
        assert!(matches!(read(&mut body, &room).await, Err(FlowError::RequestTimeout)));
        assert_eq!((began.elapsed(), room.0.get()), (Duration::from_secs(5), 0));
    }
}
