//! A request's body that was read whole before anything is done with the request, for whoever has to judge it. It is sent on exactly
//! as it came.
//!
//! What all bodies that are read so may hold together is bounded, for each worker: many requests with bodies of the allowed size
//! would be more than a machine has. Of that room an address may hold at most as much as it leaves to all others (the dynamic
//! threshold of Choudhury and Hahne, 1998, with a factor of one): one alone has half of it, the next one half of what is left, and
//! those who come together share alike. A part of it is for small bodies. It is held until the body was sent on, and no longer.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::poll_fn;
use std::net::{IpAddr, Ipv6Addr};
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
/// What of it is for small bodies alone, so that whoever has many addresses keeps nobody out with large ones.
const RESERVED_BYTES: usize = 8 << 20;
/// So large is a small one at the most, with the room that it takes while it grows.
const SMALL_BYTES: usize = 64 << 10;
/// How fast a body has to come, beside what a request may take anyway.
const LEAST_BYTES_A_SECOND: u64 = 16 << 10;
/// What is taken for a body at first; more only once it has come.
const FIRST_BYTES: usize = 16 << 10;

/// The room of a worker for bodies that are read whole.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeldBytes(Rc<RefCell<Holders>>);

/// Who holds how much of it.
#[derive(Debug, Default)]
struct Holders {
    used: usize,
    /// Those alone who hold something now.
    each: HashMap<IpAddr, usize>,
}

/// What a client holds of the room for one body, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    room: HeldBytes,
    holder: IpAddr,
    bytes: usize,
}

impl HeldBytes {
    /// The share of a client at this address, of which it holds nothing yet.
    pub(crate) fn share_of(&self, address: IpAddr) -> Share {
        Share { room: self.clone(), holder: holder(address), bytes: 0 }
    }
}

