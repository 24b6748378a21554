//! What the launcher leaves to the program that takes its place: one message, queued in the socket that stands in the place of
//! standard input. It is there before the program runs, and needs nobody at the other end.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use crate::{FrameError, receive_with_descriptors, send_with_descriptors};

/// What a program that was launched has from its launcher.
#[derive(Debug)]
pub struct Handover {
    /// To the supervisor: the assignment comes over it, and it is the leash.
    pub supervisor: UnixStream,
    /// To the development quoter; none where evidence comes from elsewhere.
    pub quoter: Option<UnixStream>,
    /// The workload digest W of the program.
    pub workload: [u8; 32],
}

impl Handover {
    /// Queues the message; gives the end that is to be the program's standard input.
    ///
    /// # Errors
    /// The machine has no room for another pair of sockets.
    pub fn leave(&self) -> Result<OwnedFd, FrameError> {
        let (mut ours, theirs) = UnixStream::pair()?;
        let mut descriptors = vec![self.supervisor.as_fd()];
        descriptors.extend(self.quoter.as_ref().map(AsFd::as_fd));
        send_with_descriptors(&mut ours, &self.workload, &descriptors)?;
        Ok(theirs.into())
    }

    /// Takes it from the socket that stands in the place of standard input.
    ///
    /// # Errors
    /// Nothing was left there.
    pub fn take(standard_input: OwnedFd) -> Result<Self, FrameError> {
        let mut stream = UnixStream::from(standard_input);
        let (payload, descriptors) = receive_with_descriptors(&mut stream)?;
        let malformed = || FrameError::Malformed("handover");
        let workload = payload.as_slice().try_into().map_err(|_| malformed())?;
        let mut descriptors = descriptors.into_iter().map(UnixStream::from);
        let supervisor = descriptors.next().ok_or_else(malformed)?;
        Ok(Self { supervisor, quoter: descriptors.next(), workload })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn what_is_left_is_found_although_nobody_holds_the_other_end() {
        let (mut far, supervisor) = UnixStream::pair().unwrap();
        let (_quoter, quoter) = UnixStream::pair().unwrap();
        let left = Handover { supervisor, quoter: Some(quoter), workload: [7; 32] };
        let standard_input = left.leave().unwrap();
        drop(left);
        let mut taken = Handover::take(standard_input).unwrap();
        assert_eq!((taken.workload, taken.quoter.is_some()), ([7; 32], true));
        taken.supervisor.write_all(b"x").unwrap();
        let mut byte = [0];
        far.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
    }
}
