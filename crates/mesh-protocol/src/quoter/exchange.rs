//! Questions and answers on one stream. A question may be given up half-way, as a caller's time limit does: what was
//! begun is kept here, so the next one neither sends half a frame nor takes an answer that was meant for another.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream as StdUnixStream;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::wire::{MAX_ANSWER_BYTES, QuoterAnswer};
use super::{ANSWER_LIMIT, QuoterError};
use crate::FrameError;

const SPACE: usize = rustix::cmsg_space!(ScmRights(1));

pub(super) struct Exchange {
    stream: UnixStream,
    /// The rest of a question that was begun.
    outgoing: Vec<u8>,
    /// What has come of answers; at most one answer and what came with its end.
    incoming: Vec<u8>,
    /// Answers that will come, also to questions that were given up.
    owed: usize,
}

impl Exchange {
    pub(super) fn new(stream: StdUnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self::over(UnixStream::from_std(stream)?))
    }

    pub(super) fn over(stream: UnixStream) -> Self {
        Self { stream, outgoing: Vec::new(), incoming: Vec::new(), owed: 0 }
    }

    /// Asks, with at most one descriptor, and waits for the answer.
    pub(super) async fn ask(
        &mut self,
        question: &[u8],
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<Vec<u8>, QuoterError> {
        let asked = async {
            match self.send(question, descriptor).await {
                // Why it hung up may stand in what it said before.
                Err(error) if is_gone(&error) => self.outgoing.clear(),
                Err(error) => return Err(error.into()),
                Ok(()) => {}
            }
            self.answer().await
        };
        let payload = timeout(ANSWER_LIMIT, asked).await.unwrap_or(Err(QuoterError::Silent))?;
        match QuoterAnswer::decode(&payload)? {
            QuoterAnswer::Done(bytes) => Ok(bytes),
            QuoterAnswer::Refused { code, detail } => Err(QuoterError::Refused { code, detail }),
        }
    }

    async fn send(&mut self, question: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        self.flush().await?;
        let length = u32::try_from(question.len()).expect("questions have some hundred bytes");
        let frame = [&length.to_be_bytes(), question].concat();
        let sent = match descriptor {
            Some(descriptor) => {
                self.stream.async_io(Interest::WRITABLE, || bring(&self.stream, &frame, descriptor)).await?
            }
            None => 0,
        };
        // From here on the question is sent to its end and answered, whether or not its asker waits.
        self.owed += 1;
        self.outgoing.extend_from_slice(&frame[sent..]);
        self.flush().await
    }

    async fn flush(&mut self) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            let written = self.stream.write(&self.outgoing).await?;
            self.outgoing.drain(..written);
        }
        Ok(())
    }

    async fn answer(&mut self) -> Result<Vec<u8>, QuoterError> {
        loop {
            while let Some(payload) = self.take_answer()? {
                self.owed = self.owed.saturating_sub(1);
                if self.owed == 0 {
                    return Ok(payload);
                }
            }
            match self.stream.read_buf(&mut self.incoming).await {
                Ok(0) => return Err(QuoterError::Gone),
                Ok(_) => {}
                Err(error) if is_gone(&error) => return Err(QuoterError::Gone),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn take_answer(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        let Some((length, rest)) = self.incoming.split_first_chunk() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if length > MAX_ANSWER_BYTES {
            return Err(FrameError::Malformed("answer of the quoter: it is too long"));
        }
        let Some(payload) = rest.get(..length) else { return Ok(None) };
        let payload = payload.to_vec();
        self.incoming.drain(..4 + length);
        Ok(Some(payload))
    }
}

/// Sends the beginning of a frame with a descriptor.
fn bring(stream: &UnixStream, frame: &[u8], descriptor: BorrowedFd<'_>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    let fits = control.push(SendAncillaryMessage::ScmRights(&descriptors));
    debug_assert!(fits, "there is space for one descriptor");
    Ok(sendmsg(stream.as_fd(), &[IoSlice::new(frame)], &mut control, SendFlags::NOSIGNAL)?)
}

pub(super) fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{read_frame, write_frame};

    fn pair() -> (Exchange, UnixStream) {
        let (near, far) = UnixStream::pair().unwrap();
        (Exchange::over(near), far)
    }

    fn done(bytes: &[u8]) -> Vec<u8> {
        QuoterAnswer::Done(bytes.to_vec()).encode()
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_was_given_up_leaves_its_answer_to_nobody() {
        let (mut exchange, mut far) = pair();
        for question in ["first", "second"] {
            let asked = exchange.ask(question.as_bytes(), None).await;
            assert!(matches!(asked, Err(QuoterError::Silent)), "{asked:?}");
        }
        let third = async {
            for _ in 0..3 {
                let question = read_frame(&mut far).await.unwrap();
                write_frame(&mut far, &done(&question)).await.unwrap();
            }
        };
        let (answer, ()) = tokio::join!(exchange.ask(b"third", None), third);
        assert_eq!(answer.unwrap(), b"third");
    }

    #[tokio::test]
    async fn whatever_the_quoter_said_before_it_hung_up_is_heard() {
        let (mut exchange, mut far) = pair();
        let refusal = QuoterAnswer::Refused { code: "QUOTER_FULL".into(), detail: "later".into() };
        write_frame(&mut far, &refusal.encode()).await.unwrap();
        drop(far);
        let asked = exchange.ask(b"x", None).await;
        assert!(matches!(asked, Err(QuoterError::Refused { code, .. }) if code == "QUOTER_FULL"));
        assert!(matches!(exchange.ask(b"x", None).await, Err(QuoterError::Gone)));
    }

    #[tokio::test]
    async fn an_answer_over_the_limit_is_refused_before_it_is_read() {
        let (mut exchange, mut far) = pair();
        far.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
        assert!(matches!(exchange.ask(b"x", None).await, Err(QuoterError::Frame(FrameError::Malformed(_)))));
    }
}
