//! The bytes between the development quoter and its clients, one encoding for both ends. Each frame holds one request or
//! one answer, and descriptors come along with the first byte of the frame that speaks of them.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::UnixStream;
use types::wire::{Message, Reader};
use zeroize::Zeroizing;

use crate::{Evidence, FrameError, MAX_DESCRIPTORS, MAX_EVIDENCE_BYTES};

/// The largest request to the quoter, in bytes.
pub const MAX_QUOTER_REQUEST_BYTES: usize = 256;
/// Its largest answer: evidence, or the code and text of a refusal.
pub(super) const MAX_ANSWER_BYTES: usize = MAX_EVIDENCE_BYTES + 1024;
/// The length of a control key, in bytes.
pub const CONTROL_KEY_BYTES: usize = 32;

const KEY_TAG: &[u8] = b"serviceos/quoter/control/v1\0";
const REGISTRATION_TAG: &[u8] = b"serviceos/quoter/registration/v1\0";
const SPACE: usize = rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS));

/// Why the quoter refuses. The words are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuoterRefusal {
    /// Whoever asks was not started through a launcher.
    CallerNotLaunched,
    /// A limit is reached.
    Full,
    /// The request is none.
    Malformed,
    /// The evidence could not be made.
    Failed,
}

impl QuoterRefusal {
    /// The code on the wire.
    pub fn code(self) -> &'static str {
        match self {
            Self::CallerNotLaunched => "CALLER_NOT_LAUNCHED",
            Self::Full => "QUOTER_FULL",
            Self::Malformed => "QUOTER_REQUEST_MALFORMED",
            Self::Failed => "QUOTER_FAILED",
        }
    }
}

/// What a control connection asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QuoterRequest {
    /// The development root's certificate.
    Root,
    /// Take the registration socket that comes along as a descriptor.
    Registration,
    /// Evidence of the authority itself.
    Evidence {
        /// The 64 bytes to be bound.
        report_data: [u8; 64],
        /// The authority's own W.
        workload: [u8; 32],
    },
    /// End the quoter.
    Stop,
}

impl QuoterRequest {
    /// The request as the payload of a frame: u8 number, then its fields.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Root => vec![1],
            Self::Registration => vec![2],
            Self::Evidence { report_data, workload } => {
                Message::untagged(&[3]).raw(report_data).raw(workload).finish()
            }
            Self::Stop => vec![4],
        }
    }

    /// Reads it back.
    ///
    /// # Errors
    /// The payload holds something else, or more.
    pub fn decode(payload: &[u8]) -> Result<Self, FrameError> {
        let mut reader = Reader::new(payload);
        let read = |reader: &mut Reader<'_>| match reader.array()? {
            [1] => Some(Self::Root),
            [2] => Some(Self::Registration),
            [3] => Some(Self::Evidence { report_data: reader.array()?, workload: reader.array()? }),
            [4] => Some(Self::Stop),
            _ => None,
        };
        read(&mut reader).filter(|_| reader.is_empty()).ok_or(FrameError::Malformed("request to the quoter"))
    }
}

/// The first frame of a control connection over the named socket: TAG ‖ key.
pub(super) fn encode_control_key(key: &[u8; CONTROL_KEY_BYTES]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(Message::tagged(KEY_TAG).with_room(CONTROL_KEY_BYTES).raw(key).finish())
}

/// The control key that a frame shows; `None` where it shows none.
pub fn decode_control_key(payload: &[u8]) -> Option<&[u8]> {
    payload.strip_prefix(KEY_TAG).filter(|key| key.len() == CONTROL_KEY_BYTES)
}

/// The one message of a registration socket: TAG ‖ W. It brings a pidfd of the process and one end of a socket pair.
pub(super) fn encode_registration(workload: &[u8; 32]) -> Vec<u8> {
    Message::tagged(REGISTRATION_TAG).raw(workload).finish()
}

/// The W that a registration names.
pub fn decode_registration(payload: &[u8]) -> Option<[u8; 32]> {
    payload.strip_prefix(REGISTRATION_TAG)?.try_into().ok()
}

/// What the quoter answers, to whatever it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QuoterAnswer {
    /// It is done; the bytes are what was asked for, if anything was.
    Done(Vec<u8>),
    /// It is not.
    Refused {
        /// A stable code ([`QuoterRefusal::code`]).
        code: String,
        /// What happened this time.
        detail: String,
    },
}

impl QuoterAnswer {
    /// An answer that gives evidence.
    pub fn evidence(evidence: &Evidence) -> Self {
        Self::Done(evidence.encode())
    }

    /// A refusal.
    pub fn refused(refusal: QuoterRefusal, detail: impl Into<String>) -> Self {
        Self::Refused { code: refusal.code().to_owned(), detail: detail.into() }
    }