/// Who limits of addresses are for: in IPv6 the /64, which is what one client has at least.
fn holder(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

impl Share {
    /// Takes so much more.
    fn more(&mut self, bytes: usize) -> Result<(), FlowError> {
        let mut holders = self.room.0.borrow_mut();
        let held = holders.each.get(&self.holder).copied().unwrap_or_default().saturating_add(bytes);
        let used = holders.used.saturating_add(bytes);
        let is_small = self.bytes.saturating_add(bytes) <= SMALL_BYTES;
        let room = if is_small { MAX_HELD_BYTES } else { MAX_HELD_BYTES - RESERVED_BYTES };
        if held > room.saturating_sub(used) {
            return Err(FlowError::NoRoom);
        }
        holders.used = used;
        holders.each.insert(self.holder, held);
        self.bytes += bytes;
        Ok(())
    }

    /// Gives back all of it.
    fn give_back(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        if bytes == 0 {
            return;
        }
        let mut holders = self.room.0.borrow_mut();
        holders.used -= bytes;
        if let Entry::Occupied(mut held) = holders.each.entry(self.holder) {
            *held.get_mut() -= bytes;
            if *held.get() == 0 {
                held.remove();
            }
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// A body that was read whole, and how much of it was sent on.
#[derive(Debug)]
pub(crate) struct Held {
    /// None any more once all of them were sent on: the answer may take long.
    bytes: Vec<u8>,
    length: usize,
    sent: usize,
    trailers: Option<Box<Trailers>>,
    has_trailers: bool,
    share: Share,
}

impl Held {
    /// All of it, before anything was sent on.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its length is known; but trailers can stand behind chunks alone.
    pub(crate) fn framing(&self) -> Framing {
        if self.has_trailers { Framing::Chunked } else { Framing::Length(self.length as u64) }
    }

    /// What is still to be sent.
    pub(crate) fn rest(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or_default()
    }

    /// So much of it was sent.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.sent = (self.sent + bytes).min(self.length);
        if self.sent == self.length {
            self.bytes = Vec::new();
            self.share.give_back();
        }
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
/// The body fails, is late, or there is no room for it: none at all, or none for this client.
pub(crate) async fn read_held(
    body: &mut impl ClientBody,
    timer: &mut Timer,
    timeout: Duration,
    mut share: Share,
) -> Result<(), FlowError> {
    if body.held().is_some() {
        return Ok(());
    }
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
            make_room(&mut bytes, data.len(), &mut share)?;
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
    let length = bytes.len();
    *body.held() = Some(Box::new(Held { bytes, length, sent: 0, trailers, has_trailers, share }));
    Ok(())
}

fn time_of(bytes: usize) -> Duration {
    Duration::from_millis(1_000 * bytes as u64 / LEAST_BYTES_A_SECOND)
}

/// Makes room for so many bytes more, twice of what there is where it is too little.
fn make_room(bytes: &mut Vec<u8>, more: usize, share: &mut Share) -> Result<(), FlowError> {
    let needed = bytes.len() + more;
    if needed <= bytes.capacity() {
        return Ok(());
    }
    let wanted = needed.max(bytes.capacity() * 2).max(FIRST_BYTES.min(needed * 2));
    let before = bytes.capacity();
    share.more(wanted - before)?;
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

    const ADDRESS: &str = "192.0.2.1";
    const MIB: usize = 1 << 20;

    async fn read(body: &mut Pieces, room: &HeldBytes) -> Result<(), FlowError> {
        read_from(ADDRESS, body, room).await
    }

    async fn read_from(address: &str, body: &mut Pieces, room: &HeldBytes) -> Result<(), FlowError> {
        let mut timer = Timer::new(Instant::now());
        let share = room.share_of(address.parse().unwrap());
        read_held(body, &mut timer, Duration::from_secs(5), share).await
    }

    fn used(room: &HeldBytes) -> usize {
        room.0.borrow().used
    }

    /// Takes a MiB again and again for as long as there is room; how many it has then.
    fn take_all(room: &HeldBytes, address: &str, shares: &mut Vec<Share>) -> usize {
        let before = shares.len();
        loop {
            let mut share = room.share_of(address.parse().unwrap());
            if share.more(MIB).is_err() {
                return shares.len() - before;
            }
            shares.push(share);
        }
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
        assert!(used(&room) >= 5);
        held.consume(2);
        assert_eq!(held.rest(), b"llo");
        assert!(used(&room) >= 5);
        held.consume(3);
        assert_eq!((held.rest(), used(&room)), (&b""[..], 0), "whatever becomes of the answer");
        assert_eq!(held.framing(), Framing::Length(5));
        drop(body);
        assert_eq!((used(&room), room.0.borrow().each.len()), (0, 0));
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
        let large = |mib| Pieces { pieces: (0..mib).map(|_| vec![7; MIB]).collect(), ..Pieces::default() };
        let mut first = large(14);
        read(&mut first, &room).await.unwrap();
        assert_eq!(first.held.as_ref().unwrap().bytes().len(), 14 * MIB);
        assert!(matches!(read(&mut large(14), &room).await, Err(FlowError::NoRoom)));
        assert!(matches!(read_from("192.0.2.2", &mut large(17), &room).await, Err(FlowError::NoRoom)));
        let mut second = large(16);
        read_from("192.0.2.2", &mut second, &room).await.unwrap();
        drop((first, second));
        assert_eq!(used(&room), 0, "also those who were refused have given back what they had");
        read(&mut large(14), &room).await.unwrap();
    }

    #[test]
    fn an_address_holds_no_more_than_it_leaves_to_all_others() {
        let (room, mut shares) = (HeldBytes::default(), Vec::new());
        assert_eq!(take_all(&room, ADDRESS, &mut shares), 28, "one alone has half of it");
        assert_eq!(take_all(&room, "2001:db8::1", &mut shares), 14, "half of what was left");
        assert_eq!(take_all(&room, "2001:db8::ffff:1", &mut shares), 0, "the same /64");
        assert_eq!(take_all(&room, "2001:db8:0:1::1", &mut shares), 7, "another one");
        assert_eq!(room.0.borrow().each.len(), 3);
        for number in 1..=50 {
            take_all(&room, &format!("203.0.113.{number}"), &mut shares);
        }
        let tiny = |number: u8| {
            let mut share = room.share_of(IpAddr::from([198, 51, 100, number]));
            share.more(32 << 10).map(|()| share)
        };
        let others: Vec<_> = (0..100)
            .map(|number| tiny(number).expect("there is always something left for a small one"))
            .collect();
        drop((shares, others));
        assert_eq!((used(&room), room.0.borrow().each.len()), (0, 0), "nobody is known who holds nothing");
    }

    #[test]
    fn those_who_come_together_share_alike() {
        let (room, mut shares) = (HeldBytes::default(), Vec::new());
        let addresses = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];
        let mut held = [0; 3];
        for _ in 0..64 {
            for (held, address) in held.iter_mut().zip(addresses) {
                let mut share = room.share_of(address.parse().unwrap());
                if share.more(MIB).is_ok() {
                    *held += 1;
                    shares.push(share);
                }
            }
        }
        assert_eq!(held, [14; 3], "a quarter each, and one is left");
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
        let share = room.share_of(ADDRESS.parse().unwrap());
        let read = read_held(&mut body, &mut Timer::new(began), Duration::from_secs(15), share).await;
        assert!(matches!(read, Err(FlowError::RequestTimeout)));
        assert_eq!((began.elapsed(), used(&room)), (Duration::from_secs(15), 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stands_still_is_late() {
        let room = HeldBytes::default();
        let mut body = Pieces { pieces: vec![b"{".to_vec()].into(), stalls: true, ..Pieces::default() };
        let began = Instant::now();
        assert!(matches!(read(&mut body, &room).await, Err(FlowError::RequestTimeout)));
        assert_eq!((began.elapsed(), used(&room)), (Duration::from_secs(5), 0));
    }
}
