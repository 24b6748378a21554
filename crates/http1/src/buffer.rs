//! Read buffers, and a pool of them: a connection has one only while something is in it.

use std::cell::RefCell;

/// Bytes that were read and not yet used.
#[derive(Debug, Default)]
pub struct Buffer {
    /// All of it is initialised, so that a read can be given any part.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// A buffer of this size.
    pub fn new(bytes: usize) -> Self {
        Self { bytes: vec![0; bytes], start: 0, end: 0 }
    }

    /// What was read and not yet consumed.
    pub fn data(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Whether there is nothing to consume.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Its size in bytes.
    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// Room for more; [`Self::filled`] says how much of it was used. Empty only when the buffer is full.
    pub fn space(&mut self) -> &mut [u8] {
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.bytes.len() && self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        &mut self.bytes[self.end..]
    }

    /// So many bytes were written into [`Self::space`].
    pub fn filled(&mut self, bytes: usize) {
        self.end = (self.end + bytes).min(self.bytes.len());
    }

    /// So many bytes are used up.
    pub fn consume(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.end);
    }

    /// Appends bytes, making room for them.
    pub fn append(&mut self, bytes: &[u8]) {
        if self.space().len() < bytes.len() {
            self.bytes.resize(self.end + bytes.len(), 0);
        }
        self.space()[..bytes.len()].copy_from_slice(bytes);
        self.filled(bytes.len());
    }
}

/// The buffers of one thread that nobody uses at the moment.
#[derive(Debug, Default)]
pub struct BufferPool {
    small: RefCell<Vec<Buffer>>,
    large: RefCell<Vec<Buffer>>,
}

impl BufferPool {
    /// Enough for almost every head: 4 KiB.
    pub const SMALL_BYTES: usize = 4 << 10;
    /// For bodies that are more than a few packets: 32 KiB. With 16 or 64 KiB the benchmark of bodies needs more processor time.
    pub const LARGE_BYTES: usize = 32 << 10;
    /// Small buffers that are kept: 2 MiB.
    const KEPT_SMALL: usize = 512;
    /// Large buffers that are kept: 2 MiB.
    const KEPT_LARGE: usize = 64;

    /// An empty buffer of [`Self::SMALL_BYTES`].
    pub fn take(&self) -> Buffer {
        self.small.borrow_mut().pop().unwrap_or_else(|| Buffer::new(Self::SMALL_BYTES))
    }

    /// A larger buffer with the same content: [`Self::LARGE_BYTES`], or twice the size.
    pub fn enlarge(&self, buffer: &mut Buffer) {
        let size = (buffer.capacity() * 2).max(Self::LARGE_BYTES);
        let kept = if size == Self::LARGE_BYTES { self.large.borrow_mut().pop() } else { None };
        let mut larger = kept.unwrap_or_else(|| Buffer::new(size));
        larger.append(buffer.data());
        self.give_back(std::mem::replace(buffer, larger));
    }

    /// Takes a buffer back, whatever is in it.
    pub fn give_back(&self, mut buffer: Buffer) {
        (buffer.start, buffer.end) = (0, 0);
        let (kept, limit) = match buffer.capacity() {
            Self::SMALL_BYTES => (&self.small, Self::KEPT_SMALL),
            Self::LARGE_BYTES => (&self.large, Self::KEPT_LARGE),
            _ => return,
        };
        let mut kept = kept.borrow_mut();
        if kept.len() < limit {
            kept.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_consumed_makes_room() {
        let mut buffer = Buffer::new(4);
        buffer.append(b"abcd");
        assert!(buffer.space().is_empty());
        buffer.consume(3);
        assert_eq!((buffer.space().len(), buffer.data()), (3, &b"d"[..]));
        buffer.append(b"efgh");
        assert_eq!((buffer.data(), buffer.capacity()), (&b"defgh"[..], 5));
        buffer.consume(99);
        assert_eq!((buffer.is_empty(), buffer.space().len()), (true, 5));
    }

    #[test]
    fn a_larger_buffer_has_the_same_content_and_a_returned_one_none() {
        let pool = BufferPool::default();
        let mut buffer = pool.take();
        buffer.append(b"abc");
        pool.enlarge(&mut buffer);
        assert_eq!((buffer.data(), buffer.capacity()), (&b"abc"[..], BufferPool::LARGE_BYTES));
        pool.enlarge(&mut buffer);
        assert_eq!((buffer.data(), buffer.capacity()), (&b"abc"[..], 2 * BufferPool::LARGE_BYTES));
        pool.give_back(buffer);
        assert_eq!((pool.small.borrow().len(), pool.large.borrow().len()), (1, 1));
        assert!(pool.take().is_empty());
    }
}