    /// The answer as the payload of a frame: u8 0 ‖ bytes, or u8 1 ‖ lp(code) ‖ lp(detail).
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Done(bytes) => Message::untagged(&[0]).raw(bytes).finish(),
            Self::Refused { code, detail } => Message::untagged(&[1]).lp(code).lp(detail).finish(),
        }
    }

    /// Reads it back.
    ///
    /// # Errors
    /// The payload is no answer.
    pub fn decode(payload: &[u8]) -> Result<Self, FrameError> {
        let malformed = FrameError::Malformed("answer of the quoter");
        let Some((status, rest)) = payload.split_first() else { return Err(malformed) };
        let mut reader = Reader::new(rest);
        let text = |reader: &mut Reader<'_>| String::from_utf8(reader.lp()?.to_vec()).ok();
        match status {
            0 => Ok(Self::Done(rest.to_vec())),
            1 => match (text(&mut reader), text(&mut reader)) {
                (Some(code), Some(detail)) if reader.is_empty() => Ok(Self::Refused { code, detail }),
                _ => Err(malformed),
            },
            _ => Err(malformed),
        }
    }
}

/// Reads one frame of at most `limit` bytes with the descriptors that its first byte brings. They are closed when this
/// process executes another program. A frame that was read half is lost when this is dropped.
///
/// # Errors
/// The socket is closed, fails, or brings something else than such a frame.
pub async fn receive_request(
    stream: &mut UnixStream,
    limit: usize,
) -> Result<(Zeroizing<Vec<u8>>, Vec<OwnedFd>), FrameError> {
    let mut length = [0; 4];
    let mut descriptors = Vec::new();
    let received =
        stream.async_io(Interest::READABLE, || receive(stream, &mut length, &mut descriptors)).await?;
    if received == 0 {
        return Err(FrameError::Closed);
    }
    stream.read_exact(&mut length[received..]).await?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > limit {
        return Err(FrameError::Malformed("request to the quoter: it is too long"));
    }
    let mut payload = Zeroizing::new(vec![0; length]);
    stream.read_exact(&mut payload).await?;
    Ok((payload, descriptors))
}

fn receive(stream: &UnixStream, bytes: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut buffers = [IoSliceMut::new(bytes)];
    let received = recvmsg(stream.as_fd(), &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        // More than a message may bring, or more than this process may open. With some missing none are of use, and the
        // frame is refused for want of them.
        descriptors.clear();
    }
    Ok(received.bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream as StdUnixStream;

    use super::*;
    use crate::send_with_descriptors;

    #[test]
    fn requests_and_answers_read_back_as_they_were_written() {
        let evidence = QuoterRequest::Evidence { report_data: [1; 64], workload: [2; 32] };
        for request in [QuoterRequest::Root, QuoterRequest::Registration, evidence, QuoterRequest::Stop] {
            let mut bytes = request.encode();
            assert!(bytes.len() <= MAX_QUOTER_REQUEST_BYTES);
            assert_eq!(QuoterRequest::decode(&bytes).unwrap(), request);
            bytes.push(0);
            assert!(QuoterRequest::decode(&bytes).is_err(), "{request:?} and one byte more");
        }
        for answer in [
            QuoterAnswer::Done(Vec::new()),
            QuoterAnswer::Done(vec![1, 2]),
            QuoterAnswer::refused(QuoterRefusal::Full, "too many"),
        ] {
            assert_eq!(QuoterAnswer::decode(&answer.encode()).unwrap(), answer);
        }
        for other in [&[][..], &[2], &[1], &[1, 0, 0, 0, 0], &[1, 0, 0, 0, 0, 0, 0, 0, 0, 7]] {
            assert!(QuoterAnswer::decode(other).is_err(), "{other:?}");
        }
    }

    #[test]
    fn only_the_frame_of_a_control_key_shows_one_and_only_a_registration_names_a_workload() {
        let (key, registration) = (encode_control_key(&[7; 32]), encode_registration(&[7; 32]));
        assert_eq!(decode_control_key(&key), Some(&[7; 32][..]));
        assert_eq!(decode_registration(&registration), Some([7; 32]));
        assert_eq!(decode_control_key(&registration), None);
        assert_eq!(decode_registration(&key), None);
        assert_eq!(decode_control_key(&key[..key.len() - 1]), None);
        assert_eq!(decode_control_key(&[7; 64]), None);
    }

    #[tokio::test]
    async fn a_frame_brings_its_own_descriptors_and_one_over_the_limit_is_refused() {
        let (mut near, far) = StdUnixStream::pair().unwrap();
        far.set_nonblocking(true).unwrap();
        let mut far = UnixStream::from_std(far).unwrap();
        let (one, two) = StdUnixStream::pair().unwrap();
        send_with_descriptors(&mut near, b"two", &[one.as_fd(), two.as_fd()]).unwrap();
        send_with_descriptors(&mut near, b"none", &[]).unwrap();
        send_with_descriptors(&mut near, b"12345", &[]).unwrap();
        let (payload, descriptors) = receive_request(&mut far, 4).await.unwrap();
        assert_eq!((payload.as_slice(), descriptors.len()), (&b"two"[..], 2));
        let (payload, descriptors) = receive_request(&mut far, 4).await.unwrap();
        assert_eq!((payload.as_slice(), descriptors.len()), (&b"none"[..], 0));
        assert!(matches!(receive_request(&mut far, 4).await, Err(FrameError::Malformed(_))));
    }
}
