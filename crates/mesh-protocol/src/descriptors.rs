//! Messages that carry descriptors over a Unix stream socket: a frame whose first byte brings them along (unix(7),
//! `SCM_RIGHTS`). Blocking, for whoever has no event loop yet.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use zeroize::Zeroizing;

use crate::{FrameError, MAX_FRAME_BYTES};

/// The most descriptors of one message.
pub const MAX_DESCRIPTORS: usize = 4;

const SPACE: usize = rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS));

/// Writes one frame with these descriptors.
///
/// # Errors
/// The payload is too large, there are too many descriptors, or the socket fails.
pub fn send_with_descriptors(
    stream: &mut UnixStream,
    payload: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), FrameError> {
    if payload.len() > MAX_FRAME_BYTES {
        return Err(FrameError::TooLarge(payload.len()));
    }
    let length = u32::try_from(payload.len()).map_err(|_| FrameError::TooLarge(payload.len()))?.to_be_bytes();
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if descriptors.len() > MAX_DESCRIPTORS
        || (!descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)))
    {
        return Err(FrameError::Malformed("number of descriptors"));
    }
    let sent = sendmsg(stream.as_fd(), &[IoSlice::new(&length)], &mut control, SendFlags::NOSIGNAL)
        .map_err(io::Error::from)?;
    stream.write_all(&length[sent..])?;
    stream.write_all(payload)?;
    Ok(())
}

/// Reads one frame with its descriptors, which are closed when this process executes another program.
///
/// # Errors
/// The socket is closed, fails, or brings something else than a frame.
pub fn receive_with_descriptors(
    stream: &mut UnixStream,
) -> Result<(Zeroizing<Vec<u8>>, Vec<OwnedFd>), FrameError> {
    let mut length = [0; 4];
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(stream.as_fd(), &mut [IoSliceMut::new(&mut length)], &mut control, RecvFlags::CMSG_CLOEXEC)
            .map_err(io::Error::from)?;
    if received.bytes == 0 {
        return Err(FrameError::Closed);
    }
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    stream.read_exact(&mut length[received.bytes..])?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > MAX_FRAME_BYTES {
        return Err(FrameError::TooLarge(length));
    }
    let mut payload = Zeroizing::new(vec![0; length]);
    stream.read_exact(&mut payload)?;
    Ok((payload, descriptors))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_brings_its_descriptors_and_the_next_one_its_own() {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        let (first, second) = UnixStream::pair().unwrap();
        send_with_descriptors(&mut near, b"two", &[first.as_fd(), second.as_fd()]).unwrap();
        send_with_descriptors(&mut near, b"none", &[]).unwrap();
        drop((near, first, second));
        let (payload, descriptors) = receive_with_descriptors(&mut far).unwrap();
        assert_eq!((payload.as_slice(), descriptors.len()), (&b"two"[..], 2));
        let mut ends = descriptors.into_iter().map(UnixStream::from);
        let (mut first, mut second) = (ends.next().unwrap(), ends.next().unwrap());
        first.write_all(b"x").unwrap();
        let mut byte = [0];
        second.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
        let (payload, descriptors) = receive_with_descriptors(&mut far).unwrap();
        assert_eq!((payload.as_slice(), descriptors.len()), (&b"none"[..], 0));
        assert!(matches!(receive_with_descriptors(&mut far), Err(FrameError::Closed)));
    }
}
